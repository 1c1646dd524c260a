/**
 * Manifests and indexes: which blobs an image consists of, and which image of several is for which platform.
 *
 * They come from strangers, and their digests become paths. Nothing that has not been checked here leaves here.
 */

import { createHash } from 'node:crypto'
import { MayflyError } from '../errors.js'
import { MAX_CONFIG_BYTES } from './config.js'
import { digestProblem } from './digest.js'
import { invalidImage, isObject, isStringMap, isStrings, kind, parseDocument } from './document.js'
import { DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from './media-types.js'
import type { Platform } from './platform.js'

/** As registries do. */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024

/** Points to a blob. */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  /** Bytes. */
  readonly size: number
  readonly platform?: Platform
  readonly annotations?: Readonly<Record<string, string>>
  /** Where else it may be fetched; layers that have this are refused. */
  readonly urls?: readonly string[]
}

export interface Manifest {
  readonly kind: 'manifest'
  readonly mediaType: string
  readonly config: Descriptor
  /** Lowest first. */
  readonly layers: readonly Descriptor[]
}

export interface Index {
  readonly kind: 'index'
  readonly mediaType: string
  readonly manifests: readonly Descriptor[]
}

export type ManifestDocument = Manifest | Index

/**
 * Reads a manifest or an index. `mediaType` is what it was announced as (a Content-Type, a descriptor); types that say
 * nothing, such as `application/json`, count as none.
 *
 * Throws IMAGE_INVALID naming the field, and NOT_SUPPORTED for schema 1 and for layers that lie elsewhere.
 */
export function parseManifest(bytes: Uint8Array, mediaType?: string): ManifestDocument {
  const announced = mediaType?.replace(/;.*/s, '').trim().toLowerCase()
  const document = parseDocument(bytes, 'manifest', MAX_MANIFEST_BYTES)
  const stated = document.mediaType
  if (
    document.schemaVersion === 1 ||
    /docker\.distribution\.manifest\.v1\+/.test(`${announced}`) ||
    'fsLayers' in document
  ) {
    throw new MayflyError('NOT_SUPPORTED', 'The manifest has schema version 1, which Docker gave up in 2022', {
      field: 'schemaVersion',
      value: document.schemaVersion,
      hint: 'push the image again with a current tool, or ask for the digest of a newer one',
    })
  }
  if (document.schemaVersion !== 2) throw wrong('schemaVersion', '2', document.schemaVersion)
  if (stated !== undefined && typeof stated !== 'string') throw wrong('mediaType', 'a string', stated)
  // CVE-2021-41190: what is both would be one image to a scanner and another one to us.
  if (given(document.manifests) && (given(document.layers) || given(document.config))) {
    throw invalidImage('The manifest has both layers and manifests: it could be read in two ways', 'manifests')
  }
  const kindOf = given(document.manifests) ? 'index' : 'manifest'
  for (const type of [stated, announced]) {
    if (type === undefined || kindOfType(type) === undefined || kindOfType(type) === kindOf) continue
    throw invalidImage(`The document is said to be ${type}, but has the fields of an ${kindOf}`, 'mediaType', type)
  }
  if (stated && announced && kindOfType(stated) && kindOfType(announced) && stated !== announced) {
    throw invalidImage(`The manifest calls itself ${stated} and was announced as ${announced}`, 'mediaType', stated)
  }
  const type = [stated, announced].find((candidate) => candidate !== undefined && kindOfType(candidate) !== undefined)
  if (stated !== undefined && kindOfType(stated) === undefined) {
    throw new MayflyError('NOT_SUPPORTED', `The manifest has the media type ${stated}, which is no image`, {
      field: 'mediaType',
      value: stated,
    })
  }
  if (kindOf === 'index') {
    const manifests = list(document.manifests, 'manifests').map((entry, i) => descriptor(entry, `manifests[${i}]`))
    return { kind: 'index', mediaType: type ?? OCI_INDEX, manifests }
  }
  const config = descriptor(document.config, 'config')
  if (config.size > MAX_CONFIG_BYTES) {
    throw invalidImage(
      `The image config has ${config.size} bytes; at most ${MAX_CONFIG_BYTES} are read`,
      'config.size',
      config.size,
    )
  }
  const layers = list(document.layers, 'layers').map((entry, i) => descriptor(entry, `layers[${i}]`))
  for (const [index, { digest, urls }] of layers.entries()) {
    if (!urls || urls.length === 0) continue
    throw new MayflyError(
      'NOT_SUPPORTED',
      `Layer ${digest} is a foreign layer: it lies at ${hosts(urls)}, not in the registry`,
      {
        field: `layers[${index}].urls`,
        value: digest,
        hint: 'foreign layers are used by Windows images; use a Linux image',
      },
    )
  }
  return { kind: 'manifest', mediaType: type ?? OCI_MANIFEST, config, layers }
}

/**
 * The chainID of each layer: what it is together with all below it, and so the name of its directory.
 *
 * They are computed as `sha256(<chainID below> <diffID>)`; the lowest one's is its diffID.
 */
export function chainIds(diffIds: readonly string[]): string[] {
  const chain: string[] = []
  for (const diffId of diffIds) chain.push(chainId(chain.at(-1), diffId))
  return chain
}

/** The chainID of a layer upon the one with chainID `parent`, or upon nothing. */
export function chainId(parent: string | undefined, diffId: string): string {
  if (parent === undefined) return diffId
  return `sha256:${createHash('sha256').update(`${parent} ${diffId}`).digest('hex')}`
}

function kindOfType(type: string): 'manifest' | 'index' | undefined {
  if (type === OCI_MANIFEST || type === DOCKER_MANIFEST) return 'manifest'
  if (type === OCI_INDEX || type === DOCKER_INDEX) return 'index'
  return undefined
}

function given(value: unknown): boolean {
  return value !== undefined && value !== null
}

function list(value: unknown, field: string): readonly unknown[] {
  if (value === null || value === undefined) return []
  if (!Array.isArray(value)) throw wrong(field, 'a list', value)
  return value
}

function descriptor(value: unknown, field: string): Descriptor {
  if (!isObject(value)) throw wrong(field, 'an object', value)
  const { mediaType, digest, size, platform, annotations, urls } = value
  if (typeof mediaType !== 'string') throw wrong(`${field}.mediaType`, 'a string', mediaType)
  if (typeof digest !== 'string') throw wrong(`${field}.digest`, 'a digest', digest)
  const problem = digestProblem(digest)
  if (problem) throw wrong(`${field}.digest`, `a digest (${problem})`, digest)
  if (!Number.isSafeInteger(size) || (size as number) < 0) throw wrong(`${field}.size`, 'a number of bytes', size)
  if (given(annotations) && !isStringMap(annotations))
    throw wrong(`${field}.annotations`, 'an object of strings', annotations)
  if (given(urls) && !isStrings(urls)) throw wrong(`${field}.urls`, 'a list of strings', urls)
  return {
    mediaType,
    digest,
    size: size as number,
    ...(given(platform) ? { platform: platformOf(platform, `${field}.platform`) } : {}),
    ...(isStringMap(annotations) ? { annotations } : {}),
    ...(isStrings(urls) ? { urls } : {}),
  }
}

function platformOf(value: unknown, field: string): Platform {
  if (!isObject(value)) throw wrong(field, 'an object', value)
  const { os, architecture, variant } = value
  if (typeof os !== 'string') throw wrong(`${field}.os`, 'a string', os)
  if (typeof architecture !== 'string') throw wrong(`${field}.architecture`, 'a string', architecture)
  if (given(variant) && typeof variant !== 'string') throw wrong(`${field}.variant`, 'a string', variant)
  return { os, architecture, ...(typeof variant === 'string' && variant !== '' ? { variant } : {}) }
}

function wrong(field: string, expected: string, value: unknown): MayflyError {
  const found = value === undefined ? 'and it is missing' : `not ${kind(value)}`
  return invalidImage(`The manifest is not valid: ${field} must be ${expected}, ${found}`, field, value)
}

/** Host names only: the addresses may hold secrets. */
function hosts(urls: readonly string[]): string {
  return [...new Set(urls.map((url) => (URL.canParse(url) ? new URL(url).host : '?')))].join(', ')
}
