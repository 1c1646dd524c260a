/** A layer's tree as a compressed archive among the store's blobs, to be pushed. */

import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import type { Session } from '../session.js'
import { packLayer } from '../store/layer-archive.js'
import type { Layer } from '../store/layers.js'
import type { Store } from '../store/store.js'
import { fail, type Purpose } from './failure.js'

/**
 * Of 107 MB of a Debian's files, level 1 makes 38.5 MB in 0.9 s, 4 makes 36.1 MB in 1.4 s, and 6, which is usual, 35.1 MB in 2.3 s. Level 1
 * is done with a push first on whatever is faster than 20 Mbit/s.
 */
const LEVEL = 1
const CHUNK_BYTES = 256 * 1024

/**
 * Packs the tree and keeps the result as a blob. Equal trees give equal bytes.
 *
 * Throws BLOB_NOT_FOUND when the archive is not the one that the image's config names: the layer came from elsewhere, and what it
 * came in is gone.
 */
export async function compressLayer(
  { session, store }: { readonly session: Session; readonly store: Pick<Store, 'blobs'> },
  layer: Layer,
  purpose: Purpose,
  signal?: AbortSignal,
): Promise<{ readonly digest: string; readonly size: number }> {
  const { bytes, done } = packLayer(session, { tree: layer.tree }, signal)
  const writer = await store.blobs.writer()
  try {
    const gzip = createGzip({ level: LEVEL, chunkSize: CHUNK_BYTES })
    const write = async (pieces: AsyncIterable<Uint8Array>) => {
      for await (const piece of pieces) await writer.write(piece)
    }
    await pipeline(bytes, gzip, write, ...(signal ? [{ signal }] : []))
    const { digest } = await done
    if (digest !== layer.diffId) {
      const why = `layer ${layer.diffId} is not here in the form it came in, and its files make another archive (${digest})`
      const hint = 'pull or load the image again, then push'
      throw fail('BLOB_NOT_FOUND', purpose, why, { digest: layer.diffId, hint })
    }
    return await writer.commit()
  } finally {
    await writer.abort()
  }
}
