/** A running process seen through a bulk connection: its stdin, stdout and stderr, for `exec` and `attach`. */

import { Writable } from 'node:stream'
import type { Bulk } from './bulk.js'
import { Channel } from './channel.js'
import { STDERR } from './frames.js'

/** Output of each stream that may wait for a reader before the process is made to wait. */
const BUFFERED_BYTES = 1024 * 1024

/** Both outputs come over one connection: it stops while either has too much waiting. */
export class ProcessStreams {
  readonly stdout: Channel<Uint8Array>
  readonly stderr: Channel<Uint8Array>
  readonly stdin: Writable
  #bulk: Bulk | undefined

  constructor() {
    const hooks = {
      limit: BUFFERED_BYTES,
      onRoom: () => {
        if (!this.stdout.isFull && !this.stderr.isFull) this.#bulk?.resume()
      },
      onCancel: () => {
        if (!this.stdout.isFull && !this.stderr.isFull) this.#bulk?.resume()
      },
      onWaiting: (waiting: boolean) => (waiting ? this.#bulk?.hold() : this.#bulk?.release()),
    }
    this.stdout = new Channel(hooks)
    this.stderr = new Channel(hooks)
    this.stdin = new Writable({
      highWaterMark: 64 * 1024,
      write: (chunk: Uint8Array, _encoding, done) => this.#bulk!.write(chunk, done),
      final: (done) => {
        this.#bulk?.end()
        done()
      },
    })
  }

  /** The connection that carries all three. Before anything else. */
  connect(bulk: Bulk): void {
    this.#bulk = bulk
  }

  push(stream: number, piece: Uint8Array): void {
    const channel = stream === STDERR ? this.stderr : this.stdout
    if (!channel.push(piece, piece.length)) this.#bulk?.pause()
  }

  end(error?: unknown): void {
    this.stdout.end(error)
    // One error is told once; the other stream just ends.
    this.stderr.end()
  }
}
