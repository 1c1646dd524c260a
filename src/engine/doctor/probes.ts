/** Live probes: `mayfly-warden probe` tries what the engine needs, each in a throwaway child (native/probe.h). */
import { execFile } from 'node:child_process'
import type { Machine } from './machine.js'

/** What the kernel answered. */
export interface ProbeResult {
  readonly probe: string
  readonly ok: boolean
  /** Call that failed, such as `mount`. */
  readonly step?: string
  readonly subject?: string
  readonly errno?: string
  readonly message?: string
  readonly detail?: unknown
}

export type Probes = ReadonlyMap<string, ProbeResult>

/**
 * Runs the probes.
 *
 * @param scratch an empty directory on the store's file system, which the caller removes
 */
export async function runProbes(program: string, scratch: string, machine: Machine): Promise<Probes> {
  const words = ['probe', `store=${scratch}`]
  if (machine.subuid) words.push(`subuid=${machine.subuid}`)
  if (machine.subgid) words.push(`subgid=${machine.subgid}`)
  const output = await new Promise<string>((resolve, reject) => {
    execFile(program, words, { timeout: 120_000, maxBuffer: 4 * 1024 * 1024 }, (error, stdout) => {
      if (error) reject(new Error(`${program} probe failed: ${error.message}`, { cause: error }))
      else resolve(stdout)
    })
  })
  return parseProbes(output)
}

function parseProbes(output: string): Probes {
  const results = output
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as ProbeResult)
  return new Map(results.map((result) => [result.probe, result]))
}
