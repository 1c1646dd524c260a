/** In which form a layer leaves the store: as it came, as long as its blob is here, else packed anew. */

import type { Descriptor } from '../image/manifest.js'
import { layerCompression, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD } from '../image/media-types.js'
import type { Session } from '../session.js'
import { digestLayer, packLayer } from '../store/layer-archive.js'
import type { Layer } from '../store/layers.js'
import type { Store } from '../store/store.js'

const OCI_TYPES = { none: OCI_LAYER, gzip: OCI_LAYER_GZIP, zstd: OCI_LAYER_ZSTD } as const

export interface LayerForm {
  /** With OCI's media type. */
  readonly descriptor: Descriptor
  /** Differs from the layer's own where an archive from elsewhere cannot be made again: the image then gets another id. */
  readonly diffId: string
  /** The bytes, each time it is called. Fails when they are not what the descriptor says. */
  open(signal?: AbortSignal): AsyncIterable<Uint8Array>
}

export async function layerForm(
  { session, store }: { readonly session: Session; readonly store: Store },
  layer: Layer,
  signal?: AbortSignal,
): Promise<LayerForm> {
  for (const { mediaType, digest, size } of layer.blobs) {
    if (!(await store.blobs.has(digest, size))) continue
    return {
      descriptor: { mediaType: OCI_TYPES[layerCompression({ mediaType, digest, size })], digest, size },
      diffId: layer.diffId,
      open: (cancel) => store.blobs.open(digest, cancel),
    }
  }
  const { digest, size } = await digestLayer(session, { tree: layer.tree }, signal)
  return {
    descriptor: { mediaType: OCI_LAYER, digest, size },
    diffId: digest,
    open: (cancel) => packLayer(session, { tree: layer.tree }, cancel).bytes,
  }
}
