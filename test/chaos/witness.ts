/** Follows a process of the workload: what it tells, how it ends, and what of both must not be. */

import { readFileSync } from 'node:fs'
import type { Scenario } from '../support/scenario.ts'
import { descriptorsOf } from './descriptors.ts'
import type { Torment } from './torments.ts'
import type { Fact } from './workload.ts'

export interface Witness {
  readonly scenario: Scenario
  /** Its number among the processes of the round. */
  readonly number: number
  readonly facts: Fact[]
  warden: number | undefined
  launcher: number | undefined
  /** All that it has begun is done, and its engines are closed. */
  isQuiet: boolean
  end: { readonly code: number | null; readonly signal: NodeJS.Signals | null; readonly stderr: string } | undefined
  /** Killed by the round, because it hung: told already. */
  wasKilled: boolean
  /** What node had open before anything was done. */
  descriptors: readonly string[]
}

export function watch(scenario: Scenario, number = 0): Witness {
  const witness: Witness = {
    scenario,
    number,
    facts: [],
    warden: undefined,
    launcher: undefined,
    isQuiet: false,
    end: undefined,
    wasKilled: false,
    descriptors: [],
  }
  const listen = async () => {
    for (;;) {
      const fact = await scenario.fact<Fact>()
      witness.facts.push(fact)
      if (fact.fact === 'ready') {
        witness.descriptors = descriptorsOf(scenario.pid)
        scenario.tell('go')
      }
      if (fact.fact === 'open') ({ warden: witness.warden, launcher: witness.launcher } = fact)
      if (fact.fact === 'quiet') witness.isQuiet = true
    }
  }
  listen().catch(() => {})
  scenario.ended.then((end) => {
    witness.end = end
  })
  return witness
}

export interface Ending {
  readonly deed: string
  readonly code: string | undefined
  readonly error: string | undefined
}

/** How each deed ended: `code` and `error` of those that went wrong. */
export function endingsOf({ facts }: Pick<Witness, 'facts'>): Ending[] {
  const deeds = new Map(facts.flatMap((fact) => (fact.fact === 'begins' ? [[fact.number, fact.deed] as const] : [])))
  return facts.flatMap((fact) =>
    fact.fact === 'ends' ? { deed: deeds.get(fact.number) ?? '?', code: fact.code, error: fact.error } : [],
  )
}

/** Of a process that has ended: everything that it said and did and must not have. */
export function complaintsAbout(
  witness: Pick<Witness, 'facts' | 'end' | 'number' | 'wasKilled'>,
  torments: readonly Torment[],
): string[] {
  const said = witness.facts.flatMap((fact) =>
    fact.fact === 'wrong' || fact.fact === 'broken' ? `${fact.fact}: ${fact.what}` : [],
  )
  const unnamed = endingsOf(witness).flatMap(({ deed, code, error }) =>
    code?.startsWith('unnamed') ? `an error that is none of ours: ${deed}: ${code.slice(8)}: ${error}` : [],
  )
  // A stack that cannot grow is a SIGSEGV, which nobody can handle.
  const noStack = torments.some(({ kind, of }) => kind === 'small address space' && of === witness.number)
  const crashes = endingsOf(witness).flatMap(
    ({ error }) => /was killed by (SIG(?!KILL|TERM)\w+)/.exec(error ?? '')?.[1] ?? [],
  )
  return [
    ...said,
    ...unnamed,
    ...(noStack
      ? []
      : [...new Set(crashes)].map((signal) => `the warden of process ${witness.number} was ended by ${signal}`)),
    ...deathOf(witness, torments),
  ]
}

/** Node ends well after it was told to, or by what was done to it. Whatever else ends it is an error that nobody has caught. */
function deathOf(
  { facts, end, number, wasKilled }: Pick<Witness, 'facts' | 'end' | 'number' | 'wasKilled'>,
  torments: readonly Torment[],
): string[] {
  if (!end) return []
  const { code, signal, stderr } = end
  const warning = /^\(node:\d+\) .*(?:Warning|Error).*$/m.exec(stderr)?.[0]
  const warned = warning ? [`a warning of process ${number}: ${warning}`] : []
  if (code === 0 || wasKilled) return warned
  const isStarved = torments.some(({ kind }) => kind === 'few processes' || kind === 'little memory')
  // `ulimit -n 12; node -e 0` aborts, with 16 it crashes.
  const isUnborn = facts.length === 0 && torments.some(({ kind, of }) => kind === 'few descriptors' && of === number)
  const wasTorment = torments.some(
    (one) =>
      (one.kind === 'kill' && one.of === number && one.victims.includes('node')) ||
      (one.kind === 'stop' && one.of === number && one.victim === 'node' && one.thenKill) ||
      one.kind === 'little memory',
  )
  if (signal === 'SIGKILL' && wasTorment) return warned
  // Node and V8 abort where they can start no thread or get no memory; they say so themselves, before any line of ours has a say.
  if (isUnborn && signal === 'SIGSEGV') return warned
  if ((isStarved || isUnborn) && (signal === 'SIGABRT' || signal === 'SIGTRAP' || signal === 'SIGILL')) return warned
  return [...warned, `process ${number} ended with ${signal ?? code}: ${stderr.trim().slice(-1_500)}`]
}

export function unfinished({ facts }: Witness): string {
  const over = new Set(facts.flatMap((fact) => (fact.fact === 'ends' ? fact.number : [])))
  const open = facts.flatMap((fact) => (fact.fact === 'begins' && !over.has(fact.number) ? fact.deed : []))
  return open.length > 0 ? `begun and not ended: ${open.join(', ')}` : 'its engines do not close'
}

/** What the kernel says the processes are doing, for a report of something that hangs. */
export function whereabouts({ scenario, warden, launcher }: Witness): string {
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
