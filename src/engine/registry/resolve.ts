/** From a reference to the manifest of one image: where to ask, and which of an index's images. */

import { MayflyError } from '../errors.js'
import { type Manifest, parseManifest } from '../image/manifest.js'
import { choosePlatform, type Platform } from '../image/platform.js'
import { formatReference, type ImageReference } from '../image/reference.js'
import { pullSources } from '../image/substitute.js'
import type { RegistryClient } from './client.js'
import { fail } from './failure.js'
import { type ProgressListener, tell } from './progress.js'

export interface ResolvedImage {
  /** Of the repository that has it. */
  readonly client: RegistryClient
  readonly manifest: Manifest
  readonly bytes: Buffer
  /** Digest of what the reference named: an index, if there is one, else the manifest. */
  readonly digest: string
}

/** What went wrong with one source and need not with the next. */
const ELSEWHERE = new Set<MayflyError['code']>([
  'REGISTRY_UNREACHABLE',
  'REGISTRY_DENIED',
  'REGISTRY_NOT_FOUND',
  'REGISTRY_RATE_LIMIT',
  'REGISTRY_FAILED',
])

/** Does something with the client of each source (mirrors, then the registry itself) until it succeeds with one. */
export async function withSource<T>(
  reference: ImageReference,
  open: (source: ImageReference) => RegistryClient,
  work: (client: RegistryClient, source: ImageReference) => Promise<T>,
  onProgress?: ProgressListener,
): Promise<T> {
  const sources = pullSources(reference)
  for (const [index, source] of sources.entries()) {
    try {
      return await work(open(source), source)
    } catch (error) {
      const isLast = index === sources.length - 1
      if (isLast || !(error instanceof MayflyError) || !ELSEWHERE.has(error.code)) throw error
      tell(onProgress, {
        type: 'status',
        text: `${error.message.split('\n')[0]}; trying ${sources[index + 1]!.registry}`,
      })
    }
  }
  throw new TypeError(`${formatReference(reference)} has no source`)
}

/** Fetches what the reference names, and if that is an index, the manifest for the platform. */
export async function resolveImage(
  client: RegistryClient,
  source: ImageReference,
  platform: Platform,
): Promise<ResolvedImage> {
  const first = await client.manifest(source.digest ?? source.tag!)
  const document = parseManifest(first.bytes, first.mediaType)
  if (document.kind === 'manifest') return { client, manifest: document, bytes: first.bytes, digest: first.digest }
  const chosen = choosePlatform(document.manifests, platform, client.purpose.subject)
  const second = await client.manifest(chosen.digest)
  if (second.bytes.length !== chosen.size) {
    const why = `the manifest ${chosen.digest} has ${second.bytes.length} bytes, its index says ${chosen.size}`
    throw fail('SIZE_MISMATCH', client.purpose, why, { digest: chosen.digest })
  }
  const manifest = parseManifest(second.bytes, second.mediaType)
  if (manifest.kind === 'index') {
    throw fail(
      'IMAGE_INVALID',
      client.purpose,
      `the index ${first.digest} names another index (${chosen.digest}) for a platform`,
    )
  }
  return { client, manifest, bytes: second.bytes, digest: first.digest }
}
