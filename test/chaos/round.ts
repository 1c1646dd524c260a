/** One round: processes work, are tormented, and end; then the machine must be what it was before. */

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Scenario } from '../support/scenario.ts'
import { stayOpen } from './descriptors.ts'
import { Dice } from './dice.ts'
import type { Ground } from './ground.ts'
import { differences, lookAtMachine } from './machine.ts'
import { planTorments, relieve, type Torment, torment } from './torments.ts'
import type { Fact } from './workload.ts'

export interface Round {
  readonly seed: string
  readonly torments: readonly Torment[]
  readonly tmpfsMib: number | undefined
  /** What was done, and how it ended: name of the deed, and `ok` or the error's code → how often. */
  readonly endings: ReadonlyMap<string, number>
  /** Errors that were none of ours, for who reads the report. */
  readonly unnamed: readonly string[]
  /** Nothing, if all is well. */
  readonly defects: readonly string[]
}

/** Everything that was begun ends within this time after the torments have. */
const SETTLE_MS = 60_000

interface Worker {
  readonly scenario: Scenario
  readonly facts: Fact[]
  warden: number | undefined
  launcher: number | undefined
  isQuiet: boolean
  isDead: boolean
  descriptors: readonly string[]
}

export async function playRound(ground: Ground, seed: string, lastsMs: number): Promise<Round> {
  const dice = new Dice(seed)
  const tmpfsMib = dice.happens(0.35) ? dice.between(24, 64) : undefined
  const count = dice.between(1, 4)
  const torments = planTorments(dice.fork('torments'), count, lastsMs, tmpfsMib !== undefined)
  const defects: string[] = []
  await ground.lay(tmpfsMib)
  const before = lookAtMachine(ground)
  const begun = performance.now()
  const workers = Array.from({ length: count }, (_, index) => {
    const atOnce = dice.between(1, 4)
    return watch(ground.start({ task: 'work', seed: `${seed}/process ${index}`, atOnce }))
  })
  // The earliest moment that is the same in all of them: node runs, and nothing of ours does yet.
  await Promise.all(
    torments.map(async (one) => {
      await sleep(Math.max(0, begun + one.atMs - performance.now()))
      const worker = workers[one.of]!
      await torment(one, ground, { node: worker.scenario.pid, warden: worker.warden, launcher: worker.launcher })
    }),
  )
  relieve(ground)
  await sleep(Math.max(0, begun + lastsMs - performance.now()))
  for (const { scenario } of workers) scenario.tell('enough')
  const deadline = performance.now() + SETTLE_MS
  while (performance.now() < deadline && workers.some((worker) => !worker.isQuiet && !worker.isDead)) await sleep(20)
  for (const worker of workers) {
    if (worker.isQuiet || worker.isDead) continue
    // Node itself does not always survive that it may start no thread; then none of our code has run.
    if (worker.facts.length > 0)
      defects.push(`hangs: process ${workers.indexOf(worker)}: ${unfinished(worker)}; ${whereabouts(worker)}`)
    worker.scenario.process.kill('SIGKILL')
  }
  // Once its engines are closed, a process holds nothing of them.
  const quiet = workers.filter(({ isQuiet, isDead }) => isQuiet && !isDead)
  const open = await Promise.all(
    quiet.map(async ({ scenario, descriptors, facts }) => {
      const left = await stayOpen(scenario.pid, descriptors)
      // A worker thread that is ended while node opens a file for it leaves that open, whoever asked for it.
      const hadThread = facts.some((fact) => fact.fact === 'begins' && fact.deed === 'thread')
      return left.filter((link) => !hadThread || !link.startsWith('/'))
    }),
  )
  defects.push(
    ...open.filter((left) => left.length > 0).map((left) => `descriptors that stay open: ${left.join(', ')}`),
  )
  for (const { scenario } of workers) scenario.tell('bye')
  await Promise.all(workers.map(({ scenario }) => scenario.ended))
  for (const worker of workers) defects.push(...complaints(worker, torments))
  // What only a session can sweep may wait for one; everything else is the kernel's or the launcher's, and has to be gone.
  defects.push(...(await differences(ground, before, true)).map((line) => `after the round: ${line}`))
  defects.push(...(await verify(ground)))
  defects.push(...(await differences(ground, before, false)).map((line) => `after the next session: ${line}`))
  const ends = workers.flatMap(({ facts }) => endings(facts))
  const tally = new Map<string, number>()
  for (const { deed, code } of ends)
    tally.set(`${deed} ${code ?? 'ok'}`, (tally.get(`${deed} ${code ?? 'ok'}`) ?? 0) + 1)
  const unnamed = ends.flatMap(({ deed, code, error }) =>
    code?.startsWith('unnamed') ? `${deed}: ${code}: ${error}` : [],
  )
  if (defects.length > 0) await ground.territory.clear()
  return { seed, torments, tmpfsMib, endings: tally, unnamed, defects }
}

/** A session that nobody disturbs: it sweeps, removes what was meant to stay, and finds the images and the volume as they were. */
async function verify(ground: Ground): Promise<string[]> {
  const scenario = ground.start({ task: 'verify' })
  const worker = watch(scenario)
  const how = await Promise.race([scenario.ended, sleep(SETTLE_MS, undefined)])
  const wrong = worker.facts.flatMap((fact) =>
    fact.fact === 'wrong' || fact.fact === 'broken' ? `the next session: ${fact.what}` : [],
  )
  if (how?.code === 0) return wrong
  const where = whereabouts(worker)
  scenario.process.kill('SIGKILL')
  const { stderr } = await scenario.ended
  return [
    ...wrong,
    `the next session ${how ? `ended with ${how.code ?? how.signal}` : `hangs; ${where}`}: ${stderr.trim()}`,
  ]
}

/** Follows what a process tells. */
function watch(scenario: Scenario): Worker {
  const worker: Worker = {
    scenario,
    facts: [],
    warden: undefined,
    launcher: undefined,
    isQuiet: false,
    isDead: false,
    descriptors: [],
  }
  const listen = async () => {
    for (;;) {
      const fact = await scenario.fact<Fact>()
      worker.facts.push(fact)
      if (fact.fact === 'ready') worker.descriptors = fact.descriptors
      if (fact.fact === 'open') ({ warden: worker.warden, launcher: worker.launcher } = fact)
      if (fact.fact === 'quiet') worker.isQuiet = true
    }
  }
  listen().catch(() => {})
  scenario.ended.then(() => {
    worker.isDead = true
  })
  return worker
}

function complaints(worker: Worker, torments: readonly Torment[]): string[] {
  // Programs in containers were lied to as well, and say what they then say.
  const isLied = torments.some((one) => one.kind === 'failing calls' && one.alsoChildren)
  return worker.facts.flatMap((fact) => {
    if (fact.fact === 'broken' || (fact.fact === 'wrong' && !isLied)) return [`${fact.fact}: ${fact.what}`]
    return []
  })
}

function endings(facts: readonly Fact[]): { deed: string; code: string | undefined; error: string | undefined }[] {
  const deeds = new Map(facts.flatMap((fact) => (fact.fact === 'begins' ? [[fact.number, fact.deed] as const] : [])))
  return facts.flatMap((fact) =>
    fact.fact === 'ends' ? { deed: deeds.get(fact.number) ?? '?', code: fact.code, error: fact.error } : [],
  )
}

function unfinished({ facts }: Worker): string {
  const over = new Set(facts.flatMap((fact) => (fact.fact === 'ends' ? fact.number : [])))
  const open = facts.flatMap((fact) => (fact.fact === 'begins' && !over.has(fact.number) ? fact.deed : []))
  return open.length > 0 ? `begun and not ended: ${open.join(', ')}` : 'its engines do not close'
}

/** What the kernel says the processes are doing, for a report of something that hangs. */
function whereabouts({ scenario, warden, launcher }: Worker): string {
  const pids = { node: scenario.pid, warden, launcher }
  return Object.entries(pids)
    .map(([name, pid]) => {
      try {
        const status = /^State:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]
        return `${name} ${pid} ${status} in ${readFileSync(`/proc/${pid}/wchan`, 'utf8')}`
      } catch {
        return `${name} ${pid} is dead`
      }
    })
    .join(', ')
}
