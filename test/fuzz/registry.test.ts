/** A registry that answers with whatever comes to mind: a pull ends in an image or in one of our errors, soon, and leaves nothing half-written. */

import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { MayflyError } from '../../src/engine/errors.ts'
import { pull } from '../../src/engine/registry/pull.ts'
import { leftovers, makeTar, obstacle, openPlace, type Place } from '../engine/registry/support.ts'
import {
  type HostileRegistry,
  OCI_CONFIG,
  OCI_INDEX,
  OCI_LAYER,
  OCI_MANIFEST,
  startHostileRegistry,
} from '../support/hostile-registry.ts'

const why = obstacle()
const REGISTRY = { attempts: 2, timeouts: { retryMs: 1, answerMs: 1_000, stallMs: 1_000, connectMs: 1_000 } }
/** Requests of a pull of one small image: the manifest, its config, its layer, and what redirects and token services add. */
const MOST_ANSWERS = 12

type Mutation = (whole: { status: number; headers: Record<string, string>; body: Buffer }) => void

const status = fc.constantFrom(100, 200, 204, 206, 301, 307, 308, 400, 401, 403, 404, 416, 418, 429, 500, 503)
const types = fc.constantFrom(
  OCI_MANIFEST,
  OCI_INDEX,
  OCI_CONFIG,
  OCI_LAYER,
  'text/html',
  'application/json',
  '',
  ';;',
  'a/b; charset="',
)
const header = fc.oneof(
  fc.tuple(fc.constant('content-type'), types),
  fc.tuple(
    fc.constant('content-range'),
    fc.constantFrom('bytes 0-0/1', 'bytes 5-1/*', 'bytes', 'bytes 99999999999999999999-/x'),
  ),
  fc.tuple(fc.constant('docker-content-digest'), fc.constantFrom('sha256:../../x', `sha256:${'0'.repeat(64)}`, 'x')),
  fc.tuple(
    fc.constant('location'),
    fc.constantFrom(
      '/',
      '//',
      'http://',
      'file:///etc/passwd',
      '/v2/app/manifests/1',
      'http://127.0.0.1:1/',
      '\\\\x',
      'http://a:b@localhost/',
    ),
  ),
  fc.tuple(fc.constant('retry-after'), fc.constantFrom('0', '-1', 'x')),
  fc.tuple(
    fc.constant('www-authenticate'),
    fc
      .array(
        fc.constantFrom(
          'Bearer',
          'Basic',
          ' ',
          'realm=',
          '"',
          'http://127.0.0.1:1/t',
          ',',
          'scope="x"',
          'service=',
          '=',
        ),
        { maxLength: 8 },
      )
      .map((all) => all.join('')),
  ),
  fc.tuple(fc.constant('content-encoding'), fc.constantFrom('gzip', 'br', 'x')),
)
const bodies = fc.oneof(
  fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
  fc.jsonValue().map((value) => Buffer.from(JSON.stringify(value))),
)
const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  status.map(
    (code): Mutation =>
      (whole) => {
        whole.status = code
      },
  ),
  header.map(
    ([name, value]): Mutation =>
      ({ headers }) => {
        headers[name] = value
      },
  ),
  bodies.map(
    (body): Mutation =>
      (whole) => {
        whole.body = body
      },
  ),
  fc.tuple(fc.nat(400), fc.nat(255)).map(
    ([at, byte]): Mutation =>
      ({ body }) => {
        if (body.length > 0) body[at % body.length] = byte
      },
  ),
  fc.nat(400).map(
    (length): Mutation =>
      (whole) => {
        whole.body = whole.body.subarray(0, length)
      },
  ),
)

describe.skipIf(why)(`a registry of chance (${why || 'all there'})`, () => {
  let place: Place
  let registry: HostileRegistry

  beforeAll(async () => {
    vi.stubEnv('DOCKER_CONFIG', '/nonexistent')
    vi.stubEnv('HOME', '/nonexistent')
    place = await openPlace()
    registry = await startHostileRegistry()
  })
  afterAll(async () => {
    await registry?.[Symbol.asyncDispose]()
    await place?.[Symbol.asyncDispose]()
    vi.unstubAllEnvs()
  })

  test('ends in an image or an error of ours, and leaves nothing half-written', async () => {
    let run = 0
    let pulled = 0
    const answers = fc.array(
      fc.option(fc.array(mutation, { minLength: 1, maxLength: 2 }), { nil: undefined, freq: 2 }),
      {
        maxLength: 4,
      },
    )
    await fc.assert(
      fc.asyncProperty(answers, async (changes) => {
        const tag = `t${++run}`
        registry.image(tag, [makeTar({ file: tag })])
        await using front = await startHostileRegistry()
        let count = 0
        front.on(/./, async (request, response) => {
          if (++count > MOST_ANSWERS * 4) return void response.destroy()
          const real = await fetch(`http://${registry.host}${request.url}`, { method: request.method ?? 'GET' })
          const whole = {
            status: real.status,
            headers: { 'content-type': real.headers.get('content-type') ?? '' } as Record<string, string>,
            body: Buffer.from(await real.arrayBuffer()),
          }
          for (const change of changes[count - 1] ?? []) change(whole)
          const code = whole.status < 200 ? 299 : whole.status
          response.writeHead(code, whole.headers).end(request.method === 'HEAD' ? undefined : whole.body)
        })
        const begin = performance.now()
        try {
          await pull(place.context, `${front.host}/app:${tag}`, { registry: REGISTRY })
          pulled++
        } catch (error) {
          expect(error).toBeInstanceOf(MayflyError)
        }
        expect(performance.now() - begin).toBeLessThan(10_000)
        expect(count).toBeLessThanOrEqual(MOST_ANSWERS * 4)
        await vi.waitFor(() => expect(leftovers(place.store.home)).toEqual([]))
      }),
      { numRuns: Number(process.env.MAYFLY_FUZZ_RUNS ?? 60), endOnFailure: true },
    )
    expect(pulled).toBeGreaterThan(0)
    for (const { digest } of await place.store.blobs.list()) await place.store.blobs.verify(digest)
  })
})
