/** What an archive of images says of itself: docker-archive (`manifest.json`) or OCI layout (`index.json`). Nothing is stored yet. */

import { MayflyError } from '../errors.js'
import { MAX_CONFIG_BYTES, parseConfig } from '../image/config.js'
import { isDigest, splitDigest } from '../image/digest.js'
import { digestOfBytes } from '../image/digest-of.js'
import { invalidImage, isObject, isStrings, kind, parseDocument } from '../image/document.js'
import { type Descriptor, MAX_MANIFEST_BYTES, type Manifest, parseManifest } from '../image/manifest.js'
import { isImageConfig, layerCompression } from '../image/media-types.js'
import { choosePlatform, hostPlatform, type Platform } from '../image/platform.js'
import { formatReference, parseReference } from '../image/reference.js'
import type { ArchiveFile, ArchiveFiles } from './archive-files.js'

/** An image of an archive. Its documents are checked; its layers are so when they are unpacked. */
export interface ArchivedImage {
  readonly config: Buffer
  readonly diffIds: readonly string[]
  readonly manifest: Buffer | undefined
  /** Lowest first, one for each diffID. */
  readonly layers: readonly ArchivedLayer[]
  /** Canonical. */
  readonly references: readonly string[]
}

export interface ArchivedLayer {
  readonly file: ArchiveFile
  /** Of the file, where the archive says it. */
  readonly digest: string | undefined
}

export interface ContentsOptions {
  /** Which image of an index is meant. @default the host's */
  readonly platform?: Platform | undefined
}

/** Depth of indexes in indexes. */
const MAX_DEPTH = 4

/** Reads the archive's documents. Throws IMAGE_INVALID, NOT_SUPPORTED, DIGEST_MISMATCH, PLATFORM_NOT_FOUND, INVALID_REFERENCE. */
export async function readContents(files: ArchiveFiles, options: ContentsOptions = {}): Promise<ArchivedImage[]> {
  if (files.has('manifest.json')) return readDockerArchive(files, options)
  if (files.has('index.json')) return merged(await readLayout(files, options))
  if (files.has('repositories')) {
    throw new MayflyError('NOT_SUPPORTED', 'The archive is of the form that Docker wrote before 1.10 (2016)', {
      field: 'archive',
      hint: 'load it into Docker and save it again',
    })
  }
  const top = files.top()
  const isRoot = ['bin', 'etc', 'usr'].filter((name) => top.includes(name)).length >= 2
  throw new MayflyError(
    'IMAGE_INVALID',
    'The archive is no archive of images: it has neither manifest.json nor index.json',
    {
      field: 'archive',
      ...(isRoot ? { hint: 'it looks like a root file system, which `import` takes' } : {}),
    },
  )
}

// --- docker-archive --------------------------------------------------------------------------------------------------------

async function readDockerArchive(files: ArchiveFiles, options: ContentsOptions): Promise<ArchivedImage[]> {
  const list = parseList(await files.read('manifest.json', MAX_MANIFEST_BYTES))
  // Docker 25 writes an OCI layout too; its manifests are the ones that digests of pushed images mean.
  const manifests = new Map<string, Buffer>()
  if (files.has('index.json')) {
    const layout = await readLayout(files, options).catch(() => [])
    for (const { config, manifest } of layout) if (manifest) manifests.set(digestOfBytes(config), manifest)
  }
  const images: ArchivedImage[] = []
  for (const [index, entry] of list.entries()) {
    const at = `manifest.json[${index}]`
    if (!isObject(entry)) throw invalidImage(`${at} must be an object, not ${kind(entry)}`, at, entry)
    const { Config: name, Layers: names, RepoTags: tags } = entry
    if (typeof name !== 'string')
      throw invalidImage(`${at}.Config must be the name of a file, not ${kind(name)}`, `${at}.Config`, name)
    if (!isStrings(names))
      throw invalidImage(`${at}.Layers must be names of files, not ${kind(names)}`, `${at}.Layers`, names)
    if (tags !== null && tags !== undefined && !isStrings(tags))
      throw invalidImage(`${at}.RepoTags must be names, not ${kind(tags)}`, `${at}.RepoTags`, tags)
    const config = await files.read(name, MAX_CONFIG_BYTES)
    checkDigest(config, digestInName(name), name)
    const diffIds = diffIdsOf(config, names.length)
    images.push({
      config,
      diffIds,
      manifest: manifests.get(digestOfBytes(config)),
      layers: names.map((layer) => ({
        file: files.file(layer),
        digest: isBlobPath(layer) ? digestInName(layer) : undefined,
      })),
      references: (tags ?? []).map((tag) => formatReference(parseReference(tag))),
    })
  }
  if (images.length === 0) throw invalidImage('manifest.json names no image', 'manifest.json')
  return merged(images)
}

function parseList(bytes: Buffer): unknown[] {
  let list: unknown
  try {
    list = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw invalidImage(`manifest.json is no JSON (${(error as Error).message})`, 'manifest.json', undefined, error)
  }
  if (!Array.isArray(list)) throw invalidImage(`manifest.json must be a list, not ${kind(list)}`, 'manifest.json', list)
  return list
}

/** `blobs/sha256/<hex>`, `<hex>.json` and `sha256:<hex>` (kaniko) say what the file must hold; `<hex>.tar` says only what a tool made of it. */
function digestInName(name: string): string | undefined {
  const hex = /^(?:blobs\/sha256\/|sha256:)?([0-9a-f]{64})(?:\.json)?$/.exec(name)?.[1]
  return hex && `sha256:${hex}`
}

function isBlobPath(name: string): boolean {
  return name.startsWith('blobs/sha256/')
}

// --- OCI layout ------------------------------------------------------------------------------------------------------------

async function readLayout(
  files: ArchiveFiles,
  { platform = hostPlatform() }: ContentsOptions,
): Promise<ArchivedImage[]> {
  if (files.has('oci-layout')) {
    const { imageLayoutVersion: version } = parseDocument(await files.read('oci-layout', 4096), 'oci-layout', 4096)
    if (version !== '1.0.0') {
      throw new MayflyError(
        'NOT_SUPPORTED',
        `The OCI layout has version ${JSON.stringify(version)}; 1.0.0 is understood`,
        {
          field: 'oci-layout',
          value: version,
        },
      )
    }
  }
  const bytes = await files.read('index.json', MAX_MANIFEST_BYTES)
  const index = parseManifest(bytes)
  if (index.kind !== 'index') throw invalidImage('index.json is not an index', 'index.json')
  const byName = new Map<string, Descriptor[]>()
  for (const descriptor of index.manifests) {
    if (descriptor.platform?.os === 'unknown') continue // an attestation
    const names = namesOf(descriptor).join(' ')
    byName.set(names, [...(byName.get(names) ?? []), descriptor])
  }
  const images: ArchivedImage[] = []
  for (const group of byName.values()) {
    // Images of one name are one image for several platforms, if they say so.
    const chosen =
      group.length > 1 && group.every((one) => one.platform) ? [choosePlatform(group, platform, 'the archive')] : group
    for (const descriptor of chosen) images.push(await readImage(files, descriptor, platform, namesOf(descriptor)))
  }
  if (images.length === 0) throw invalidImage('index.json names no image', 'index.json')
  return images
}

async function readImage(
  files: ArchiveFiles,
  descriptor: Descriptor,
  platform: Platform,
  references: readonly string[],
  depth = 0,
): Promise<ArchivedImage> {
  const bytes = await readBlob(files, descriptor, MAX_MANIFEST_BYTES)
  const document = parseManifest(bytes, descriptor.mediaType)
  if (document.kind === 'index') {
    if (depth === MAX_DEPTH) throw invalidImage('The indexes of the archive lie too deep in each other', 'manifests')
    const chosen = choosePlatform(document.manifests, platform, references[0] ?? 'the archive')
    return readImage(files, chosen, platform, references, depth + 1)
  }
  const config = await readConfig(files, document)
  return {
    config,
    diffIds: diffIdsOf(config, document.layers.length),
    manifest: bytes,
    layers: document.layers.map((layer) => {
      layerCompression(layer) // refuses what is no layer
      const file = files.blob(layer.digest)
      if (file.size === layer.size) return { file, digest: layer.digest }
      throw new MayflyError(
        'SIZE_MISMATCH',
        `Layer ${layer.digest} has ${file.size} bytes in the archive, not ${layer.size}`,
        {
          digest: layer.digest,
        },
      )
    }),
    references,
  }
}

async function readConfig(files: ArchiveFiles, { config }: Manifest): Promise<Buffer> {
  if (!isImageConfig(config.mediaType)) {
    throw new MayflyError(
      'NOT_SUPPORTED',
      `The archive holds an artifact (${config.mediaType}), no image that can run`,
      {
        field: 'config.mediaType',
        value: config.mediaType,
      },
    )
  }
  return readBlob(files, config, MAX_CONFIG_BYTES)
}

async function readBlob(files: ArchiveFiles, { digest }: Descriptor, maxBytes: number): Promise<Buffer> {
  const { algorithm, hex } = splitDigest(digest)
  const bytes = await files.read(`blobs/${algorithm}/${hex}`, maxBytes)
  checkDigest(bytes, digest, `blobs/${algorithm}/${hex}`)
  return bytes
}

/**
 * What the archive calls an image. containerd and Docker write the whole name in one annotation and the tag in the other; podman and skopeo
 * know only the latter, with what they were told: a name, or a mere tag, which names nothing.
 */
function namesOf({ annotations = {} }: Descriptor): string[] {
  const whole = annotations['io.containerd.image.name']
  if (whole) return [formatReference(parseReference(whole))]
  const name = annotations['org.opencontainers.image.ref.name'] ?? ''
  return /[/:]/.test(name) ? [formatReference(parseReference(name))] : []
}

// --- both ------------------------------------------------------------------------------------------------------------------

function diffIdsOf(config: Buffer, layers: number): readonly string[] {
  const diffIds = parseConfig(config).rootfs.diff_ids
  if (diffIds.length === layers) return diffIds
  throw invalidImage(`An image of the archive has ${layers} layers, and its config ${diffIds.length}`, 'layers', layers)
}

function checkDigest(bytes: Buffer, digest: string | undefined, name: string): void {
  if (digest === undefined || !isDigest(digest)) return
  const found = digestOfBytes(bytes, splitDigest(digest).algorithm)
  if (found === digest) return
  throw new MayflyError('DIGEST_MISMATCH', `${name} in the archive has the digest ${found}, not ${digest}`, {
    digest,
    value: found,
  })
}

/** One image that appears under several names is one image. */
function merged(images: readonly ArchivedImage[]): ArchivedImage[] {
  const byId = new Map<string, ArchivedImage>()
  for (const image of images) {
    const id = digestOfBytes(image.config)
    const known = byId.get(id)
    const references = [...new Set([...(known?.references ?? []), ...image.references])]
    byId.set(id, { ...image, manifest: known?.manifest ?? image.manifest, references })
  }
  return [...byId.values()]
}
