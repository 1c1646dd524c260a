/**
 * Pushes an image. What the registry has is not sent, what another of its repositories has is mounted from there, and an image
 * that was pulled keeps its manifest, and so its digest, as long as its layers' compressed forms can be had.
 */

import { MayflyError } from '../errors.js'
import { MAX_CONFIG_BYTES } from '../image/config.js'
import { type Descriptor, MAX_MANIFEST_BYTES, type Manifest, parseManifest } from '../image/manifest.js'
import {
  DOCKER_CONFIG,
  DOCKER_LAYER_GZIP,
  DOCKER_MANIFEST,
  OCI_CONFIG,
  OCI_LAYER_GZIP,
  OCI_MANIFEST,
} from '../image/media-types.js'
import { familiarReference, formatReference, type ImageReference, parseReference } from '../image/reference.js'
import { Slots } from '../slots.js'
import type { StoredImage } from '../store/images.js'
import type { Layer } from '../store/layers.js'
import { RegistryClient } from './client.js'
import { compressLayer } from './compress.js'
import { fail, type Purpose } from './failure.js'
import { LayerProgress, type LayerStatus } from './progress.js'
import type { RegistryContext, TransferOptions } from './pull.js'
import { Transport } from './transport.js'

export interface PushResult {
  /** Of the manifest, by which the registry knows the image now. */
  readonly digest: string
  /** Bytes of the manifest. */
  readonly sizeBytes: number
  /** Such as `localhost:5000/app@sha256:…`. */
  readonly reference: string
}

const BLOBS_AT_ONCE = 3

/**
 * Pushes the image with this name to the registry that the name says.
 *
 * Throws IMAGE_NOT_FOUND, INVALID_REFERENCE, the REGISTRY_ codes, BLOB_DAMAGED, BLOB_NOT_FOUND for a layer that neither is here in
 * the form it came in nor can be made again, and the signal's reason.
 */
export async function push(
  context: RegistryContext,
  reference: string,
  options: TransferOptions = {},
): Promise<PushResult> {
  const { signal, credentials } = options
  const name = parseReference(reference)
  const purpose: Purpose = { action: 'push', subject: familiarReference(name) }
  if (name.tag === undefined) {
    const hint = 'give it a name with `mayfly tag`'
    throw fail('INVALID_REFERENCE', purpose, 'an image is pushed under a tag', {
      field: 'reference',
      value: reference,
      hint,
    })
  }
  const transport = new Transport(options.registry)
  const { registry, repository } = name
  const client = new RegistryClient({ transport, registry, repository, purpose, credentials, signal })
  try {
    return await context.store.writing(signal, async () => {
      const image = await context.store.images.resolve(reference)
      if (!image) throw fail('IMAGE_NOT_FOUND', purpose, 'there is no such image here', { value: reference })
      return new Push(context, name, image, client, options).run()
    })
  } finally {
    await transport.close()
  }
}

class Push {
  readonly #context: RegistryContext
  readonly #name: ImageReference
  readonly #image: StoredImage
  readonly #client: RegistryClient
  readonly #options: TransferOptions
  readonly #slots = new Slots(BLOBS_AT_ONCE)
  readonly #there = new Map<string, Promise<boolean>>()

  constructor(
    context: RegistryContext,
    name: ImageReference,
    image: StoredImage,
    client: RegistryClient,
    options: TransferOptions,
  ) {
    this.#context = context
    this.#name = name
    this.#image = image
    this.#client = client
    this.#options = options
  }

  async run(): Promise<PushResult> {
    const { store } = this.#context
    const [original, others] = await Promise.all([this.#original(), this.#neighbours()])
    const sent = await this.#each(this.#image.layers, async (layer, index) => {
      const forms = original ? [original.manifest.layers[index]!] : []
      const known = [...forms, ...layer.blobs.filter(({ digest }) => digest !== forms[0]?.digest)]
      for (const form of known) {
        if (await this.#send(form, others.get(layer.chainId) ?? [], forms.length > 0)) return form
      }
      return this.#sendPacked(layer)
    })
    const config = await store.blobs.read(this.#image.id, MAX_CONFIG_BYTES)
    const isUnchanged = original?.manifest.layers.every(({ digest }, index) => digest === sent[index]!.digest) ?? false
    const isDocker = original?.manifest.mediaType === DOCKER_MANIFEST
    const described = { mediaType: isDocker ? DOCKER_CONFIG : OCI_CONFIG, digest: this.#image.id, size: config.length }
    await this.#sendBytes(isUnchanged ? original!.manifest.config : described, config)
    const mediaType = original?.manifest.mediaType ?? OCI_MANIFEST
    const manifest = isUnchanged ? original!.bytes : encodeManifest(mediaType, described, sent)
    const digest = await this.#client.putManifest(this.#name.tag!, manifest, mediaType)
    const { registry, repository } = this.#name
    const byDigest = formatReference({ registry, repository, tag: undefined, digest })
    await store.images.put({ config, manifest, references: [byDigest], durable: false }, this.#options.signal)
    return { digest, sizeBytes: manifest.length, reference: byDigest }
  }

  /** The manifest that the image came with, if it can be read. */
  async #original(): Promise<{ readonly manifest: Manifest; readonly bytes: Buffer } | undefined> {
    const { manifest: digest } = this.#image
    if (digest === undefined) return undefined
    try {
      const bytes = await this.#context.store.blobs.read(digest, MAX_MANIFEST_BYTES)
      const manifest = parseManifest(bytes)
      return manifest.kind === 'manifest' ? { manifest, bytes } : undefined
    } catch (error) {
      if (error instanceof MayflyError && /^(BLOB|IMAGE)_/.test(error.code)) return undefined // a new one is made
      throw error
    }
  }

  /** Other repositories of the same registry that are likely to have a layer, by its chainID. */
  async #neighbours(): Promise<ReadonlyMap<string, readonly string[]>> {
    const found = new Map<string, string[]>()
    for (const image of await this.#context.store.images.list()) {
      const names = [...image.digests, ...image.references].map(parseReference)
      const there = names.filter(({ registry }) => registry === this.#name.registry)
      for (const { repository } of there) {
        if (repository === this.#name.repository) continue
        for (const { chainId } of image.layers) {
          const repositories = found.get(chainId) ?? []
          if (!repositories.includes(repository)) repositories.push(repository)
          found.set(chainId, repositories)
        }
      }
    }
    return found
  }

  /** Resolves to whether the registry has this form of a layer now. The same blob is seen to once. */
  #send(form: Descriptor, others: readonly string[], isOriginal: boolean): Promise<boolean> {
    let sending = this.#there.get(form.digest)
    if (!sending) {
      sending = this.#slots.run(() => this.#sendOnce(form, others, isOriginal), this.#options.signal)
      this.#there.set(form.digest, sending)
      // What could not be sent may be packed in a moment, to the same digest.
      void sending.then((isThere) => isThere || this.#there.delete(form.digest)).catch(() => {})
    }
    return sending
  }

  async #sendOnce(form: Descriptor, others: readonly string[], isOriginal: boolean): Promise<boolean> {
    const { digest, size } = form
    const { blobs } = this.#context.store
    const progress = new LayerProgress(this.#options.onProgress, digest, size)
    const isHere = await blobs.has(digest, size)
    if (!isHere && !isOriginal && others.length === 0) return false
    if (await this.#client.hasBlob(digest)) return told(progress, 'exists')
    let prepared: URL | undefined
    for (const other of others.slice(0, MOUNT_ATTEMPTS)) {
      const mounted = await this.#client.mount(digest, other)
      if (mounted === true) return told(progress, 'mounted')
      if (mounted) prepared = mounted
    }
    if (!isHere) return false
    await this.#client.upload({ digest, size }, () => this.#body(digest, progress), prepared)
    return told(progress, 'done')
  }

  async *#body(digest: string, progress: LayerProgress): AsyncGenerator<Uint8Array> {
    let sent = 0
    for await (const piece of this.#context.store.blobs.open(digest, this.#options.signal) as AsyncIterable<Buffer>) {
      progress.tell('uploading', sent)
      sent += piece.length
      yield piece
    }
  }

  async #sendPacked(layer: Layer): Promise<Descriptor> {
    const { session, store } = this.#context
    const { signal } = this.#options
    const isDocker = (await this.#original())?.manifest.mediaType === DOCKER_MANIFEST
    const mediaType = isDocker ? DOCKER_LAYER_GZIP : OCI_LAYER_GZIP
    const packed = await this.#slots.run(
      () => compressLayer({ session, store }, layer, this.#client.purpose, signal),
      signal,
    )
    const form = { mediaType, ...packed }
    await store.layers.addBlob(layer.chainId, form, signal)
    await this.#send(form, [], true)
    return form
  }

  async #sendBytes({ digest, size }: Descriptor, bytes: Uint8Array): Promise<void> {
    if (await this.#client.hasBlob(digest)) return
    await this.#client.upload({ digest, size }, () => bytes)
  }

  /** All of them, side by side; the first failure is told once none is under way any more. */
  async #each<T, R>(items: readonly T[], work: (item: T, index: number) => Promise<R>): Promise<R[]> {
    const outcomes = await Promise.allSettled(items.map(work))
    return outcomes.map((outcome) => {
      if (outcome.status === 'rejected') throw outcome.reason
      return outcome.value
    })
  }
}

/** Asking costs a round trip each. */
const MOUNT_ATTEMPTS = 2

function told(progress: LayerProgress, status: LayerStatus): true {
  progress.tell(status)
  return true
}

function encodeManifest(mediaType: string, config: Descriptor, layers: readonly Descriptor[]): Buffer {
  const plain = ({ mediaType, digest, size }: Descriptor) => ({ mediaType, digest, size })
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config: plain(config), layers: layers.map(plain) }))
}
