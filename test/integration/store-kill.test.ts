/**
 * The store survives a kill -9 at any moment of a pull, a build, a load and a prune: nothing is torn, the same thing done again succeeds, and in
 * the end nothing is left over.
 *
 * MAYFLY_KILLS=400 kills more often; MAYFLY_KILL_SEED repeats the moments of an earlier run.
 */

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { wardenProgram } from '../../src/engine/where.ts'
import { expectNothingLeft, type Leftovers, snapshotHost } from '../support/leftovers.ts'
import { missingRegistry, type Registry, startRegistry } from '../support/registry.ts'
import { makeRootfs, missingBusybox } from '../support/rootfs.ts'
import { bundleScenario, type Scenario, startScenario } from '../support/scenario.ts'
import { openTerritory, type Territory } from '../support/territory.ts'
import type { Opened, Outcome, Task } from './store-kill.scenario.ts'

const kills = Number(process.env.MAYFLY_KILLS ?? 50)
const seed = Number(process.env.MAYFLY_KILL_SEED ?? Date.now() % 1_000_000)
const reason = process.getuid?.() !== 0 ? 'needs root' : (missingBusybox() ?? missingRegistry())
if (reason) console.warn(`skipped: kills in the middle of pulls, builds, loads and prunes: ${reason}`)
else console.log(`store-kill: ${kills} kills, seed ${seed}`)

const KINDS = ['pull', 'build', 'load', 'prune'] as const
type Kind = (typeof KINDS)[number]

/** Between 0 and 1, the same for the same seed and number. */
function chance(...numbers: number[]): number {
  return (
    createHash('sha256')
      .update([seed, ...numbers].join())
      .digest()
      .readUInt32BE() /
    2 ** 32
  )
}

/** Text that does not compress to nothing, so that every layer takes a while. */
function noise(name: string, size: number): string {
  const pieces: string[] = []
  for (let at = 0; at < size; at += 64) pieces.push(createHash('sha256').update(`${name} ${at}`).digest('hex'))
  return pieces.join('')
}

/** Three layers of files, one of many small ones, one of a large one. */
function sourceImage(name: string): { dockerfile: string; files: Record<string, string> } {
  const small = Array.from({ length: 100 }, (_, i) => [`small/${i % 10}/${i}`, `${name} ${i}`] as const)
  return {
    dockerfile: 'FROM base\nCOPY small /data/small/\nCOPY large /data/\nCOPY small/1 /data/again/\n',
    files: { ...Object.fromEntries(small), large: noise(name, 2_000_000) },
  }
}

describe.skipIf(reason)('a store whose users are killed', () => {
  let territory: Territory
  let registry: Registry
  let before: Leftovers
  let home: string
  let archive: string
  let pulled: string

  beforeAll(async () => {
    territory = await openTerritory()
    home = join(territory.directory, 'home')
    archive = join(territory.directory, 'loaded.tar')
    makeRootfs(join(territory.directory, 'rootfs'))
    execFileSync('tar', ['-C', join(territory.directory, 'rootfs'), '-cf', baseArchive(), '.'])
    await bundleScenario(source, join(territory.directory, 'scenario.mjs'))
    registry = await startRegistry({ enter: territory.enter })
    pulled = `${registry.host}/app:1`
    // The images are made in another store: what this one has built it would not fetch.
    const maker = await start(join(territory.directory, 'maker'))
    await maker.done({ kind: 'import', reference: 'base', archive: baseArchive() })
    await maker.done({ kind: 'build', ...sourceImage('pulled'), tag: pulled })
    await maker.done({ kind: 'push', reference: pulled })
    await maker.done({ kind: 'build', ...sourceImage('loaded'), tag: 'loaded:1' })
    await maker.done({ kind: 'save', reference: 'loaded:1', archive })
    await maker.end()
    rmSync(join(territory.directory, 'maker'), { recursive: true })
    before = snapshotHost(territory)
  }, 60_000)

  afterAll(async () => {
    await registry?.[Symbol.asyncDispose]()
    await territory?.clear()
    territory?.[Symbol.dispose]()
  })

  const baseArchive = () => join(territory.directory, 'base.tar')

  const start = async (at: string) => {
    const env = { MAYFLY_WARDEN: wardenProgram(), DOCKER_CONFIG: '/nonexistent', DOCKER_AUTH_CONFIG: undefined }
    const words = [...territory.enter, process.execPath, join(territory.directory, 'scenario.mjs'), at]
    const scenario: Scenario = startScenario(words, env)
    const opened = await scenario.fact<Opened>()
    const begin = async (task: Task) => {
      scenario.tell(JSON.stringify(task))
      expect(await scenario.fact()).toBe('begins')
    }
    const attempt = async (task: Task) => {
      await begin(task)
      return scenario.fact<Outcome>()
    }
    return {
      scenario,
      opened,
      begin,
      attempt,
      done: async (task: Task) => {
        const outcome = await attempt(task)
        if ('error' in outcome) throw new Error(`${task.kind} failed: ${outcome.error}`)
        return outcome
      },
      end: async () => {
        scenario.tell('end')
        expect(await scenario.ended).toMatchObject({ code: 0 })
      },
    }
  }

  const task = (kind: Kind, round: number): Task => {
    if (kind === 'pull') return { kind, reference: pulled }
    if (kind === 'load') return { kind, reference: 'loaded:1', archive }
    if (kind === 'prune') return { kind, all: false }
    // Some of the steps are known from earlier rounds, others are not.
    const dockerfile = [
      'FROM base AS one',
      `RUN mkdir /made && echo ${round} > /made/one && dd if=/dev/zero of=/made/zeros bs=64k count=40 2>/dev/null`,
      'FROM base AS two',
      `RUN --mount=type=cache,target=/cache,id=c${round % 3} echo ${round % 4} | tee /cache/two > /two`,
      'FROM one',
      'WORKDIR /data/deep',
      'COPY small /data/',
      'COPY --from=two /two /made/',
      'RUN rm /made/zeros; mv /data/1 /data/moved; cat /two /made/one 2>/dev/null > /made/both; true',
    ]
    const files = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`small/${i % 5}/${i}`, `${round} ${i}`]))
    return { kind, dockerfile: dockerfile.join('\n'), files, tag: 'built:1' }
  }

  const named: Record<Exclude<Kind, 'prune'>, () => string> = {
    pull: () => pulled,
    load: () => 'loaded:1',
    build: () => 'built:1',
  }

  test(`has nothing torn and nothing left over after ${kills} of them`, {
    timeout: 60_000 + kills * 4_000,
  }, async () => {
    let steady = await start(home)
    await steady.done({ kind: 'import', reference: 'base', archive: baseArchive() })
    // How long each takes, to know which moments there are, and what is to come of it.
    const lastsMs = { pull: 0, build: 0, load: 0, prune: 0 }
    const expected = new Map<string, string>()
    for (const kind of KINDS) {
      const first = await steady.done(task(kind, -1))
      lastsMs[kind] = first.tookMs
      if (kind === 'prune') continue
      const reference = named[kind]()
      if (kind !== 'build') expected.set(`${kind} id`, first.result)
      if (kind !== 'build') expected.set(`${kind} sum`, (await steady.done({ kind: 'sum', reference })).result)
    }
    const interrupted = { pull: 0, build: 0, load: 0, prune: 0 }

    for (let round = 0; round < kills; round++) {
      const kind = KINDS[round % KINDS.length]!
      const what = task(kind, round)
      // What a prune is to remove is what the rounds before have left, and an image that has lost its name.
      if (kind !== 'prune') await steady.done({ kind: 'remove', reference: named[kind]() })
      const victim = await start(home)
      await victim.begin(what)
      await sleep(chance(round, 1) * lastsMs[kind] * 1.1)
      victim.scenario.process.kill('SIGKILL')
      // Every third time those die with it who would clean up.
      if (round % 3 === 2) for (const pid of [victim.opened.launcher, victim.opened.pid]) kill(pid)
      const { signal } = await victim.scenario.ended
      expect(signal).toBe('SIGKILL')
      if (
        await victim.scenario.fact().then(
          () => false,
          () => true,
        )
      )
        interrupted[kind]++

      const context = `round ${round} (${kind}), seed ${seed}`
      expect(await steady.done({ kind: 'verify' }), context).toMatchObject({ result: '' })
      const again = await steady.attempt(what)
      expect(again, context).toHaveProperty('result')
      if (kind !== 'prune') {
        const sum = (await steady.done({ kind: 'sum', reference: named[kind]() })).result
        if (kind === 'build') expected.set('build sum', sumOfBuild(round))
        else expect((again as { result: string }).result, context).toBe(expected.get(`${kind} id`))
        expect(sum, context).toBe(expected.get(`${kind} sum`))
      }
      expect((await steady.done({ kind: 'sum', reference: 'base' })).result, context).toMatch(/^[0-9a-f]{32}/)
      // A process that has known the store for long and one that has not.
      if (round % 10 === 9) {
        await steady.end()
        steady = await start(home)
      }
    }
    console.log(`store-kill: killed in the middle: ${JSON.stringify(interrupted)} of ${kills}`)
    if (kills >= 40) for (const kind of KINDS) expect(interrupted[kind], kind).toBeGreaterThan(2)

    await steady.done({ kind: 'verify' })
    await steady.done({ kind: 'prune', all: true })
    for (const directory of ['layers', 'blobs/sha256', 'images', 'refs', 'locks', 'cache/build', 'cache/mounts']) {
      const path = join(home, directory)
      expect(existsSync(path) ? readdirSync(path, { recursive: true }) : [], directory).toEqual([])
    }
    await steady.end()
    await expectNothingLeft(territory, before)
  })

  /** What the shell makes of a round's Dockerfile, by another way than ours. */
  function sumOfBuild(round: number): string {
    const files = new Map<string, string>()
    for (let i = 0; i < 60; i++) files.set(`/data/${i % 5 === 1 ? 'moved' : i % 5}/${i}`, `${round} ${i}`)
    files.set('/made/one', `${round}\n`)
    files.set('/made/two', `${round % 4}\n`)
    files.set('/made/both', `${round}\n`)
    const md5 = (text: string) => createHash('md5').update(text).digest('hex')
    // In the order of their bytes, as busybox sorts.
    const lines = [...files].sort(([a], [b]) => (a < b ? -1 : 1)).map(([path, text]) => `${md5(text)}  ${path}\n`)
    return `${md5(lines.join(''))}  -`
  }
})

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {} // gone with the process that was killed
}

const source = fileURLToPath(new URL('store-kill.scenario.ts', import.meta.url))
