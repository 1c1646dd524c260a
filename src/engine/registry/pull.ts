/**
 * Pulls an image: from a registry into the store.
 *
 * Layers are fetched side by side, each in one pass (layer.ts). What is in the store already is not fetched, and what several
 * callers or processes need at the same time is fetched by one of them.
 */

import { unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { MayflyError } from '../errors.js'
import { type ImageConfig, MAX_CONFIG_BYTES, parseConfig } from '../image/config.js'
import { splitDigest } from '../image/digest.js'
import { digestOfBytes } from '../image/digest-of.js'
import { chainIds, type Descriptor } from '../image/manifest.js'
import { isImageConfig } from '../image/media-types.js'
import { formatPlatform, hostPlatform, type Platform, parsePlatform, platformMatches } from '../image/platform.js'
import { familiarReference, formatReference, type ImageReference, parseReference } from '../image/reference.js'
import { substituteReference } from '../image/substitute.js'
import type { Session } from '../session.js'
import { Slots } from '../slots.js'
import type { StoredImage } from '../store/images.js'
import { adoptParents } from '../store/layer-archive.js'
import type { Layer, LayerFacts } from '../store/layers.js'
import { withLock } from '../store/lock.js'
import type { Store } from '../store/store.js'
import { RegistryClient } from './client.js'
import type { CredentialSource } from './credentials.js'
import { fail, type Purpose } from './failure.js'
import { treeIn, unpackFrom } from './layer.js'
import { LayerProgress, type ProgressListener, tell } from './progress.js'
import { type ResolvedImage, resolveImage, withSource } from './resolve.js'
import { type RegistryOptions, Transport } from './transport.js'

/** What pulling and pushing work with. */
export interface RegistryContext {
  readonly session: Session
  readonly store: Pick<Store, 'home' | 'blobs' | 'layers' | 'images' | 'writing'>
}

/** What is common to pulling and pushing. */
export interface TransferOptions {
  readonly signal?: AbortSignal
  readonly onProgress?: ProgressListener
  /** @default what docker and podman are configured with */
  readonly credentials?: CredentialSource
  readonly registry?: RegistryOptions
}

export interface PullOptions extends TransferOptions {
  /** Such as `linux/arm64/v8`. @default the host's */
  readonly platform?: string
  /** Gives the reference to pull instead of the one that was asked for; the image gets that name. */
  readonly substitute?: (reference: string) => string
}

/** As docker: more at a time gain nothing on a usual line, and one at a time leaves the processors idle. */
const LAYERS_AT_ONCE = 3

/**
 * Pulls the image and resolves to it, complete in the store. When the registry says that the image is the one that is here, nothing
 * else is asked of it.
 *
 * Throws INVALID_REFERENCE, PLATFORM_NOT_FOUND, the REGISTRY_ codes, DIGEST_MISMATCH and SIZE_MISMATCH for what is not what was
 * announced, IMAGE_INVALID and ARCHIVE_INVALID for what breaks the rules, DISK_FULL, and the signal's reason.
 */
export async function pull(
  context: RegistryContext,
  reference: string,
  options: PullOptions = {},
): Promise<StoredImage> {
  const { signal, onProgress, credentials } = options
  const wanted = options.platform === undefined ? undefined : parsePlatform(options.platform)
  const name = substituteReference(parseReference(reference), options.substitute)
  const purpose: Purpose = { action: 'pull', subject: familiarReference(name) }
  const transport = new Transport(options.registry)
  const open = ({ registry, repository }: ImageReference) =>
    new RegistryClient({ transport, registry, repository, purpose, credentials, signal })
  try {
    return await context.store.writing(signal, () =>
      withSource(
        name,
        open,
        async (client, source) => {
          const here = await unchanged(context, name, source, client, { wanted, onProgress })
          if (here) return here
          const resolved = await resolveImage(client, source, wanted ?? hostPlatform())
          return new Pull(context, name, resolved, options, wanted).run()
        },
        onProgress,
      ),
    )
  } finally {
    await transport.close()
  }
}

/** The image that is here under this name, if the registry has the same. A HEAD does not count against Docker Hub's limit. */
async function unchanged(
  { store }: RegistryContext,
  name: ImageReference,
  source: ImageReference,
  client: RegistryClient,
  { wanted = hostPlatform(), onProgress }: { wanted: Platform | undefined; onProgress: PullOptions['onProgress'] },
): Promise<StoredImage | undefined> {
  const here = await store.images.resolve(formatReference(name))
  if (!here || !platformMatches(wanted, here.config)) return undefined
  const digest = source.digest ?? (await client.resolve(source.tag!))
  if (digest === undefined || !here.digests.includes(byDigest(name, digest))) return undefined
  tell(onProgress, { type: 'digest', digest })
  return here
}

function byDigest({ registry, repository }: ImageReference, digest: string): string {
  return formatReference({ registry, repository, tag: undefined, digest })
}

class Pull {
  readonly #context: RegistryContext
  readonly #name: ImageReference
  readonly #resolved: ResolvedImage
  readonly #client: RegistryClient
  readonly #options: PullOptions
  readonly #wanted: Platform | undefined
  readonly #slots = new Slots(LAYERS_AT_ONCE)
  /** Ends all layers when one has failed. */
  readonly #failure = new AbortController()
  readonly #signal: AbortSignal

  constructor(
    context: RegistryContext,
    name: ImageReference,
    resolved: ResolvedImage,
    options: PullOptions,
    wanted: Platform | undefined,
  ) {
    this.#context = context
    this.#name = name
    this.#resolved = resolved
    this.#client = resolved.client
    this.#options = options
    this.#wanted = wanted
    this.#signal = options.signal ? AbortSignal.any([options.signal, this.#failure.signal]) : this.#failure.signal
  }

  async run(): Promise<StoredImage> {
    const { manifest, bytes, digest } = this.#resolved
    const { store } = this.#context
    const config = await this.#config(manifest.config)
    const parsed = parseConfig(config)
    this.#checkConfig(parsed)
    await this.#layers(manifest.layers, parsed.rootfs.diff_ids)
    const own = this.#name.digest === undefined ? [formatReference(this.#name)] : []
    const references = [...own, byDigest(this.#name, digest)]
    const image = await store.images.put({ config, manifest: bytes, references }, this.#options.signal)
    tell(this.#options.onProgress, { type: 'digest', digest })
    return image
  }

  #checkConfig(config: ImageConfig): void {
    const { purpose } = this.#client
    const { manifest } = this.#resolved
    const [layers, diffIds] = [manifest.layers.length, config.rootfs.diff_ids.length]
    if (layers !== diffIds) {
      const why = `its manifest has ${layers} layers and its config ${diffIds}`
      throw fail('IMAGE_INVALID', purpose, why, { field: 'rootfs.diff_ids' })
    }
    const wanted = this.#wanted ?? hostPlatform()
    if (platformMatches(wanted, config)) return
    const why = `it is for ${formatPlatform(config)}, not for ${formatPlatform(wanted)}`
    if (this.#wanted || config.os !== wanted.os) {
      throw fail('PLATFORM_NOT_FOUND', purpose, why, { field: 'platform', value: formatPlatform(wanted) })
    }
    tell(this.#options.onProgress, { type: 'status', text: `${purpose.subject}: ${why}` })
  }

  /** The config's bytes, fetched once whoever needs them. */
  async #config(descriptor: Descriptor): Promise<Buffer> {
    if (!isImageConfig(descriptor.mediaType)) {
      const why = `it is an artifact (config of type ${descriptor.mediaType}), not an image that can run`
      throw fail('NOT_SUPPORTED', this.#client.purpose, why, { value: descriptor.mediaType })
    }
    return (
      (await this.#local(descriptor)) ??
      this.#alone(descriptor, async () => (await this.#local(descriptor)) ?? this.#fetch(descriptor))
    )
  }

  async #local({ digest, size }: Descriptor): Promise<Buffer | undefined> {
    const { blobs } = this.#context.store
    if (!(await blobs.has(digest, size))) return undefined
    return blobs.read(digest, MAX_CONFIG_BYTES).catch((error) => {
      if (error instanceof MayflyError && /^BLOB_/.test(error.code)) return undefined // damaged: fetched again
      throw error
    })
  }

  async #fetch(descriptor: Descriptor): Promise<Buffer> {
    const pieces: Buffer[] = []
    for await (const piece of this.#client.blob(descriptor)) pieces.push(piece)
    const bytes = Buffer.concat(pieces)
    const digest = digestOfBytes(bytes, splitDigest(descriptor.digest).algorithm)
    if (digest !== descriptor.digest) {
      const why = `what ${this.#client.registry} sends as config ${descriptor.digest} has the digest ${digest}`
      throw fail('DIGEST_MISMATCH', this.#client.purpose, why, { digest: descriptor.digest, value: digest })
    }
    await this.#context.store.blobs.put(bytes)
    return bytes
  }

  /** Does the work while no other process does the same for this blob. */
  #alone<T>(descriptor: Descriptor, work: () => Promise<T>): Promise<T> {
    const { session, store } = this.#context
    const path = join(store.home, 'locks', `blob-${splitDigest(descriptor.digest).hex}`)
    const alone = () => work().finally(() => unlink(path).catch(() => {})) // whoever waits makes a new file
    return withLock(session, path, 'exclusive', alone, this.#signal)
  }

  async #layers(descriptors: readonly Descriptor[], diffIds: readonly string[]): Promise<void> {
    const chain = chainIds(diffIds)
    const layers: Promise<Layer>[] = []
    for (const [index, descriptor] of descriptors.entries()) {
      const below = layers.slice()
      const progress = new LayerProgress(this.#options.onProgress, descriptor.digest, descriptor.size)
      const make = (directory: string) =>
        this.#makeLayer(directory, descriptor, diffIds[index]!, chain[index - 1], below, progress)
      layers.push(this.#layer(chain[index]!, make, progress))
    }
    const outcomes = await Promise.allSettled(layers)
    // The first failure ended the others, with itself as their reason.
    this.#signal.throwIfAborted()
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
  }

  async #layer(
    chainId: string,
    make: (directory: string) => Promise<LayerFacts>,
    progress: LayerProgress,
  ): Promise<Layer> {
    const { layers } = this.#context.store
    try {
      const here = await layers.get(chainId)
      progress.tell(here ? 'exists' : 'waiting')
      if (here) return here
      const layer = await layers.ensure(chainId, make, this.#signal)
      progress.tell('done')
      return layer
    } catch (error) {
      this.#failure.abort(error)
      throw error
    }
  }

  async #makeLayer(
    directory: string,
    descriptor: Descriptor,
    diffId: string,
    parent: string | undefined,
    below: readonly Promise<Layer>[],
    progress: LayerProgress,
  ): Promise<LayerFacts> {
    const { session, store } = this.#context
    const source = { session, store, client: this.#client, descriptor, progress, signal: this.#signal }
    const tree = treeIn(directory)
    const unpack = () => this.#alone(descriptor, () => unpackFrom(source, tree))
    const unpacked = await this.#slots.run(unpack, this.#signal)
    if (unpacked.digest !== diffId) {
      const why = `layer ${descriptor.digest} unpacks to ${unpacked.digest}, but the image config has ${diffId}`
      throw fail('DIGEST_MISMATCH', this.#client.purpose, why, { digest: diffId, value: unpacked.digest })
    }
    if (unpacked.implied > 0) {
      // Not before the layers below are whole. They wait for nobody above them, in no process, so this ends.
      const lowers = await Promise.all(below)
      await adoptParents(session, tree, lowers.map((layer) => layer.tree).reverse())
    }
    return { diffId, parent, sizeBytes: unpacked.bytes, blobs: [descriptor], origin: 'unpacked' }
  }
}
