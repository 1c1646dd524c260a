/** What `mayfly prune` does: `docker image prune` and `docker builder prune` for our store. */

import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { reap } from './layer-archive.js'
import { tryLock } from './lock.js'
import type { RemoveOptions } from './remove.js'
import type { Store } from './store.js'
import { cacheEntries, sweep } from './sweep.js'
import type { Writing } from './writing.js'

export interface PruneOptions {
  /** Also images that have a name and that no container uses, and unpacked tars. @default false: images without a name */
  readonly all?: boolean
  /** Only what came here before. @default now */
  readonly until?: Date
  /** Also the build cache, cache mounts included, and the layers only it needs. @default false */
  readonly buildCache?: boolean
  /** Only tells what would go. @default false */
  readonly dryRun?: boolean
  /** Which container uses an image. @default none; a layer that is mounted stays in any case */
  readonly user?: RemoveOptions['user']
  /** How long it waits for pulls and builds under way. @default 30000 */
  readonly waitMs?: number
  readonly signal?: AbortSignal
}

/** What has gone. */
export interface Pruned {
  /** Ids. */
  readonly images: readonly string[]
  /** chainIDs. */
  readonly layers: readonly string[]
  readonly blobs: readonly string[]
  /** Unpacked tars, by the digest of the file in hexadecimal. */
  readonly tars: readonly string[]
  /** Entries of the build cache. */
  readonly cacheEntries: number
  /** Cache mounts. */
  readonly cacheMounts: number
  /** Prepared states: they are made again when they are needed. */
  readonly preparedStates: number
  /** Layers that would have gone if no container had them mounted. */
  readonly busy: readonly string[]
  /** Content of the files; the disk may give back more. */
  readonly bytesFreed: number
}

const DEFAULT_WAIT_MS = 30_000

export async function prune(store: Store, writing: Writing, options: PruneOptions): Promise<Pruned> {
  const { waitMs = DEFAULT_WAIT_MS, signal } = options
  return writing.alone(waitMs, signal, async () => {
    const images = await pruneImages(store, options)
    await store.images.removeDeadNames(options.dryRun)
    const cache = options.buildCache ? await pruneCache(store, options) : { entries: [], mounts: 0, bytesFreed: 0 }
    const tars = options.all ? await pruneTars(store, options) : { removed: [], busy: [], bytesFreed: 0 }
    const swept = await sweep(store, {
      without: new Set(images),
      withoutCache: new Set(cache.entries),
      dryRun: options.dryRun ?? false,
      signal,
    })
    const prepared = await prunePrepared(store, options)
    if (!options.dryRun) await sweepLocks(store, signal)
    return {
      images,
      layers: swept.layers,
      blobs: swept.blobs,
      tars: tars.removed,
      cacheEntries: cache.entries.length,
      cacheMounts: cache.mounts,
      preparedStates: prepared.removed,
      busy: [...swept.busy, ...tars.busy.map((hex) => `sha256:${hex}`)],
      bytesFreed: swept.bytesFreed + cache.bytesFreed + tars.bytesFreed + prepared.bytesFreed,
    }
  })
}

async function pruneImages(
  store: Store,
  { all = false, until, dryRun = false, user }: PruneOptions,
): Promise<string[]> {
  const named = new Set(store.images.names().map(({ id }) => id))
  const removed: string[] = []
  for (const id of await store.images.ids()) {
    const image = await store.images.get(id, { incomplete: true })
    // One whose config is lost counts as absent, whatever it is called: its name can only be pulled or built again.
    const isLost = image === undefined
    if ((named.has(id) && !all && !isLost) || user?.(id)) continue
    if (until && image && image.addedAt >= until) continue
    if (!dryRun) await store.images.forget(id)
    removed.push(id)
  }
  return removed
}

async function pruneCache(
  store: Store,
  { until, dryRun = false, signal }: PruneOptions,
): Promise<{ entries: string[]; mounts: number; bytesFreed: number }> {
  const entries: string[] = []
  let bytesFreed = 0
  for (const path of await cacheEntries(store.home, ['build'])) {
    const found = await stat(path).catch(() => undefined)
    if (!found || (until && found.mtime >= until)) continue
    if (!dryRun) await rm(path, { force: true })
    entries.push(path)
    bytesFreed += found.size
  }
  // What contexts were like the last time: no entries of the cache, but of no use without them.
  for (const path of await cacheEntries(store.home, ['digests'])) {
    const found = await stat(path).catch(() => undefined)
    if (!found || (until && found.mtime >= until)) continue
    if (!dryRun) await rm(path, { force: true })
    bytesFreed += found.size
  }
  let mounts = 0
  const directory = join(store.home, 'cache', 'mounts')
  for (const name of await readdir(directory).catch(() => [])) {
    const path = join(directory, name)
    const found = await stat(path).catch(() => undefined)
    if (!found?.isDirectory() || (until && found.mtime >= until)) continue
    // Builds hold this lock while a step uses the mount (src/engine/build/cache-mounts.ts).
    const lock = await tryLock(store.disk.session, join(store.home, 'locks', `mount-${name}`), 'exclusive', signal)
    if (!lock) continue
    try {
      if (dryRun || (await reap(store.disk.session, path)) === 'reaped') mounts++
    } finally {
      lock.release()
    }
  }
  return { entries, mounts, bytesFreed }
}

async function pruneTars(
  store: Store,
  { until, dryRun = false, signal }: PruneOptions,
): Promise<{ removed: string[]; busy: string[]; bytesFreed: number }> {
  const removed: string[] = []
  const busy: string[] = []
  let bytesFreed = 0
  for (const hex of await store.tars.list()) {
    const facts = await store.tars.get(hex)
    if (until && facts && facts.createdAt >= until) continue
    if (!dryRun && (await store.tars.remove(hex, signal)) === 'busy') {
      busy.push(hex)
      continue
    }
    removed.push(hex)
    bytesFreed += facts?.sizeBytes ?? 0
  }
  return { removed, busy, bytesFreed }
}

/** Those that no container uses. */
async function prunePrepared(
  store: Store,
  { until, dryRun = false, signal }: PruneOptions,
): Promise<{ removed: number; bytesFreed: number }> {
  let removed = 0
  let bytesFreed = 0
  for (const name of await store.prepared.list()) {
    const entry = await store.prepared.entry(name)
    if (!entry || (until && entry.usedAt >= until)) continue
    if (!dryRun && (await store.prepared.remove(name, signal)) === 'busy') continue
    removed++
    bytesFreed += entry.sizeBytes
  }
  return { removed, bytesFreed }
}

/** Files of locks whose holder was killed before it could remove them. */
async function sweepLocks(store: Store, signal: AbortSignal | undefined): Promise<void> {
  const directory = join(store.home, 'locks')
  for (const name of await readdir(directory).catch(() => [])) {
    const path = join(directory, name)
    const lock = await tryLock(store.disk.session, path, 'exclusive', signal)
    if (!lock) continue // in use
    await rm(path, { force: true })
    lock.release()
  }
}
