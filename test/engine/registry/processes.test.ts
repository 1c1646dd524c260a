/** Pulling in processes of their own: two at once, killed in the middle, and on a disk that is full. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type BuildOptions, build } from 'esbuild'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { pull } from '../../../src/engine/registry/pull.js'
import { digestOf, type HostileRegistry, sendBytes, startHostileRegistry } from '../../support/hostile-registry.js'
import { temporaryDirectory } from '../../support/temporary.js'
import { leftovers, makeTar, obstacle, openPlace } from './support.js'

const why = obstacle()
const root = fileURLToPath(new URL('../../..', import.meta.url))
const LAYERS = [3_000_000, 5_000_000, 1_000_000, 4_000_000].map((size) => makeTar({ [`f${size}`]: randomBytes(size) }))

describe.skipIf(why)(`pulls in processes of their own (${why || 'all there'})`, () => {
  // Below the checkout, where it finds undici.
  const script = join(root, 'node_modules', '.cache', `mayfly-pull-${process.pid}.mjs`)
  let directory: string
  let registry: HostileRegistry

  beforeAll(async () => {
    const entry = fileURLToPath(new URL('pull.scenario.ts', import.meta.url))
    const how = {
      bundle: true,
      format: 'esm',
      platform: 'node',
      target: 'node20.19',
      external: ['undici'],
    } satisfies BuildOptions
    await build({ ...how, entryPoints: [entry], outfile: script, logLevel: 'warning' })
  })
  afterAll(() => rmSync(script, { force: true }))
  beforeEach(async () => {
    directory = temporaryDirectory()
    registry = await startHostileRegistry()
    registry.image('1', LAYERS)
  })
  afterEach(async () => {
    await registry[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, maxRetries: 10, retryDelay: 100 })
  })

  const home = () => join(directory, 'home')
  const start = (enter: readonly string[] = []) => {
    const [program = '', ...words] = [...enter, process.execPath, script, home(), `${registry.host}/app:1`]
    return spawn(program, words, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, DOCKER_CONFIG: '/nonexistent' },
    })
  }
  const outcome = async (child: ChildProcess) => {
    let output = ''
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
    const [code] = await once(child, 'close')
    return { code, output: output.trim() }
  }
  const blobsFetched = () => registry.requests.filter((request) => /^GET .*\/blobs\//.test(request))

  test('two at once fetch each blob once, and both have the image', async () => {
    const [first, second] = await Promise.all([outcome(start()), outcome(start())])
    expect(first).toMatchObject({ code: 0, output: expect.stringMatching(/^sha256:/) })
    expect(second).toEqual(first)
    expect(blobsFetched()).toHaveLength(LAYERS.length + 1)
    expect(leftovers(home())).toEqual([])
  })

  test('one that is killed at any moment leaves nothing torn, and the next one gets the image', {
    timeout: 60_000,
  }, async () => {
    for (const blobs of [1, 1, 2, 3, 4, 5]) {
      registry.requests.length = 0
      const child = start()
      const ended = outcome(child)
      await vi.waitFor(() => expect(blobsFetched().length >= blobs || child.exitCode !== null).toBe(true), {
        interval: 1,
        timeout: 10_000,
      })
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 30))
      child.kill('SIGKILL')
      await ended
      const whole = existsSync(join(home(), 'layers')) ? readdirSync(join(home(), 'layers')) : []
      for (const name of whole) expect(readdirSync(join(home(), 'layers', name)).sort()).toEqual(['layer.json', 'tree'])
    }
    // What a killed session has left goes when its warden has ended, or with the next session at the latest.
    await using place = await openPlace(home())
    const image = await pull(place.context, `${registry.host}/app:1`)
    expect(image.layers.map(({ diffId }) => diffId)).toEqual(LAYERS.map(digestOf))
    for (const { digest } of await place.store.blobs.list()) await place.store.blobs.verify(digest)
    await vi.waitFor(() => expect(leftovers(home())).toEqual([]), { timeout: 5_000 })
    // One that was killed with its layer in place, and its lock's file not yet removed, leaves the empty file to the next prune.
    await place.store.prune()
    expect(readdirSync(join(home(), 'locks'))).toEqual([])
  })

  test('one waits for another that is killed, and then fetches what is missing itself', async () => {
    let stalled: (() => void) | undefined
    const stalling = new Promise<void>((resolve) => {
      stalled = resolve
    })
    const { layers } = registry.image('1', LAYERS)
    let count = 0
    const { gzipSync } = await import('node:zlib')
    const bytes = gzipSync(LAYERS[0]!, { level: 1 })
    registry.on(new RegExp(`GET .*${layers[0]!.digest}`), (request, response) => {
      if (++count > 1) return sendBytes(bytes)(request, response)
      response.writeHead(200, { 'content-length': bytes.length })
      response.write(bytes.subarray(0, 1000), () => stalled?.())
    })
    const first = start()
    await stalling
    const second = outcome(start())
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(count).toBe(1)
    first.kill('SIGKILL')
    expect(await second).toMatchObject({ code: 0 })
    expect(count).toBe(2)
  })

  test('a full disk is named, and nothing but whole layers stays', async () => {
    const mount = `mkdir -p ${home()} && mount -t tmpfs -o size=6m tmpfs ${home()}`
    const torn = `find ${home()}/layers -mindepth 1 -maxdepth 1 ! -exec test -e '{}/layer.json' ';' -print`
    const check = `find ${home()} -path '*/sessions/*/store/*'; ${torn}`
    const unshare = ['unshare', '--mount', '--propagation', 'private']
    const shell = ['sh', '-c', `${mount} && "$@"; code=$?; ${check}; exit $code`, 'sh']
    const { code, output } = await outcome(start([...unshare, ...shell]))
    expect(code).toBe(1)
    expect(output).toMatch(/^DISK_FULL /)
    expect(output.split('\n').filter((line) => line.startsWith('/'))).toEqual([])
  })

  test('one that hangs can be ended from the keyboard without leaving processes', async () => {
    registry.on(
      /GET .*blobs/,
      (_request, response) => void response.writeHead(200, { 'content-length': 1000 }).write('x'),
    )
    const child = start()
    await vi.waitFor(() => expect(blobsFetched().length).toBeGreaterThan(0), { timeout: 10_000 })
    child.kill('SIGINT')
    await once(child, 'exit')
    await vi.waitFor(
      () => {
        const found = execFileSync('sh', ['-c', `pgrep -f home=${home()} || true`], { encoding: 'utf8' })
          .trim()
          .split('\n')
        expect(found.filter((pid) => existsSync(`/proc/${pid}/exe`) && pid !== '')).toEqual([])
      },
      { timeout: 5_000 },
    )
  })
})
