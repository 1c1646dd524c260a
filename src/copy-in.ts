/** Copies into a container, running or about to be started. */

import type { BackendContainer } from './backends/backend.js'
import { type ArchiveToCopy, type Copies, type CopyToContainerOptions, entriesOf, ownerOf } from './copy.js'
import type { Definition } from './definition.js'
import { MayflyError } from './engine/errors.js'
import { packTar } from './tar.js'

interface Destination {
  readonly container: BackendContainer
  readonly definition: Pick<Definition, 'user'>
}

/** Files, directories and contents, in one archive. Parents that are missing are made. */
export async function copyEntries(
  { container, definition }: Destination,
  copies: Copies,
  { copyUIDGID = false }: CopyToContainerOptions,
  signal?: AbortSignal,
): Promise<void> {
  if (copies.files.length + copies.directories.length + copies.contents.length === 0) return
  const owner = ownerOf(copyUIDGID ? definition.user : undefined)
  await container.copyIn('/', packTar(entriesOf(copies, owner)), signal ? { signal } : {})
}

const read = new WeakSet<object>()

/** Archives, also compressed ones, one after the other: a later one may replace files of an earlier one. */
export async function copyArchives(
  { container }: Destination,
  archives: readonly ArchiveToCopy[],
  { copyUIDGID = false }: CopyToContainerOptions,
  signal?: AbortSignal,
): Promise<void> {
  if (copyUIDGID && archives.length > 0) {
    throw new MayflyError('NOT_SUPPORTED', 'copyUIDGID cannot change the owners that an archive names', {
      field: 'copyUIDGID',
      hint: 'write the owners into the archive',
    })
  }
  for (const { tar, target = '/' } of archives) {
    if (read.has(tar)) {
      throw new MayflyError('INVALID_OPTION', `The archive for ${target} is a stream that was read already`, {
        field: 'archives',
        value: target,
        hint: 'such a definition can be started once; make another one with a new stream',
      })
    }
    read.add(tar)
    const { decompress } = await import('./engine/store/decompress.js')
    await container.copyIn(
      target,
      decompress(tar, undefined, { name: `The archive for ${target}` }),
      signal ? { signal } : {},
    )
  }
}
