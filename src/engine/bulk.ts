/**
 * One bulk connection to the warden: one request, one reply, then bytes in both directions.
 *
 * It keeps node alive only between `hold()` and `release()`, so a stream that was opened and forgotten ends with the process.
 */

import { connect, type Socket } from 'node:net'
import { nextTick } from './clock.js'
import { type FrameHandler, FrameReader } from './frames.js'

export interface BulkHandler extends FrameHandler {
  /** The warden closed the connection, or it broke. Called once, last; not after `destroy()`. */
  end(error?: Error): void
}

export class Bulk {
  readonly #socket: Socket
  #handler: BulkHandler | undefined
  #reader: FrameReader | undefined
  #holds = 0
  #hasEnded = false

  /** Connects at once; requests may be written before the connection stands. */
  constructor(path: string) {
    this.#socket = connect({ path, allowHalfOpen: true })
    this.#socket.unref()
    this.#socket.on('data', (chunk: Buffer) => this.#feed(chunk))
    this.#socket.on('end', () => this.#finish())
    this.#socket.on('error', (error) => this.#finish(error))
    this.#socket.on('close', () => this.#finish())
  }

  /** Whether the connection can still be used. */
  get isOpen(): boolean {
    return !this.#hasEnded
  }

  /** Sends the request; everything that comes back goes to the handler. Once a connection. */
  begin(request: string, handler: BulkHandler): void {
    this.#handler = handler
    this.#reader = new FrameReader(handler)
    this.#socket.write(request)
  }

  /** Sends bytes; `done` comes when more may be written, also when the other side has gone (the bytes are dropped then). */
  write(bytes: Uint8Array, done: () => void): void {
    if (this.#hasEnded || this.#socket.writableEnded) {
      nextTick(done)
      return
    }
    this.hold()
    this.#socket.write(bytes, () => {
      this.release()
      done()
    })
  }

  /** No more bytes to send. */
  end(): void {
    if (!this.#hasEnded) this.#socket.end()
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  hold(): void {
    if (this.#holds++ === 0) this.#socket.ref()
  }

  release(): void {
    if (--this.#holds === 0) this.#socket.unref()
  }

  /** Closes at once; with an error, the handler is told. */
  destroy(error?: Error): void {
    if (error) this.#finish(error)
    this.#hasEnded = true
    this.#socket.destroy()
  }

  #feed(chunk: Buffer): void {
    if (this.#hasEnded) return
    try {
      this.#reader?.feed(chunk)
    } catch (error) {
      this.destroy(error as Error)
    }
  }

  #finish(error?: Error): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#handler?.end(error)
    this.#socket.destroy()
  }
}
