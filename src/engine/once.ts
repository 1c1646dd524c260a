/** Work that several callers in one process need at the same time, done once. */

import { unlessAborted } from './deadline.js'

interface Running<T> {
  readonly result: Promise<T>
  readonly signal: AbortSignal | undefined
}

export class Once<T> {
  readonly #running = new Map<string, Running<T>>()

  /**
   * What `find` finds, else what `make` makes. Callers with the same key wait for the first one's result and share its error. When
   * only the first one's signal ended it, the next one makes it.
   */
  async run(key: string, find: () => Promise<T | undefined>, make: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    for (;;) {
      signal?.throwIfAborted()
      const found = await find()
      if (found !== undefined) return found
      const running = this.#running.get(key)
      if (!running) return this.#begin(key, make, signal)
      try {
        return await unlessAborted(running.result, signal)
      } catch (error) {
        if (signal?.aborted || !running.signal?.aborted) throw error
      }
    }
  }

  #begin(key: string, make: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const result = make().finally(() => this.#running.delete(key))
    this.#running.set(key, { result, signal })
    return result
  }
}
