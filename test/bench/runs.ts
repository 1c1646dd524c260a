/** Results of the benchmark as files: what `--json` writes and `--from` reads. */

import { readFileSync } from 'node:fs'
import type { Row } from './table.ts'

export interface MeasuredRun {
  /** The machine, and what was measured beside us. */
  readonly about: string
  readonly rows: readonly Row[]
  /** By name; in milliseconds unless the name says otherwise. */
  readonly samples: Readonly<Record<string, readonly number[]>>
}

/** Throws RangeError when it is no such file. */
export function readRun(path: string): MeasuredRun {
  const run = JSON.parse(readFileSync(path, 'utf8'))
  if (!Array.isArray(run?.rows) || typeof run.samples !== 'object') {
    throw new RangeError(`${path} is no result of npm run bench -- --json`)
  }
  return run
}

/** Parts of one run, one after the other. Throws RangeError when they are of different machines. */
export function mergeRuns(runs: readonly MeasuredRun[]): MeasuredRun {
  const abouts = [...new Set(runs.map(({ about }) => about))]
  if (abouts.length !== 1)
    throw new RangeError(`These are not of one machine with one set of rivals: ${abouts.join(' / ')}`)
  return {
    about: abouts[0]!,
    rows: runs.flatMap(({ rows }) => rows),
    samples: Object.assign({}, ...runs.map(({ samples }) => samples)),
  }
}
