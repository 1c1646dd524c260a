/**
 * Where the frames of a Zstandard stream end (RFC 8878, 3.1), without decoding them.
 *
 * Needed because Node's decoder (22.15 to 24) forgets what follows a frame's end in the same piece, and takes a stream that is
 * cut off for a whole one. Layers do have several frames: zstd:chunked has one for each chunk, and frames to be skipped.
 */

const MAGIC = 0xfd2fb528
/** The last four bits are free. */
const SKIPPABLE = 0x184d2a50

/** The same bytes in pieces, none of which has parts of two frames. Throws at what is no frame, and when the last is cut off. */
export async function* zstdFrames(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const walk = new FrameWalk()
  for await (const piece of source) yield* walk.split(piece)
  if (!walk.isWhole) throw new Error('it is cut off')
}

class FrameWalk {
  /** Bytes to pass over; then `#next` has a look at `#field`. */
  #skip = 0
  /** A field that is being gathered, of `#wanted` bytes. */
  #field: number[] = []
  #wanted = 4
  #next: () => boolean = this.#magic
  #hasChecksum = false
  #isWhole = false

  get isWhole(): boolean {
    return this.#isWhole
  }

  *split(piece: Uint8Array): Generator<Uint8Array, void, undefined> {
    let start = 0
    for (let at = 0; at < piece.length; ) {
      this.#isWhole = false
      if (this.#skip > 0) {
        const length = Math.min(this.#skip, piece.length - at)
        this.#skip -= length
        at += length
      } else {
        this.#field.push(piece[at++]!)
      }
      if (this.#skip > 0 || this.#field.length < this.#wanted) continue
      const isEnd = this.#next()
      this.#field = []
      if (!isEnd) continue
      this.#expect(4, this.#magic)
      this.#isWhole = true
      yield piece.subarray(start, at)
      start = at
    }
    if (start < piece.length) yield piece.subarray(start)
  }

  #expect(bytes: number, next: () => boolean): false {
    this.#wanted = bytes
    this.#next = next
    return false
  }

  #number(): number {
    return this.#field.reduceRight((value, byte) => value * 256 + byte, 0)
  }

  #magic(): boolean {
    const magic = this.#number()
    if (magic === MAGIC) return this.#expect(1, this.#descriptor)
    if (magic - (magic % 16) === SKIPPABLE) return this.#expect(4, this.#skippableSize)
    throw new Error('something follows its end')
  }

  #skippableSize(): boolean {
    this.#skip = this.#number()
    this.#expect(0, () => true)
    return this.#skip === 0
  }

  #descriptor(): boolean {
    const descriptor = this.#field[0]!
    const isSingleSegment = (descriptor & 0x20) !== 0
    const windowBytes = isSingleSegment ? 0 : 1
    const dictionaryBytes = [0, 1, 2, 4][descriptor & 3]!
    const sizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6]!
    this.#hasChecksum = (descriptor & 4) !== 0
    this.#skip = windowBytes + dictionaryBytes + sizeBytes
    return this.#expect(3, this.#block)
  }

  #block(): boolean {
    const header = this.#number()
    const isLast = (header & 1) !== 0
    const type = (header >> 1) & 3
    if (type === 3) throw new Error('a block has an unknown type')
    this.#skip = type === 1 ? 1 : header >> 3 // one byte, repeated
    if (!isLast) return this.#expect(3, this.#block)
    this.#skip += this.#hasChecksum ? 4 : 0
    this.#expect(0, () => true)
    return this.#skip === 0
  }
}
