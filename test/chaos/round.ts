/** One round: processes work, are tormented, and end; then the machine must be what it was before. */

import { setTimeout as sleep } from 'node:timers/promises'
import { stayOpen } from './descriptors.ts'
import { Dice } from './dice.ts'
import type { Ground } from './ground.ts'
import { crashesSince, differences, lookAtMachine, SWEPT_LATER } from './machine.ts'
import { planTorments, relieve, type Torment, torment } from './torments.ts'
import { complaintsAbout, endingsOf, unfinished, type Witness, watch, whereabouts } from './witness.ts'

export interface Round {
  readonly seed: string
  readonly torments: readonly Torment[]
  readonly tmpfsMib: number | undefined
  /** What was done, and how it ended: name of the deed, and `ok` or the error's code → how often. */
  readonly endings: ReadonlyMap<string, number>
  /** System calls that were made to fail. */
  readonly failedCalls: number
  /** Nothing, if all is well. */
  readonly defects: readonly string[]
}

/** Everything that was begun ends within this time after the torments have. */
const SETTLE_MS = 60_000

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
    return watch(ground.start({ task: 'work', seed: `${seed}/process ${index}`, atOnce }), index)
  })
  // The earliest moment that is the same in all of them: node runs, and nothing of ours does yet.
  const failed = await Promise.all(
    torments.map(async (one) => {
      await sleep(Math.max(0, begun + one.atMs - performance.now()))
      const worker = workers[one.of]!
      return torment(one, ground, { node: worker.scenario.pid, warden: worker.warden, launcher: worker.launcher })
    }),
  )
  relieve(ground)
  await sleep(Math.max(0, begun + lastsMs - performance.now()))
  for (const { scenario } of workers) scenario.tell('enough')
  const deadline = performance.now() + SETTLE_MS
  while (performance.now() < deadline && workers.some((worker) => !worker.isQuiet && !worker.end)) await sleep(20)
  for (const worker of workers) {
    if (worker.isQuiet || worker.end) continue
    if (!isHangOfNode(worker, torments))
      defects.push(`hangs: process ${worker.number}: ${unfinished(worker)}; ${whereabouts(worker)}`)
    worker.wasKilled = true
    worker.scenario.process.kill('SIGKILL')
  }
  // Once its engines are closed, a process holds nothing of them.
  const quiet = workers.filter(({ isQuiet, end }) => isQuiet && !end)
  const open = await Promise.all(
    quiet.map(async ({ scenario, descriptors, facts }) => {
      const left = await stayOpen(scenario.pid, descriptors)
      const threads = facts.filter((fact) => fact.fact === 'begins' && fact.deed === 'thread').length
      return withoutThreads(left, threads)
    }),
  )
  defects.push(
    ...open.filter((left) => left.length > 0).map((left) => `descriptors that stay open: ${left.join(', ')}`),
  )
  for (const { scenario } of workers) scenario.tell('bye')
  await Promise.all(workers.map(({ scenario }) => scenario.ended))
  for (const worker of workers) defects.push(...complaintsAbout(worker, torments))
  if (!torments.some(({ kind }) => kind === 'small address space')) defects.push(...crashesSince(begun, ground.program))
  // What only a session can sweep may wait for one; everything else is the kernel's or the launcher's, and has to be gone.
  const ofLauncher = torments.some(mayEndLauncher) ? [] : ['group', 'session']
  const later = SWEPT_LATER.filter((kind) => !ofLauncher.includes(kind))
  defects.push(...(await differences(ground, before, later)).map((line) => `after the round: ${line}`))
  defects.push(...(await verify(ground)))
  defects.push(...(await differences(ground, before, [])).map((line) => `after the next session: ${line}`))
  const tally = new Map<string, number>()
  for (const { deed, code } of workers.flatMap(endingsOf))
    tally.set(`${deed} ${code ?? 'ok'}`, (tally.get(`${deed} ${code ?? 'ok'}`) ?? 0) + 1)
  if (defects.length > 0) {
    // What is found once is not found again as missing from the next round.
    await ground.territory.clear()
    await differences(ground, before, SWEPT_LATER)
  }
  return { seed, torments, tmpfsMib, endings: tally, failedCalls: failed.reduce((sum, one) => sum + one, 0), defects }
}

/**
 * Where a process may start too few threads, node waits for ever for one that it did not get: `node -e 0` with pids.max from 3 to 6. That is so before the
 * first line of a program; once one of ours has run, a hang is ours.
 */
function isHangOfNode({ facts }: Witness, torments: readonly Torment[]): boolean {
  return facts.length === 0 && torments.some(({ kind }) => kind === 'few processes')
}

/** As many as node has threads for it. What is read often, and by many at once, is read without them. */
const FILES_OF_THREAD = 4

/**
 * A worker thread that is ended while node opens a file for it leaves that open, in every version and whoever asked for it: of forty threads that do nothing but
 * `readFile`, twenty or sixty times at once, some leave twenty or sixty descriptors.
 */
function withoutThreads(left: readonly string[], threads: number): readonly string[] {
  const files = left.filter((link) => link.startsWith('/'))
  return files.length <= threads * FILES_OF_THREAD ? left.filter((link) => !link.startsWith('/')) : left
}

/** Nobody is left then who could remove the control groups and the directory of a session before the next one. */
function mayEndLauncher(one: Torment): boolean {
  switch (one.kind) {
    case 'kill':
      return one.victims.includes('launcher')
    case 'stop':
      return one.victim === 'launcher' && one.thenKill
    case 'few descriptors':
    case 'small address space':
    case 'failing calls':
      return one.victim === 'launcher'
    case 'failing starts':
      return true
    default:
      return one.kind === 'little memory' || one.kind === 'few processes'
  }
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
