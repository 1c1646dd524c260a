/**
 * Locks between all processes that use one store, held by the kernel: whoever dies lets go of what it held.
 *
 * The warden has the lock (flock(2)) for as long as a connection to it stands, so waiting takes no thread of node's.
 */

import { MayflyError } from '../errors.js'
import { refusalError } from '../refusal.js'
import type { Session } from '../session.js'
import type { Refusal, Reply } from '../wire.js'

/** `exclusive`: nobody else has it. `shared`: nobody else has it exclusively. */
export type LockMode = 'exclusive' | 'shared'

/** A lock that is held. Letting go twice is fine. */
export interface Lock {
  release(): void
  /** From now on it does not keep node from ending. */
  unref(): void
  /** Called when the lock was lost before its release, because the session ended. */
  onLost(tell: (error: unknown) => void): void
}

/**
 * Takes a lock, waiting for it without limit.
 *
 * `path` is a file below the store's home, made when missing; its directory must exist. The lock is not reentrant: taking it a
 * second time waits for oneself.
 *
 * Rejects with the signal's reason, with ENGINE_CLOSED, or with STORE_FAILED when the file cannot be opened.
 */
export function takeLock(session: Session, path: string, mode: LockMode, signal?: AbortSignal): Promise<Lock> {
  return request(session, path, mode, -1, signal) as Promise<Lock>
}

/** Takes a lock if nobody is in the way; else undefined, at once. */
export function tryLock(
  session: Session,
  path: string,
  mode: LockMode,
  signal?: AbortSignal,
): Promise<Lock | undefined> {
  return request(session, path, mode, 0, signal)
}

/**
 * Does the work while holding the lock, and lets go of it whatever comes of the work. What {@link takeLock} says holds here too.
 *
 * When the session ends meanwhile, the lock is lost and the promise rejects with the session's error once the work is over,
 * unless the work has failed by itself: what it did last was not protected.
 */
export async function withLock<T>(
  session: Session,
  path: string,
  mode: LockMode,
  work: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const lock = await takeLock(session, path, mode, signal)
  let lost: { error: unknown } | undefined
  lock.onLost((error) => {
    lost = { error }
  })
  try {
    const result = await work()
    if (lost) throw lost.error
    return result
  } finally {
    lock.release()
  }
}

function request(
  session: Session,
  path: string,
  mode: LockMode,
  waitMs: number,
  signal?: AbortSignal,
): Promise<Lock | undefined> {
  if (signal?.aborted) return Promise.reject(signal.reason)
  return new Promise((resolve, reject) => {
    let isHeld = false
    let isOver = false
    let isRef = true
    let tellLost: ((error: unknown) => void) | undefined
    let lostBy: { error: unknown } | undefined
    const connection = session.bulk('lock', ['path', path, 'mode', mode, 'wait', String(waitMs)], {
      reply: (reply) => {
        if (isOver) return
        if ((reply as Reply).ok) {
          isHeld = true
          signal?.removeEventListener('abort', onAbort)
          resolve(lock)
          return
        }
        finish()
        const refusal = reply as Refusal
        // With a wait it means that there was no process to wait with.
        if (refusal.errno === 'EAGAIN' && waitMs === 0) resolve(undefined)
        else reject(refusalError(refusal, { verb: 'lock', container: path }))
      },
      end: (error) => {
        if (isOver) return
        const reason = error ?? new MayflyError('ENGINE_UNAVAILABLE', `The warden let go of the lock on ${path}`)
        finish()
        if (!isHeld) {
          reject(reason)
          return
        }
        lostBy = { error: reason }
        tellLost?.(reason)
      },
    })
    const onAbort = () => {
      finish()
      reject(signal?.reason)
    }
    function finish(): void {
      if (isOver) return
      isOver = true
      signal?.removeEventListener('abort', onAbort)
      unref()
      session.discard(connection)
    }
    function unref(): void {
      if (isRef) connection.release()
      isRef = false
    }
    const lock: Lock = {
      release: finish,
      unref,
      onLost: (tell) => {
        tellLost = tell
        if (lostBy) tell(lostBy.error)
      },
    }
    connection.hold()
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
