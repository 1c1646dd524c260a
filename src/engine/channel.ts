/**
 * A bounded queue between something that is told data and somebody who reads it with `for await`.
 *
 * The writer learns from `push` that the queue is full and must then stop its source until `onRoom`. Nothing is dropped.
 * While a reader waits, `onWaiting(true)` lets the source keep node alive; an open stream that nobody reads does not.
 */
export interface ChannelHooks {
  /** Sum of sizes from which on `push` says false. */
  readonly limit: number
  /** The queue was full and is at most half full again. */
  readonly onRoom?: () => void
  /** Somebody has begun, or has stopped, to wait for the next item. */
  readonly onWaiting?: (waiting: boolean) => void
  /** The reader left early (`break`): no more is wanted. */
  readonly onCancel?: () => void
}

interface Reader<T> {
  readonly resolve: (result: IteratorResult<T>) => void
  readonly reject: (error: unknown) => void
}

export class Channel<T> implements AsyncIterableIterator<T> {
  readonly #hooks: ChannelHooks
  #items: { item: T; size: number }[] = []
  #size = 0
  #isFull = false
  #readers: Reader<T>[] = []
  #state: 'open' | 'ended' | 'cancelled' = 'open'
  #error: unknown

  constructor(hooks: ChannelHooks) {
    this.#hooks = hooks
  }

  /** Whether the writer should wait. */
  get isFull(): boolean {
    return this.#isFull
  }

  /** Adds an item and tells whether there is room for more. What comes after the end is dropped. */
  push(item: T, size: number): boolean {
    if (this.#state !== 'open') return true
    const reader = this.#readers.shift()
    if (reader) {
      if (this.#readers.length === 0) this.#hooks.onWaiting?.(false)
      reader.resolve({ done: false, value: item })
      return true
    }
    this.#items.push({ item, size })
    this.#size += size
    if (this.#size >= this.#hooks.limit) this.#isFull = true
    return !this.#isFull
  }

  /** No more items. With an error, the reader gets it after the last item. */
  end(error?: unknown): void {
    if (this.#state !== 'open') return
    this.#state = 'ended'
    this.#error = error
    const readers = this.#readers
    if (readers.length === 0) return
    this.#readers = []
    this.#hooks.onWaiting?.(false)
    for (const reader of readers) {
      if (this.#error === undefined) reader.resolve({ done: true, value: undefined })
      else reader.reject(this.#takeError())
    }
  }

  next(): Promise<IteratorResult<T>> {
    const first = this.#items.shift()
    if (first) {
      this.#size -= first.size
      if (this.#isFull && this.#size <= this.#hooks.limit / 2) {
        this.#isFull = false
        this.#hooks.onRoom?.()
      }
      return Promise.resolve({ done: false, value: first.item })
    }
    if (this.#error !== undefined) return Promise.reject(this.#takeError())
    if (this.#state !== 'open') return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve, reject) => {
      if (this.#readers.length === 0) this.#hooks.onWaiting?.(true)
      this.#readers.push({ resolve, reject })
    })
  }

  return(): Promise<IteratorResult<T>> {
    const wasOpen = this.#state === 'open'
    this.end()
    this.#state = 'cancelled'
    this.#items = []
    this.#size = 0
    this.#isFull = false
    this.#error = undefined
    if (wasOpen) this.#hooks.onCancel?.()
    return Promise.resolve({ done: true, value: undefined })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #takeError(): unknown {
    const error = this.#error
    this.#error = undefined
    return error
  }
}
