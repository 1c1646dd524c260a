/**
 * `npm run chaos -- [--minutes N] [--seed S] [--rounds N] [--round K] [--json]`: rounds of random work and random torments, until the time is over or something
 * is wrong. Each round is repeated by its own seed: `--seed S --round K` plays that one alone.
 */

import { parseArgs } from 'node:util'
import { Dice } from './dice.ts'
import { obstacleToChaos, openGround } from './ground.ts'
import { playRound, type Round } from './round.ts'
import { hasStrace } from './torments.ts'

export interface ChaosOptions {
  readonly minutes: number
  readonly seed: string
  /** Of these sources. */
  readonly directory: string
  /** Play no more than so many. @default as many as there is time for */
  readonly rounds?: number
  /** Play only this one. */
  readonly round?: number
  /** Go on after a round that had defects. @default false */
  readonly keepGoing?: boolean
  readonly onRound?: (number: number, round: Round) => void
}

/** Resolves to all rounds that were played. */
export async function chaos(options: ChaosOptions): Promise<Round[]> {
  const { minutes, seed, rounds = Number.POSITIVE_INFINITY, round: only, keepGoing = false, onRound } = options
  const deadline = performance.now() + minutes * 60_000
  const ground = await openGround(seed, options.directory)
  const played: Round[] = []
  try {
    for (let number = only ?? 1; played.length < rounds && performance.now() < deadline; number++) {
      const own = `${seed}/round ${number}`
      const round = await playRound(ground, own, new Dice(`${own}/lasts`).between(1_500, 8_000))
      played.push(round)
      onRound?.(number, round)
      if (only !== undefined || (round.defects.length > 0 && !keepGoing)) break
    }
  } finally {
    await ground.close()
  }
  return played
}

declare const CHAOS_DIRECTORY: string

export async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      minutes: { type: 'string', default: '2' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      rounds: { type: 'string' },
      round: { type: 'string' },
      'keep-going': { type: 'boolean', default: false },
    },
  })
  const why = obstacleToChaos()
  if (why) {
    console.log(`skipped: chaos: ${why}`)
    return 77
  }
  console.log(`chaos: seed ${values.seed}${hasStrace ? '' : ', without failing system calls: apt-get install strace'}`)
  const begun = performance.now()
  const rounds = await chaos({
    minutes: Number(values.minutes),
    seed: values.seed,
    directory: CHAOS_DIRECTORY,
    keepGoing: values['keep-going'],
    ...(values.rounds ? { rounds: Number(values.rounds) } : {}),
    ...(values.round ? { round: Number(values.round) } : {}),
    onRound: (number, round) => console.log(describeRound(number, round)),
  })
  const bad = rounds.filter(({ defects }) => defects.length > 0)
  const deeds = rounds.flatMap(({ endings }) => [...endings])
  const count = (wanted: (name: string) => boolean) =>
    deeds.reduce((sum, [name, times]) => sum + (wanted(name) ? times : 0), 0)
  const kinds = new Map<string, number>()
  for (const { kind } of rounds.flatMap(({ torments }) => torments)) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
  const failedCalls = rounds.reduce((sum, round) => sum + round.failedCalls, 0)
  const well = count((name) => name.endsWith(' ok'))
  console.log(
    `${rounds.length} rounds in ${((performance.now() - begun) / 60_000).toFixed(1)} minutes, ${bad.length} with defects; ` +
      `${well} deeds went well, ${count(() => true) - well} ended with an error; seed ${values.seed}`,
  )
  console.log(`${[...kinds].map(([kind, times]) => `${kind} ${times}`).join(', ')}; ${failedCalls} system calls failed`)
  return bad.length > 0 ? 1 : 0
}

/** Of a tree that stays, each file is a line. */
const SHOWN = 20

export function describeRound(number: number, round: Round): string {
  const total = [...round.endings.values()].reduce((sum, times) => sum + times, 0)
  const failed = [...round.endings].filter(([name]) => !name.endsWith(' ok')).map(([name, times]) => `${name} ${times}`)
  const torments = round.torments.map(
    ({ atMs, forMs, of, kind, ...how }) =>
      `${kind} ${Object.values(how).flat().join(' ')} (${of}, ${atMs}+${forMs} ms)`,
  )
  const lines = [
    `round ${number}: ${round.defects.length > 0 ? 'DEFECTS' : 'clean'}; ${total} deeds${round.tmpfsMib ? `, disk of ${round.tmpfsMib} MiB` : ''}; ${torments.join('; ')}${round.failedCalls ? `; ${round.failedCalls} calls failed` : ''}`,
    ...(failed.length > 0 ? [`  errors: ${failed.join(', ')}`] : []),
    ...round.defects.slice(0, SHOWN).map((line) => `  defect: ${line}`),
    ...(round.defects.length > SHOWN ? [`  and ${round.defects.length - SHOWN} more`] : []),
  ]
  return lines.join('\n')
}
