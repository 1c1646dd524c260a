/** The disk fills up in the middle of an import, a build, a pull or a load: it is said, nothing half-written stays, and what was there works on. */

import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { wardenProgram } from '../../src/engine/where.ts'
import { missingRegistry, type Registry, startRegistry } from '../support/registry.ts'
import { makeRootfs, missingBusybox } from '../support/rootfs.ts'
import { bundleScenario, type Scenario, startScenario } from '../support/scenario.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import type { Opened, Outcome, Task } from './store-kill.scenario.ts'

const reason = process.getuid?.() !== 0 ? 'needs root, to mount a small disk' : (missingBusybox() ?? missingRegistry())
if (reason) console.warn(`skipped: full disks: ${reason}`)

const DISK_MEGABYTES = 24
const LARGE_BYTES = 16 * 1024 * 1024

describe.skipIf(reason)('a store whose disk is full', () => {
  let directory: string
  let small: string
  let registry: Registry
  let scenario: Scenario

  beforeAll(async () => {
    directory = temporaryDirectory('full')
    small = join(directory, 'small')
    const rootfs = join(directory, 'rootfs')
    makeRootfs(rootfs)
    await bundleScenario(source, join(directory, 'scenario.mjs'))
    const tar = (name: string) => execFileSync('tar', ['-C', rootfs, '-cf', join(directory, name), '.'])
    tar('base.tar')
    mkdirSync(join(rootfs, 'data'))
    // Twice as much as fits, and each half of it does.
    for (const half of ['one', 'two']) writeFileSync(join(rootfs, 'data', half), randomBytes(LARGE_BYTES))
    tar('large.tar')
    registry = await startRegistry()
    const maker = start(join(directory, 'maker'), [])
    await maker.fact<Opened>()
    await done(maker, { kind: 'import', reference: `${registry.host}/large:1`, archive: join(directory, 'large.tar') })
    await done(maker, { kind: 'push', reference: `${registry.host}/large:1` })
    await done(maker, { kind: 'save', reference: `${registry.host}/large:1`, archive: join(directory, 'saved.tar') })
    maker.tell('end')
    await maker.ended
    mkdirSync(small)
    const mount = `mount -t tmpfs -o size=${DISK_MEGABYTES}m tmpfs '${small}' && exec "$@"`
    scenario = start(small, ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', mount, 'sh'])
    await scenario.fact<Opened>()
    await done(scenario, { kind: 'import', reference: 'base', archive: join(directory, 'base.tar') })
  }, 60_000)

  afterAll(async () => {
    scenario?.tell('end')
    await scenario?.ended
    await registry?.[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  const start = (home: string, before: readonly string[]) =>
    startScenario([...before, process.execPath, join(directory, 'scenario.mjs'), home], {
      MAYFLY_WARDEN: wardenProgram(),
      DOCKER_CONFIG: '/nonexistent',
      DOCKER_AUTH_CONFIG: undefined,
    })

  async function attempt(of: Scenario, task: Task): Promise<Outcome> {
    of.tell(JSON.stringify(task))
    expect(await of.fact()).toBe('begins')
    return of.fact<Outcome>()
  }

  async function done(of: Scenario, task: Task): Promise<string> {
    const outcome = await attempt(of, task)
    if ('error' in outcome) throw new Error(`${task.kind} failed: ${outcome.error}`)
    return outcome.result
  }

  const build = (dockerfile: string): Task => ({
    kind: 'build',
    dockerfile,
    files: { large: randomBytes(LARGE_BYTES).toString('latin1') },
    tag: 'built:1',
  })
  const tasks: Record<string, () => Task> = {
    import: () => ({ kind: 'import', reference: 'large:1', archive: join(directory, 'large.tar') }),
    pull: () => ({ kind: 'pull', reference: `${registry.host}/large:1` }),
    load: () => ({ kind: 'load', reference: `${registry.host}/large:1`, archive: join(directory, 'saved.tar') }),
    'a build that copies': () => build('FROM base\nCOPY large /one\nCOPY large /two\n'),
    'a build that runs': () => build('FROM base\nRUN dd if=/dev/zero of=/one bs=1M count=40\n'),
  }

  /** Leaves so many bytes free while the work is done. */
  async function withRoomFor(bytes: number, work: () => Promise<void>): Promise<void> {
    const filler = join(`/proc/${scenario.pid}/root`, small, 'filler')
    execFileSync('sh', ['-c', `dd if=/dev/zero of='${filler}' bs=4096 2>/dev/null; true`])
    try {
      execFileSync('truncate', [`--size=-${bytes}`, filler])
      await work()
    } finally {
      rmSync(filler)
    }
  }

  test('tells a volume so, and keeps nothing of it', async () => {
    await withRoomFor(0, async () => {
      const outcome = await attempt(scenario, { kind: 'volume', name: 'never' })
      expect(outcome).toMatchObject({ error: expect.stringContaining('There is no space left for ') })
      expect(halfWritten()).toEqual([])
    })
    expect(await done(scenario, { kind: 'volume', name: 'ever' })).toBe('ever')
  })

  test('costs no output of a container', async () => {
    const before = await done(scenario, { kind: 'sum', reference: 'base' })
    // A container needs a few files, which it makes; for its log there is no room then.
    await withRoomFor(32 * 1024, async () => {
      expect(await done(scenario, { kind: 'print', reference: 'base' })).toBe(printed())
    })
    expect(await done(scenario, { kind: 'sum', reference: 'base' })).toBe(before)
  })

  test.each(Object.keys(tasks))('tells %s so, keeps nothing of it and goes on working', async (name) => {
    const before = await done(scenario, { kind: 'sum', reference: 'base' })
    const outcome = await attempt(scenario, tasks[name]!())
    expect(outcome).toMatchObject({ error: expect.stringMatching(/disk is full|No space left|ENOSPC/i) })
    expect(await done(scenario, { kind: 'verify' })).toBe('')
    // Of a build what was made before stays in the cache.
    await done(scenario, { kind: 'prune', all: false })
    expect(halfWritten()).toEqual([])
    expect(await done(scenario, { kind: 'sum', reference: 'base' })).toBe(before)
    expect(
      await done(scenario, {
        kind: 'build',
        dockerfile: `FROM base\nLABEL after="${name}"`,
        files: {},
        tag: 'small:1',
      }),
    ).toMatch(/^sha256:/)
  })

  /** Layers are `layer.json` and `tree`, and what is being written lies in the session's own directory. */
  function halfWritten(): string[] {
    const home = `/proc/${scenario.process.pid}/root${small}`
    expect(existsSync(join(home, 'layers'))).toBe(true) // it is the right place
    const list = (path: string) => (existsSync(join(home, path)) ? readdirSync(join(home, path)) : [])
    const layers = list('layers').filter((name) => list(`layers/${name}`).sort().join() !== 'layer.json,tree')
    const temporary = list('sessions').flatMap((name) => list(`sessions/${name}/store`))
    return [...layers, ...temporary, ...list('images').filter((name) => !/^[0-9a-f]{64}\.json$/.test(name))]
  }
})

/** What `seq 20000` prints: more than there is room for. */
const printed = () => Array.from({ length: 20_000 }, (_, index) => `${index + 1}\n`).join('')

const source = fileURLToPath(new URL('store-kill.scenario.ts', import.meta.url))
