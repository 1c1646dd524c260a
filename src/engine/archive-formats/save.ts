/**
 * Images as one archive: an OCI layout (`oci`), or the same with what `docker load` looks for beside it (`docker`), as Docker writes
 * it since version 25. Equal images give equal bytes.
 */

import { pipeline, Readable } from 'node:stream'
import { createGzip } from 'node:zlib'
import { MayflyError } from '../errors.js'
import { encodeConfig, type ImageConfig, MAX_CONFIG_BYTES } from '../image/config.js'
import { splitDigest } from '../image/digest.js'
import { digestOfBytes } from '../image/digest-of.js'
import { type Descriptor, MAX_MANIFEST_BYTES, parseManifest } from '../image/manifest.js'
import { OCI_CONFIG, OCI_INDEX, OCI_MANIFEST } from '../image/media-types.js'
import { familiarName, familiarReference, formatReference, type ImageReference } from '../image/reference.js'
import type { Session } from '../session.js'
import type { StoredImage } from '../store/images.js'
import type { Store } from '../store/store.js'
import { type LayerForm, layerForm } from './layer-form.js'
import { directoryHeader, END_OF_ARCHIVE, fileHeader, padding } from './tar-writer.js'

export interface SaveOptions {
  /** `docker` is read by everything that loads images. @default 'docker' */
  readonly format?: 'docker' | 'oci'
  /** Of the archive as a whole. @default 'none' */
  readonly compression?: 'none' | 'gzip'
  readonly signal?: AbortSignal
}

/** What is to be saved: an image, and the names it shall have in the archive. */
export interface SavedImage {
  readonly image: StoredImage
  readonly references: readonly ImageReference[]
}

interface SaveContext {
  readonly session: Session
  readonly store: Store
}

/** An image in the form that is written. */
interface Written {
  readonly manifest: Descriptor
  readonly config: Descriptor
  readonly diffIds: readonly string[]
  readonly layers: readonly LayerForm[]
  readonly references: readonly ImageReference[]
}

/** A file of the archive below `blobs/`. */
interface Blob {
  readonly size: number
  open(signal?: AbortSignal): Iterable<Uint8Array> | AsyncIterable<Uint8Array>
}

const FORMATS = ['docker', 'oci']
const COMPRESSIONS = ['none', 'gzip']

/** The archive. What is wrong is thrown by the first `next()`, before any byte. */
export async function* saveImages(
  context: SaveContext,
  images: readonly SavedImage[],
  { format = 'docker', compression = 'none', signal }: SaveOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  checkChoice('format', format, FORMATS)
  checkChoice('compression', compression, COMPRESSIONS)
  const pieces = writeArchive(context, images, format, signal)
  yield* compression === 'gzip' ? compressed(pieces) : pieces
}

async function* writeArchive(
  context: SaveContext,
  images: readonly SavedImage[],
  format: 'docker' | 'oci',
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const blobs = new Map<string, Blob>()
  const written: Written[] = []
  for (const image of images) written.push(await prepare(context, image, blobs, signal))
  yield directoryHeader('blobs/')
  for (const algorithm of new Set([...blobs.keys()].map((digest) => splitDigest(digest).algorithm)))
    yield directoryHeader(`blobs/${algorithm}/`)
  for (const [digest, blob] of [...blobs].sort(([a], [b]) => (a < b ? -1 : 1))) {
    signal?.throwIfAborted()
    yield fileHeader(blobPath(digest), blob.size)
    yield* blob.open(signal)
    yield padding(blob.size)
  }
  yield* file('index.json', indexJson(written))
  if (format === 'docker') yield* file('manifest.json', manifestJson(written))
  yield* file('oci-layout', { imageLayoutVersion: '1.0.0' })
  if (format === 'docker') yield* file('repositories', repositoriesJson(written))
  yield END_OF_ARCHIVE
}

/** Settles every byte of an image's documents, and notes its blobs. */
async function prepare(
  context: SaveContext,
  { image, references }: SavedImage,
  blobs: Map<string, Blob>,
  signal: AbortSignal | undefined,
): Promise<Written> {
  const { store } = context
  const layers: LayerForm[] = []
  for (const layer of image.layers) layers.push(await layerForm(context, layer, signal))
  for (const { descriptor, open } of layers) blobs.set(descriptor.digest, { size: descriptor.size, open })
  const diffIds = layers.map(({ diffId }) => diffId)
  const keep = (mediaType: string, bytes: Uint8Array): Descriptor => {
    const digest = digestOfBytes(bytes)
    blobs.set(digest, { size: bytes.length, open: () => [bytes] })
    return { mediaType, digest, size: bytes.length }
  }
  const isAsItCame = diffIds.every((diffId, index) => diffId === image.layers[index]!.diffId)
  const config = keep(
    OCI_CONFIG,
    isAsItCame ? await store.blobs.read(image.id, MAX_CONFIG_BYTES) : encodeConfig(withDiffIds(image.config, diffIds)),
  )
  const made = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: layers.map(({ descriptor }) => descriptor) }
  const original = await originalManifest(store, image, layers)
  return {
    manifest: keep(OCI_MANIFEST, original ?? Buffer.from(JSON.stringify(made))),
    config,
    diffIds,
    layers,
    references,
  }
}

/** The manifest that the image came with, where it says exactly what is written: so that its digest stays. */
async function originalManifest(
  store: Store,
  { manifest }: StoredImage,
  layers: readonly LayerForm[],
): Promise<Uint8Array | undefined> {
  if (manifest === undefined || !(await store.blobs.has(manifest))) return undefined
  const bytes = await store.blobs.read(manifest, MAX_MANIFEST_BYTES)
  const document = parseManifest(bytes)
  if (document.kind !== 'manifest' || document.mediaType !== OCI_MANIFEST) return undefined
  const isSame =
    document.layers.length === layers.length &&
    document.layers.every(({ digest }, index) => digest === layers[index]!.descriptor.digest)
  return isSame ? bytes : undefined
}

function withDiffIds(config: ImageConfig, diffIds: readonly string[]): ImageConfig {
  return { ...config, rootfs: { ...config.rootfs, diff_ids: diffIds } }
}

function indexJson(images: readonly Written[]): unknown {
  const manifests = images.flatMap(({ manifest, references }) => {
    const named = references.map((reference) => ({
      ...manifest,
      annotations: {
        'io.containerd.image.name': formatReference(reference),
        ...(reference.tag === undefined ? {} : { 'org.opencontainers.image.ref.name': reference.tag }),
      },
    }))
    return named.length > 0 ? named : [manifest]
  })
  return { schemaVersion: 2, mediaType: OCI_INDEX, manifests }
}

/** What `docker load` reads. */
function manifestJson(images: readonly Written[]): unknown {
  return images.map(({ config, layers, diffIds, references }) => ({
    Config: blobPath(config.digest),
    RepoTags: tagged(references).map(familiarReference),
    Layers: layers.map(({ descriptor }) => blobPath(descriptor.digest)),
    LayerSources: Object.fromEntries(layers.map(({ descriptor }, index) => [diffIds[index]!, descriptor])),
  }))
}

/** What Docker read before 1.10, and still writes: repository → tag → uppermost layer. */
function repositoriesJson(images: readonly Written[]): unknown {
  const repositories: Record<string, Record<string, string>> = Object.create(null)
  for (const { references, layers } of images) {
    const top = layers.at(-1)?.descriptor.digest
    for (const reference of top ? tagged(references) : []) {
      const name = familiarName(reference)
      repositories[name] = { ...repositories[name], [reference.tag!]: splitDigest(top!).hex }
    }
  }
  return repositories
}

function tagged(references: readonly ImageReference[]): ImageReference[] {
  return references.filter(({ tag }) => tag !== undefined)
}

function blobPath(digest: string): string {
  const { algorithm, hex } = splitDigest(digest)
  return `blobs/${algorithm}/${hex}`
}

function* file(name: string, contents: unknown): Generator<Uint8Array> {
  const bytes = Buffer.from(JSON.stringify(contents))
  yield fileHeader(name, bytes.length)
  yield bytes
  yield padding(bytes.length)
}

async function* compressed(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  // Level 1: layers are large, and level 6 takes three times as long for a tenth less.
  const gzip = createGzip({ level: 1, chunkSize: 256 * 1024 })
  // What fails is told by the stream, which pipeline() destroys with the error of its source.
  yield* pipeline(Readable.from(pieces, { objectMode: true }), gzip, () => {}) as AsyncIterable<Uint8Array>
}

function checkChoice(field: string, value: unknown, choices: readonly string[]): void {
  if (choices.includes(value as string)) return
  const expected = choices.map((choice) => `'${choice}'`).join(' or ')
  throw new MayflyError('INVALID_OPTION', `${field}: expected ${expected}, got ${JSON.stringify(value)}`, {
    field,
    value,
  })
}
