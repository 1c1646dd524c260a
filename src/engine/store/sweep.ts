/**
 * Removes layers and blobs that nothing needs. Only with the lock that keeps writers out: what is just being made belongs to
 * nothing yet.
 */

import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { splitDigest } from '../image/digest.js'
import type { Layer } from './layers.js'
import type { Store } from './store.js'

export interface Swept {
  /** chainIDs. */
  readonly layers: readonly string[]
  readonly blobs: readonly string[]
  /** chainIDs of layers that nothing needs but a container that runs. */
  readonly busy: readonly string[]
  readonly bytesFreed: number
}

export interface SweepOptions {
  /** Only these layers and the blobs. @default all */
  readonly among?: readonly string[] | undefined
  /** Images that count as gone already. */
  readonly without?: ReadonlySet<string>
  /** Files of the cache that count as gone already. */
  readonly withoutCache?: ReadonlySet<string>
  /** Only tells what would go. @default false */
  readonly dryRun?: boolean
  readonly signal?: AbortSignal | undefined
}

/** Entries of the cache are small. What is larger is something else. */
const MAX_CACHE_ENTRY_BYTES = 256 * 1024

export async function sweep(store: Store, options: SweepOptions = {}): Promise<Swept> {
  const { dryRun = false, signal } = options
  const needed = await needs(store, options)
  const layers: string[] = []
  const blobs: string[] = []
  const busy: string[] = []
  let bytesFreed = 0
  const among = options.among && new Set(options.among)
  for (const chainId of await store.layers.list()) {
    signal?.throwIfAborted()
    if (needed.layers.has(chainId) || (among && !among.has(chainId))) continue
    const layer = await store.layers.get(chainId)
    if (!dryRun && (await store.layers.remove(chainId, signal)) === 'busy') {
      busy.push(chainId)
      for (const { digest } of layer?.blobs ?? []) needed.blobs.add(digest)
      continue
    }
    layers.push(chainId)
    bytesFreed += layer?.sizeBytes ?? 0
  }
  for (const { digest, size } of await store.blobs.list()) {
    signal?.throwIfAborted()
    if (needed.blobs.has(digest)) continue
    if (!dryRun) await store.blobs.remove(digest)
    blobs.push(digest)
    bytesFreed += size
  }
  return { layers, blobs, busy, bytesFreed }
}

interface Needs {
  readonly layers: Set<string>
  readonly blobs: Set<string>
}

/** Everything that an image or the cache names, and what that stands on. */
export async function needs(
  store: Store,
  { without, withoutCache }: Pick<SweepOptions, 'without' | 'withoutCache'> = {},
): Promise<Needs> {
  const found: Needs = { layers: new Set(), blobs: new Set() }
  for (const id of await store.images.ids()) {
    if (without?.has(id)) continue
    found.blobs.add(id) // also of an image that cannot be read now: its names are somebody's
    const image = await store.images.get(id, { incomplete: true })
    if (!image) continue
    if (image.manifest) found.blobs.add(image.manifest)
    for (const layer of image.layers) keep(found, layer)
  }
  // Whatever looks like a digest in an entry of the cache counts: the sweep need not know what each kind of entry says.
  const named = await digestsInCache(store.home, withoutCache)
  for (const chainId of await store.layers.list()) {
    if (!named.has(splitDigest(chainId).hex)) continue
    for (let at: string | undefined = chainId; at !== undefined; ) {
      const layer: Layer | undefined = await store.layers.get(at)
      if (layer) keep(found, layer)
      at = layer?.parent
    }
  }
  for (const { digest } of await store.blobs.list()) {
    if (named.has(splitDigest(digest).hex)) found.blobs.add(digest)
  }
  return found
}

function keep(found: Needs, layer: Layer): void {
  found.layers.add(layer.chainId)
  for (const { digest } of layer.blobs) found.blobs.add(digest)
}

/** Small files directly in `cache/<kind>`, except for digests of files, which are about no content of ours. */
async function digestsInCache(home: string, without: ReadonlySet<string> | undefined): Promise<Set<string>> {
  const digests = new Set<string>()
  for (const path of await cacheEntries(home)) {
    if (without?.has(path)) continue
    const { size } = await stat(path).catch(() => ({ size: 0 }))
    if (size > MAX_CACHE_ENTRY_BYTES) continue
    const text = await readFile(path, 'latin1').catch(() => '')
    for (const [hex] of text.matchAll(/(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/g)) digests.add(hex)
  }
  return digests
}

export async function cacheEntries(home: string, kinds?: readonly string[]): Promise<string[]> {
  const cache = join(home, 'cache')
  const all = kinds ?? (await readdir(cache).catch(() => [])).filter((kind) => kind !== 'digests')
  const lists = all.map(async (kind) => {
    const entries = await readdir(join(cache, kind), { withFileTypes: true }).catch(() => [])
    return entries.filter((entry) => entry.isFile()).map(({ name }) => join(cache, kind, name))
  })
  return (await Promise.all(lists)).flat()
}
