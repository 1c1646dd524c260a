/**
 * A root file system to build in: a container that is created and never started, so there is no process, no network and no limit.
 * Files are looked at, digested and copied in; what was written becomes a layer in the end.
 */

import { type ByteSource, sendArchive } from './archive.js'
import { newId } from './ids.js'
import type { Session } from './session.js'
import {
  digestTree,
  type Entry,
  encodeWord,
  type ListOptions,
  listTree,
  rootWords,
  type TreeRoot,
  treeError,
} from './tree.js'

/** One entry that goes from one root into another. Directories come before what is in them; nothing is copied recursively. */
export interface TransferRecord {
  /** Path in the source's root. A link that is its last part is copied as a link. */
  readonly source: string
  /** Path in the destination's root. Missing parents are made, mode 0755. */
  readonly destination: string
  /** Permission bits of files and directories, instead of the source's. */
  readonly mode?: number | undefined
  /** Owner, instead of the source's. */
  readonly uid?: number | undefined
  readonly gid?: number | undefined
  /** Owner of parents that have to be made. @default 0 */
  readonly parentsUid?: number | undefined
  readonly parentsGid?: number | undefined
  /** Time of modification, instead of the source's. */
  readonly mtimeNs?: bigint | undefined
  /** A directory that exists at the destination keeps its mode, owner and times. */
  readonly keepDirectory?: boolean | undefined
  /** Files of this transfer that are one file in the source are one file in the destination too. */
  readonly hardLinks?: boolean | undefined
  /** A link at the destination is followed, inside the root, instead of replaced. */
  readonly followDestination?: boolean | undefined
  /** The transfer's base has a file with these contents under this path of the destination, both without extended attributes. */
  readonly isInBase?: boolean | undefined
}

/** Where a transfer takes its entries from. */
export type TransferSource = TreeRoot | { readonly workspace: Workspace }

/** Records of a transfer are sent in pieces of about this size. */
const PIECE_BYTES = 256 * 1024

export class Workspace {
  /** Id of the container; also for mounts of it (`source-root`). */
  readonly id: string
  readonly #session: Session

  /**
   * Makes one. Nothing of it stays when the session ends.
   *
   * @param layers directories, uppermost first; at least one
   */
  static async open(session: Session, layers: readonly string[]): Promise<Workspace> {
    const id = newId()
    // No program of it ever runs; the warden wants one in every plan.
    const words = ['id', id, 'net', 'none', 'arg', '/', ...layers.flatMap((layer) => ['layer', layer])]
    const reply = await session.request('create', words)
    if (!reply.ok) throw treeError(reply, 'make a workspace of', layers[0] ?? 'no layers')
    return new Workspace(session, id)
  }

  private constructor(session: Session, id: string) {
    this.#session = session
    this.id = id
  }

  /** The entries at and below a path. See {@link listTree}. */
  list(path = '/', options: ListOptions = {}): AsyncGenerator<Entry, void, undefined> {
    return listTree(this.#session, { container: this.id }, path, options)
  }

  /** SHA-256 of regular files, in hexadecimal, in the order of `paths`. See {@link digestTree}. */
  digest(paths: readonly string[], signal?: AbortSignal): Promise<string[]> {
    return digestTree(this.#session, { container: this.id }, paths, signal)
  }

  /**
   * Copies entries in from another root, with all their metadata: mode, owner, times, extended attributes, links.
   *
   * Directories are merged; anything else is replaced, but never a directory by something else or the reverse (PATH_NOT_FOUND with
   * errno EISDIR or ENOTDIR). When it throws, the entries before the failing one have been copied.
   *
   * @param base tree of a layer, for records with `isInBase`: such a file gets another name instead of being copied where size, mode, owner
   *   and time of modification say that it is the same. Keep the workspace next: what was linked may not show before
   */
  async transfer(
    source: TransferSource,
    records: Iterable<TransferRecord>,
    signal?: AbortSignal,
    base?: string,
  ): Promise<{ entries: number; bytes: number; linked: number }> {
    const root = 'workspace' in source ? { container: source.workspace.id } : source
    const words = [...rootWords(root, 'from'), 'id', this.id, ...(base === undefined ? [] : ['base', base])]
    const attempt = { verb: 'copy into', container: this.id.slice(0, 12) }
    const facts: { entries?: number; bytes?: number; linked?: number } = await sendArchive(
      this.#session,
      'transfer',
      words,
      encodeRecords(records),
      attempt,
      signal,
    )
    const { entries = 0, bytes = 0, linked = 0 } = facts
    return { entries, bytes, linked }
  }

  /**
   * Unpacks a tar at a directory that exists, as `docker cp -` does.
   *
   * @default chown: false, everything belongs to root
   */
  async copyIn(
    path: string,
    tar: ByteSource,
    options: { readonly chown?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    const words = ['id', this.id, 'path', path, 'chown', options.chown ? '1' : '0']
    const attempt = { verb: 'copy into', container: this.id.slice(0, 12) }
    await sendArchive(this.#session, 'copy-in', words, tar, attempt, options.signal)
  }

  /** What was written becomes a layer, and the workspace is gone. See {@link keepContainer}. */
  keep(target: string, options?: { readonly sync?: boolean }): Promise<{ empty: boolean }> {
    return keepContainer(this.#session, this.id, target, options)
  }

  /** Takes it away with all that was written. Does nothing when it is gone already. */
  async remove(): Promise<void> {
    const reply = await this.#session.request('remove', ['id', this.id, 'force', '1'])
    if (!reply.ok && reply.step !== 'id') throw treeError(reply, 'remove the workspace', this.id.slice(0, 12))
    this.#session.post('forget', ['id', this.id])
  }
}

/** The entries at and below a path of a host directory; links do not lead out of it. See {@link listTree}. */
export function listDirectory(
  session: Session,
  directory: string,
  path = '/',
  options: ListOptions = {},
): AsyncGenerator<Entry, void, undefined> {
  return listTree(session, { directory }, path, options)
}

/** SHA-256 of regular files in a host directory, in hexadecimal. See {@link digestTree}. */
export function digestFiles(
  session: Session,
  directory: string,
  paths: readonly string[],
  signal?: AbortSignal,
): Promise<string[]> {
  return digestTree(session, { directory }, paths, signal)
}

/**
 * What a container has written becomes `target/tree`, by a rename and without a copy. What its start had to make (mount points,
 * files to bind over) is not in it. The container must have exited, or never have been started; it is gone afterwards.
 *
 * Where nothing was written, `empty` is true and `target` is not made.
 *
 * @param target below the store's home; must not exist
 * @default sync: false, what was written reaches the disk when the kernel likes
 */
export async function keepContainer(
  session: Session,
  id: string,
  target: string,
  options: { readonly sync?: boolean } = {},
): Promise<{ empty: boolean }> {
  const words = ['id', id, 'target', target, ...(options.sync ? ['sync', '1'] : [])]
  const reply = await session.request('keep', words)
  if (!reply.ok) throw treeError(reply, 'keep what was written in', id.slice(0, 12))
  session.post('forget', ['id', id])
  return { empty: (reply as { empty?: boolean }).empty === true }
}

function* encodeRecords(records: Iterable<TransferRecord>): Generator<Uint8Array, void, undefined> {
  let parts: Buffer[] = []
  let length = 0
  for (const record of records) {
    const words = [record.source, record.destination, optionsOf(record)]
    for (const word of words) {
      const bytes = encodeWord(word, 'records')
      parts.push(bytes, NUL)
      length += bytes.length + 1
    }
    if (length < PIECE_BYTES) continue
    yield Buffer.concat(parts)
    parts = []
    length = 0
  }
  if (length > 0) yield Buffer.concat(parts)
}

const NUL = Buffer.of(0)

function optionsOf(record: TransferRecord): string {
  const options: string[] = []
  if (record.mode !== undefined) options.push(`mode=${record.mode.toString(8).padStart(4, '0')}`)
  if (record.uid !== undefined) options.push(`uid=${record.uid}`)
  if (record.gid !== undefined) options.push(`gid=${record.gid}`)
  if (record.parentsUid) options.push(`parents-uid=${record.parentsUid}`)
  if (record.parentsGid) options.push(`parents-gid=${record.parentsGid}`)
  if (record.mtimeNs !== undefined) options.push(`mtime=${record.mtimeNs}`)
  if (record.keepDirectory) options.push('keep-dir')
  if (record.hardLinks) options.push('hard')
  if (record.followDestination) options.push('follow-dest')
  if (record.isInBase) options.push('same')
  return options.join(',')
}
