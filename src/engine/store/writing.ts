/**
 * The lock that keeps garbage collection and writers apart: `gc.lock`, shared by all who write, exclusive for who removes.
 *
 * What a pull or build has made so far belongs to no image yet, and would be removed without it.
 */

import { join } from 'node:path'
import { unlessAborted } from '../deadline.js'
import { MayflyError } from '../errors.js'
import type { StoreDisk } from './disk.js'
import { type Lock, takeLock, tryLock } from './lock.js'

/** How often an exclusive lock that must come in time is tried. */
const TRY_EVERY_MS = 50

export class Writing {
  readonly #disk: StoreDisk
  /** One lock serves all writers of this process, which nest: an image is put while it is pulled. */
  #shared: Promise<Lock> | undefined
  #users = 0

  constructor(disk: StoreDisk) {
    this.#disk = disk
  }

  /** Does the work while nothing is removed from the store. */
  async run<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted()
    this.#users++
    this.#shared ??= takeLock(this.#disk.session, this.#path, 'shared')
    const shared = this.#shared
    shared.catch(() => {
      if (this.#shared === shared) this.#shared = undefined // the next one tries anew
    })
    try {
      await unlessAborted(shared, signal)
      return await work()
    } catch (error) {
      throw await this.#reason(error)
    } finally {
      if (--this.#users === 0 && this.#shared === shared) {
        this.#shared = undefined
        shared.then((lock) => lock.release()).catch(() => {})
      }
    }
  }

  /**
   * Does the work while nobody writes. Throws STORE_BUSY when writers do not end within `waitMs`; with 0 it is tried once.
   */
  async alone<T>(waitMs: number, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const end = Date.now() + waitMs
    let lock: Lock | undefined
    while (!lock) {
      lock = await tryLock(this.#disk.session, this.#path, 'exclusive', signal)
      if (lock) break
      if (Date.now() >= end) {
        throw new MayflyError(
          'STORE_BUSY',
          `Something is being written to ${this.#disk.home}: a pull, a build or the like`,
          {
            path: this.#path,
            hint: 'try again when it has ended',
          },
        )
      }
      await pause(TRY_EVERY_MS, signal)
    }
    try {
      return await work()
    } finally {
      lock.release()
    }
  }

  /** The directory of a session that has died goes while we write in it. Why it died says more than a file that is not there. */
  async #reason(error: unknown): Promise<unknown> {
    const { session } = this.#disk
    const { code, path } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' || !path?.startsWith(`${session.facts.session}/`)) return error
    if (!session.failure) await pause(TRY_EVERY_MS, undefined) // it is told of it any moment now
    return session.failure ?? error
  }

  get #path(): string {
    return join(this.#disk.home, 'gc.lock')
  }
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const over = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', over)
      if (signal?.aborted) reject(signal.reason)
      else resolve()
    }
    const timer = setTimeout(over, milliseconds)
    signal?.addEventListener('abort', over, { once: true })
  })
}
