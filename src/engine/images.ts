/** The images of an engine: `engine.images`. Each method parses what it is given and calls the part that does the work, loaded when it is needed. */

import type { ByteSource } from './archive.js'
import type { LoadedImage, LoadOptions, LoadSource } from './archive-formats/load.js'
import type { SavedImage, SaveOptions } from './archive-formats/save.js'
import type { BootstrapOptions } from './bootstrap.js'
import type { BuildContext } from './build/context.js'
import type { BuildOptions, BuildResult } from './build/options.js'
import { isDigest } from './image/digest.js'
import { parsePlatform } from './image/platform.js'
import { formatReference, parseNewName, parseReference } from './image/reference.js'
import { historyOf, type ImageHistoryEntry, type ImageInspection, inspectImage } from './image-inspection.js'
import { type ImageRequest, ImageResolver } from './image-resolver.js'
import type { ImageFacts } from './launch/image.js'
import type { PullOptions, TransferOptions } from './registry/pull.js'
import type { PushResult } from './registry/push.js'
import type { Session } from './session.js'
import { type FindOptions, imageNotFound, type StoredImage } from './store/images.js'
import type { Pruned, PruneOptions } from './store/prune.js'
import type { RemovedImage, RemoveOptions } from './store/remove.js'
import type { Store } from './store/store.js'
import type { StoreUsage } from './store/usage.js'
import type { Verification, VerifyOptions } from './store/verify.js'

/** What becomes of an imported root file system. */
export interface ImportOptions {
  /** Name of the image. @default none: it is known by its id */
  readonly reference?: string
  /** Dockerfile instructions, as for `commit`. */
  readonly changes?: readonly string[]
  /** Goes into the history. */
  readonly message?: string
  /** Such as `linux/arm64`. @default the host's */
  readonly platform?: string
  readonly signal?: AbortSignal
}

/** Who uses images. */
export type ImageUser = NonNullable<RemoveOptions['user']>

interface ImageContext {
  readonly session: Session
  readonly store: Store
  readonly facts: BuildContext['facts']
  /** Which container was made from an image. */
  readonly user: ImageUser
}

/**
 * What can be done with images.
 *
 * An image is named by a reference (`postgres:16`), its id, or the beginning of its id.
 *
 * @example
 * const image = await engine.images.pull('postgres:16', { onProgress: console.log })
 * console.log(image.id, image.sizeBytes)
 */
export class ImageService {
  readonly #context: ImageContext
  readonly #resolver: ImageResolver

  /** @internal */
  constructor(context: ImageContext) {
    this.#context = context
    this.#resolver = new ImageResolver(context.store)
  }

  /**
   * Fetches an image, also when the store has one of that name: what has not changed is not fetched again.
   *
   * Throws INVALID_REFERENCE, PLATFORM_NOT_FOUND, and the codes that begin with REGISTRY_.
   */
  async pull(reference: string, options: PullOptions = {}): Promise<StoredImage> {
    const { pull } = await import('./registry/pull.js')
    return pull(this.#context, reference, options)
  }

  /** Sends an image to the registry that its name says. Throws IMAGE_NOT_FOUND, and the codes that begin with REGISTRY_. */
  async push(reference: string, options: TransferOptions = {}): Promise<PushResult> {
    const { push } = await import('./registry/push.js')
    return push(this.#context, reference, options)
  }

  /**
   * Builds an image from a Dockerfile. Throws DOCKERFILE_INVALID, BUILD_FAILED with what the failing program printed, and so on.
   *
   * @example
   * const { image } = await engine.images.build({ context: { dockerfile: 'FROM debian:bookworm-slim\nRUN echo hello > /hello' } })
   */
  async build(options: BuildOptions): Promise<BuildResult> {
    const { build } = await import('./build/build.js')
    const { session, store, facts } = this.#context
    return build({ session, store, facts, pull: (reference, more) => this.pull(reference, more) }, options)
  }

  /** All images, the newest first. */
  async list(options: FindOptions = {}): Promise<StoredImage[]> {
    await this.#context.store.temporaryNames.forgetEnded()
    return this.#context.store.images.list(options)
  }

  /** The image of the store. Throws IMAGE_NOT_FOUND. */
  async get(reference: string): Promise<StoredImage> {
    const image = await this.#context.store.images.resolve(reference)
    if (!image) throw imageNotFound(reference)
    return image
  }

  /** Everything known about an image, in the form of `docker inspect`. Throws IMAGE_NOT_FOUND. */
  async inspect(reference: string): Promise<ImageInspection> {
    return inspectImage(await this.get(reference))
  }

  /** The steps that it was made in, the last one first. Throws IMAGE_NOT_FOUND. */
  async history(reference: string): Promise<ImageHistoryEntry[]> {
    return historyOf(await this.get(reference))
  }

  /** Gives an image a further name, taking it from whichever had it. Throws IMAGE_NOT_FOUND, INVALID_REFERENCE. */
  async tag(source: string, target: string): Promise<void> {
    parseNewName(target)
    const { id } = await this.get(source)
    await this.#context.store.images.tag(id, target)
  }

  /**
   * Takes a name away, and removes the image with its last one, as `docker rmi`.
   *
   * Throws IMAGE_NOT_FOUND, and IMAGE_IN_USE while a container of this engine was made from it: with `force`, only while it runs.
   *
   * @default force: false
   */
  remove(reference: string, { force = false }: { readonly force?: boolean } = {}): Promise<RemovedImage> {
    return this.#context.store.images.remove(reference, { force, user: this.#context.user })
  }

  /**
   * Images as one archive, which docker, podman and skopeo read too. An image is saved under the name by which it is asked for; asked for
   * by its id, it has none.
   *
   * The first `next()` throws IMAGE_NOT_FOUND. An image that was loaded from a foreign archive keeps its id as long as the store has
   * the layers' own archives.
   *
   * @example
   * import { createWriteStream } from 'node:fs'
   * import { pipeline } from 'node:stream/promises'
   * await pipeline(engine.images.save(['app:1.2']), createWriteStream('app.tar'))
   */
  async *save(
    references: string | readonly string[],
    options: SaveOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const names = typeof references === 'string' ? [references] : references
    if (names.length === 0) throw new TypeError('At least one image must be named')
    const { saveImages } = await import('./archive-formats/save.js')
    const { store } = this.#context
    const images = new Map<string, SavedImage>()
    for (const name of names) {
      const image = await this.get(name)
      const known = images.get(image.id)
      const own = await this.#nameOf(name, image)
      images.set(image.id, { image, references: [...(known?.references ?? []), ...own] })
    }
    // Nothing of it is removed meanwhile.
    const pieces = saveImages(this.#context, [...images.values()], options)
    const done = deferred()
    const writing = store.writing(options.signal, () => done.promise)
    try {
      yield* pieces
    } finally {
      done.resolve()
      await writing.catch(() => {}) // the session has ended: the pieces have told
    }
  }

  /** The name, where it is one of the image's and not an id. */
  async #nameOf(text: string, image: StoredImage) {
    if (isDigest(text) || /^[0-9a-f]{64}$/.test(text)) return []
    try {
      const reference = parseReference(text)
      return image.references.includes(formatReference(reference)) ? [reference] : []
    } catch {
      return [] // the beginning of an id
    }
  }

  /**
   * Takes in all images of an archive, or of a directory with the contents of one: docker-archive or OCI layout, compressed or not.
   *
   * Throws IMAGE_INVALID, ARCHIVE_INVALID, DIGEST_MISMATCH and so on; then none of its names is set.
   *
   * @example
   * import { createReadStream } from 'node:fs'
   * for (const { image } of await engine.images.load(createReadStream('app.tar'))) console.log(image.id)
   */
  async load(source: LoadSource, options: LoadOptions = {}): Promise<LoadedImage[]> {
    const { loadImages } = await import('./archive-formats/load.js')
    return loadImages(this.#context, source, options)
  }

  /**
   * Makes an image of one layer from the tar of a root file system: plain, or compressed with gzip, zstd, xz or bzip2.
   *
   * @example
   * import { createReadStream } from 'node:fs'
   * await engine.images.import(createReadStream('rootfs.tar.xz'), { reference: 'base:1', changes: ['CMD ["sh"]'] })
   */
  async import(source: ByteSource, options: ImportOptions = {}): Promise<StoredImage> {
    const { reference, changes = [], message, platform, signal } = options
    const [{ importImage }, { applyChanges }] = await Promise.all([import('./image-import.js'), import('./changes.js')])
    const image = {
      references: reference === undefined ? [] : [reference],
      platform: platform === undefined ? undefined : parsePlatform(platform),
      history: { comment: message ?? 'Imported from a root file system' },
      config: {},
      change: (config: Parameters<typeof applyChanges>[0]) => applyChanges(config, changes),
    }
    return importImage(this.#context, source, image, signal)
  }

  /** Removes images without a name, or all that no container uses, and what only they needed. */
  async prune(options: Omit<PruneOptions, 'user'> = {}): Promise<Pruned> {
    await this.#context.store.temporaryNames.forgetEnded()
    return this.#context.store.prune({ ...options, user: this.#context.user })
  }

  /** Reads the whole store and compares it with its digests. What is damaged is removed, so that it is fetched or built again. */
  verify(options: VerifyOptions = {}): Promise<Verification> {
    return this.#context.store.verify(options)
  }

  /** How much the store holds, and how much of it `prune` could remove. */
  usage(options: Omit<PruneOptions, 'user' | 'signal'> = {}): Promise<StoreUsage> {
    return this.#context.store.usage({ ...options, user: this.#context.user })
  }

  /**
   * Makes a base image from a distribution's package mirror, without a registry, and gives it the name by which a Dockerfile asks for it.
   *
   * Throws INVALID_OPTION for an unknown release, and BOOTSTRAP_FAILED.
   *
   * @example
   * await engine.images.bootstrap('debian:bookworm-slim')
   */
  async bootstrap(reference: string, options: BootstrapOptions = {}): Promise<StoredImage> {
    const { bootstrap } = await import('./bootstrap.js')
    return bootstrap(this.#context, reference, options)
  }

  /** The name goes with this session, however that ends. @internal */
  async forgetAtEnd(reference: string): Promise<void> {
    const { temporaryNames } = this.#context.store
    const [{ id }] = await Promise.all([this.get(reference), temporaryNames.forgetEnded()])
    await temporaryNames.add(reference, id)
  }

  /** Takes away what `forgetAtEnd` was called for. @internal */
  forgetTemporary(): Promise<void> {
    return this.#context.store.temporaryNames.forgetOwn()
  }

  /** For starts: what is remembered of an image. @internal */
  recall(request: ImageRequest): ImageFacts | undefined {
    return this.#resolver.recall(request)
  }

  /** For starts: the image of the store, else from its registry. @internal */
  resolve(request: ImageRequest, options: Pick<PullOptions, 'signal' | 'onProgress'>): Promise<ImageFacts> {
    return this.#resolver.resolve(request, (reference, platform) =>
      this.pull(reference, { ...options, ...(platform === undefined ? {} : { platform }) }),
    )
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
