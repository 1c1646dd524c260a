/** What can be copied into a container, and how it becomes one archive. */

import { createReadStream } from 'node:fs'
import { lstat, readdir, readlink, stat } from 'node:fs/promises'
import { join, posix } from 'node:path'
import type { Readable } from 'node:stream'
import { MayflyError } from './engine/errors.js'
import {
  boolean,
  type Check,
  defaulted,
  integer,
  list,
  optional,
  refuse,
  shape,
  sparse,
  string,
} from './engine/launch/check.js'
import type { TarEntry } from './tar.js'

/** A file of this machine. */
export interface FileToCopy {
  /** Path here; a symbolic link is followed. */
  readonly source: string
  /** Absolute path of the file in the container; missing parents are made. */
  readonly target: string
  /** Permission bits. @default those of the file */
  readonly mode?: number
}

/** A directory of this machine. */
export interface DirectoryToCopy {
  readonly source: string
  /** Absolute path of the directory in the container that gets the contents. */
  readonly target: string
  /** Permission bits of all files in it. @default their own */
  readonly mode?: number
}

/** What a file is to hold. */
export type Content = string | Uint8Array | Readable

/** Contents that are no file yet. */
export interface ContentToCopy {
  readonly content: Content
  /** Absolute path of the file in the container. */
  readonly target: string
  /** Permission bits. @default 0o644 */
  readonly mode?: number
}

/** A tar archive. */
export interface ArchiveToCopy {
  readonly tar: Readable
  /** Directory of the container. @default '/' */
  readonly target?: string
}

/** How what is copied arrives. */
export interface CopyToContainerOptions {
  /** Never replaces a directory by something else. It is never done, whatever is said here. */
  readonly noOverwriteDirNonDir?: boolean
  /** What is copied belongs to the container's user, which must be a number then; else to root, or to whom the archive says. */
  readonly copyUIDGID?: boolean
}

/** Everything that a definition copies in before its start. */
export interface Copies {
  readonly files: readonly FileToCopy[]
  readonly directories: readonly DirectoryToCopy[]
  readonly contents: readonly ContentToCopy[]
  readonly archives: readonly ArchiveToCopy[]
}

export const NO_COPIES: Copies = Object.freeze({ files: [], directories: [], contents: [], archives: [] })

const target: Check<string> = (value, field) => {
  const path = string(value, field)
  return path.startsWith('/') ? path : refuse(field, value, 'expected an absolute path in the container')
}
const mode = optional(integer(0, 0o7777))

const source: Check<string> = (value, field) =>
  value === '' ? refuse(field, value, 'expected a path') : string(value, field)

const content: Check<Content> = (value, field) =>
  typeof value === 'string' || value instanceof Uint8Array || isStream(value)
    ? (value as Content)
    : refuse(field, value, 'expected a string, a Buffer or a stream')

const stream: Check<Readable> = (value, field) =>
  isStream(value) ? (value as Readable) : refuse(field, value, 'expected a stream of a tar archive')

export const filesToCopy = list(sparse({ source, target, mode })) as unknown as Check<readonly FileToCopy[]>
export const contentsToCopy = list(sparse({ content, target, mode })) as unknown as Check<readonly ContentToCopy[]>
export const archivesToCopy = list(shape({ tar: stream, target: defaulted(target, '/') }))
export const copyOptions = sparse({
  noOverwriteDirNonDir: optional(boolean),
  copyUIDGID: optional(boolean),
}) as Check<CopyToContainerOptions>

function isStream(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}

/** Contents that come as a stream. */
export function isReadOnce(content: Content): boolean {
  return typeof content === 'object' && !(content instanceof Uint8Array)
}

export interface Owner {
  readonly uid: number
  readonly gid: number
}

/** `1000`, `1000:50` → numbers. Throws NOT_SUPPORTED for names, which only the container knows. */
export function ownerOf(user: string | undefined): Owner {
  const [, uid, gid] = /^(\d+)(?::(\d+))?$/.exec(user ?? '0') ?? []
  if (uid !== undefined) return { uid: Number(uid), gid: Number(gid ?? 0) }
  throw new MayflyError('NOT_SUPPORTED', `copyUIDGID needs a user given by its number, not "${user}"`, {
    field: 'copyUIDGID',
    hint: "use withUser('1000:1000')",
  })
}

/** The entries of one archive for the container's root. Throws PATH_NOT_FOUND for a source that is not there. */
export async function* entriesOf(
  { files, directories, contents }: Copies,
  owner: Owner = { uid: 0, gid: 0 },
): AsyncGenerator<TarEntry> {
  for (const file of files) yield { ...(await fileEntry(file)), ...owner }
  for (const directory of directories)
    for await (const entry of directoryEntries(directory)) yield { ...entry, ...owner }
  for (const one of contents) yield { ...(await contentEntry(one)), ...owner }
}

async function fileEntry({ source, target, mode }: FileToCopy): Promise<TarEntry> {
  const facts = await stat(source).catch(notThere(source))
  if (!facts.isFile()) {
    throw new MayflyError('INVALID_OPTION', `Cannot copy ${source}: it is no file`, {
      field: 'source',
      value: source,
      hint: facts.isDirectory() ? 'use withCopyDirectoriesToContainer' : 'only files and directories can be copied',
    })
  }
  return {
    path: inRoot(target),
    type: 'file',
    mode: mode ?? facts.mode,
    mtime: facts.mtime,
    size: facts.size,
    content: () => createReadStream(source),
  }
}

async function* directoryEntries({ source, target, mode }: DirectoryToCopy): AsyncGenerator<TarEntry> {
  const facts = await stat(source).catch(notThere(source))
  if (!facts.isDirectory()) {
    throw new MayflyError('INVALID_OPTION', `Cannot copy ${source}: it is no directory`, {
      field: 'source',
      value: source,
      hint: 'use withCopyFilesToContainer',
    })
  }
  for (const name of (await readdir(source)).sort()) {
    const from = join(source, name)
    const to = posix.join(target, name)
    const entry = await lstat(from)
    const common = { path: inRoot(to), mode: entry.mode, mtime: entry.mtime }
    if (entry.isDirectory()) {
      yield { ...common, type: 'directory' }
      yield* directoryEntries({ source: from, target: to, ...(mode === undefined ? {} : { mode }) })
    } else if (entry.isSymbolicLink()) {
      yield { ...common, type: 'symlink', link: await readlink(from) }
    } else if (entry.isFile()) {
      yield {
        ...common,
        mode: mode ?? entry.mode,
        type: 'file',
        size: entry.size,
        content: () => createReadStream(from),
      }
    }
  }
}

async function contentEntry({ content, target, mode = 0o644 }: ContentToCopy): Promise<TarEntry> {
  const bytes = await toBytes(content)
  return { path: inRoot(target), type: 'file', mode, size: bytes.length, content: () => [bytes] }
}

/** What streams held: each start wants it, and they can be read once. */
const held = new WeakMap<object, Promise<Uint8Array>>()

/** A header tells the size first, so a stream is read to its end. */
async function toBytes(content: Content): Promise<Uint8Array> {
  if (typeof content === 'string') return Buffer.from(content)
  if (content instanceof Uint8Array) return content
  const known = held.get(content)
  if (known) return known
  const reading = readAll(content)
  held.set(content, reading)
  return reading
}

async function readAll(stream: AsyncIterable<string | Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  for await (const piece of stream) pieces.push(typeof piece === 'string' ? Buffer.from(piece) : piece)
  return Buffer.concat(pieces)
}

function inRoot(target: string): string {
  return posix.normalize(target).replace(/^\/+/, '')
}

function notThere(path: string): (error: NodeJS.ErrnoException) => never {
  return (error) => {
    throw new MayflyError(
      'PATH_NOT_FOUND',
      `Cannot copy ${path}: ${error.code === 'ENOENT' ? 'it does not exist' : error.message}`,
      { field: 'source', value: path, ...(error.code ? { errno: error.code } : {}) },
      { cause: error },
    )
  }
}
