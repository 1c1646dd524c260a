/**
 * `docker load`: archives of images into the store, whoever wrote them (docker, podman, skopeo, buildah, kaniko).
 *
 * The archive is unpacked by the warden into a directory of the session, where nobody else can touch it, because its files come in any
 * order. Layers are read from there, decompressed and unpacked once more, all digests checked on the way.
 */

import { mkdir } from 'node:fs/promises'
import { isAbsolute, join, resolve } from 'node:path'
import type { ByteSource } from '../archive.js'
import { MayflyError } from '../errors.js'
import { chainIds, type Descriptor } from '../image/manifest.js'
import { OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD } from '../image/media-types.js'
import { parsePlatform } from '../image/platform.js'
import { LayerProgress, type ProgressListener, tell } from '../registry/progress.js'
import type { Session } from '../session.js'
import { type Compression, decompress } from '../store/decompress.js'
import type { StoredImage } from '../store/images.js'
import { adoptParents, digestLayer, type UnpackedLayer, unpackLayer } from '../store/layer-archive.js'
import { layerLimits } from '../store/layer-limits.js'
import type { LayerFacts } from '../store/layers.js'
import type { Store } from '../store/store.js'
import { type ArchiveFile, ArchiveFiles } from './archive-files.js'
import { type ArchivedImage, type ArchivedLayer, readContents } from './contents.js'
import { HashedBytes } from './hashed-bytes.js'
import { piecesOf } from './pieces.js'

/** Where images are loaded from: a tar, compressed or not, or a directory that holds what such a tar does. */
export type LoadSource = ByteSource | { readonly directory: string }

export interface LoadOptions {
  /** Which image of several for different platforms. @default the host's */
  readonly platform?: string
  readonly onProgress?: ProgressListener
  /** Gives up. What is in the store by then is whole and has no name. */
  readonly signal?: AbortSignal
}

export interface LoadedImage {
  readonly image: StoredImage
  /** Canonical names that the archive gave it; none for an image that had none. */
  readonly references: readonly string[]
}

interface LoadContext {
  readonly session: Session
  readonly store: Store
}

/** Far above what archives of images hold. */
const MAX_ENTRIES = 200_000

/**
 * Loads all images of an archive; their names are set when all of them are in.
 *
 * Throws IMAGE_INVALID, DIGEST_MISMATCH, SIZE_MISMATCH, ARCHIVE_INVALID, NOT_SUPPORTED, DISK_FULL.
 */
export async function loadImages(
  context: LoadContext,
  source: LoadSource,
  options: LoadOptions = {},
): Promise<LoadedImage[]> {
  const { session, store } = context
  const { signal } = options
  const platform = options.platform === undefined ? undefined : parsePlatform(options.platform)
  return store.writing(signal, async () => {
    const temporary = await store.temporary()
    try {
      const files = await open(session, source, temporary, options)
      const images = await readContents(files, { platform })
      for (const image of images) await loadLayers(context, files, image, options)
      const loaded: LoadedImage[] = []
      for (const { config, manifest, references } of images) {
        const image = await store.images.put({ config, references, ...(manifest ? { manifest } : {}) }, signal)
        loaded.push({ image, references })
      }
      return loaded
    } finally {
      await store.discard(temporary)
    }
  })
}

async function open(
  session: Session,
  source: LoadSource,
  temporary: string,
  { signal, onProgress }: LoadOptions,
): Promise<ArchiveFiles> {
  if ('directory' in source) {
    const { directory } = source as { directory: unknown }
    if (typeof directory !== 'string' || directory.includes('\0'))
      throw new TypeError(`directory must be a path, not ${typeof directory}`)
    return ArchiveFiles.open(session, isAbsolute(directory) ? directory : resolve(directory), signal)
  }
  tell(onProgress, { type: 'status', text: 'Reading the archive' })
  await mkdir(temporary, { mode: 0o700 })
  const tree = join(temporary, 'tree')
  try {
    await unpackLayer(
      session,
      tree,
      decompress(piecesOf(source as ByteSource)),
      { layer: false, sync: false, maxEntries: MAX_ENTRIES },
      signal,
    )
  } catch (error) {
    throw error instanceof MayflyError ? named(error, tree) : error
  }
  return ArchiveFiles.open(session, tree, signal)
}

/** The caller knows nothing of our directory. */
function named(error: MayflyError, tree: string): MayflyError {
  if (!error.message.includes(tree)) return error
  const { code, hint, step, errno } = error
  const message = error.message.split('\n')[0]!.replace(`"${tree}"`, 'the archive').replaceAll(tree, 'the archive')
  const facts = { ...(hint ? { hint } : {}), ...(step ? { step } : {}), ...(errno ? { errno } : {}) }
  return new MayflyError(code, message, facts, { cause: error })
}

async function loadLayers(
  context: LoadContext,
  files: ArchiveFiles,
  { diffIds, layers }: ArchivedImage,
  options: LoadOptions,
): Promise<void> {
  const { store } = context
  const trees: string[] = []
  const chain = chainIds(diffIds)
  // One after the other: a layer takes what it does not say of its directories from those below.
  for (const [index, archived] of layers.entries()) {
    const diffId = diffIds[index]!
    const progress = new LayerProgress(options.onProgress, diffId, archived.file.size)
    let isNew = false
    const make = async (temporary: string) => {
      isNew = true
      const below = { parent: chain[index - 1], trees: [...trees].reverse() }
      return unpackOne(context, files, archived, { diffId, temporary, ...below }, progress, options.signal)
    }
    const layer = await store.layers.ensure(chain[index]!, make, options.signal)
    progress.tell(isNew ? 'done' : 'exists')
    trees.push(layer.tree)
  }
}

interface Place {
  readonly diffId: string
  readonly parent: string | undefined
  /** Of the layers below, uppermost first. */
  readonly trees: readonly string[]
  readonly temporary: string
}

async function unpackOne(
  { session, store }: LoadContext,
  files: ArchiveFiles,
  { file, digest }: ArchivedLayer,
  { diffId, parent, trees, temporary }: Place,
  progress: LayerProgress,
  signal: AbortSignal | undefined,
): Promise<LayerFacts> {
  const tree = join(temporary, 'tree')
  const bytes = new HashedBytes(files.stream(file, signal), (count) => progress.tell('extracting', count))
  const limits = layerLimits(file.size)
  let unpacked: UnpackedLayer
  try {
    unpacked = await unpackLayer(session, tree, decompress(bytes), { layer: true, sync: false, ...limits }, signal)
    await bytes.drain()
  } catch (error) {
    if (!(error instanceof MayflyError) || signal?.aborted) throw error
    // Nothing is wrong with a layer that is not the one that was meant: that is told first.
    await bytes.drain().catch(() => {})
    checkBytes(file, digest, bytes.digest)
    throw named(error, tree)
  } finally {
    await bytes.close()
  }
  checkBytes(file, digest, bytes.digest)
  if (unpacked.digest !== diffId) {
    throw new MayflyError(
      'DIGEST_MISMATCH',
      `Layer ${file.path} of the archive unpacks to ${unpacked.digest}, its image says ${diffId}`,
      {
        digest: diffId,
        value: unpacked.digest,
      },
    )
  }
  if (unpacked.implied > 0) await adoptParents(session, tree, trees)
  const facts = { diffId, parent, sizeBytes: unpacked.bytes }
  const packed = await digestLayer(session, { tree }, signal)
  if (packed.digest === diffId) return { ...facts, origin: 'packed' }
  // Nobody could make this archive again from its tree: it is kept, so that the image has the same id when it goes on from here.
  const mediaType = MEDIA_TYPES[bytes.compression]
  if (mediaType === undefined) return { ...facts, origin: 'unpacked' }
  const blob = { mediaType, digest: bytes.digest, size: bytes.size }
  await keep(store, files, file, blob, signal)
  return { ...facts, origin: 'unpacked', blobs: [blob] }
}

/** What an image can have. */
const MEDIA_TYPES: Partial<Record<Compression, string>> = {
  none: OCI_LAYER,
  gzip: OCI_LAYER_GZIP,
  zstd: OCI_LAYER_ZSTD,
}

async function keep(
  store: Store,
  files: ArchiveFiles,
  file: ArchiveFile,
  blob: Descriptor,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (await store.blobs.has(blob.digest, blob.size)) return
  const writer = await store.blobs.writer()
  try {
    for await (const piece of files.stream(file, signal)) await writer.write(piece)
    await writer.commit(blob)
  } finally {
    await writer.abort()
  }
}

function checkBytes(file: ArchiveFile, expected: string | undefined, found: string): void {
  if (expected === undefined || expected === found) return
  throw new MayflyError('DIGEST_MISMATCH', `${file.path} of the archive has the digest ${found}, not ${expected}`, {
    digest: expected,
    value: found,
  })
}
