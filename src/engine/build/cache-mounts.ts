/**
 * Directories of `RUN --mount=type=cache`: they outlive the build, are shared by all builds, and are in no layer.
 *
 *     cache/mounts/<key>/tree/data     what is mounted
 *     locks/mount-<key>                shared or exclusive, as the mount's sharing says
 */

import { mkdir, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Lock, takeLock, tryLock } from '../store/lock.js'
import { Workspace } from '../workspace.js'
import { cacheKey } from './cache.js'
import type { BuildContext } from './context.js'
import type { CacheMount } from './dockerfile/types.js'
import { withWorkspace } from './make-layer.js'
import { isUnchanged, type SourceTree } from './source-tree.js'

export interface OpenCacheMount {
  /** Directory of the host in which the mount's `source` is looked up. */
  readonly directory: string
  /** False when it began with something else than its seed's identity says; then it is this step's alone. */
  readonly matchesKey: boolean
  release(): Promise<void>
}

/** What a cache begins with: the tree named by `from`, and what identifies its content. */
export interface CacheSeed {
  readonly tree: SourceTree
  readonly identity: string
}

const DATA = 'data'
/** Copies of a private cache that may be in use at the same time. */
const MAX_COPIES = 256

/**
 * Opens a cache, made when it is not there. `shared` caches are used by many at once, `locked` ones wait for each other, and of a `private`
 * one that is in use another copy is taken.
 */
export async function openCacheMount(
  context: BuildContext,
  emptyLayer: string,
  mount: CacheMount,
  seed: CacheSeed | undefined,
  signal: AbortSignal,
): Promise<OpenCacheMount> {
  for (let copy = 0; copy < MAX_COPIES; copy++) {
    // The id is whatever text the Dockerfile says; the digest of it is no path.
    const key = cacheKey('mount', [mount.id, seed?.identity ?? null, copy])
    const lock = await lockMount(context, key, mount.sharing, signal)
    if (!lock) continue
    try {
      const directory = join(context.store.home, 'cache', 'mounts', key)
      const isThere = await exists(join(directory, 'tree', DATA))
      const made = isThere ? directory : await make(context, emptyLayer, directory, mount, seed, signal)
      return {
        directory: join(made, 'tree', DATA),
        matchesKey: made === directory,
        release: async () => {
          lock.release()
          if (made !== directory) await context.store.discard(made)
        },
      }
    } catch (error) {
      lock.release()
      throw error
    }
  }
  throw new Error(`${MAX_COPIES} copies of the cache "${mount.id}" are in use`)
}

async function lockMount(
  { session, store }: BuildContext,
  key: string,
  sharing: CacheMount['sharing'],
  signal: AbortSignal,
): Promise<Lock | undefined> {
  const path = join(store.home, 'locks', `mount-${key}`)
  if (sharing === 'private') return tryLock(session, path, 'exclusive', signal)
  return takeLock(session, path, sharing === 'locked' ? 'exclusive' : 'shared', signal)
}

/**
 * Made elsewhere and renamed: two that make a shared one at the same time each make theirs, and the first stays. Where the seed has changed
 * meanwhile, it stays elsewhere. Resolves to where it is.
 */
async function make(
  context: BuildContext,
  emptyLayer: string,
  directory: string,
  mount: CacheMount,
  seed: CacheSeed | undefined,
  signal: AbortSignal,
): Promise<string> {
  const { session, store } = context
  const target = await store.temporary()
  let matchesKey = true
  await withWorkspace(await Workspace.open(session, [emptyLayer]), async (workspace) => {
    const { mode, uid, gid } = mount
    await workspace.transfer(
      { directory: emptyLayer },
      [{ source: '/', destination: `/${DATA}`, mode, uid, gid }],
      signal,
    )
    if (seed) {
      const records = (await seed.tree.below('')).map(({ path }) => ({
        source: path,
        destination: `/${DATA}/${path}`,
        hardLinks: true,
      }))
      await workspace.transfer(await seed.tree.transferSource(), records, signal)
      matchesKey = await isUnchanged(seed.tree)
    }
    await workspace.keep(target)
  })
  if (!matchesKey) return target
  await mkdir(join(store.home, 'cache', 'mounts'), { recursive: true, mode: 0o700 })
  try {
    await rename(target, directory)
  } catch (error) {
    await store.discard(target)
    if (!(await exists(join(directory, 'tree', DATA)))) throw error
  }
  return directory
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
