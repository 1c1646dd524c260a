/**
 * The build cache: from the key of a step to the layer that it made.
 *
 * A key is a digest of all that a step's result depends on: the chainID of the layers below it, what it executes and the contents
 * it reads. So a key names content, never a place in a Dockerfile, and a step that follows a changed one is still found when the change
 * made no difference. What only changes the image's config (CMD, LABEL, HEALTHCHECK, ONBUILD…) makes no layer and has no key: the
 * config is computed anew for every build, so nothing of it can come from somebody else's cache (CVE-2024-24557).
 *
 * Entries are small files `cache/build/<key>`, replaced atomically. An entry whose layer is gone counts as absent.
 */

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Session } from '../session.js'
import type { StoreDisk } from '../store/disk.js'
import type { Layer, Layers } from '../store/layers.js'
import { withLock } from '../store/lock.js'

/** What a step has made. */
export interface StepResult {
  /** undefined: it changed nothing. */
  readonly layer: Layer | undefined
  readonly createdAt: Date
}

/** Anything that JSON can say; objects in the order in which they were made. */
export type KeyPart =
  | string
  | number
  | boolean
  | null
  | undefined
  | readonly KeyPart[]
  | { readonly [key: string]: KeyPart }

/** Changes when the meaning of entries or keys does. */
const VERSION = 1

/** The key for all that a result depends on. 64 hexadecimal digits. */
export function cacheKey(kind: string, part: KeyPart): string {
  return createHash('sha256')
    .update(JSON.stringify([VERSION, kind, part]))
    .digest('hex')
}

interface Entry {
  readonly version: number
  /** chainID, or null where nothing was changed. */
  readonly layer: string | null
  readonly createdAt: string
}

export class BuildCache {
  readonly #session: Session
  readonly #disk: StoreDisk
  readonly #layers: Layers
  readonly #directory: string

  constructor(session: Session, disk: StoreDisk, layers: Layers) {
    this.#session = session
    this.#disk = disk
    this.#layers = layers
    this.#directory = join(disk.home, 'cache', 'build')
  }

  /** What a step with this key has made; undefined when that is not known or not there any more. */
  async get(key: string): Promise<StepResult | undefined> {
    const entry = this.#read(key)
    if (!entry) return undefined
    const createdAt = new Date(entry.createdAt)
    if (entry.layer === null) return { layer: undefined, createdAt }
    const layer = await this.#layers.get(entry.layer)
    return layer && { layer, createdAt }
  }

  async set(key: string, { layer, createdAt }: StepResult): Promise<void> {
    const entry: Entry = { version: VERSION, layer: layer?.chainId ?? null, createdAt: createdAt.toISOString() }
    await this.#disk.replaceFile(join(this.#directory, key), JSON.stringify(entry))
  }

  /** Does the work that a key stands for with nobody else at it, in this process or another. */
  async alone<T>(key: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const path = join(this.#disk.home, 'locks', `step-${key}`)
    const locked = async () => {
      try {
        return await work()
      } finally {
        await unlink(path).catch(() => {}) // by its holder: whoever waits finds that out and makes a new one
      }
    }
    await mkdir(join(this.#disk.home, 'locks'), { recursive: true, mode: 0o700 })
    return withLock(this.#session, path, 'exclusive', locked, signal)
  }

  /** Read at once: a build of twenty cached steps waits for nothing else, and the files are small. */
  #read(key: string): Entry | undefined {
    try {
      const entry = JSON.parse(readFileSync(join(this.#directory, key), 'utf8')) as Partial<Entry>
      const isSound =
        entry.version === VERSION &&
        (entry.layer === null || /^sha256:[0-9a-f]{64}$/.test(String(entry.layer))) &&
        !Number.isNaN(Date.parse(String(entry.createdAt)))
      return isSound ? (entry as Entry) : undefined
    } catch {
      return undefined // absent, or torn by a power cut
    }
  }
}
