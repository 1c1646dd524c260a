/**
 * bzip2 in JavaScript, block by block. Bundled into the package and loaded when needed.
 *
 * The decoder asks for its bytes one by one and cannot wait, so it is started on a block only when all of that is here.
 */

import Bunzip from 'seek-bzip'
import BitReader from 'seek-bzip/lib/bitreader.js'

/** 900,000 symbols of at most 20 bits, their selectors and tables: no block is longer, however badly it is packed. */
const LONGEST_BLOCK_BYTES = 2_500_000
const PIECE_BYTES = 1024 * 1024

/** The parts of the decoder that we use; its own `decode` wants everything at once, and its constructor warns (new Buffer). */
interface Decoder {
  reader: { read(bits: number): number }
  dbufSize: number
  nextoutput: number
  outputStream: Output
  streamCRC: number
  /** Decodes the next block; false at the end of a stream. */
  _init_block(): boolean
  /** Writes the block out and checks its sum. */
  _read_bunzip(): void
}

class Input {
  #pieces: Uint8Array[] = []
  #at = 0
  available = 0

  add(piece: Uint8Array): void {
    if (piece.length === 0) return
    this.#pieces.push(piece)
    this.available += piece.length
  }

  readByte(): number {
    const first = this.#pieces[0]
    if (!first) throw new Error('it is cut off')
    const byte = first[this.#at++]!
    this.available--
    if (this.#at === first.length) {
      this.#pieces.shift()
      this.#at = 0
    }
    return byte
  }
}

class Output {
  full: Uint8Array[] = []
  #piece = new Uint8Array(PIECE_BYTES)
  #length = 0

  writeByte(byte: number): void {
    this.#piece[this.#length++] = byte
    if (this.#length === PIECE_BYTES) this.flush()
  }

  flush(): void {
    if (this.#length === 0) return
    this.full.push(this.#piece.subarray(0, this.#length))
    this.#piece = new Uint8Array(PIECE_BYTES)
    this.#length = 0
  }
}

export async function* bunzip2(source: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const input = new Input()
  const output = new Output()
  let hasEnded = false
  const fill = async () => {
    while (!hasEnded && input.available < LONGEST_BLOCK_BYTES) {
      const next = await source.next()
      if (next.done) hasEnded = true
      else input.add(next.value)
    }
  }
  await fill()
  const decoder: Decoder = Object.create(Bunzip.prototype)
  start(decoder, input, output)
  for (;;) {
    await fill()
    if (decoder._init_block()) {
      decoder._read_bunzip()
    } else {
      if (decoder.reader.read(32) >>> 0 !== decoder.streamCRC) throw new Error('the sum of a stream is wrong')
      if (input.available === 0) break
      start(decoder, input, output) // another stream follows, or something that is none
    }
    yield* output.full.splice(0)
  }
  output.flush()
  yield* output.full
}

/** The first four bytes of a stream: "BZh" and how large its blocks are. */
function start(decoder: Decoder, input: Input, output: Output): void {
  const [b, z, h, digit] = [input.readByte(), input.readByte(), input.readByte(), input.readByte()]
  const level = digit - 0x30
  if (b !== 0x42 || z !== 0x5a || h !== 0x68 || level < 1 || level > 9)
    throw new Error('something else is where a stream begins')
  decoder.reader = new BitReader(input)
  decoder.dbufSize = level * 100_000
  decoder.nextoutput = 0
  decoder.outputStream = output
  decoder.streamCRC = 0
}
