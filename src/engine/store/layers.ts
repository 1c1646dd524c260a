/**
 * Unpacked layers: `layers/<chainID>/` with the tree in `tree` and what is known of it in `layer.json`.
 *
 * Complete or absent: made in the session's directory and renamed. `layer.json` is written last, so it marks a layer as whole.
 *
 * Flushing a layer takes longer than many a build step, so it can be left for later: such a layer names the boot it was made in,
 * and counts as absent after the next one, when a power cut may have torn it. `flush` settles that for several at once.
 */

import { lstatSync, readFileSync } from 'node:fs'
import { lstat, mkdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { MayflyError } from '../errors.js'
import { isDigest, splitDigest } from '../image/digest.js'
import { chainId as chainIdOf, chainIds, type Descriptor } from '../image/manifest.js'
import { Once } from '../once.js'
import { namesIn, parseJson, readSmallFile, type StoreDisk, writeError } from './disk.js'
import { digestLayer, unpackLayer } from './layer-archive.js'
import { alone, clearPlace, layerDamage, removeDirectory } from './layer-place.js'

export interface Layer {
  /** What it is together with all below it: its name in the store. */
  readonly chainId: string
  /** Digest of its uncompressed archive. */
  readonly diffId: string
  /** chainID of the one below. */
  readonly parent: string | undefined
  /** The directory to mount. */
  readonly tree: string
  /** Bytes of its files. */
  readonly sizeBytes: number
  readonly createdAt: Date
  /** Compressed forms that it came in, whether their blobs are still here or not. */
  readonly blobs: readonly Descriptor[]
  /** `packed`: the diffID is of the archive that we make of the tree. `unpacked`: of an archive that came from elsewhere. */
  readonly origin: 'packed' | 'unpacked'
}

/** What whoever makes a layer knows of it. */
export interface LayerFacts {
  readonly diffId: string
  readonly parent: string | undefined
  readonly sizeBytes: number
  readonly blobs?: readonly Descriptor[]
  readonly origin: 'packed' | 'unpacked'
  /** Its files are on the disk, safe from a power cut. @default false */
  readonly flushed?: boolean
}

/** `layer.json`. */
interface Marker {
  readonly chainId: string
  readonly diffId: string
  readonly parent?: string
  readonly sizeBytes: number
  readonly createdAt: string
  readonly blobs: readonly Descriptor[]
  readonly origin: 'packed' | 'unpacked'
  /** Boot in which it was made, while it was not flushed. */
  readonly boot?: string
  /** Digest of our archive of the tree, as first verified; for unpacked ones. */
  readonly treeDigest?: string
}

/** What `verify` found: `recorded` where there was nothing yet to compare with. */
export type LayerVerdict = 'whole' | 'recorded'

const TREE = 'tree'
const MARKER = 'layer.json'
/** The end of an archive: what an archive of nothing consists of. */
const EMPTY_ARCHIVE = new Uint8Array(1024)

export class Layers {
  readonly #disk: StoreDisk
  readonly #making = new Once<Layer>()

  constructor(disk: StoreDisk) {
    this.#disk = disk
  }

  /** The directory of a layer, `tree` included once it is whole. */
  directory(chainId: string): string {
    return join(this.#disk.home, 'layers', splitDigest(chainId).hex)
  }

  /** The layer, or undefined when it is not there or not whole; damage is told. Nothing but its existence is checked. */
  async get(chainId: string): Promise<Layer | undefined> {
    const directory = this.directory(chainId)
    const marker = this.#marker(chainId)
    if (!marker) return undefined
    const tree = join(directory, TREE)
    if (!lstatSync(tree, { throwIfNoEntry: false })?.isDirectory()) {
      this.#damaged(chainId, 'its tree is missing')
      return undefined
    }
    const { boot: _boot, treeDigest: _treeDigest, createdAt, ...facts } = marker
    return Object.freeze({ ...facts, parent: marker.parent, tree, createdAt: new Date(createdAt) })
  }

  /** The layers of an image, lowest first; undefined when one is not there. */
  async chain(diffIds: readonly string[]): Promise<Layer[] | undefined> {
    const layers = await Promise.all(chainIds(diffIds).map((chainId) => this.get(chainId)))
    return layers.every((layer) => layer !== undefined) ? layers : undefined
  }

  /**
   * The layer, made if it is not there: once, however many callers and processes ask for it at the same time. The others
   * wait and get what the first one made; if it fails, its callers in this process share the error, and other processes try themselves.
   *
   * `make` gets a directory that exists and is empty, makes `tree` in it and returns the facts; its signal is the one given
   * here. Throws what `make` throws, DIGEST_MISMATCH when it made another layer, LAYER_DAMAGED when a damaged one is in use.
   */
  ensure(chainId: string, make: (temporary: string) => Promise<LayerFacts>, signal?: AbortSignal): Promise<Layer> {
    return this.#making.run(
      chainId,
      () => this.get(chainId),
      () =>
        this.#locked(
          chainId,
          async () => {
            const present = await this.get(chainId)
            if (present) return present
            await this.#clear(chainId)
            const temporary = await this.#disk.temporary()
            try {
              await mkdir(temporary, { mode: 0o700 })
              return await this.#place(chainId, temporary, await make(temporary))
            } catch (error) {
              await this.#disk.discard(temporary)
              throw writeError(error, this.directory(chainId))
            }
          },
          signal,
        ),
      signal,
    )
  }

  /**
   * Takes in a directory with `tree` in it, which must lie on the store's disk, by a rename. Where an equal layer is there
   * already, that one is used and the directory is removed.
   */
  adopt(directory: string, facts: LayerFacts, signal?: AbortSignal): Promise<Layer> {
    const chainId = chainIdOf(facts.parent, facts.diffId)
    return this.#locked(
      chainId,
      async () => {
        const present = await this.get(chainId)
        if (present) {
          await this.#disk.discard(directory)
          return present
        }
        await this.#clear(chainId)
        return this.#place(chainId, directory, facts)
      },
      signal,
    )
  }

  /** Remembers another compressed form. Nothing happens when it is known, or the layer is not there. */
  async addBlob(chainId: string, blob: Descriptor, signal?: AbortSignal): Promise<void> {
    await this.#locked(
      chainId,
      async () => {
        const marker = this.#marker(chainId)
        if (!marker || marker.blobs.some(({ digest }) => digest === blob.digest)) return
        await this.#write(chainId, { ...marker, blobs: [...marker.blobs, blob] })
      },
      signal,
    )
  }

  /** Makes sure that these layers survive a power cut. At once when they do already. */
  async flush(chain: readonly string[], signal?: AbortSignal): Promise<void> {
    const pending = chain.filter((chainId) => this.#marker(chainId)?.boot !== undefined)
    if (pending.length === 0) return
    const temporary = await this.#disk.temporary()
    try {
      await mkdir(temporary, { mode: 0o700 })
      // Node has no syncfs(2). The warden calls it after it has unpacked, be it nothing.
      await unpackLayer(this.#disk.session, join(temporary, TREE), EMPTY_ARCHIVE, { layer: false, sync: true }, signal)
    } finally {
      await this.#disk.discard(temporary)
    }
    for (const chainId of pending) {
      await this.#locked(
        chainId,
        async () => {
          const marker = this.#marker(chainId)
          if (!marker) return
          const { boot: _boot, ...flushed } = marker
          await this.#write(chainId, flushed)
        },
        signal,
      )
    }
  }

  /**
   * Reads the whole tree and compares. Throws LAYER_DAMAGED; it is then removed unless a container uses it.
   *
   * An unpacked layer came in an archive that cannot be made again from its tree, so the first time records what is there
   * and later ones compare with that.
   */
  async verify(chainId: string, signal?: AbortSignal): Promise<LayerVerdict | undefined> {
    const layer = await this.get(chainId)
    const marker = layer && this.#marker(chainId)
    if (!marker) return undefined
    const expected = layer.origin === 'packed' ? layer.diffId : marker.treeDigest
    const { digest } = await digestLayer(this.#disk.session, { tree: layer.tree }, signal)
    if (expected === undefined) {
      await this.#locked(chainId, () => this.#write(chainId, { ...marker, treeDigest: digest }), signal)
      return 'recorded'
    }
    if (digest === expected) return 'whole'
    const error = this.#damaged(chainId, `its files have changed (digest ${digest}, not ${expected})`)
    await this.remove(chainId, signal)
    throw error
  }

  /** Removes it, whole or not. Not when it is in use. */
  remove(chainId: string, signal?: AbortSignal): Promise<'removed' | 'busy'> {
    return this.#locked(chainId, () => removeDirectory(this.#disk, this.directory(chainId)), signal)
  }

  /** chainIDs of all directories, damaged ones included. */
  async list(): Promise<string[]> {
    const entries = await namesIn(join(this.#disk.home, 'layers'))
    return entries.map((name) => `sha256:${name}`).filter(isDigest)
  }

  /**
   * The marker if it is one of this layer; an old boot's is none. Synchronous: a start looks at each layer of its image, a
   * build at each of its steps, and through node's thread pool a small file takes 0.1 to 0.4 ms instead of 0.01.
   */
  #marker(chainId: string): Marker | undefined {
    const directory = this.directory(chainId)
    const text = readSmallFile(join(directory, MARKER))
    if (text === undefined) {
      const exists = lstatSync(directory, { throwIfNoEntry: false })
      if (exists) this.#damaged(chainId, `it has no ${MARKER}`)
      return undefined
    }
    const marker = parseJson(text)
    if (!marker || !isMarker(marker) || marker.chainId !== chainId) {
      this.#damaged(chainId, `its ${MARKER} does not describe this layer`)
      return undefined
    }
    if (marker.boot !== undefined && marker.boot !== bootId()) {
      this.#damaged(chainId, 'it was not yet flushed when the machine went down')
      return undefined
    }
    return marker
  }

  /** Completes a directory and gives it its name. The directory is gone afterwards if this succeeds. */
  async #place(chainId: string, directory: string, facts: LayerFacts): Promise<Layer> {
    const { diffId, parent, sizeBytes, blobs = [], origin, flushed = false } = facts
    const made = chainIdOf(parent, diffId)
    if (made !== chainId) {
      throw new MayflyError(
        'DIGEST_MISMATCH',
        `The layer that was made is ${made} (diffID ${diffId}), not ${chainId}`,
        { digest: chainId, value: made },
      )
    }
    const found = await lstat(join(directory, TREE)).catch(() => undefined)
    if (!found?.isDirectory()) throw new TypeError(`Whoever makes a layer must make ${TREE} in ${directory}`)
    const marker: Marker = {
      chainId,
      diffId,
      ...(parent === undefined ? {} : { parent }),
      sizeBytes,
      createdAt: new Date().toISOString(),
      blobs,
      origin,
      ...(flushed ? {} : { boot: bootId() }),
    }
    await this.#disk.replaceFile(join(directory, MARKER), JSON.stringify(marker), flushed)
    await rename(directory, this.directory(chainId))
    return (await this.get(chainId))!
  }

  #write(chainId: string, marker: Marker): Promise<void> {
    const isFlushed = marker.boot === undefined
    return this.#disk.replaceFile(join(this.directory(chainId), MARKER), JSON.stringify(marker), isFlushed)
  }

  /** Takes away what lies in the place of a layer without being one. */
  async #clear(chainId: string): Promise<void> {
    await clearPlace(this.#disk, this.directory(chainId), chainId)
  }

  #damaged(chainId: string, why: string): MayflyError {
    const error = layerDamage(this.directory(chainId), chainId, why)
    this.#disk.damaged(error)
    return error
  }

  #locked<T>(chainId: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return alone(this.#disk, splitDigest(chainId).hex, work, signal)
  }
}

function isMarker(value: Record<string, unknown>): value is Record<string, unknown> & Marker {
  return (
    isDigest(value.diffId) &&
    (value.parent === undefined || isDigest(value.parent)) &&
    value.chainId === chainIdOf(value.parent as string | undefined, value.diffId) &&
    Number.isSafeInteger(value.sizeBytes) &&
    typeof value.createdAt === 'string' &&
    Array.isArray(value.blobs) &&
    (value.origin === 'packed' || value.origin === 'unpacked') &&
    (value.boot === undefined || typeof value.boot === 'string') &&
    (value.treeDigest === undefined || isDigest(value.treeDigest))
  )
}

let boot: string | undefined

/** Names the time since the machine was started. Where the kernel does not tell, every process is a boot of its own: safe. */
export function bootId(): string {
  try {
    boot ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    boot = `${process.pid}-${Date.now()}`
  }
  return boot
}
