/**
 * What each COPY of a directory has made the last time: its layer, and the digests of the files in it. A file that is still the same
 * then gets another name of the one in that layer instead of being copied, which costs a tenth (native/same.c).
 *
 * It is not the cache: whether a step is done again is decided before. One file for each COPY of a context in `cache/digests`. It is only
 * a memory: lost or damaged, everything is copied.
 */

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDigest } from '../image/digest.js'
import { hasEscapes } from '../path-bytes.js'
import type { StoreDisk } from '../store/disk.js'
import type { Layer, Layers } from '../store/layers.js'

export interface LastCopy {
  /** The layer's files. */
  readonly tree: string
  /** Path in the layer → SHA-256 of the file, in hexadecimal. */
  readonly digests: ReadonlyMap<string, string>
}

/** With fewer, remembering costs more than it saves; and programs that look at a file's number of names (cron does) read single files. */
export const MIN_FILES = 200
const DIGEST_LENGTH = 64
/** Beyond it nothing is remembered. About a gigabyte of paths would be too much. */
const MAX_FILES = 500_000

export class LastCopies {
  readonly #disk: StoreDisk
  readonly #layers: Layers

  constructor(disk: StoreDisk, layers: Layers) {
    this.#disk = disk
    this.#layers = layers
  }

  /** `directory`: the context. `text`: the instruction and all that decides which name a file gets. */
  key(directory: string, text: string): string {
    return createHash('sha256').update(`${directory}\0${text}`).digest('hex')
  }

  /** Undefined when it is not known, or the layer is not there any more. */
  async get(key: string): Promise<LastCopy | undefined> {
    const text = await readFile(this.#path(key), 'utf8').catch(() => '')
    const [chainId = '', ...entries] = text.split('\0')
    const layer = isDigest(chainId) ? await this.#layers.get(chainId) : undefined
    if (!layer) return undefined
    const digests = new Map<string, string>()
    for (const entry of entries) digests.set(entry.slice(DIGEST_LENGTH), entry.slice(0, DIGEST_LENGTH))
    return { tree: layer.tree, digests }
  }

  async set(key: string, layer: Layer, digests: ReadonlyMap<string, string>): Promise<void> {
    if (digests.size > MAX_FILES) return
    let text = layer.chainId
    for (const [path, digest] of digests) if (!hasEscapes(path)) text += `\0${digest}${path}`
    await this.#disk.replaceFile(this.#path(key), text).catch(() => {}) // only a memory
  }

  #path(key: string): string {
    return join(this.#disk.home, 'cache', 'digests', `copy-${key}`)
  }
}
