/** What `mayfly prune --dry-run` and `docker system df` tell: how much of each kind there is, and how much could go. */

import { stat } from 'node:fs/promises'
import type { PruneOptions } from './prune.js'
import type { Store } from './store.js'
import { cacheEntries, needs } from './sweep.js'

export interface KindUsage {
  readonly count: number
  /** Of them in use: images by a container, the rest by an image. */
  readonly active: number
  readonly sizeBytes: number
  /** What goes when all that is not in use is removed. */
  readonly reclaimableBytes: number
}

export interface StoreUsage {
  /** Images with the layers they share counted once. */
  readonly images: KindUsage
  /** Configs, manifests and compressed layers. */
  readonly blobs: KindUsage
  /** Entries of the build cache, with the layers that no image needs. */
  readonly buildCache: KindUsage
  /** Tars unpacked as root file systems. */
  readonly tars: KindUsage
  /** What databases and other services have made of their images. */
  readonly preparedStates: KindUsage
}

export async function usage(store: Store, { user }: Pick<PruneOptions, 'user'>): Promise<StoreUsage> {
  const images = await store.images.list({ incomplete: true })
  const used = images.filter(({ id }) => user?.(id))
  const ofImages = sizes(images)
  const activeLayers = sizes(used)
  const imageBytes = total(ofImages.values())

  const everything = await needs(store)
  const cached = [...everything.layers].filter((chainId) => !ofImages.has(chainId))
  const cachedLayers = await Promise.all(cached.map((chainId) => store.layers.get(chainId)))
  const entries = await cacheEntries(store.home, ['build'])
  const entryBytes = await Promise.all(
    entries.map((path) =>
      stat(path).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  )
  const cacheBytes = total(cachedLayers.map((layer) => layer?.sizeBytes ?? 0)) + total(entryBytes)

  const blobs = await store.blobs.list()
  const needed = blobs.filter(({ digest }) => everything.blobs.has(digest))
  const blobBytes = total(blobs.map(({ size }) => size))

  const tars = await Promise.all((await store.tars.list()).map((hex) => store.tars.get(hex)))
  const tarBytes = total(tars.map((tar) => tar?.sizeBytes ?? 0))
  const names = await store.prepared.list()
  const states = await Promise.all(names.map((name) => store.prepared.entry(name)))
  const stateBytes = total(states.map((state) => state?.sizeBytes ?? 0))
  return {
    images: {
      count: images.length,
      active: used.length,
      sizeBytes: imageBytes,
      reclaimableBytes: imageBytes - total(activeLayers.values()),
    },
    blobs: {
      count: blobs.length,
      active: needed.length,
      sizeBytes: blobBytes,
      reclaimableBytes: blobBytes - total(needed.map(({ size }) => size)),
    },
    buildCache: { count: entries.length, active: 0, sizeBytes: cacheBytes, reclaimableBytes: cacheBytes },
    tars: { count: tars.length, active: 0, sizeBytes: tarBytes, reclaimableBytes: tarBytes },
    preparedStates: { count: names.length, active: 0, sizeBytes: stateBytes, reclaimableBytes: stateBytes },
  }
}

function sizes(images: Awaited<ReturnType<Store['images']['list']>>): Map<string, number> {
  return new Map(images.flatMap(({ layers }) => layers.map((layer) => [layer.chainId, layer.sizeBytes] as const)))
}

function total(numbers: Iterable<number>): number {
  let sum = 0
  for (const number of numbers) sum += number
  return sum
}
