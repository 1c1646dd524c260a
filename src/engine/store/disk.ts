/**
 * What all parts of the store share: where it lies, how its files are written, and what happens to damage.
 *
 * Everything is written in the directory of the writer's session and then renamed into place. That directory goes with the
 * session; where even the warden was killed, the next session that starts finds its lock free and removes it. So a
 * temporary is never taken away while its owner lives, and never stays after it.
 */

import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { deleteTree } from '../archive.js'
import { MayflyError } from '../errors.js'
import type { Session } from '../session.js'

export class StoreDisk {
  readonly home: string
  readonly #session: Session | undefined
  readonly #listeners = new Set<(damage: MayflyError) => void>()
  readonly #told = new Set<string>()

  constructor(home: string, session?: Session) {
    this.home = home
    this.#session = session
  }

  /** The session that does the writing. */
  get session(): Session {
    if (!this.#session) throw new TypeError('This store was opened for reading: there is no session to write with')
    return this.#session
  }

  get isWritable(): boolean {
    return this.#session !== undefined
  }

  /** A path that nobody uses, in the session's directory, where the launcher has made a place for it; nothing is there yet. */
  async temporary(): Promise<string> {
    // Not made here: after the session's end, that would bring its directory back.
    return join(this.session.facts.session, 'store', randomBytes(8).toString('hex'))
  }

  /** Removes a temporary, file or tree. What cannot be removed now goes with the session. */
  async discard(path: string): Promise<void> {
    // As root, plain removal would do. In a user namespace, trees hold files of ids that only the warden may touch.
    await deleteTree(this.session, path).catch(() => rm(path, { recursive: true, force: true }).catch(() => {}))
  }

  /**
   * Writes a file so that readers see the old or the new contents, never a part; its directory is made.
   *
   * `durable` makes sure of that across a power cut too, for a file that has no digest to tell whether it is whole and
   * that nobody could fetch again. It costs a journal commit (milliseconds), so content named by its digest goes without.
   */
  async replaceFile(path: string, contents: string | Uint8Array, durable = false): Promise<void> {
    const temporary = await this.temporary()
    try {
      const file = await open(temporary, 'wx', 0o600)
      try {
        await file.writeFile(contents)
        if (durable) await file.sync()
      } finally {
        await file.close()
      }
      await this.moveIn(temporary, path)
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {})
      throw writeError(error, path)
    }
  }

  /** Renames into a directory that somebody may just be removing because it was empty. */
  async moveIn(temporary: string, path: string): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        await rename(temporary, path)
        return
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === 10) throw error
        await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      }
    }
  }

  /** Called for each damage found, once for each message. Returns what ends it. */
  onDamage(listener: (damage: MayflyError) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** What was told is told again when it is found again. */
  forgetDamages(): void {
    this.#told.clear()
  }

  /** Tells of damage. What is damaged counts as absent, so that whoever needs it gets it anew. */
  damaged(error: MayflyError): void {
    if (this.#told.has(error.message)) return
    this.#told.add(error.message)
    for (const listener of this.#listeners) listener(error)
  }
}

/** What is in a directory; nothing where there is none. */
export async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (isAbsent(error)) return []
    throw error
  }
}

/**
 * The text of a small file that our own program has written; undefined when there is none. At once: that takes 0.02 ms, the way through node's thread pool five
 * times that, and a worker thread that is ended on that way leaves the file open for as long as the process lives.
 */
export function readSmallFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

/** The object that a text says in JSON; undefined for anything else. */
export function parseJson(text: string | undefined): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text ?? '')
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** Nothing is there, or something else than a file. */
export function isAbsent(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/** A failed write, with the full disk called by its name. */
export function writeError(error: unknown, path: string): unknown {
  const { code, message } = error as NodeJS.ErrnoException
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error
  return new MayflyError(
    'DISK_FULL',
    `There is no space left for ${path} (${message})`,
    { path, errno: code, hint: '`npx mayfly prune` removes what no image needs; MAYFLY_HOME names another disk' },
    { cause: error },
  )
}
