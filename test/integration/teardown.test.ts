/**
 * Whatever happens to the test process or to the warden: two seconds later there is no process, mount, link, route, table,
 * listening socket, control group or directory of the session.
 *
 * MAYFLY_TEARDOWN_ROUNDS=20 does everything so often; MAYFLY_TEARDOWN_SEED repeats the random moments of an earlier run.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { wardenProgram } from '../../src/engine/where.ts'
import { Engine } from '../../src/index.ts'
import { expectNothingLeft, type Leftovers, snapshotHost } from '../support/leftovers.ts'
import { makeRootfs, missingBusybox } from '../support/rootfs.ts'
import { bundleScenario, type Scenario, startScenario } from '../support/scenario.ts'
import { openTerritory, type Territory } from '../support/territory.ts'
import type { Settings, Started } from './teardown.scenario.ts'

const rounds = Number(process.env.MAYFLY_TEARDOWN_ROUNDS ?? 1)
const seed = Number(process.env.MAYFLY_TEARDOWN_SEED ?? Date.now() % 1_000_000)
const reason = process.getuid?.() !== 0 ? 'needs root' : missingBusybox()
const noScript = existsSync('/usr/bin/script') ? undefined : 'needs a terminal: apt-get install bsdutils'
if (noScript) console.warn(`skipped: teardown at a closed terminal: ${noScript}`)
if (reason) console.warn(`skipped: teardown: ${reason}`)
else console.log(`teardown: ${rounds} round(s), seed ${seed}`)

/** A group of version 2 that holds the test's processes hands no controllers on, unless systemd has marked it as delegated. */
const hasLimits = ({ groups }: Territory) => groups.some((group) => existsSync(join(group, 'memory.limit_in_bytes')))

describe.skipIf(reason).each(Array.from({ length: rounds }, (_, i) => i + 1))('teardown, round %i', (round) => {
  let territory: Territory
  let before: Leftovers
  let scenario: Scenario | undefined
  let home: string

  beforeAll(async () => {
    territory = await openTerritory()
    makeRootfs(join(territory.directory, 'rootfs'))
    mkdirSync(join(territory.directory, 'bind'))
    await bundleScenario(source, join(territory.directory, 'scenario.mjs'))
  })

  afterAll(() => territory?.[Symbol.dispose]())

  let number = 0
  beforeEach(() => {
    home = join(territory.directory, `home${++number}`)
    before = snapshotHost(territory)
  })

  afterEach(async () => {
    await territory.clear()
    await scenario?.ended
    scenario = undefined
  })

  const begin = (wrap: readonly string[] = []): Scenario => {
    const settings: Settings = {
      home,
      rootfs: join(territory.directory, 'rootfs'),
      bind: join(territory.directory, 'bind'),
      groups: hasLimits(territory),
      prefix: '',
    }
    const node = [process.execPath, join(territory.directory, 'scenario.mjs'), JSON.stringify(settings)]
    const env = { MAYFLY_WARDEN: wardenProgram() }
    scenario = startScenario([...territory.enter, ...(wrap.length > 0 ? [...wrap, quote(node)] : node)], env)
    return scenario
  }

  const openEngine = async () => {
    const begun = begin()
    begun.tell('open')
    expect(await begun.fact()).toBe('opening')
    expect(await begun.fact()).toBe('open')
    return begun
  }

  const startAll = async () => {
    const begun = await openEngine()
    begun.tell('all')
    const facts = await begun.fact<Started>()
    expectAllThere(facts, snapshotHost(territory), before)
    return { ...begun, facts }
  }

  /** The next start of mayfly with the same store removes what nobody was left to remove. */
  const startAgain = async () => {
    const engine = await Engine.open({ home, network: false })
    try {
      const mine = engine.info.session
      const others = () => readdirSync(join(home, 'sessions')).filter((name) => !mine.endsWith(name))
      for (const deadline = Date.now() + 10_000; others().length > 0 && Date.now() < deadline; ) await sleep(10)
    } finally {
      await engine.close()
    }
    await expectNothingLeft(territory, before)
  }

  describe('a process that ends with containers of every kind', () => {
    const ends: Record<string, (all: Scenario) => void> = {
      'SIGKILL of node': ({ pid }) => process.kill(pid, 'SIGKILL'),
      'process.exit(1) at once': (all) => all.tell('end exit'),
      'an uncaught exception': (all) => all.tell('end throw'),
      'an unhandled rejection': (all) => all.tell('end reject'),
      'Ctrl-C: SIGINT to the process group': ({ pid }) => process.kill(-pid, 'SIGINT'),
      'SIGTERM of the process group': ({ pid }) => process.kill(-pid, 'SIGTERM'),
      'SIGHUP of the process group': ({ pid }) => process.kill(-pid, 'SIGHUP'),
      'the end of the event loop, without close()': (all) => all.tell('end finish'),
      'close()': (all) => all.tell('end close'),
    }
    test.each(Object.entries(ends))('%s leaves nothing', async (_name, end) => {
      const all = await startAll()
      end(all)
      await all.ended
      await expectNothingLeft(territory, before)
    })
  })

  test('SIGKILL of node leaves nothing although somebody has removed the store before', async () => {
    const all = await startAll()
    rmSync(home, { recursive: true })
    process.kill(all.pid, 'SIGKILL')
    await all.ended
    await expectNothingLeft(territory, before)
  })

  describe('a process that goes on when its session is killed', () => {
    // Without its launcher a session has nobody to remove directories; all the rest is the kernel's.
    test.each([
      ['warden', ['warden'], false],
      ['launcher', ['launcher'], true],
      ['warden and launcher', ['warden', 'launcher'], true],
    ] as const)('SIGKILL of the %s leaves nothing, and is told', async (_name, victims, untilNextStart) => {
      const all = await startAll()
      const alive = snapshotHost(territory)
      const node = alive.process.filter((line) => line.startsWith(`${all.pid} `))
      for (const pid of sessionPids(home, victims)) killIfThere(pid)
      all.tell('probe')
      expect(await all.fact()).toMatchObject({
        code: 'ENGINE_UNAVAILABLE',
        message: expect.stringMatching(/^The warden /),
      })
      await expectNothingLeft(
        territory,
        { ...before, process: node },
        { untilNextStart, ...(untilNextStart ? { ignore: isInHostPids } : {}) },
      )
      all.tell('end exit')
      await all.ended
      await startAgain()
    })

    test('a signal that asks the launcher to end leaves nothing', async () => {
      const all = await startAll()
      const node = snapshotHost(territory).process.filter((line) => line.startsWith(`${all.pid} `))
      for (const pid of sessionPids(home, ['launcher'])) process.kill(pid, 'SIGTERM')
      await expectNothingLeft(territory, { ...before, process: node })
      expect(all.process.exitCode).toBe(null)
    })
  })

  test.each([
    ['node and warden', ['warden'], false],
    ['node and launcher', ['launcher'], true],
    ['node, launcher and warden', ['launcher', 'warden'], true],
  ] as const)('SIGKILL of %s at once leaves nothing', async (_name, victims, untilNextStart) => {
    const all = await startAll()
    // Stopped first, so that none of them sees another one die and acts on it.
    const pids = [all.pid, ...sessionPids(home, victims)]
    for (const pid of pids) process.kill(pid, 'SIGSTOP')
    for (const pid of pids) killIfThere(pid)
    await all.ended
    await expectNothingLeft(territory, before, { untilNextStart, ...(untilNextStart ? { ignore: isInHostPids } : {}) })
    await startAgain()
  })

  test.skipIf(noScript)('a closed terminal leaves nothing', async () => {
    // `script` holds the terminal; without it, the kernel sends SIGHUP to those who had it.
    const begun = begin(['script', '--quiet', '--return', '--echo', 'never', '/dev/null', '--command'])
    begun.tell('open')
    await begun.fact()
    await begun.fact()
    begun.tell('all')
    expectAllThere(await begun.fact<Started>(), snapshotHost(territory), before)
    process.kill(begun.pid, 'SIGKILL')
    await expectNothingLeft(territory, before)
  })

  test('a terminated worker thread leaves nothing, while the session of the process goes on', async () => {
    const begun = await openEngine()
    begun.tell('all')
    const main = await begun.fact<Started>()
    const withoutWorker = snapshotHost(territory)
    begun.tell('worker')
    const facts = await begun.fact<Started>()
    expectAllThere(facts, snapshotHost(territory), withoutWorker)
    begun.tell('terminate')
    expect(await begun.fact()).toBe('terminated')
    // Those of the other session come and go, but each kind is still there.
    await expectNothingLeft(territory, withoutWorker, { ignore: (line) => /container "(?!worker )/.test(line) })
    const still = snapshotHost(territory)
    for (const kind of main.kinds) expect(still.process).toContainEqual(expect.stringContaining(`container "${kind}"`))
    expect(still).toMatchObject({
      link: withoutWorker.link,
      socket: withoutWorker.socket,
      session: withoutWorker.session,
    })
    begun.tell('end exit')
    await begun.ended
    await expectNothingLeft(territory, before)
  })

  describe('at a random moment', () => {
    const moments = Array.from({ length: 20 }, (_, i) => random(seed + round * 100 + i) * 30)
    const rounded = (ms: number) => ms.toFixed(1)

    test.each(moments.map(rounded))(
      'SIGKILL of node %s ms into the start of ten containers leaves nothing',
      async (ms) => {
        const begun = await openEngine()
        begun.tell('ten')
        await begun.fact()
        await sleep(Number(ms))
        process.kill(begun.pid, 'SIGKILL')
        await begun.ended
        await expectNothingLeft(territory, before)
      },
    )

    test.each(moments.map(rounded))(
      'SIGKILL of the warden %s ms into the start of ten containers leaves nothing',
      async (ms) => {
        const begun = await openEngine()
        const [warden] = sessionPids(home, ['warden'])
        const node = snapshotHost(territory).process.filter((line) => line.startsWith(`${begun.pid} `))
        begun.tell('ten')
        await begun.fact()
        await sleep(Number(ms))
        process.kill(warden!, 'SIGKILL')
        await expectNothingLeft(territory, { ...before, process: node })
        expect(begun.process.exitCode).toBe(null)
      },
    )

    test.each(moments.slice(0, 8).map(rounded))(
      'SIGKILL of node %s ms into the opening of the engine leaves nothing',
      async (ms) => {
        const begun = begin()
        begun.tell('open')
        await begun.fact()
        await sleep(Number(ms))
        process.kill(begun.pid, 'SIGKILL')
        await begun.ended
        await expectNothingLeft(territory, before)
      },
    )
  })
})

const source = fileURLToPath(new URL('./teardown.scenario.ts', import.meta.url))

/**
 * Who shares the host's PID namespace and has changed user hangs on nothing that the kernel ends with the session. The launcher
 * kills such processes by their control group; without it, the next start of mayfly does.
 */
const isInHostPids = (line: string) => line.includes('container "pids"')

/** The proof that the checks see what they look for. */
function expectAllThere(facts: Started, now: Leftovers, before: Leftovers): void {
  const fresh = (kind: keyof Leftovers) => now[kind].filter((line) => !before[kind].includes(line))
  const processes = fresh('process')
  for (const kind of facts.kinds)
    expect(processes, `a process of "${kind}"`).toContainEqual(expect.stringContaining(`container "${kind}"`))
  expect(processes).toContainEqual(expect.stringContaining('(mayfly-warden)'))
  expect(processes).toContainEqual(expect.stringContaining('(mayfly-launcher)'))
  expect(fresh('link')).toEqual([expect.stringMatching(/^mf-/)])
  expect(fresh('route').length).toBeGreaterThan(0)
  expect(fresh('socket')).toEqual(
    expect.arrayContaining([`tcp port ${facts.tcpPort}`, `tcp6 port ${facts.tcpPort}`, `udp port ${facts.udpPort}`]),
  )
  expect(fresh('group')).toContainEqual(expect.stringContaining(`mayfly-${facts.session.slice(-12)}`))
  expect(fresh('session')).toEqual([facts.session])
  // While it is there, too: nothing is ever mounted or kept where others see it.
  expect([...fresh('mount'), ...fresh('table')]).toEqual([])
}

/** Ids of the session's own two processes. They are told by their names and by the store that they were given. */
function sessionPids(home: string, names: readonly ('warden' | 'launcher')[]): number[] {
  const pids = names.map((name) =>
    readdirSync('/proc').find((pid) => {
      try {
        const isOurs = readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`${home}\0`)
        return isOurs && readFileSync(`/proc/${pid}/comm`, 'utf8') === `mayfly-${name}\n`
      } catch {
        return false // not a process, or gone
      }
    }),
  )
  expect(pids).not.toContain(undefined)
  return pids.map(Number)
}

/** The warden follows its launcher by the kernel's hand. */
function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** 0 to 1, the same for the same seed (mulberry32). */
function random(seedNumber: number): number {
  let a = (seedNumber * 0x6d2b79f5) | 0
  a = Math.imul(a ^ (a >>> 15), a | 1)
  a ^= a + Math.imul(a ^ (a >>> 7), a | 61)
  return ((a ^ (a >>> 14)) >>> 0) / 2 ** 32
}

const quote = (words: readonly string[]) => words.map((word) => `'${word}'`).join(' ')
