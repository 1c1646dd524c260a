/** Tars that serve as root file systems, unpacked once: `layers/tar-<hex>/`, named by the digest of the file as it is. */

import { lstat, mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Once } from '../once.js'
import { namesIn, parseJson, readSmallFile, type StoreDisk, writeError } from './disk.js'
import { alone, clearPlace, layerDamage, removeDirectory } from './layer-place.js'

export interface TarTree {
  /** The directory to mount. */
  readonly tree: string
  readonly sizeBytes: number
  readonly createdAt: Date
}

/** The tree's top belongs to whom the archive says, so it is not the directory that we rename. */
const TREE = 'tree'
/** Written last: it marks the tree as whole. */
const MARKER = 'layer.json'

export class TarTrees {
  readonly #disk: StoreDisk
  readonly #unpacking = new Once<TarTree>()

  constructor(disk: StoreDisk) {
    this.#disk = disk
  }

  /** The tree, or undefined when it is not there or not whole; damage is told. */
  async get(hex: string): Promise<TarTree | undefined> {
    const directory = this.#directory(hex)
    const marker = parseJson(readSmallFile(join(directory, MARKER)))
    const tree = join(directory, TREE)
    const found = await lstat(tree).catch(() => undefined)
    if (marker?.tar === hex && Number.isSafeInteger(marker.sizeBytes) && found?.isDirectory()) {
      return { tree, sizeBytes: marker.sizeBytes as number, createdAt: new Date(String(marker.createdAt)) }
    }
    const exists = await lstat(directory).catch(() => undefined)
    if (exists) this.#disk.damaged(layerDamage(directory, `sha256:${hex}`, 'it is not complete'))
    return undefined
  }

  /**
   * The tree, unpacked if it is not there: once, however many callers and processes ask. `unpack` gets a directory that exists and is
   * empty, and makes `tree` in it. Flushing is its business: a tar can always be unpacked again, but nobody would notice.
   */
  ensure(
    hex: string,
    unpack: (temporary: string) => Promise<{ readonly sizeBytes: number }>,
    signal?: AbortSignal,
  ): Promise<TarTree> {
    const directory = this.#directory(hex)
    const make = async () => {
      const present = await this.get(hex)
      if (present) return present
      await clearPlace(this.#disk, directory, `sha256:${hex}`)
      const temporary = await this.#disk.temporary()
      try {
        await mkdir(temporary, { mode: 0o700 })
        const { sizeBytes } = await unpack(temporary)
        const marker = JSON.stringify({ tar: hex, sizeBytes, createdAt: new Date().toISOString() })
        await writeFile(join(temporary, MARKER), marker, { mode: 0o600 })
        await rename(temporary, directory)
        return (await this.get(hex))!
      } catch (error) {
        await this.#disk.discard(temporary)
        throw writeError(error, directory)
      }
    }
    return this.#unpacking.run(
      hex,
      () => this.get(hex),
      () => alone(this.#disk, `tar-${hex}`, make, signal),
      signal,
    )
  }

  /** Removes it, whole or not. Not when it is in use. */
  remove(hex: string, signal?: AbortSignal): Promise<'removed' | 'busy'> {
    return alone(this.#disk, `tar-${hex}`, () => removeDirectory(this.#disk, this.#directory(hex)), signal)
  }

  /** Digests of all, damaged ones included. */
  async list(): Promise<string[]> {
    const entries = await namesIn(join(this.#disk.home, 'layers'))
    return entries.flatMap((name) => /^tar-([0-9a-f]{64})$/.exec(name)?.[1] ?? [])
  }

  #directory(hex: string): string {
    return join(this.#disk.home, 'layers', `tar-${hex}`)
  }
}
