/** Layers as tar streams, into the store and out of it. The tar itself is read and written by the warden (native/tar.h). */

import { askWarden, type ByteSource, type Ending, receiveBytes, sendArchive } from '../archive.js'
import { refusalError } from '../refusal.js'
import type { Session } from '../session.js'

/** What the layer's tree is: a directory below the store's home, or what a container has written. */
export type LayerSource = { readonly tree: string } | { readonly container: string }

export interface UnpackOptions {
  /** OCI rules: whiteouts become the overlay's. Without it, names that begin with `.wh.` are names. */
  readonly layer: boolean
  /** Most bytes that the (uncompressed) archive may have. @default no limit */
  readonly maxBytes?: number
  /** Most entries that it may have. @default no limit */
  readonly maxEntries?: number
  /** Whether the files are on the disk when this resolves, safe from a power cut. @default true */
  readonly sync?: boolean
  /** What errors call the archive, such as its digest. @default the target */
  readonly name?: string
}

/** What was unpacked. */
export interface UnpackedLayer {
  /** Of the archive as it was sent, trailing bytes included: the layer's diffID. */
  readonly digest: string
  readonly entries: number
  /** Content of its files. */
  readonly bytes: number
  /** Directories that the archive does not mention but that its entries lie in; `adoptParents` gives them what they lack. */
  readonly implied: number
}

/** A layer's archive: its digest is the diffID. */
export interface ArchiveFacts {
  readonly digest: string
  /** Bytes of the archive. */
  readonly size: number
}

/**
 * Unpacks a tar, compressed by nothing, into `target`: an absolute path below the store's home that must not exist yet. Its
 * parent directory must, and keeps a list of implied directories in `implied` beside it.
 *
 * Rejects with ARCHIVE_INVALID for what is malformed or hostile, ARCHIVE_TOO_LARGE beyond a limit, STORE_FAILED when the disk
 * is full. What was made until then stays: the caller removes the directory.
 */
export async function unpackLayer(
  session: Session,
  target: string,
  source: ByteSource,
  options: UnpackOptions,
  signal?: AbortSignal,
): Promise<UnpackedLayer> {
  const words = ['target', target, 'digest', '1', 'layer', options.layer ? '1' : '0']
  if (options.maxBytes) words.push('max-bytes', String(options.maxBytes))
  if (options.maxEntries) words.push('max-entries', String(options.maxEntries))
  if (options.sync === false) words.push('sync', '0')
  const attempt = { verb: 'unpack', container: options.name ?? target }
  const reply = await sendArchive(session, 'unpack', words, source, attempt, signal)
  const { digest, entries, bytes, implied } = reply as Partial<UnpackedLayer>
  return { digest: digest!, entries: entries ?? 0, bytes: bytes ?? 0, implied: implied ?? 0 }
}

/**
 * The layer as an OCI layer tar, uncompressed. Equal trees give equal bytes.
 *
 * Nothing is sent faster than it is read. `done` has digest and size once the last byte was read; leaving the loop early
 * (`break`) ends the work, and `done` then rejects. Errors come from both.
 */
export function packLayer(
  session: Session,
  from: LayerSource,
  signal?: AbortSignal,
): { readonly bytes: AsyncIterableIterator<Uint8Array>; readonly done: Promise<ArchiveFacts> } {
  return pack(session, from, [], signal)
}

/** Digest and size of what {@link packLayer} would give. Nothing but these is sent. */
export async function digestLayer(session: Session, from: LayerSource, signal?: AbortSignal): Promise<ArchiveFacts> {
  const { bytes, done } = pack(session, from, ['digest-only', '1'], signal)
  await bytes.next() // the end: no bytes come; a wait that keeps node alive
  return done
}

function pack(session: Session, from: LayerSource, more: readonly string[], signal?: AbortSignal) {
  let tell!: (ending: Ending) => void
  const done = new Promise<ArchiveFacts>((resolve, reject) => {
    tell = (ending) => {
      if ('error' in ending) reject(ending.error)
      else resolve({ digest: ending.notice.digest as string, size: ending.notice.bytes as number })
    }
  })
  done.catch(() => {}) // whoever reads the bytes is told as well, and may not look at this
  const words = 'tree' in from ? ['target', from.tree] : ['id', from.container]
  const attempt = { verb: 'pack', container: 'tree' in from ? from.tree : from.container }
  return { bytes: receiveBytes(session, 'pack', [...words, ...more], attempt, signal, tell), done }
}

/**
 * Gives directories that a layer's archive did not mention the mode, owner, times and attributes that the layers below give them.
 *
 * `lowers` are their trees, uppermost first. Once only: the list beside the tree is removed. Without such a list nothing is done.
 */
export async function adoptParents(session: Session, tree: string, lowers: readonly string[]): Promise<void> {
  const reply = await askWarden(session, 'adopt', ['target', tree, ...lowers.flatMap((lower) => ['layer', lower])])
  if (!reply.ok) throw refusalError(reply, { verb: 'adopt', container: tree })
}

/** Removes a layer's directory that nobody uses; `busy` when an overlay of it may be mounted, in whichever process. */
export async function reap(session: Session, target: string): Promise<'reaped' | 'busy'> {
  const reply = await askWarden(session, 'reap', ['target', target])
  if (reply.ok) return 'reaped'
  if (reply.errno === 'EBUSY') return 'busy'
  throw refusalError(reply, { verb: 'remove', container: target })
}
