/** Samples and what is said about them. Times are in milliseconds. */

/** Something that can be done again and again, and says how long each time took. */
export interface Contender {
  readonly name: string
  /** Milliseconds of one round. */
  round(): Promise<number>
}

export interface Rounds {
  readonly rounds: number
  /** Rounds before the first that counts. */
  readonly warmUp: number
  /** Milliseconds of rest after each round, for what the kernel does later (network namespaces go asynchronously). */
  readonly restMs: number
}

/** Times the contenders in turn, A B A B, so that whatever else happens on the machine happens to all of them. */
export async function alternate(contenders: readonly Contender[], how: Rounds): Promise<Map<string, number[]>> {
  const samples = new Map(contenders.map(({ name }) => [name, [] as number[]]))
  for (let round = -how.warmUp; round < how.rounds; round++) {
    for (const contender of contenders) {
      const ms = await contender.round()
      if (round >= 0) samples.get(contender.name)!.push(ms)
      if (how.restMs > 0) await rest(how.restMs)
    }
  }
  return samples
}

export function rest(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = process.hrtime.bigint()
  await work()
  return Number(process.hrtime.bigint() - start) / 1e6
}

export function quantile(samples: readonly number[], share: number): number {
  if (samples.length === 0) throw new RangeError('there are no samples')
  const sorted = [...samples].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5)
}
