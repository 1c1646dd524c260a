/** Tar streams into and out of containers, and into the store. The tar itself is read and written by the warden. */

import type { Bulk } from './bulk.js'
import { Channel } from './channel.js'
import { MayflyError } from './errors.js'
import { bytes } from './launch/check.js'
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
  verb: 'copy-in' | 'unpack' | 'transfer',
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
      // (Promise.race would keep every piece in memory until the outcome is known.)
      const next = await new Promise<IteratorResult<Uint8Array> | undefined>((resolve, reject) => {
        wake = () => resolve(undefined)
        Promise.resolve(pieces.next()).then(resolve, reject)
      })
      if (isSettled || !next || next.done) break
      const piece = bytes(next.value, 'archive')
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
  return receiveBytes(session, 'copy-out', words, attempt, signal)
}

/** How a stream from the warden ended: with the notice that came last, or early. */
export type Ending = { readonly notice: Readonly<Record<string, unknown>> } | { readonly error: unknown }

/**
 * Sends a request and gives the bytes that come back, no faster than they are read.
 *
 * `onEnd` is called once, when everything was received or nothing more will be: refused, broken, aborted, or left by its reader.
 */
export function receiveBytes(
  session: Session,
  verb: 'copy-out' | 'pack',
  words: readonly string[],
  attempt: Attempt,
  signal?: AbortSignal,
  onEnd?: (ending: Ending) => void,
): AsyncIterableIterator<Uint8Array> {
  let bulk: Bulk | undefined
  let isOver = false
  const close = (ending: Ending) => {
    if (isOver) return
    isOver = true
    signal?.removeEventListener('abort', onAbort)
    if (bulk) session.discard(bulk)
    onEnd?.(ending)
  }
  const onAbort = () => finish({ error: signal?.reason })
  const channel = new Channel<Uint8Array>({
    limit: BUFFERED_BYTES,
    onRoom: () => bulk?.resume(),
    onWaiting: (waiting) => (waiting ? bulk?.hold() : bulk?.release()),
    onCancel: () => close({ error: new DOMException('The archive was not read to its end', 'AbortError') }),
  })
  const finish = (ending: Ending) => {
    channel.end('error' in ending ? ending.error : undefined)
    close(ending)
  }
  if (signal?.aborted) {
    finish({ error: signal.reason })
    return channel
  }
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    bulk = session.bulk(verb, words, {
      reply: (reply) => {
        if (!(reply as Reply).ok) finish({ error: refusalError(reply as Refusal, attempt) })
      },
      data: (_stream, piece) => {
        if (!channel.push(piece, piece.length)) bulk?.pause()
      },
      notice: (notice) => {
        finish(notice.ok ? { notice } : { error: refusalError(notice as unknown as Refusal, attempt) })
      },
      end: (error) => {
        const cutOff = () =>
          new MayflyError('ARCHIVE_INVALID', `Cannot ${attempt.verb} "${attempt.container}": the archive is cut off`)
        finish({ error: error ?? cutOff() })
      },
    })
  } catch (error) {
    finish({ error })
  }
  return channel
}

/** Sends a request that is answered by one reply, which may take its time. */
export function askWarden(
  session: Session,
  verb: string,
  words: readonly string[],
  signal?: AbortSignal,
): Promise<Reply> {
  if (signal?.aborted) return Promise.reject(signal.reason)
  return new Promise((resolve, reject) => {
    const bulk = session.bulk(verb, words, {
      reply: (reply) => over(() => resolve(reply as Reply)),
      end: (error) =>
        over(() => reject(error ?? new MayflyError('ENGINE_UNAVAILABLE', `The warden ended ${verb} without a reply`))),
    })
    bulk.hold()
    const onAbort = () => over(() => reject(signal?.reason))
    signal?.addEventListener('abort', onAbort, { once: true })
    let isOver = false
    function over(tell: () => void): void {
      if (isOver) return
      isOver = true
      signal?.removeEventListener('abort', onAbort)
      bulk.release()
      session.discard(bulk)
      tell()
    }
  })
}

/** Removes a directory below the store's home, whatever is in it. */
export async function deleteTree(session: Session, target: string): Promise<void> {
  const reply = await askWarden(session, 'delete', ['target', target])
  if (!reply.ok) throw refusalError(reply, { verb: 'delete', container: target })
}
