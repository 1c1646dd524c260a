/**
 * Reads what comes over a bulk connection: one reply line, then frames (native/PROTOCOL.md).
 *
 * Bytes of a frame are handed on as they arrive, without a copy: a frame may come in several pieces.
 */

/** Streams of a frame; 1 is stdout. */
export const STDERR = 2
const NOTICE = 3

const HEADER_BYTES = 16
const NEWLINE = 0x0a
/** Replies and notices are small; longer is not ours. */
const MAX_JSON_BYTES = 1024 * 1024

export interface FrameHandler {
  /** The reply line, parsed. */
  reply(reply: unknown): void
  /** A piece of a frame. `time` is the frame's: nanoseconds since the epoch. */
  data?(stream: number, piece: Buffer, time: () => bigint): void
  /** A frame of the notice stream, parsed. */
  notice?(notice: Record<string, unknown>): void
}

export class FrameReader {
  readonly #handler: FrameHandler
  readonly #header = Buffer.allocUnsafe(HEADER_BYTES)
  readonly #time = (): bigint => this.#header.readBigUInt64LE(8)
  #hasReply = false
  #headerBytes = 0
  #bodyLeft = 0
  /** Pieces of what must be whole before it can be parsed: the reply line, a notice. */
  #gathered: Buffer[] = []
  #gatheredBytes = 0

  constructor(handler: FrameHandler) {
    this.#handler = handler
  }

  /** Takes the next bytes from the socket. Throws when they are no frames. */
  feed(chunk: Buffer): void {
    let offset = 0
    if (!this.#hasReply) {
      const end = chunk.indexOf(NEWLINE)
      if (end < 0) {
        this.#gather(chunk)
        return
      }
      this.#gather(chunk.subarray(0, end))
      this.#hasReply = true
      this.#handler.reply(this.#parseGathered())
      offset = end + 1
    }
    while (offset < chunk.length) {
      if (this.#bodyLeft === 0) {
        const wanted = Math.min(HEADER_BYTES - this.#headerBytes, chunk.length - offset)
        chunk.copy(this.#header, this.#headerBytes, offset, offset + wanted)
        this.#headerBytes += wanted
        offset += wanted
        if (this.#headerBytes < HEADER_BYTES) return
        this.#bodyLeft = this.#header.readUInt32LE(4)
        this.#headerBytes = 0
        continue // the frame may be empty, or its bytes be yet to come
      }
      const piece = chunk.subarray(offset, Math.min(chunk.length, offset + this.#bodyLeft))
      offset += piece.length
      this.#bodyLeft -= piece.length
      const stream = this.#header[0]!
      if (stream !== NOTICE) {
        this.#handler.data?.(stream, piece, this.#time)
        continue
      }
      this.#gather(piece)
      if (this.#bodyLeft === 0) this.#handler.notice?.(this.#parseGathered() as Record<string, unknown>)
    }
  }

  #gather(piece: Buffer): void {
    this.#gatheredBytes += piece.length
    if (this.#gatheredBytes > MAX_JSON_BYTES) throw new Error('the warden sent a line without end')
    this.#gathered.push(piece)
  }

  #parseGathered(): unknown {
    const text = this.#gathered.length === 1 ? this.#gathered[0]!.toString() : Buffer.concat(this.#gathered).toString()
    this.#gathered = []
    this.#gatheredBytes = 0
    return JSON.parse(text)
  }
}
