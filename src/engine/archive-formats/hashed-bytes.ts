/** Bytes on their way through, with their digest and what their beginning says of their compression. */

import { createHash } from 'node:crypto'
import { type Compression, compressionOf } from '../store/decompress.js'

export class HashedBytes implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterator<Uint8Array>
  readonly #hash = createHash('sha256')
  readonly #onCount: ((bytes: number) => void) | undefined
  #digest: string | undefined
  #size = 0
  #compression: Compression = 'none'

  /** `onCount` hears how many bytes have passed. */
  constructor(source: AsyncIterable<Uint8Array>, onCount?: (bytes: number) => void) {
    this.#source = source[Symbol.asyncIterator]()
    this.#onCount = onCount
  }

  /** Of what has passed; once all has. */
  get digest(): string {
    this.#digest ??= `sha256:${this.#hash.digest('hex')}`
    return this.#digest
  }

  get size(): number {
    return this.#size
  }

  get compression(): Compression {
    return this.#compression
  }

  /** Reads what nobody wanted, such as what follows the end of an archive. */
  async drain(): Promise<void> {
    for await (const _ of this) {
      // hashed on its way
    }
  }

  /** Lets go of the source. */
  async close(): Promise<void> {
    await this.#source.return?.()
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    // Without `return`: a reader that stops early must not close the source, of which the rest is still to be hashed.
    return { next: () => this.#next() }
  }

  async #next(): Promise<IteratorResult<Uint8Array>> {
    const next = await this.#source.next()
    if (next.done) return next
    if (this.#size === 0) this.#compression = compressionOf(next.value)
    this.#size += next.value.length
    this.#hash.update(next.value)
    this.#onCount?.(this.#size)
    return next
  }
}
