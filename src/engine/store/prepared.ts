/**
 * Prepared states that are kept: `cache/prepared/<hex>/` with what a container had written in `tree`, and in `state.json` the layers that
 * it stands on. A key of the caller's says what it is; its SHA-256 is the name.
 *
 * Complete or absent, as layers are: made in the session's directory and renamed. It is never flushed, since it can always be made
 * again: a state names the boot it was made in, and counts as absent after the next one.
 *
 * They would grow without end, since each change of a migration leaves a state behind that nobody asks for again. So whoever adds one
 * removes others: see {@link PreparedLimits}. The time of the last use is that of the directory.
 */

import { createHash } from 'node:crypto'
import { existsSync, lstatSync, utimesSync } from 'node:fs'
import { mkdir, rename, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Once } from '../once.js'
import { namesIn, parseJson, readSmallFile, type StoreDisk, writeError } from './disk.js'
import { alone, aloneAtOnce, clearPlace, removeDirectory } from './layer-place.js'
import { bootId } from './layers.js'
import { type Lock, takeLock, tryLock } from './lock.js'

export interface PreparedState {
  /** Directories to mount, uppermost first: its own, if anything was written, and all below. */
  readonly layers: readonly string[]
  /** Bytes of its own files. */
  readonly sizeBytes: number
}

/** What whoever makes a state knows of it. */
export interface PreparedFacts {
  /** Directories that it stands on, uppermost first. */
  readonly below: readonly string[]
  /** Bytes of its own files. */
  readonly sizeBytes: number
}

/** What is told of each directory. */
export interface PreparedEntry {
  /** Its name: 64 hexadecimal digits. */
  readonly name: string
  readonly usedAt: Date
  /** 0 where nothing is known. */
  readonly sizeBytes: number
  /** It is whole, of this boot, and what it stands on is there. */
  readonly isUsable: boolean
}

/** When a state goes, unless it is in use. */
export interface PreparedLimits {
  /** Bytes of all; beyond that, those go that were not used for longest. */
  readonly bytes: number
  /** Milliseconds without a use. */
  readonly unusedMs: number
  /** Milliseconds after a use in which it does not go in any case: its container may just be about to start. */
  readonly graceMs: number
}

const LIMITS: PreparedLimits = { bytes: 2 * 1024 ** 3, unusedMs: 14 * 24 * 3600 * 1000, graceMs: 60_000 }

const TREE = 'tree'
/** Written last: it marks the state as whole. Whoever needs the state without having it mounted has a shared lock on this file. */
const MARKER = 'state.json'

export class PreparedStates {
  readonly #disk: StoreDisk
  readonly #limits: PreparedLimits
  readonly #making = new Once<PreparedState>()
  /** When this process last wrote down the use of a state, so that many starts write it once. By key. */
  readonly #touched = new Map<string, number>()

  constructor(disk: StoreDisk, limits: PreparedLimits = LIMITS) {
    this.#disk = disk
    this.#limits = limits
  }

  /** The state, or undefined when it is not there or not whole. Takes about 0.05 ms. */
  get(key: string): PreparedState | undefined {
    const name = nameOf(key)
    const state = this.#read(name)
    if (state) this.#touch(key, this.#directory(name))
    return state
  }

  /**
   * The state, made if it is not there: once, however many callers and processes ask for it at the same time. If making it fails, its callers in
   * this process share the error, and other processes try themselves.
   *
   * `make` gets a path where nothing is; it makes a directory there with `tree` in it, or nothing where nothing was written.
   */
  ensure(key: string, make: (target: string) => Promise<PreparedFacts>, signal?: AbortSignal): Promise<PreparedState> {
    const name = nameOf(key)
    const makeAlone = async () => {
      const present = this.get(key)
      if (present) return present
      const directory = this.#directory(name)
      await clearPlace(this.#disk, directory, name)
      const target = await this.#disk.temporary()
      try {
        await this.#place(target, directory, await make(target))
      } catch (error) {
        await this.#disk.discard(target)
        throw writeError(error, directory)
      }
      const made = this.get(key)
      if (!made) throw new Error(`The prepared state ${directory} vanished while it was made`)
      return made
    }
    return this.#making.run(
      key,
      async () => this.get(key),
      async () => {
        const made = await alone(this.#disk, `prepared-${name}`, makeAlone, signal)
        await this.#removeOld()
        return made
      },
      signal,
    )
  }

  /** Names of all directories, those of an earlier boot included. */
  async list(): Promise<string[]> {
    const entries = await namesIn(join(this.#disk.home, 'cache', 'prepared'))
    return entries.filter((name) => /^[0-9a-f]{64}$/.test(name))
  }

  /** What there is to know of one; undefined when it is not there. */
  async entry(name: string): Promise<PreparedEntry | undefined> {
    const found = await stat(this.#directory(name)).catch(() => undefined)
    if (!found) return undefined
    const state = this.#read(name)
    const sizeBytes = state?.sizeBytes ?? 0
    return Object.freeze({ name, usedAt: found.mtime, sizeBytes, isUsable: state !== undefined })
  }

  /**
   * Keeps those among these layers that are prepared states from going, until the session ends or what it resolves to is called. They must be
   * there: mounted, or used within the last seconds.
   */
  async hold(layers: readonly string[]): Promise<() => void> {
    const ours = join(this.#disk.home, 'cache', 'prepared')
    const trees = layers.filter((layer) => dirname(dirname(layer)) === ours)
    const take = async (tree: string): Promise<Lock> => {
      const lock = await takeLock(this.#disk.session, join(dirname(tree), MARKER), 'shared')
      lock.unref()
      return lock
    }
    const locks = await Promise.all(trees.map(take))
    return () => {
      for (const lock of locks) lock.release()
    }
  }

  /** Removes it, whole or not. Not when a container uses it. */
  remove(name: string, signal?: AbortSignal): Promise<'removed' | 'busy'> {
    return alone(this.#disk, `prepared-${name}`, () => this.#remove(name, signal), signal)
  }

  /** By key. */
  removeKey(key: string, signal?: AbortSignal): Promise<'removed' | 'busy'> {
    return this.remove(nameOf(key), signal)
  }

  async #place(target: string, directory: string, { below, sizeBytes }: PreparedFacts): Promise<void> {
    const isEmpty = !lstatSync(join(target, TREE), { throwIfNoEntry: false })
    if (isEmpty) await mkdir(target, { mode: 0o700 })
    const marker = { empty: isEmpty, below, sizeBytes, boot: bootId(), createdAt: new Date().toISOString() }
    await writeFile(join(target, MARKER), JSON.stringify(marker), { mode: 0o600 })
    await mkdir(dirname(directory), { recursive: true, mode: 0o700 })
    const now = new Date()
    utimesSync(target, now, now)
    await rename(target, directory)
  }

  #read(name: string): PreparedState | undefined {
    const directory = this.#directory(name)
    const marker = parseJson(readSmallFile(join(directory, MARKER)))
    if (!marker || marker.boot !== bootId() || !Array.isArray(marker.below)) return undefined
    const sizeBytes = marker.sizeBytes as number
    if (!Number.isSafeInteger(sizeBytes)) return undefined
    const layers = [...(marker.empty ? [] : [join(directory, TREE)]), ...(marker.below as string[])]
    if (!layers.every((layer) => existsSync(layer))) return undefined
    return Object.freeze({ layers: Object.freeze(layers), sizeBytes })
  }

  #touch(key: string, directory: string): void {
    const now = Date.now()
    // Twice within the grace, so that what is used again and again never looks unused.
    if (now - (this.#touched.get(key) ?? 0) < this.#limits.graceMs / 2) return
    this.#touched.set(key, now)
    try {
      utimesSync(directory, now / 1000, now / 1000)
    } catch {} // another user's store: whoever owns it sees to it
  }

  /** What fails here is nobody's failure: the next one that is made tries again. */
  async #removeOld(): Promise<void> {
    const { bytes, unusedMs, graceMs } = this.#limits
    const entries = (await Promise.all((await this.list()).map((name) => this.entry(name)))).filter(
      (entry) => entry !== undefined,
    )
    let total = entries.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
    const now = Date.now()
    for (const { name, usedAt, sizeBytes, isUsable } of entries.sort(
      (a, b) => a.usedAt.getTime() - b.usedAt.getTime(),
    )) {
      const ageMs = now - usedAt.getTime()
      if (ageMs < graceMs || (isUsable && ageMs < unusedMs && total <= bytes)) continue
      const remove = () => this.#remove(name)
      // Where somebody is at it, it is being made anew, or somebody else removes it.
      const outcome = await aloneAtOnce(this.#disk, `prepared-${name}`, remove).catch(() => undefined)
      if (outcome === 'removed') total -= sizeBytes
    }
  }

  async #remove(name: string, signal?: AbortSignal): Promise<'removed' | 'busy'> {
    const directory = this.#directory(name)
    if (!lstatSync(directory, { throwIfNoEntry: false })?.isDirectory()) return removeDirectory(this.#disk, directory)
    const lock = await tryLock(this.#disk.session, join(directory, MARKER), 'exclusive', signal)
    if (!lock) return 'busy'
    try {
      return await removeDirectory(this.#disk, directory)
    } finally {
      lock.release()
    }
  }

  #directory(name: string): string {
    return join(this.#disk.home, 'cache', 'prepared', name)
  }
}

function nameOf(key: string): string {
  return createHash('sha256').update(key).digest('hex')
}
