/**
 * What of files is in a cache key: as BuildKit's, everything but the times. Names, kinds, modes, owners, links, extended attributes, contents.
 */

import type { KeyPart } from './cache.js'
import type { Selection } from './select.js'
import type { SourceTree } from './source-tree.js'

/** A digestible form of what was selected. */
export async function contentPart(tree: SourceTree, selections: readonly Selection[]): Promise<KeyPart> {
  const files = selections.flatMap(({ entries }) => entries.filter(({ entry }) => entry.type === 'f'))
  const digests = await tree.digests(files.map(({ entry }) => entry))
  const digestOf = new Map(files.map(({ entry }, index) => [entry, digests[index]]))
  // Names that are one file in the source become one file in the copy too.
  const links = new Map<string, string>()
  return selections.map(({ name, isDirectory, entries }, index) => ({
    // A directory's own name appears nowhere in what is copied.
    name: isDirectory ? null : name,
    entries: entries.map(({ entry, relative, isOnTheWay }): KeyPart => {
      const isTop = isDirectory && relative === ''
      const { type, mode, uid, gid, link, xattrs, rdevMajor, rdevMinor } = entry
      if (isTop) return ['top']
      let same: string | null = null
      if (type === 'f' && entry.nlink > 1) {
        // By the first name: how many files have names elsewhere, in other layers for one, must not count.
        const inode = `${entry.dev}:${entry.ino}`
        same = links.get(inode) ?? null
        if (same === null) links.set(inode, `${index} ${relative}`)
      }
      const owner = tree.keepsOwners ? [uid, gid] : [0, 0]
      return [
        relative,
        isOnTheWay,
        type,
        type === 'l' ? 0 : mode,
        ...owner,
        link,
        xattrs,
        rdevMajor,
        rdevMinor,
        digestOf.get(entry) ?? null,
        same,
      ]
    }),
  }))
}
