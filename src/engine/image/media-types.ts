/** Media types of the OCI image specification and of Docker's schema 2, which describe the same things. */

import { MayflyError } from '../errors.js'
import type { Descriptor } from './manifest.js'

export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json'
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json'
export const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar'
export const OCI_LAYER_GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip'
export const OCI_LAYER_ZSTD = 'application/vnd.oci.image.layer.v1.tar+zstd'
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
export const DOCKER_INDEX = 'application/vnd.docker.distribution.manifest.list.v2+json'
export const DOCKER_CONFIG = 'application/vnd.docker.container.image.v1+json'
const DOCKER_LAYER = 'application/vnd.docker.image.rootfs.diff.tar'
export const DOCKER_LAYER_GZIP = 'application/vnd.docker.image.rootfs.diff.tar.gzip'

/** What a registry is told that we understand. */
export const MANIFEST_TYPES: readonly string[] = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST]

export type LayerCompression = 'none' | 'gzip' | 'zstd'

const LAYERS: Readonly<Record<string, LayerCompression>> = {
  [OCI_LAYER]: 'none',
  [OCI_LAYER_GZIP]: 'gzip',
  [OCI_LAYER_ZSTD]: 'zstd',
  // Deprecated since OCI 1.1, and no different where the registry has them.
  'application/vnd.oci.image.layer.nondistributable.v1.tar': 'none',
  'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip': 'gzip',
  'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd': 'zstd',
  [DOCKER_LAYER]: 'none',
  [DOCKER_LAYER_GZIP]: 'gzip',
  'application/vnd.docker.image.rootfs.diff.tar.zstd': 'zstd',
  'application/vnd.docker.image.rootfs.foreign.diff.tar': 'none',
  'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip': 'gzip',
}

/** How a layer says that it is compressed. Throws NOT_SUPPORTED for what is no layer of a root file system. */
export function layerCompression({ mediaType, digest }: Descriptor): LayerCompression {
  if (Object.hasOwn(LAYERS, mediaType)) return LAYERS[mediaType]!
  throw new MayflyError(
    'NOT_SUPPORTED',
    `Layer ${digest} has the media type ${mediaType}, which is no archive of files`,
    {
      field: 'mediaType',
      value: mediaType,
      hint: 'this looks like an artifact (a chart, a signature, an attestation) rather than an image that can run',
    },
  )
}

/** Whether a manifest's config is an image's, as opposed to an artifact's. */
export function isImageConfig(mediaType: string): boolean {
  return mediaType === OCI_CONFIG || mediaType === DOCKER_CONFIG
}
