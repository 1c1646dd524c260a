/**
 * Images: a config, the layers it names, and what it is called here. As with Docker, an image's id is the digest of its config.
 *
 * `images/<hex>.json` says that the image is here, so that one without a name exists too; names are in `refs/`. It is written after
 * everything it needs and removed first, so what has a record was whole once.
 */

import { unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { MayflyError } from '../errors.js'
import { type ImageConfig, MAX_CONFIG_BYTES, parseConfig } from '../image/config.js'
import { isDigest, splitDigest } from '../image/digest.js'
import { digestOfBytes } from '../image/digest-of.js'
import { invalidImage } from '../image/document.js'
import { chainIds, parseManifest } from '../image/manifest.js'
import { familiarReference, formatReference, type ImageReference, parseReference } from '../image/reference.js'
import type { Blobs } from './blobs.js'
import { isAbsent, namesIn, parseJson, readSmallFile, type StoreDisk } from './disk.js'
import type { Layer, Layers } from './layers.js'
import { type NamedImage, References } from './references.js'
import { planRemoval, type RemovedImage, type RemoveOptions } from './remove.js'
import type { Writing } from './writing.js'

export interface StoredImage {
  /** Digest of the config. */
  readonly id: string
  readonly config: ImageConfig
  /** Digest of the manifest it came with or was pushed with; its bytes are among the blobs. */
  readonly manifest: string | undefined
  /** Canonical names with a tag: `docker.io/library/postgres:16`. */
  readonly references: readonly string[]
  /** Canonical names with the digest of the manifest or index they were pulled by. */
  readonly digests: readonly string[]
  /** Lowest first. */
  readonly layers: readonly Layer[]
  /** chainIDs of layers that are gone or damaged: none, except where `incomplete` was asked for. */
  readonly missing: readonly string[]
  /** All layers together. */
  readonly sizeBytes: number
  /** As the config says, else when it came here. */
  readonly createdAt: Date
  /** When it came here. */
  readonly addedAt: Date
}

export interface PutImage {
  /** Exactly these bytes are kept; their digest is the id. */
  readonly config: Uint8Array
  /** The manifest of it, where there is one. */
  readonly manifest?: Uint8Array
  /** Names it gets, in any form. Whatever they meant before keeps its other names. */
  readonly references: readonly string[]
  /** Whether it survives a power cut once this resolves; without, it may be gone and must be made again. @default true */
  readonly durable?: boolean
}

export interface FindOptions {
  /** Also one that lacks layers: to list or to remove it, not to use it. @default false */
  readonly incomplete?: boolean
}

interface ImageRecord {
  readonly manifest?: string
  readonly addedAt: string
}

export class Images {
  readonly #disk: StoreDisk
  readonly #blobs: Blobs
  readonly #layers: Layers
  readonly #writing: Writing
  readonly #references: References
  readonly #sweep: (layers: readonly string[]) => Promise<readonly string[]>

  constructor(
    disk: StoreDisk,
    blobs: Blobs,
    layers: Layers,
    writing: Writing,
    /** Removes those of these layers that nothing needs, and tells which. */
    sweep: (layers: readonly string[]) => Promise<readonly string[]>,
  ) {
    this.#disk = disk
    this.#blobs = blobs
    this.#layers = layers
    this.#writing = writing
    this.#references = new References(disk)
    this.#sweep = sweep
  }

  /**
   * Keeps an image whose layers are in the store already, and names it. Idempotent.
   *
   * Throws IMAGE_INVALID for config or manifest, or when the two do not belong together; LAYER_DAMAGED when a layer is not
   * there; INVALID_REFERENCE.
   */
  async put(image: PutImage, signal?: AbortSignal): Promise<StoredImage> {
    const references = image.references.map(parseReference)
    const config = parseConfig(image.config)
    const id = digestOfBytes(image.config)
    const diffIds = config.rootfs.diff_ids
    if (image.manifest) checkManifest(image.manifest, image.config, diffIds.length)
    return this.#writing.run(signal, async () => {
      for (const chainId of chainIds(diffIds)) {
        if (await this.#layers.get(chainId)) continue
        throw new MayflyError('LAYER_DAMAGED', `Image ${id} needs layer ${chainId}, which is not in the store`, {
          digest: chainId,
          path: this.#layers.directory(chainId),
        })
      }
      if (image.durable ?? true) await this.#layers.flush(chainIds(diffIds), signal)
      await this.#blobs.put(image.config)
      const known = this.#record(id)
      const manifest = image.manifest ? (await this.#blobs.put(image.manifest)).digest : known?.manifest
      const record: ImageRecord = {
        ...(manifest === undefined ? {} : { manifest }),
        addedAt: known?.addedAt ?? new Date().toISOString(),
      }
      await this.#disk.replaceFile(this.#recordPath(id), JSON.stringify(record), image.durable ?? true)
      for (const reference of references) await this.#references.set(reference, id)
      return (await this.get(id))!
    })
  }

  /**
   * The image that a text means: a name in any form, an id with or without `sha256:`, or the beginning of an id. As with Docker, names
   * come before ids. Undefined when there is none, or when it lacks layers.
   *
   * Throws IMAGE_AMBIGUOUS for the beginning of several ids, INVALID_REFERENCE for what cannot be either.
   */
  async resolve(text: string, options: FindOptions = {}): Promise<StoredImage | undefined> {
    const id = await this.#idOf(text)
    return id === undefined ? undefined : this.get(id, options)
  }

  /** The image with this id. */
  async get(id: string, options: FindOptions = {}): Promise<StoredImage | undefined> {
    return this.#load(id, options, () => this.#references.all())
  }

  /** The id that a name has at this moment, without looking at the image: for starts, which must not wait. */
  idNow(reference: ImageReference): string | undefined {
    return this.#references.get(reference)
  }

  /** All images, the newest first. */
  async list(options: FindOptions = {}): Promise<StoredImage[]> {
    const names = this.#references.all()
    const images = await Promise.all((await this.ids()).map((id) => this.#load(id, options, () => names)))
    return images
      .filter((image) => image !== undefined)
      .sort((a, b) => b.createdAt.getTime() - a.createdAt.getTime() || (a.id < b.id ? -1 : 1))
  }

  /** Ids of all that have a record, whole or not. */
  async ids(): Promise<string[]> {
    const entries = await namesIn(join(this.#disk.home, 'images'))
    return entries.flatMap((entry) => /^([0-9a-f]{64})\.json$/.exec(entry)?.[1] ?? []).map((hex) => `sha256:${hex}`)
  }

  /** All names and what they mean. */
  names(): readonly NamedImage[] {
    return this.#references.all()
  }

  /** Paths of names that mean nothing: torn, or of an image that is not here. Removes them unless it is only to be told. */
  async removeDeadNames(dryRun = false): Promise<readonly string[]> {
    return this.#references.removeDead(new Set(await this.ids()), dryRun)
  }

  /** Gives an image a further name, taking it from whichever had it. Throws IMAGE_NOT_FOUND. */
  async tag(id: string, reference: string): Promise<void> {
    const parsed = parseReference(reference)
    await this.#writing.run(undefined, async () => {
      if (!this.#record(id)) throw imageNotFound(id)
      await this.#references.set(parsed, id)
    })
  }

  /** Takes a name away; the image stays. Returns whether there was one. */
  async untag(reference: string): Promise<boolean> {
    const parsed = parseReference(reference)
    const id = this.#references.get(parsed)
    await this.#references.remove(parsed)
    return id !== undefined
  }

  /**
   * As `docker rmi`. Layers that nothing needs any more go with the image; while something is being written to the store they
   * stay for the next `prune`.
   *
   * Throws IMAGE_NOT_FOUND and IMAGE_IN_USE.
   */
  async remove(text: string, options: RemoveOptions = {}): Promise<RemovedImage> {
    const image = await this.resolve(text, { incomplete: true })
    if (!image) throw imageNotFound(text)
    const names = this.#references.all().filter(({ id }) => id === image.id)
    const { untag, forget } = planRemoval(image, names, text, options)
    for (const reference of untag) await this.#references.remove(reference)
    if (forget) await this.forget(image.id)
    const layers = forget ? await this.#sweep(chainIds(image.config.rootfs.diff_ids)) : []
    return { untagged: untag.map(familiarReference), deleted: forget ? [image.id, ...layers] : [] }
  }

  /** Forgets the image and its names. What it consisted of stays until it is swept. */
  async forget(id: string): Promise<void> {
    for (const { reference } of this.#references.all().filter((name) => name.id === id)) {
      await this.#references.remove(reference)
    }
    await unlink(this.#recordPath(id)).catch((error) => {
      if (!isAbsent(error)) throw error
    })
  }

  /** Images that have all layers of this one and more upon them. */
  async children(id: string): Promise<StoredImage[]> {
    const images = await this.list({ incomplete: true })
    const below = images.find((image) => image.id === id)?.config.rootfs.diff_ids ?? []
    if (below.length === 0) return []
    return images.filter(({ config: { rootfs } }) => {
      const own = rootfs.diff_ids
      return own.length > below.length && below.every((diffId, index) => own[index] === diffId)
    })
  }

  async #idOf(text: string): Promise<string | undefined> {
    if (isDigest(text)) return text
    if (/^[0-9a-f]{64}$/.test(text)) return `sha256:${text}`
    const prefix = /^(?:sha256:)?([0-9a-f]{1,63})$/.exec(text)?.[1]
    let reference: ImageReference | undefined
    try {
      reference = parseReference(text)
    } catch (error) {
      if (prefix === undefined) throw error
    }
    const named = reference && (this.#references.get(reference) ?? this.#byManifest(reference))
    if (named !== undefined || prefix === undefined) return named
    const ids = (await this.ids()).filter((id) => id.startsWith(`sha256:${prefix}`))
    if (ids.length > 1) {
      const some = ids.slice(0, 4).map((id) => id.slice(0, 'sha256:'.length + Math.max(prefix.length + 4, 12)))
      throw new MayflyError(
        'IMAGE_AMBIGUOUS',
        `${ids.length} images have an id that begins with ${prefix}: ${some.join(', ')}`,
        {
          field: 'image',
          value: text,
          hint: 'give more digits of the id',
        },
      )
    }
    return ids[0]
  }

  /** `app@sha256:…` also means the image built here whose manifest has that digest, if it is called `app` at all. */
  #byManifest({ registry, repository, digest }: ImageReference): string | undefined {
    if (digest === undefined) return undefined
    for (const { reference, id } of this.#references.all()) {
      if (reference.registry !== registry || reference.repository !== repository) continue
      if (id === digest || this.#record(id)?.manifest === digest) return id
    }
    return undefined
  }

  async #load(id: string, options: FindOptions, names: () => NamedImage[]): Promise<StoredImage | undefined> {
    const record = this.#record(id)
    if (!record) return undefined
    let config: ImageConfig
    try {
      config = parseConfig(await this.#blobs.read(id, MAX_CONFIG_BYTES))
    } catch (error) {
      if (!(error instanceof MayflyError)) throw error
      this.#disk.damaged(
        new MayflyError('STORE_DAMAGED', `Image ${id} cannot be used: ${error.message.split('\n')[0]}`, {
          digest: id,
          path: this.#blobs.path(id),
          hint: 'it counts as absent; pull or build it again',
        }),
      )
      return undefined
    }
    const chain = chainIds(config.rootfs.diff_ids)
    const found = await Promise.all(chain.map((chainId) => this.#layers.get(chainId)))
    const layers = found.filter((layer) => layer !== undefined)
    const missing = chain.filter((_, index) => !found[index])
    if (missing.length > 0 && !options.incomplete) return undefined
    const own = lazily(() => names().filter((name) => name.id === id))
    const addedAt = new Date(record.addedAt)
    return {
      id,
      config,
      manifest: record.manifest,
      // Going through all names takes longer than everything else here, and starting a container needs none of them.
      get references() {
        return own().flatMap(({ reference }) => (reference.digest ? [] : [formatReference(reference)]))
      },
      get digests() {
        return own().flatMap(({ reference }) => (reference.digest ? [formatReference(reference)] : []))
      },
      layers,
      missing,
      sizeBytes: layers.reduce((sum, layer) => sum + layer.sizeBytes, 0),
      createdAt: dateOf(config.created) ?? addedAt,
      addedAt,
    }
  }

  #recordPath(id: string): string {
    return join(this.#disk.home, 'images', `${splitDigest(id).hex}.json`)
  }

  #record(id: string): ImageRecord | undefined {
    if (!isDigest(id) || !id.startsWith('sha256:')) return undefined
    const path = this.#recordPath(id)
    const text = readSmallFile(path)
    if (text === undefined) return undefined
    const record = parseJson(text)
    if (record && isRecord(record)) return record
    this.#disk.damaged(
      new MayflyError('STORE_DAMAGED', `The record of image ${id} in ${path} cannot be read`, {
        digest: id,
        path,
        hint: 'it counts as absent; pull or build the image again',
      }),
    )
    return undefined
  }
}

export function imageNotFound(text: string): MayflyError {
  const hint = '`mayfly images` lists those that are; others are to be pulled, built, loaded or bootstrapped first'
  return new MayflyError('IMAGE_NOT_FOUND', `There is no image ${text} here`, { field: 'image', value: text, hint })
}

function isRecord(value: Record<string, unknown>): value is Record<string, unknown> & ImageRecord {
  const { manifest, addedAt } = value
  return (manifest === undefined || isDigest(manifest)) && typeof addedAt === 'string' && dateOf(addedAt) !== undefined
}

/** A manifest that belongs to other layers would be pushed as something else than what runs here. */
function checkManifest(bytes: Uint8Array, config: Uint8Array, layers: number): void {
  const manifest = parseManifest(bytes)
  if (manifest.kind === 'index') throw invalidImage('An index is not the manifest of one image', 'manifests')
  const { algorithm } = splitDigest(manifest.config.digest)
  const digest = digestOfBytes(config, algorithm)
  if (manifest.config.digest !== digest) {
    throw invalidImage(
      `The manifest is of config ${manifest.config.digest}, not of ${digest}`,
      'config.digest',
      manifest.config.digest,
    )
  }
  if (manifest.layers.length !== layers) {
    throw invalidImage(
      `The manifest has ${manifest.layers.length} layers, the image config ${layers}`,
      'layers',
      manifest.layers.length,
    )
  }
}

function dateOf(text: string | undefined): Date | undefined {
  const date = new Date(text ?? '')
  return Number.isNaN(date.getTime()) ? undefined : date
}

function lazily<T>(make: () => T): () => T {
  let value: { readonly made: T } | undefined
  return () => {
    value ??= { made: make() }
    return value.made
  }
}
