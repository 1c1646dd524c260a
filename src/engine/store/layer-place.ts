/** The directories in `layers/`: being alone with one, and taking it away. */

import { lstat, rm, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { MayflyError } from '../errors.js'
import type { StoreDisk } from './disk.js'
import { reap } from './layer-archive.js'
import { tryLock, withLock } from './lock.js'

/** Does the work alone in all processes, as far as what has this name is concerned. */
export function alone<T>(
  disk: StoreDisk,
  name: string,
  work: () => Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T> {
  const path = join(disk.home, 'locks', name)
  return withLock(disk.session, path, 'exclusive', () => tidily(path, work), signal)
}

/** The same, or nothing where somebody else is at it. */
export async function aloneAtOnce<T>(
  disk: StoreDisk,
  name: string,
  work: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T | undefined> {
  const path = join(disk.home, 'locks', name)
  const lock = await tryLock(disk.session, path, 'exclusive', signal)
  if (!lock) return undefined
  try {
    return await tidily(path, work)
  } finally {
    lock.release()
  }
}

async function tidily<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } finally {
    await unlink(path).catch(() => {}) // by its holder: whoever waits for it finds that out and makes a new one
  }
}

/** Removes a directory, whole or not, unless a container has it mounted. */
export async function removeDirectory(disk: StoreDisk, directory: string): Promise<'removed' | 'busy'> {
  const found = await lstat(directory).catch(() => undefined)
  if (!found) return 'removed'
  if (!found.isDirectory()) {
    await rm(directory)
    return 'removed'
  }
  return (await reap(disk.session, directory)) === 'busy' ? 'busy' : 'removed'
}

/** Takes away what lies in the place of a layer without being one. Throws LAYER_DAMAGED when that is in use. */
export async function clearPlace(disk: StoreDisk, directory: string, digest: string): Promise<void> {
  if ((await removeDirectory(disk, directory)) === 'removed') return
  throw new MayflyError('LAYER_DAMAGED', `Layer ${digest} in ${directory} is damaged, and a container uses it`, {
    digest,
    path: directory,
    hint: 'end the containers that use it; it is then made again',
  })
}

export function layerDamage(path: string, digest: string, why: string): MayflyError {
  return new MayflyError('LAYER_DAMAGED', `Layer ${digest} in ${path} is damaged: ${why}`, {
    digest,
    path,
    hint: 'it counts as absent and is made again when it is needed',
  })
}
