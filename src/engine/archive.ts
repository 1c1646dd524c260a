/** Tar streams into and out of containers, and into the store. The tar itself is read and written by the warden. */

import type { Bulk } from './bulk.js'
import { Channel } from './channel.js'
import { MayflyError } from './errors.js'
import { type Attempt, refusalError } from './refusal.js'
import type { Session } from './session.js'
import type { Refusal, Reply } from './wire.js'

/** The bytes of an archive: a Readable, a web stream, a generator, an array of buffers. */
export type ByteSource = Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>

/** Bytes that may wait for a reader. */
const BUFFERED_BYTES = 1024 * 1024

/**
 * Sends a request with a body, and resolves to its reply when the warden has used the last byte.
 *
 * A refusal ends it at once, whatever is left of the source. An error of the source, or the signal's, breaks the connection.
 */
export async function sendArchive(
  session: Session,
  verb: 'copy-in' | 'unpack',
  words: readonly string[],
  source: ByteSource,
  attempt: Attempt,
  signal?: AbortSignal,
): Promise<{ readonly entries?: number; readonly bytes?: number }> {
  signal?.throwIfAborted()
  const { promise: outcome, resolve, reject } = deferred<Reply>()
  let wake: () => void = () => {}
  const connection = session.bulk(verb, words, {
    reply: (reply) => settle(() => resolve(reply as Reply)),
    end: (error) =>
      settle(() => reject(error ?? new MayflyError('ENGINE_UNAVAILABLE', `The warden ended ${verb} without a reply`))),
  })
  let isSettled = false
  function settle(tell: () => void): void {
    isSettled = true
    tell()
    wake()
  }
  const onAbort = () => settle(() => reject(signal?.reason))
  signal?.addEventListener('abort', onAbort, { once: true })
  connection.hold()
  const pieces = iterate(source)
  try {
    for (;;) {
      // A refusal or an abort must not wait for a source that has stalled.
      const next = await Promise.race([pieces.next(), outcome])
      if (isSettled || !('done' in next) || next.done) break
      const piece: unknown = next.value
      if (!(piece instanceof Uint8Array)) throw new TypeError(`An archive is made of Uint8Array, not ${typeof piece}`)
      await new Promise<void>((done) => {
        wake = done
        connection.write(piece, done)
      })
      if (isSettled) break
    }
    connection.end()
    const reply = await outcome
    if (!reply.ok) throw refusalError(reply, attempt)
    return reply as { entries?: number; bytes?: number }
  } finally {
    signal?.removeEventListener('abort', onAbort)
    connection.release()
    session.discard(connection)
    void Promise.resolve(pieces.return?.()).catch(() => {}) // the source's own clean-up; what failed is told above
  }
}

function iterate(source: ByteSource): AsyncIterator<Uint8Array> | Iterator<Uint8Array> {
  if (Symbol.asyncIterator in source) return source[Symbol.asyncIterator]()
  if (source instanceof Uint8Array) return [source as Uint8Array][Symbol.iterator]()
  return source[Symbol.iterator]()
}

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: unknown) => void } {
  let resolve!: (value: T) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  promise.catch(() => {}) // an error of the source may come first and is then the one that is told
  return { promise, resolve, reject }
}

/** A tar of the file or tree at `path`, as `docker cp` gives it. What is wrong is told by the first `next()`. */
export function receiveArchive(
  session: Session,
  words: readonly string[],
  attempt: Attempt,
  signal?: AbortSignal,
): AsyncIterableIterator<Uint8Array> {
  let bulk: Bulk | undefined
  const close = () => {
    signal?.removeEventListener('abort', onAbort)
    if (bulk) session.discard(bulk)
  }
  const onAbort = () => finish(signal?.reason)
  const channel = new Channel<Uint8Array>({
    limit: BUFFERED_BYTES,
    onRoom: () => bulk?.resume(),
    onWaiting: (waiting) => (waiting ? bulk?.hold() : bulk?.release()),
    onCancel: close,
  })
  const finish = (error?: unknown) => {
    channel.end(error)
    close()
  }
  if (signal?.aborted) {
    channel.end(signal.reason)
    return channel
  }
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    bulk = session.bulk('copy-out', words, {
      reply: (reply) => {
        if (!(reply as Reply).ok) finish(refusalError(reply as Refusal, attempt))
      },
      data: (_stream, piece) => {
        if (!channel.push(piece, piece.length)) bulk?.pause()
      },
      notice: (notice) => {
        finish(notice.ok ? undefined : refusalError(notice as unknown as Refusal, attempt))
      },
      end: (error) => {
        finish(
          error ??
            new MayflyError('ARCHIVE_INVALID', `Cannot ${attempt.verb} "${attempt.container}": the archive is cut off`),
        )
      },
    })
  } catch (error) {
    finish(error)
  }
  return channel
}

/** Removes a directory below the store's home, whatever is in it. */
export function deleteTree(session: Session, target: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const bulk = session.bulk('delete', ['target', target], {
      reply: (reply) => {
        over()
        if ((reply as Reply).ok) resolve()
        else reject(refusalError(reply as Refusal, { verb: 'delete', container: target }))
      },
      end: (error) => {
        over()
        reject(
          error ?? new MayflyError('ENGINE_UNAVAILABLE', `The warden ended the removal of ${target} without a reply`),
        )
      },
    })
    bulk.hold()
    let isOver = false
    function over(): void {
      if (isOver) return
      isOver = true
      bulk.release()
      session.discard(bulk)
    }
  })
}
