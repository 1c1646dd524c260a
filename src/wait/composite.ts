/** Several waits together. */

import { refuse } from '../engine/launch/check.js'
import { runStrategy } from './run.js'
import { AbstractWaitStrategy, checkTimeout, type WaitControl, type WaitStrategy, type WaitTarget } from './strategy.js'

/** See `Wait.forAll` and `Wait.forAny`. */
export class CompositeWaitStrategy extends AbstractWaitStrategy {
  protected readonly strategies: readonly WaitStrategy[]
  protected readonly mode: 'all' | 'any'
  protected readonly deadlineMs: number | undefined = undefined
  protected override readonly what: string
  /** Of this run: what has not come true yet. */
  protected outstanding: readonly WaitStrategy[] = []
  // Each part sees to it that a container that dies ends it, or that an exit is what it waits for.
  protected override readonly mayExit = true

  constructor(strategies: readonly WaitStrategy[], mode: 'all' | 'any') {
    super()
    if (!Array.isArray(strategies)) refuse('strategies', strategies, 'expected an array of wait strategies')
    for (const [index, strategy] of strategies.entries()) {
      if (typeof strategy?.waitUntilReady !== 'function') {
        refuse(`strategies[${index}]`, strategy, 'expected a wait strategy such as Wait.forListeningPorts()')
      }
    }
    if (mode === 'any' && strategies.length === 0) refuse('strategies', strategies, 'expected at least one')
    this.strategies = Object.freeze([...strategies])
    this.mode = mode
    this.what = mode === 'all' ? 'all of its conditions' : 'any of its conditions'
  }

  /** @internal */
  override again(): WaitStrategy {
    return this.with({ strategies: this.strategies.map((strategy) => strategy.again?.() ?? strategy) })
  }

  /** @internal */
  override describe(): string {
    const parts = this.strategies.map(describe).join(this.mode === 'all' ? ' and ' : ' or ')
    return `(${parts})`
  }

  /** @internal */
  get parts(): readonly WaitStrategy[] {
    return this.strategies
  }

  /** Milliseconds for all of it, whatever the timeouts of its parts are. @default none */
  withDeadline(deadlineMs: number): this {
    return this.with({ deadlineMs: checkTimeout('deadline', deadlineMs) })
  }

  /** For the parts that have no timeout of their own. @default 60000 */
  override withStartupTimeout(startupTimeoutMs: number): this {
    checkTimeout('startupTimeout', startupTimeoutMs)
    const strategies = this.strategies.map((strategy) =>
      strategy.isStartupTimeoutSet?.() ? strategy : (strategy.withStartupTimeout?.(startupTimeoutMs) ?? strategy),
    )
    return this.with({ strategies, startupTimeoutMs })
  }

  /** The parts have timeouts; all together has one only with a deadline. */
  override getStartupTimeout(): number {
    return this.deadlineMs ?? Number.POSITIVE_INFINITY
  }

  protected override hint(): string | undefined {
    const missing = this.outstanding.map(describe)
    return missing.length === 0 ? undefined : `not yet: ${missing.join('; ')}`
  }

  protected override async check(target: WaitTarget, { signal }: WaitControl): Promise<void> {
    const controller = new AbortController()
    const onAbort = () => controller.abort(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    const fallback = this.startupTimeoutMs === undefined ? {} : { timeoutMs: this.startupTimeoutMs }
    this.outstanding = this.strategies
    const parts = this.strategies.map(async (strategy) => {
      await runStrategy(strategy, target, { ...fallback, signal: controller.signal })
      this.outstanding = this.outstanding.filter((other) => other !== strategy)
    })
    try {
      if (this.mode === 'all' || parts.length === 0) await Promise.all(parts)
      else {
        // The last reason is as good as the others, and alone it can be read.
        await Promise.any(parts).catch((error: AggregateError) => {
          throw error.errors.at(-1)
        })
      }
    } finally {
      signal.removeEventListener('abort', onAbort)
      controller.abort()
      await Promise.allSettled(parts)
    }
  }
}

function describe(strategy: WaitStrategy): string {
  return strategy instanceof AbstractWaitStrategy ? strategy.describe() : 'a wait strategy of your own'
}
