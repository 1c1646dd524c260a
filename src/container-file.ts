/** Reading one file of a container, running or stopped, through symbolic links as `open` would. */

import { posix } from 'node:path'
import type { BackendContainer } from './backends/backend.js'
import { MayflyError } from './engine/errors.js'
import { firstEntry } from './tar.js'

/** As many as the kernel follows. */
const MAX_LINKS = 40

/** Throws PATH_NOT_FOUND, also for a link that leads nowhere, and INVALID_OPTION for what has no contents. */
export async function readContainerFile(
  container: BackendContainer,
  path: string,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  let at = path
  for (let links = 0; links <= MAX_LINKS; links++) {
    const { type, link, contents } = await firstEntry(container.copyOut(at, signal ? { signal } : {}))
    if (type === 'file') return contents
    if (type !== 'link') return refuse(container, path, `it is ${type === 'directory' ? 'a directory' : 'no file'}`)
    // Not made shorter here: what `..` means behind a link to a directory, the container's file system knows.
    at = posix.isAbsolute(link) ? link : `${posix.dirname(at)}/${link}`
  }
  return refuse(container, path, 'its symbolic links lead round in a circle')
}

function refuse(container: BackendContainer, path: string, why: string): never {
  throw new MayflyError('INVALID_OPTION', `Cannot read ${path} of "${container.name}": ${why}`, {
    container: container.name,
    field: 'path',
    value: path,
  })
}
