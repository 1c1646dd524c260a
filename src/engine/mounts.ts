/** What the mounts of a container need before it can be planned: volumes and directories made, images found, other containers looked up. */

import { mkdir } from 'node:fs/promises'
import { MayflyError } from './errors.js'
import type { CompleteContainerOptions, CompleteMount } from './launch/complete.js'
import type { ImageFacts } from './launch/image.js'
import type { Life } from './life.js'

export interface MountsContext {
  /** Makes the volumes that are missing: name → labels. */
  ensureVolumes(wanted: ReadonlyMap<string, Readonly<Record<string, string>>>): Promise<void> | undefined
  /** Finds or fetches an image. */
  resolveImage(reference: string): Promise<Pick<ImageFacts, 'id' | 'layers'>>
  /** Throws NO_SUCH_CONTAINER. */
  find(reference: string): Life
}

/**
 * The options with their mounts as they can be planned. A promise only where something has to be made or looked for.
 *
 * Throws NO_SUCH_CONTAINER, IMAGE_NOT_FOUND and what a pull throws, and MOUNT_FAILED where a directory cannot be made.
 */
export function settleMounts(
  options: CompleteContainerOptions,
  context: MountsContext,
): CompleteContainerOptions | Promise<CompleteContainerOptions> {
  const mounts = options.volumesFrom.length > 0 ? withOthers(options, context) : options.mounts
  const volumes = new Map(mounts.flatMap((mount) => (mount.type === 'volume' ? [[mount.source, mount.labels]] : [])))
  const making = volumes.size > 0 ? context.ensureVolumes(volumes) : undefined
  const isSettled =
    !making && mounts.every((mount) => mount.type !== 'image' && !('createSource' in mount && mount.createSource))
  if (isSettled) return mounts === options.mounts ? options : Object.freeze({ ...options, mounts })
  return settle(options, mounts, making, context)
}

async function settle(
  options: CompleteContainerOptions,
  mounts: readonly CompleteMount[],
  making: Promise<void> | undefined,
  context: MountsContext,
): Promise<CompleteContainerOptions> {
  await making
  const settled = await Promise.all(
    mounts.map(async (mount, index) => {
      if (mount.type === 'bind' && mount.createSource) await makeSource(mount.source, index)
      if (mount.type !== 'image' || mount.id !== '') return mount
      const { id, layers } = await context.resolveImage(mount.source)
      return Object.freeze({ ...mount, id, layers: Object.freeze([...layers].reverse()) })
    }),
  )
  return Object.freeze({ ...options, mounts: Object.freeze(settled) })
}

/** The caller's mounts, and those of the containers in `volumesFrom` at all other places; of two such containers the first counts. */
function withOthers({ mounts, volumesFrom }: CompleteContainerOptions, { find }: MountsContext): CompleteMount[] {
  const all = new Map(mounts.map((mount) => [mount.target, mount]))
  for (const { container, readonly } of volumesFrom) {
    const { id, options } = find(container)
    const own = options.volumes
      .filter((path) => !options.mounts.some(({ target }) => target === path))
      .map((path) => ({ type: 'shared', container: id, source: path, target: path, readonly }) as const)
    for (const mount of [...options.mounts, ...own]) {
      if (!all.has(mount.target)) all.set(mount.target, readonly ? asReadonly(mount) : mount)
    }
  }
  return [...all.values()]
}

function asReadonly(mount: CompleteMount): CompleteMount {
  if (mount.type === 'image') return mount
  if (mount.type !== 'tmpfs') return { ...mount, readonly: true }
  return { ...mount, flags: [...new Set([...mount.flags, 'ro'])] }
}

async function makeSource(source: string, index: number): Promise<void> {
  try {
    await mkdir(source, { recursive: true })
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return // a file, which can be mounted as well
    const facts = { field: `mounts[${index}].source`, value: source, ...(code ? { errno: code } : {}) }
    throw new MayflyError('MOUNT_FAILED', `Cannot make the mount source ${source}: ${message}`, facts, { cause: error })
  }
}
