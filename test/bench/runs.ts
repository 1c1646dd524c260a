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

/** Throws RangeError when there is no such file, or when it holds something else. */
export function readRun(path: string): MeasuredRun {
  let run: MeasuredRun
  try {
    run = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw new RangeError(`Cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
  if (!Array.isArray(run?.rows) || typeof run.samples !== 'object' || typeof run.about !== 'string') {
    throw new RangeError(`${path} is no result of npm run bench -- --json`)
  }
  return run
}

const BUSY = /, \*\*not a quiet machine: load ([\d.]+) before\*\*/

/** How many programs wanted to run before the measurement; 0 where that was nothing to speak of. */
export function loadOf({ about }: Pick<MeasuredRun, 'about'>): number {
  return Number(BUSY.exec(about)?.[1] ?? 0)
}

/** The machine alone: not how busy it was, nor what was measured beside us. */
export function machineOf({ about }: Pick<MeasuredRun, 'about'>): string {
  return about.replace(BUSY, '').replace(/\. Beside it: .*|\.$/s, '')
}

/** Parts of one run, one after the other; the machine was as busy as in the busiest. Throws RangeError when they are of different machines. */
export function mergeRuns(runs: readonly MeasuredRun[]): MeasuredRun {
  const abouts = [...new Set(runs.map(({ about }) => about.replace(BUSY, '')))]
  if (abouts.length !== 1)
    throw new RangeError(`These are not of one machine with one set of rivals: ${abouts.join(' / ')}`)
  const [busiest] = [...runs].sort((one, other) => loadOf(other) - loadOf(one))
  return {
    about: busiest!.about,
    rows: runs.flatMap(({ rows }) => rows),
    samples: Object.assign({}, ...runs.map(({ samples }) => samples)),
  }
}
