/**
 * `mayfly doctor`: what works on this machine, what does not, why, and what mends it.
 *
 * Three sources: facts read from /proc (machine.ts), live probes in throwaway children (probes.ts) and the trial of a real
 * container (trial.ts). findings.ts puts them into words. Nothing is changed and nothing left behind.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { canRun, explain, type Finding } from './doctor/findings.js'
import { type Machine, readMachine } from './doctor/machine.js'
import { runProbes } from './doctor/probes.js'
import { tryContainer } from './doctor/trial.js'
import { storeHome } from './store/store.js'
import { wardenProgram } from './where.js'

export { type Finding, GROUPS } from './doctor/findings.js'

export interface Diagnosis {
  /** Containers can run here. */
  readonly canRun: boolean
  readonly machine: Machine
  readonly findings: readonly Finding[]
}

/**
 * Examines this machine.
 *
 * Throws ENGINE_UNAVAILABLE where there is no native program to do it with.
 *
 * @default home: the store's directory, as `Engine.open` has it
 */
export async function diagnose(home?: string): Promise<Diagnosis> {
  const program = wardenProgram()
  const machine = readMachine(storeHome(home))
  const scratch = await makeScratch(machine)
  try {
    const [probing, trying] = await Promise.all(['probes', 'trial'].map((name) => makeDirectory(scratch, name)))
    const probes = await runProbes(program, probing!, machine)
    const trial = await tryContainer(program, trying!)
    return { canRun: canRun(machine, trial), machine, findings: explain(machine, probes, trial) }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** On the store's file system, so that what is found out is true of the store; elsewhere if that cannot be written to. */
function makeScratch({ store }: Machine): Promise<string> {
  return mkdtemp(join(store.isWritable ? store.existing : tmpdir(), '.mayfly-doctor-'))
}

async function makeDirectory(parent: string, name: string): Promise<string> {
  const directory = join(parent, name)
  await mkdir(directory)
  return directory
}
