/** Waits that end: by what is waited for, by a timeout, or by an AbortSignal. */

import { clearTimeout, setTimeout } from './clock.js'

/** How long to wait. */
export interface WaitOptions {
  /** Milliseconds. @default 60000 */
  readonly timeoutMs?: number
  /** Ends the wait with its reason. */
  readonly signal?: AbortSignal
}

const DEFAULT_TIMEOUT_MS = 60_000
/** What a timer of node can hold: about 24 days. */
const MAX_TIMER_MS = 2 ** 31 - 1

/**
 * Runs `subscribe`, which tells the outcome through its two callbacks and returns how to unsubscribe. It is always
 * unsubscribed at the end, exactly once. `onTimeout` gives the error for the timeout and gets its milliseconds.
 *
 * A timeout of `Infinity` waits for as long as it takes.
 */
export function waitUntil<T>(
  options: WaitOptions,
  onTimeout: (timeoutMs: number) => unknown,
  subscribe: (resolve: (value: T) => void, reject: (error: unknown) => void) => () => void,
): Promise<T> {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options
  if (typeof timeoutMs !== 'number' || Number.isNaN(timeoutMs) || timeoutMs < 0) {
    return Promise.reject(new RangeError(`timeoutMs must be a number of milliseconds from 0 on, not ${timeoutMs}`))
  }
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason)
      return
    }
    let unsubscribe: (() => void) | undefined
    let isOver = false
    const over = () => {
      isOver = true
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      unsubscribe?.()
    }
    const succeed = (value: T) => {
      if (isOver) return
      over()
      resolve(value)
    }
    const fail = (error: unknown) => {
      if (isOver) return
      over()
      reject(error)
    }
    const onAbort = () => fail(signal?.reason)
    const timer = timeoutMs > MAX_TIMER_MS ? undefined : setTimeout(() => fail(onTimeout(timeoutMs)), timeoutMs)
    signal?.addEventListener('abort', onAbort, { once: true })
    unsubscribe = subscribe(succeed, fail)
    if (isOver) unsubscribe()
  })
}

/** The promise, or the signal's reason as soon as it comes; the work goes on, for whoever else waits or until it ends. */
export function unlessAborted<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
