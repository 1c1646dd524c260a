/**
 * Undoes the compression of an archive while it streams. The format shows in the first bytes.
 *
 * gzip is done by zlib in a thread of its own. Node knows zstd from 22.15 on, and neither bzip2 nor xz: for these a decoder
 * in JavaScript or WebAssembly comes with the package and is loaded on first use. It runs in node's own thread, slowly.
 */

import { pipeline, Readable, type Transform } from 'node:stream'
import * as zlib from 'node:zlib'
import { MayflyError } from '../errors.js'
import { bytes } from '../launch/check.js'
import { zstdFrames } from './zstd-frames.js'

export type Compression = 'none' | 'gzip' | 'zstd' | 'bzip2' | 'xz'

export interface DecompressOptions {
  /** Most bytes that may come out. @default no limit */
  readonly maxBytes?: number
  /** What errors call the archive. @default "The archive" */
  readonly name?: string
  /** Told at the end: how long it was before and after. */
  readonly onEnd?: (bytes: { readonly compressed: number; readonly decompressed: number }) => void
}

const MAGIC: readonly (readonly [compression: Compression, bytes: readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['bzip2', [0x42, 0x5a, 0x68]],
]
const MAGIC_BYTES = 6

/** Output of zlib at a time: 1 MiB is twice as fast as its default. */
const CHUNK_BYTES = 1024 * 1024

/** What the first bytes of an archive say. Six are enough; an archive of fewer is not compressed. */
export function compressionOf(head: Uint8Array): Compression {
  return MAGIC.find(([, bytes]) => bytes.every((byte, index) => head[index] === byte))?.[0] ?? 'none'
}

/**
 * The bytes without their compression. The source is read to its end, no faster than the result is.
 *
 * Several compressed streams in a row are one archive, as the programs themselves have it. Throws ARCHIVE_INVALID when it is
 * damaged, cut off, or followed by something else, ARCHIVE_TOO_LARGE when more than `maxBytes` come out, and what the source throws.
 *
 * @param compression what it is. Default: what its first bytes say; what they do not know is taken as it is.
 */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  compression?: Compression,
  options: DecompressOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const { maxBytes = Number.POSITIVE_INFINITY, name = 'The archive' } = options
  const input = new Input(source)
  let decompressed = 0
  try {
    const kind = compression ?? compressionOf(await input.peek())
    for await (const piece of decoded(kind, input)) {
      decompressed += piece.length
      if (decompressed > maxBytes) {
        const message = `${name} is longer than the ${maxBytes} bytes allowed once it is decompressed`
        throw new MayflyError('ARCHIVE_TOO_LARGE', message)
      }
      yield piece
    }
    options.onEnd?.({ compressed: input.bytes, decompressed })
  } catch (error) {
    if (error instanceof Damage) {
      const message = `${name} is compressed with ${error.compression} and damaged: ${error.message}`
      throw new MayflyError('ARCHIVE_INVALID', message, {}, { cause: error.cause })
    }
    throw error
  } finally {
    await input.return()
  }
}

/** What a decoder said, as opposed to what the source threw. */
class Damage extends Error {
  readonly compression: Compression

  constructor(compression: Compression, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
    this.compression = compression
  }
}

/** The source, with a look at its beginning, its length, and its own errors kept apart from the decoder's. */
class Input implements AsyncIterableIterator<Uint8Array> {
  readonly #source: AsyncIterator<Uint8Array>
  #seen: Uint8Array[] = []
  #hasEnded = false
  failure: { readonly error: unknown } | undefined
  bytes = 0

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  async peek(): Promise<Uint8Array> {
    const seen: Uint8Array[] = []
    for (let length = 0; length < MAGIC_BYTES; ) {
      const next = await this.next()
      if (next.done) break
      seen.push(next.value)
      length += next.value.length
    }
    this.bytes = 0
    this.#seen = seen
    return Buffer.concat(seen.map((piece) => piece.subarray(0, MAGIC_BYTES)))
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    const seen = this.#seen.shift()
    if (seen) {
      this.bytes += seen.length
      return { done: false, value: seen }
    }
    if (this.#hasEnded) return { done: true, value: undefined }
    try {
      const next = await this.#source.next()
      if (next.done) this.#hasEnded = true
      else this.bytes += bytes(next.value, 'archive').length
      return next
    } catch (error) {
      this.#hasEnded = true
      this.failure = { error }
      throw error
    }
  }

  async return(): Promise<IteratorResult<Uint8Array>> {
    if (!this.#hasEnded) {
      this.#hasEnded = true
      await this.#source.return?.()
    }
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}

async function* decoded(compression: Compression, input: Input): AsyncGenerator<Uint8Array, void, undefined> {
  if (compression === 'none') {
    yield* input
    return
  }
  try {
    switch (compression) {
      case 'gzip':
        yield* gunzip(input)
        break
      case 'zstd':
        yield* unzstd(input)
        break
      case 'bzip2':
        yield* (await import('../vendor/bzip2.js')).bunzip2(input)
        break
      case 'xz':
        yield* (await import('../vendor/xz.js')).unxz(input)
        break
    }
  } catch (error) {
    if (input.failure) throw input.failure.error
    throw new Damage(compression, error)
  }
}

async function* gunzip(input: Input): AsyncGenerator<Uint8Array, void, undefined> {
  const decoder = zlib.createGunzip({ chunkSize: CHUNK_BYTES })
  yield* through(decoder, input)
  // It stops at a zero byte after the end, as tapes have them, and looks no further.
  if (decoder.bytesWritten < input.bytes) throw new Error('something follows its end')
}

/** Node's own, where it has one; its types are of Node 20. */
const createZstdDecompress = (zlib as { createZstdDecompress?: (options: zlib.ZlibOptions) => Transform })
  .createZstdDecompress

async function* unzstd(input: Input): AsyncGenerator<Uint8Array, void, undefined> {
  const frames = zstdFrames(input)
  if (createZstdDecompress) yield* through(createZstdDecompress({ chunkSize: CHUNK_BYTES }), frames)
  else yield* unzstdInScript(frames)
}

/** Input at a time: a block of four bytes can stand for 128 KiB, and all output of one call is in memory at once. */
const SCRIPT_PIECE_BYTES = 1024

/** For a Node without zstd. It does not check the sums of the frames; digests do that for layers. */
export async function* unzstdInScript(frames: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const { zstdDecoder } = await import('../vendor/zstd.js')
  let output: Uint8Array[] = []
  const decoder = zstdDecoder((piece) => output.push(piece))
  for await (const piece of frames) {
    for (let at = 0; at < piece.length; at += SCRIPT_PIECE_BYTES) {
      decoder.push(piece.subarray(at, at + SCRIPT_PIECE_BYTES), false)
      yield* output
      output = []
    }
  }
  decoder.push(new Uint8Array(0), true)
  yield* output
}

async function* through(
  decoder: Transform,
  pieces: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  // What fails is told by the decoder, which pipeline() destroys with the error of its source.
  yield* pipeline(Readable.from(pieces, { objectMode: true }), decoder, () => {}) as AsyncIterable<Uint8Array>
}
