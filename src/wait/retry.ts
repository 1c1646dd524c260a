/** Trying again: for what can only be asked, not told. */

import { clearTimeout, now, setTimeout } from '../engine/clock.js'

/** Milliseconds before the second attempt, and at most between two. */
const FIRST_DELAY_MS = 5
const LONGEST_DELAY_MS = 250
const GROWTH = 1.5

/**
 * Calls `attempt` until it resolves to true. The pauses grow from 5 to 250 ms, and are never shorter than the attempt was: a check
 * that takes a processor for itself would slow down what it waits for.
 *
 * Rejects with the signal's reason, or with what `attempt` throws.
 */
export async function retryUntil(
  attempt: () => Promise<boolean>,
  signal: AbortSignal,
  longestMs: number = LONGEST_DELAY_MS,
): Promise<void> {
  for (let delayMs = FIRST_DELAY_MS; ; delayMs = Math.min(delayMs * GROWTH, longestMs)) {
    signal.throwIfAborted()
    const begin = now()
    if (await attempt()) return
    const tookMs = now() - begin
    await pause(Math.min(Math.max(delayMs, tookMs), longestMs), signal)
  }
}

/** Rejects with the signal's reason. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason)
      return
    }
    const onAbort = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }, milliseconds)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
