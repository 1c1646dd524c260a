/** A registry that answers with whatever comes to mind: a pull ends in an image or in one of our errors, soon, and leaves nothing half-written. */

import { readFileSync } from 'node:fs'
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

interface Answer {
  status: number
  headers: Record<string, string>
  body: Buffer
}

/** What is another way in an answer; as data, so that a sequence that was found goes into the corpus as it is printed. */
type Mutation =
  | { readonly status: number }
  | { readonly header: readonly [name: string, value: string] }
  /** In base64. */
  | { readonly body: string }
  | { readonly byte: readonly [at: number, value: number] }
  /** Of the body, which is cut. */
  | { readonly length: number }

function mutate(answer: Answer, mutation: Mutation): void {
  if ('status' in mutation) answer.status = mutation.status
  else if ('header' in mutation) answer.headers[mutation.header[0]] = mutation.header[1]
  else if ('body' in mutation) answer.body = Buffer.from(mutation.body, 'base64')
  else if ('length' in mutation) answer.body = answer.body.subarray(0, mutation.length)
  else if (answer.body.length > 0) answer.body[mutation.byte[0] % answer.body.length] = mutation.byte[1]
}

/** For each request in order, what is another way in its answer. */
type Changes = (readonly Mutation[] | null)[]

const corpus: Changes[] = JSON.parse(readFileSync(new URL('corpus/registry-answers.json', import.meta.url), 'utf8'))

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
  fc.record({ status }),
  fc.record({ header }),
  fc.record({ body: bodies.map((body) => body.toString('base64')) }),
  fc.record({ byte: fc.tuple(fc.nat(400), fc.nat(255)) }),
  fc.record({ length: fc.nat(400) }),
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
    const answers: fc.Arbitrary<Changes> = fc.array(
      fc.option(fc.array(mutation, { minLength: 1, maxLength: 2 }), { nil: null, freq: 2 }),
      { maxLength: 4 },
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
          const whole: Answer = {
            status: real.status,
            headers: { 'content-type': real.headers.get('content-type') ?? '' },
            body: Buffer.from(await real.arrayBuffer()),
          }
          for (const change of changes[count - 1] ?? []) mutate(whole, change)
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
      {
        numRuns: corpus.length + Number(process.env.MAYFLY_FUZZ_RUNS ?? 60),
        examples: corpus.map((changes): [Changes] => [changes]),
        endOnFailure: true,
      },
    )
    expect(pulled).toBeGreaterThan(0)
    for (const { digest } of await place.store.blobs.list()) await place.store.blobs.verify(digest)
  })
})
