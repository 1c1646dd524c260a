/** A container's output as a stream of node. */

import { Readable } from 'node:stream'
import type { LogPiece } from './backends/backend.js'
import { clearTimeout, setTimeout } from './engine/clock.js'

/** The longest that a timer of node waits. */
const FOREVER_MS = 2 ** 31 - 1

/**
 * A stream over the pieces of a log, as text: no character is torn between two of them. Listening to it keeps nobody alive, so a log consumer does not hold up the end of a test
 * process; whoever loops over it with `for await` waits, and that does.
 */
export class LogStream extends Readable {
  readonly #log: AsyncIterator<LogPiece>

  /** The log should have been opened with `background`. */
  constructor(log: AsyncIterableIterator<LogPiece>) {
    super({ encoding: 'utf8' })
    this.#log = log[Symbol.asyncIterator]()
  }

  override _read(): void {
    this.#log.next().then(
      ({ done, value }) => this.push(done ? null : value.data),
      (error) => this.destroy(error),
    )
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    Promise.resolve(this.#log.return?.()).then(
      () => done(error),
      () => done(error),
    )
  }

  // biome-ignore lint/suspicious/noExplicitAny: as Readable declares it
  override [Symbol.asyncIterator](): any {
    const pieces = super[Symbol.asyncIterator]()
    const held = async <T>(wait: Promise<T>): Promise<T> => {
      const timer = setTimeout(() => {}, FOREVER_MS)
      return wait.finally(() => clearTimeout(timer))
    }
    return {
      next: () => held(pieces.next()),
      return: () => pieces.return?.(),
      [Symbol.asyncIterator]() {
        return this
      },
    }
  }
}
