/** Runs any strategy, also one of the user's, in the frame that ends it. */

import {
  AbstractWaitStrategy,
  DEFAULT_STARTUP_TIMEOUT_MS,
  type WaitStrategy,
  type WaitTarget,
  waitFor,
} from './strategy.js'

/** `timeoutMs` is for strategies that have none of their own. */
export function runStrategy(
  strategy: WaitStrategy,
  target: WaitTarget,
  { timeoutMs, signal }: { readonly timeoutMs?: number; readonly signal: AbortSignal },
): Promise<void> {
  const timed =
    timeoutMs !== undefined && !strategy.isStartupTimeoutSet?.()
      ? (strategy.withStartupTimeout?.(timeoutMs) ?? strategy)
      : strategy
  if (timed instanceof AbstractWaitStrategy) return timed.waitUntilReady(target, { signal })
  const frame = {
    what: 'its wait strategy',
    timeoutMs: timed.getStartupTimeout?.() ?? timeoutMs ?? DEFAULT_STARTUP_TIMEOUT_MS,
    mayExit: false,
    signal,
  }
  return waitFor(target, frame, (control) => timed.waitUntilReady(target, control))
}
