/** Frames on a socket between two processes: a length, and so many bytes. Whoever is read from slowly has to wait. */

import { Buffer } from 'node:buffer'
import type { Socket } from 'node:net'

const LENGTH_BYTES = 4
/** Beyond so much that nobody has asked for yet, no more is read. */
const AHEAD_BYTES = 4 * 1024 * 1024

export class FrameSocket {
  readonly socket: Socket
  readonly #limit: number
  #pieces: Buffer[] = []
  #size = 0
  #isClosed = false
  #wake: (() => void) | undefined

  /** A frame longer than `limit` bytes closes the socket. */
  constructor(socket: Socket, limit: number) {
    this.socket = socket
    this.#limit = limit
    socket.on('error', () => {}) // `close` follows
    socket.on('data', (piece: Buffer) => {
      this.#pieces.push(piece)
      this.#size += piece.length
      if (this.#size > AHEAD_BYTES && !this.#wake) socket.pause()
      this.#wake?.()
    })
    // Neither end ever ends only its own half.
    socket.on('end', () => this.#close())
    socket.on('close', () => this.#close())
  }

  #close(): void {
    this.#isClosed = true
    this.#wake?.()
  }

  /** Undefined once the other end is gone. One caller at a time. */
  async next(): Promise<Buffer | undefined> {
    const head = await this.#take(LENGTH_BYTES)
    if (!head) return undefined
    const length = head.readUInt32LE()
    if (length > this.#limit) {
      this.socket.destroy()
      return undefined
    }
    return this.#take(length)
  }

  async #take(length: number): Promise<Buffer | undefined> {
    while (this.#size < length) {
      if (this.#isClosed) return undefined
      this.socket.resume()
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
    this.#size -= length
    const taken: Buffer[] = []
    for (let missing = length; missing > 0; ) {
      const piece = this.#pieces[0]!
      taken.push(piece.subarray(0, missing))
      if (piece.length <= missing) this.#pieces.shift()
      else this.#pieces[0] = piece.subarray(missing)
      missing -= Math.min(piece.length, missing)
    }
    if (this.#size <= AHEAD_BYTES) this.socket.resume()
    return taken.length === 1 ? taken[0] : Buffer.concat(taken)
  }

  /** Resolves when there is room for more, or nobody who would read it. */
  async send(bytes: Uint8Array): Promise<void> {
    if (this.socket.destroyed) return
    const length = Buffer.alloc(LENGTH_BYTES)
    length.writeUInt32LE(bytes.length)
    this.socket.cork()
    this.socket.write(length)
    const hasRoom = this.socket.write(bytes)
    this.socket.uncork()
    if (hasRoom || this.#isClosed) return
    await new Promise<void>((resolve) => {
      const done = () => {
        this.socket.off('drain', done).off('close', done)
        resolve()
      }
      this.socket.on('drain', done).on('close', done)
    })
  }
}
