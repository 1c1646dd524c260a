/**
 * The files of an archive that a stranger made, unpacked into a directory of ours or lying in one of the caller's.
 *
 * The warden lists the directory once. From then on, names are looked up in that list: a symbolic link leads to another entry of it or
 * nowhere, and what is opened is always a regular file whose path has no link in it.
 */

import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { join, posix } from 'node:path'
import type { MayflyError } from '../errors.js'
import { splitDigest } from '../image/digest.js'
import { invalidImage } from '../image/document.js'
import type { Session } from '../session.js'
import { type Entry, listTree } from '../tree.js'

/** As many as the kernel follows. */
const MAX_LINKS = 40
/** Blobs of a thousand images; more is no archive of images. */
const MAX_FILES = 200_000
const PIECE_BYTES = 1024 * 1024

/** A regular file. */
export interface ArchiveFile {
  /** Its real path, relative to the archive's root. */
  readonly path: string
  readonly size: number
}

export class ArchiveFiles {
  /** Where they lie on this machine. */
  readonly directory: string
  readonly #entries: ReadonlyMap<string, Entry>

  private constructor(directory: string, entries: ReadonlyMap<string, Entry>) {
    this.directory = directory
    this.#entries = entries
  }

  static async open(session: Session, directory: string, signal?: AbortSignal): Promise<ArchiveFiles> {
    const entries = new Map<string, Entry>()
    for await (const entry of listTree(session, { directory }, '/', signal ? { signal } : {})) {
      entries.set(entry.path, entry)
      if (entries.size > MAX_FILES) throw invalidImage(`The archive has more than ${MAX_FILES} files`, 'archive')
    }
    return new ArchiveFiles(directory, entries)
  }

  /** Whether something is there under this name. */
  has(name: string): boolean {
    return this.#entries.has(name)
  }

  /** Names of what is directly in the root. */
  top(): string[] {
    return [...this.#entries.keys()].filter((path) => path !== '' && !path.includes('/'))
  }

  /**
   * The file of this name, links followed as far as they stay inside.
   *
   * Throws IMAGE_INVALID when there is none, or a link leads out of the archive.
   */
  file(name: string): ArchiveFile {
    if (name.split('/').includes('..')) {
      throw invalidImage(
        `The archive names the file ${JSON.stringify(name)}, which lies outside of it`,
        'archive',
        name,
      )
    }
    const entry = this.#resolve(posix.normalize(name).replace(/^\/+/, ''), name)
    if (!entry) throw invalidImage(`The archive lacks the file ${JSON.stringify(name)}`, 'archive', name)
    if (entry.type !== 'f')
      throw invalidImage(`${JSON.stringify(name)} is no regular file in the archive`, 'archive', name)
    return { path: entry.path, size: entry.size }
  }

  /** The file of a blob in an OCI layout. */
  blob(digest: string): ArchiveFile {
    const { algorithm, hex } = splitDigest(digest)
    return this.file(`blobs/${algorithm}/${hex}`)
  }

  /** All of a small file. Throws IMAGE_INVALID when it has more than `maxBytes`. */
  async read(name: string, maxBytes: number): Promise<Buffer> {
    const { path, size } = this.file(name)
    if (size > maxBytes) {
      throw invalidImage(`${JSON.stringify(name)} has ${size} bytes; at most ${maxBytes} are read`, 'archive', name)
    }
    const pieces: Uint8Array[] = []
    for await (const piece of this.stream({ path, size })) pieces.push(piece)
    return Buffer.concat(pieces)
  }

  async *stream({ path }: ArchiveFile, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    // The list said that nothing on the way is a link; should it be one by now (a directory of the caller's), it is not followed.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
    const file = await open(join(this.directory, path), flags)
    try {
      if (!(await file.stat()).isFile())
        throw invalidImage(`${JSON.stringify(path)} is no regular file`, 'archive', path)
      for (;;) {
        signal?.throwIfAborted()
        const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(PIECE_BYTES), 0, PIECE_BYTES, null)
        if (bytesRead === 0) return
        yield buffer.subarray(0, bytesRead)
      }
    } finally {
      await file.close()
    }
  }

  #resolve(path: string, name: string): Entry | undefined {
    let rest = path.split('/')
    const at: string[] = []
    for (let links = 0; rest.length > 0; ) {
      const part = rest.shift()!
      if (part === '' || part === '.') continue
      if (part === '..') {
        if (at.length === 0) throw leadsOut(name)
        at.pop()
        continue
      }
      const entry = this.#entries.get([...at, part].join('/'))
      if (!entry) return undefined
      if (entry.type !== 'l') {
        at.push(part)
        continue
      }
      if (++links > MAX_LINKS)
        throw invalidImage(`${JSON.stringify(name)} is a loop of links in the archive`, 'archive', name)
      if (entry.link.startsWith('/')) throw leadsOut(name)
      rest = [...entry.link.split('/'), ...rest]
    }
    return this.#entries.get(at.join('/'))
  }
}

function leadsOut(name: string): MayflyError {
  return invalidImage(`${JSON.stringify(name)} is a link that leads out of the archive`, 'archive', name)
}
