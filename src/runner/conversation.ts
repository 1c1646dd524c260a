/**
 * A call to the owner of shared containers, from the caller's side. Each is a connection of its own:
 *
 *     there   the call | bytes of what is copied in, ended by an empty frame | what a function answered that the owner asked for
 *     back    pieces of a stream | a question for a function of the caller's | a value or an error, which is the end
 *
 * A caller that hangs up gives the work up. What a call has made, such as a container, lives until its connection is closed: so it goes
 * with a caller that is killed, too.
 */

import { connect } from 'node:net'
import { deserialize } from 'node:v8'
import { MayflyError } from '../engine/errors.js'
import { type Call, packCall } from './call.js'
import { FrameSocket } from './frames.js'

/** Where the owner is found. Plain data. */
export interface Address {
  readonly port: number
  readonly secret: string
}

/** What the owner sends. */
export type Answer =
  | { readonly piece: unknown }
  | { readonly ask: true }
  | { readonly value: unknown }
  | { readonly error: { readonly message: string; readonly facts?: object } }

export const LOOPBACK = '127.0.0.1'
/** Of one frame. */
export const CALL_BYTES = 256 * 1024 * 1024
/** Of an answer, which comes from who is trusted; a buffer of node is not longer. */
const ANSWER_BYTES = 2 ** 32 - 1

export interface CallOptions {
  readonly signal?: AbortSignal | undefined
  /** It does not keep node alive. @default false */
  readonly background?: boolean | undefined
  /** Sent after the call. */
  readonly body?: AsyncIterable<Uint8Array> | Iterable<Uint8Array>
  /** Gets the pieces of a stream. */
  readonly onPiece?: (piece: never) => void
  /** Called when the owner asks; what it resolves to is the answer. */
  readonly onAsk?: () => Promise<unknown>
}

/** What a call has made. It lasts until it is let go of, or this process ends. */
export interface Held<T> {
  readonly value: T
  /** May be called twice. */
  letGo(): void
}

/** Resolves to what the call resolves to. */
export async function ask(address: Address, call: Omit<Call, 'secret'>, options: CallOptions = {}): Promise<unknown> {
  const { value, letGo } = await hold(address, call, options)
  letGo()
  return value
}

/** The same, for a call that makes something. */
export async function hold(
  address: Address,
  call: Omit<Call, 'secret'>,
  options: CallOptions = {},
): Promise<Held<unknown>> {
  const conversation = new Conversation(address, call, options)
  for (;;) {
    const answer = await conversation.next()
    if ('piece' in answer) options.onPiece?.(answer.piece as never)
    else return { value: answer.value, letGo: conversation.keep() }
  }
}

/** The pieces of what the call streams. Nothing is asked before the first is. */
export function stream<T>(
  address: Address,
  call: Omit<Call, 'secret'>,
  options: CallOptions = {},
): AsyncIterableIterator<T> {
  let conversation: Conversation | undefined
  let isOver = false
  const end = () => {
    isOver = true
    conversation?.close()
    return { done: true, value: undefined } as const
  }
  return {
    async next() {
      if (isOver) return end()
      conversation ??= new Conversation(address, call, options)
      const answer = await conversation.next().catch((error) => {
        // Whoever ended it while a piece was due wants no more, and no error.
        if (isOver) return { value: undefined }
        isOver = true
        throw error
      })
      return 'piece' in answer ? { done: false, value: answer.piece as T } : end()
    },
    async return() {
      return end()
    },
    [Symbol.asyncIterator]() {
      return this
    },
  }
}

class Conversation {
  readonly #frames: FrameSocket
  readonly #options: CallOptions
  readonly #onAbort = () => this.close()
  #cause: unknown

  /** Throws NOT_SUPPORTED for what cannot be sent, and the signal's reason. */
  constructor(address: Address, call: Omit<Call, 'secret'>, options: CallOptions) {
    const { signal, background, body } = options
    signal?.throwIfAborted()
    const packed = packCall({ secret: address.secret, ...call })
    const socket = connect({ port: address.port, host: LOOPBACK, noDelay: true })
    if (background) socket.unref()
    socket.on('error', (error) => {
      this.#cause = error
    })
    this.#options = options
    this.#frames = new FrameSocket(socket, ANSWER_BYTES)
    signal?.addEventListener('abort', this.#onAbort, { once: true })
    socket.on('close', () => signal?.removeEventListener('abort', this.#onAbort))
    void this.#send(packed, body)
  }

  async #send(packed: Buffer, body: CallOptions['body']): Promise<void> {
    try {
      await this.#frames.send(packed)
      if (!body) return
      for await (const piece of body) {
        if (piece.length > 0) await this.#frames.send(piece)
        if (this.#frames.socket.destroyed) return
      }
      await this.#frames.send(new Uint8Array(0))
    } catch (error) {
      // Half of what was to be copied must not be taken for all of it.
      this.#cause = error
      this.close()
    }
  }

  /** The next answer but questions. */
  async next(): Promise<{ readonly piece: unknown } | { readonly value: unknown }> {
    for (;;) {
      const frame = await this.#frames.next()
      this.#options.signal?.throwIfAborted()
      if (!frame) {
        this.close()
        throw this.#cause instanceof Error && !('syscall' in this.#cause) ? this.#cause : gone(this.#cause)
      }
      const answer = deserialize(frame) as Answer
      if ('ask' in answer) await this.#answer()
      else if ('error' in answer) {
        this.close()
        const { message, facts } = answer.error
        throw facts ? Object.assign(new MayflyError('NOT_SUPPORTED', message), facts) : new Error(message)
      } else return answer
    }
  }

  /** What fails here is what the caller is told, not what the owner makes of it. */
  async #answer(): Promise<void> {
    const call = { secret: '', id: '', method: '' }
    try {
      await this.#frames.send(packCall({ ...call, args: [await this.#options.onAsk?.()] }))
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** From now on the connection keeps nothing but what the call has made. */
  keep(): () => void {
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    this.#frames.socket.unref()
    return () => this.close()
  }

  close(): void {
    this.#frames.socket.destroy()
  }
}

function gone(cause: unknown): MayflyError {
  return new MayflyError(
    'ENGINE_CLOSED',
    'The process that started the shared containers does not answer',
    {},
    { cause },
  )
}
