/** Holds two runs of the benchmark against each other: what has become slower by more than the noise of both. */

import { median, quantile } from './measure.ts'
import { loadOf, type MeasuredRun, machineOf, readRun } from './runs.ts'

/** What is needed of a result here. Its samples are milliseconds, or what the name says: `…, bytes`, `…, a second: …`. */
export type BenchRun = Pick<MeasuredRun, 'about' | 'samples'>

export interface Change {
  readonly name: string
  readonly before: number
  readonly after: number
  /** How many times as slow, as large, or as few: above 1 is worse. The machine's own drift is taken out. */
  readonly factor: number
  /** Between these the factor lies, as far as the samples can tell (95 %). */
  readonly low: number
  readonly high: number
  readonly verdict: 'slower' | 'faster' | 'same'
}

export interface Comparison {
  readonly changes: readonly Change[]
  /** How many times as slow what is not ours has become: the machine's doing. Undefined when too little of it was measured. */
  readonly drift: number | undefined
  /** Series that only one of the two has. */
  readonly unmatched: readonly string[]
  /** What makes the two runs less comparable than they should be, in words. */
  readonly doubts: readonly string[]
}

/** Series of rivals and of the floor, from which the machine's drift is read. */
const MIN_CONTROLS = 3
const RESAMPLES = 2_000
/** Too few to say how much they scatter: then this much counts as noise. */
const FEW_SAMPLES = 5
const NOISE_OF_FEW = 0.25

/** Compares two results of `npm run bench -- --json FILE`. Throws RangeError when one is no such file, or nothing is in both. */
export function compareFiles(before: string, after: string, margin?: number): Comparison {
  const comparison = compareRuns(readRun(before), readRun(after), margin)
  if (comparison.changes.length === 0) throw new RangeError(`${before} and ${after} have measured nothing in common`)
  return comparison
}

/**
 * @param margin The least change that counts, as a share: a difference can be certain and not matter. @default 0.05
 */
export function compareRuns(before: BenchRun, after: BenchRun, margin = 0.05): Comparison {
  const names = Object.keys(before.samples).filter((name) => usable(before, name) && usable(after, name))
  const others = Object.keys({ ...before.samples, ...after.samples }).filter((name) => !names.includes(name))
  const controls = names
    .filter((name) => !isOurs(name) && unitOf(name) === 'milliseconds')
    .map((name) => median(after.samples[name]!) / median(before.samples[name]!))
  const drift = controls.length < MIN_CONTROLS ? undefined : median(controls)
  const changes = names
    .filter(isOurs)
    .map((name) => compareSeries(name, before.samples[name]!, after.samples[name]!, drift ?? 1, margin))
  return { changes, drift, unmatched: others.filter(isOurs), doubts: doubtsOf(before, after) }
}

function doubtsOf(before: BenchRun, after: BenchRun): string[] {
  const [was, is] = [before, after].map(machineOf)
  const machines = was === is ? [] : [`Not one machine, so a difference may be the machine's: ${was} / ${is}`]
  const loads = [before, after].map(loadOf)
  return loads.some((load) => load > 0)
    ? [
        ...machines,
        `Not a quiet machine: load ${loads[0]} before the first run, ${loads[1]} before the second (0: quiet)`,
      ]
    : machines
}

function compareSeries(
  name: string,
  before: readonly number[],
  after: readonly number[],
  drift: number,
  margin: number,
): Change {
  const unit = unitOf(name)
  // More a second is better; and a slower machine does less.
  const worse = (was: number, is: number) =>
    unit === 'rate' ? was / is / drift : unit === 'bytes' ? is / was : is / was / drift
  const factor = worse(median(before), median(after))
  const [low, high] = interval(before, after, worse, factor)
  const verdict = low > 1 + margin ? 'slower' : high < 1 / (1 + margin) ? 'faster' : 'same'
  return { name, before: median(before), after: median(after), factor, low, high, verdict }
}

/** The percentile bootstrap of a ratio of medians (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13). */
function interval(
  before: readonly number[],
  after: readonly number[],
  worse: (was: number, is: number) => number,
  factor: number,
): [low: number, high: number] {
  if (Math.min(before.length, after.length) < FEW_SAMPLES)
    return [factor / (1 + NOISE_OF_FEW), factor * (1 + NOISE_OF_FEW)]
  const random = repeatable()
  const again = (list: readonly number[]) => median(list.map(() => list[Math.floor(random() * list.length)]!))
  const factors = Array.from({ length: RESAMPLES }, () => worse(again(before), again(after)))
  return [quantile(factors, 0.025), quantile(factors, 0.975)]
}

/** Two comparisons of the same files say the same: xorshift32 from a fixed seed. */
function repeatable(): () => number {
  let state = 0x9e3779b9
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

function usable({ samples }: BenchRun, name: string): boolean {
  const list = samples[name] ?? []
  return list.length > 0 && median(list) > 0
}

/** A series that names no rival is ours. */
function isOurs(name: string): boolean {
  return !/docker|podman|runc|skopeo|testcontainers|floor|bare/i.test(name)
}

function unitOf(name: string): 'milliseconds' | 'bytes' | 'rate' {
  return /, a second/.test(name) ? 'rate' : /bytes/.test(name) ? 'bytes' : 'milliseconds'
}

export function describeComparison({ changes, drift, unmatched, doubts }: Comparison): string {
  const line = ({ name, before, after, factor, low, high, verdict }: Change) => {
    const figures = `${before.toPrecision(3)} → ${after.toPrecision(3)}`
    return `${verdict.padEnd(6)}  ${factor.toFixed(2)} × (${low.toFixed(2)} to ${high.toFixed(2)})  ${name}: ${figures}`
  }
  const order = { slower: 0, faster: 1, same: 2 }
  const sorted = [...changes].sort((a, b) => order[a.verdict] - order[b.verdict] || b.factor - a.factor)
  const slower = changes.filter(({ verdict }) => verdict === 'slower').length
  return [
    ...doubts,
    drift === undefined
      ? `Nothing is taken out for the machine: fewer than ${MIN_CONTROLS} series that are not ours are in both`
      : `Taken out: the machine was ${drift.toFixed(2)} × as slow in the second run, going by what is not ours`,
    ...sorted.map(line),
    ...unmatched.map((name) => `only in one run: ${name}`),
    `${changes.length} compared, ${slower} slower than the noise explains`,
  ].join('\n')
}
