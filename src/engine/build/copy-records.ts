/** From what a COPY selects and what its destination is to the single transfers: the destination's side of its rules. */

import { posix } from 'node:path'
import { MayflyError } from '../errors.js'
import type { Entry } from '../tree.js'
import type { TransferRecord } from '../workspace.js'
import type { SelectedEntry, Selection } from './select.js'

export interface Owner {
  readonly uid: number
  readonly gid: number
}

export interface CopyRules {
  /** Absolute; ends with a slash when it is to be a directory. */
  readonly destination: string
  /** Owner of all that is copied; undefined: as it is in the source. */
  readonly owner: Owner | undefined
  /** New permission bits from the old ones. */
  readonly chmod: ((mode: number, isDirectory: boolean) => number) | undefined
}

/** What is there before: the destination with links followed. */
export interface DestinationFacts {
  /** Real path, absolute. */
  readonly path: string
  readonly type: Entry['type'] | undefined
}

/** Whether a file goes into the destination under its own name rather than becoming it. */
export function goesInto(destination: string, facts: DestinationFacts): boolean {
  return facts.type === 'd' || destination.endsWith('/')
}

/** Throws COPY_CONFLICT where several files would become one, or a directory would have to take the place of a file. */
export function copyRecords(
  selections: readonly Selection[],
  rules: CopyRules,
  facts: DestinationFacts,
): TransferRecord[] {
  const { destination, owner } = rules
  const files = selections.filter(({ isDirectory }) => !isDirectory)
  const isInto = goesInto(destination, facts)
  if (
    facts.type !== undefined &&
    facts.type !== 'd' &&
    (destination.endsWith('/') || files.length < selections.length)
  ) {
    throw new MayflyError(
      'COPY_CONFLICT',
      `Cannot copy a directory over ${destination.replace(/\/$/, '')}, which is a file`,
      {
        value: destination,
      },
    )
  }
  if (files.length > 1 && !isInto) throw severalFiles(destination)
  const parents = { parentsUid: owner?.uid ?? 0, parentsGid: owner?.gid ?? 0 }
  return selections.flatMap((selection) =>
    selection.entries.map((selected): TransferRecord => {
      const { entry, relative } = selected
      const below = selection.isDirectory ? relative : isInto ? selection.name : ''
      const isTop = selection.isDirectory && relative === ''
      return {
        source: entry.path,
        destination: posix.join(facts.path, below),
        ...(isTop ? { mode: 0o755, uid: owner?.uid ?? 0, gid: owner?.gid ?? 0 } : metadata(entry, rules)),
        ...parents,
        ...(isTop || selected.isOnTheWay ? { keepDirectory: true } : {}),
        ...(isHardLinked(selected) ? { hardLinks: true } : {}),
      }
    }),
  )
}

export function severalFiles(destination: string): MayflyError {
  return new MayflyError('COPY_CONFLICT', `Several files cannot all become ${destination}`, {
    value: destination,
    hint: `write ${destination}/ to copy them into a directory`,
  })
}

function metadata(entry: Entry, { owner, chmod }: CopyRules) {
  const hasMode = chmod !== undefined && (entry.type === 'f' || entry.type === 'd')
  return { ...(hasMode ? { mode: chmod(entry.mode, entry.type === 'd') } : {}), ...owner }
}

function isHardLinked({ entry }: SelectedEntry): boolean {
  return entry.type === 'f' && entry.nlink > 1
}
