/**
 * Content by digest: `blobs/sha256/<hex>`.
 *
 * The name says what the bytes must be, so none of this is flushed: a blob that a power cut has torn shows when it is read, and
 * is fetched again.
 */

import { createHash, type Hash } from 'node:crypto'
import { closeSync, createReadStream, fstatSync, openSync, readFileSync } from 'node:fs'
import { type FileHandle, lstat, open, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { MayflyError } from '../errors.js'
import { isDigest, splitDigest } from '../image/digest.js'
import { digestOfBytes } from '../image/digest-of.js'
import { isAbsent, namesIn, type StoreDisk, writeError } from './disk.js'

const PIECE_BYTES = 1024 * 1024

export interface BlobFacts {
  readonly digest: string
  /** Bytes. */
  readonly size: number
}

export class Blobs {
  readonly #disk: StoreDisk

  constructor(disk: StoreDisk) {
    this.#disk = disk
  }

  /** Where it lies, or would lie. */
  path(digest: string): string {
    const { algorithm, hex } = splitDigest(digest)
    return join(this.#disk.home, 'blobs', algorithm, hex)
  }

  /**
   * Whether it is there, and of this size if one is given: all that can be known without reading it. One of another size is
   * damaged, and told as such.
   */
  async has(digest: string, size?: number): Promise<boolean> {
    const found = await this.size(digest)
    if (found === undefined) return false
    if (size === undefined || size === found) return true
    this.#disk.damaged(this.#damage(digest, `it has ${found} bytes, not ${size}`))
    return false
  }

  /** Bytes, or undefined when it is not there. */
  async size(digest: string): Promise<number | undefined> {
    const found = await lstat(this.path(digest)).catch((error) => {
      if (isAbsent(error)) return undefined
      throw error
    })
    return found?.isFile() ? found.size : undefined
  }

  /**
   * The bytes, which are what the digest says. Throws BLOB_NOT_FOUND, and BLOB_DAMAGED when they are something else; it is then
   * removed, and not there the next time. IMAGE_INVALID when there are more than `maxBytes`. Read at once, as {@link readSmallFile} does: these are documents.
   */
  async read(digest: string, maxBytes: number): Promise<Buffer> {
    const { bytes, ino } = this.#readNow(digest, maxBytes)
    const found = digestOfBytes(bytes, splitDigest(digest).algorithm)
    if (found !== digest) throw await this.#refuse(digest, ino, `its content has the digest ${found}`)
    return bytes
  }

  /**
   * The bytes as a stream, checked as they pass: at the end it fails with BLOB_DAMAGED if they were not what the digest
   * says. Throws BLOB_NOT_FOUND through the stream.
   */
  open(digest: string, signal?: AbortSignal): Readable {
    return Readable.from(this.#checked(digest), { objectMode: false, ...(signal ? { signal } : {}) })
  }

  async *#checked(digest: string): AsyncGenerator<Buffer> {
    const file = await open(this.path(digest)).catch((error) => {
      throw this.#unlessAbsent(digest, error)
    })
    try {
      const { ino } = await file.stat()
      const hash = createHash(splitDigest(digest).algorithm)
      const path = this.path(digest)
      for await (const piece of createReadStream(path, { fd: file, autoClose: false, highWaterMark: PIECE_BYTES })) {
        hash.update(piece)
        yield piece
      }
      const found = digestFrom(digest, hash)
      if (found !== digest) throw await this.#refuse(digest, ino, `its content has the digest ${found}`)
    } finally {
      await file.close()
    }
  }

  /** Reads all of it. Throws as {@link open} does. */
  async verify(digest: string, signal?: AbortSignal): Promise<void> {
    for await (const _ of this.#checked(digest)) signal?.throwIfAborted()
  }

  /** Keeps these bytes. What is there under their name is replaced: it may be damaged. */
  async put(bytes: Uint8Array): Promise<BlobFacts> {
    const digest = digestOfBytes(bytes)
    await this.#disk.replaceFile(this.path(digest), bytes)
    return { digest, size: bytes.length }
  }

  /** A blob that is yet to come. End it with `commit` or `abort`. @default algorithm: 'sha256' */
  async writer(algorithm = 'sha256'): Promise<BlobWriter> {
    const temporary = await this.#disk.temporary()
    return new BlobWriter(this, this.#disk, temporary, await open(temporary, 'wx', 0o600), algorithm)
  }

  /** No error when it is not there. */
  async remove(digest: string): Promise<void> {
    await rm(this.path(digest), { force: true })
  }

  /** All that there are. */
  async list(): Promise<BlobFacts[]> {
    const all: BlobFacts[] = []
    for (const algorithm of await namesIn(join(this.#disk.home, 'blobs'))) {
      for (const hex of await namesIn(join(this.#disk.home, 'blobs', algorithm))) {
        const digest = `${algorithm}:${hex}`
        const size = isDigest(digest) ? await this.size(digest) : undefined
        if (size !== undefined) all.push({ digest, size })
      }
    }
    return all
  }

  #readNow(digest: string, maxBytes: number): { readonly bytes: Buffer; readonly ino: number } {
    const path = this.path(digest)
    let file: number | undefined
    try {
      file = openSync(path, 'r')
      const { size, ino } = fstatSync(file)
      if (size <= maxBytes) return { bytes: readFileSync(file), ino }
      const message = `Blob ${digest} has ${size} bytes; at most ${maxBytes} are read`
      throw new MayflyError('IMAGE_INVALID', message, { digest, path })
    } catch (error) {
      throw this.#unlessAbsent(digest, error)
    } finally {
      if (file !== undefined) closeSync(file)
    }
  }

  #unlessAbsent(digest: string, error: unknown): unknown {
    if (!isAbsent(error)) return error
    const facts = { digest, path: this.path(digest) }
    return new MayflyError('BLOB_NOT_FOUND', `Blob ${digest} is not in the store`, facts, { cause: error })
  }

  /** Removes what is damaged, unless somebody has put a good one in its place meanwhile. */
  async #refuse(digest: string, ino: number, why: string): Promise<MayflyError> {
    const now = await stat(this.path(digest)).catch(() => undefined)
    if (now?.ino === ino && this.#disk.isWritable) await this.remove(digest)
    const error = this.#damage(digest, why)
    this.#disk.damaged(error)
    return error
  }

  #damage(digest: string, why: string): MayflyError {
    const path = this.path(digest)
    return new MayflyError('BLOB_DAMAGED', `Blob ${digest} in ${path} is damaged: ${why}`, {
      digest,
      path,
      hint: 'it counts as absent and is fetched again when it is needed',
    })
  }
}

/** Writes one blob. Not for several callers at once: each call waits for the one before. */
export class BlobWriter {
  readonly #blobs: Blobs
  readonly #disk: StoreDisk
  readonly #temporary: string
  readonly #file: FileHandle
  readonly #algorithm: string
  #hash: Hash
  #size = 0
  #isOver = false

  /** Use {@link Blobs.writer}. */
  constructor(blobs: Blobs, disk: StoreDisk, temporary: string, file: FileHandle, algorithm: string) {
    this.#blobs = blobs
    this.#disk = disk
    this.#temporary = temporary
    this.#file = file
    this.#algorithm = algorithm
    this.#hash = createHash(algorithm)
  }

  /** Bytes written so far: where to go on after a broken connection. */
  get size(): number {
    return this.#size
  }

  /** Digest of what was written so far. */
  get digest(): string {
    return `${this.#algorithm}:${this.#hash.copy().digest('hex')}`
  }

  /** Throws DISK_FULL. */
  async write(piece: Uint8Array): Promise<void> {
    this.#hash.update(piece)
    try {
      for (let written = 0; written < piece.length; ) {
        written += (await this.#file.write(piece, written, piece.length - written, this.#size + written)).bytesWritten
      }
    } catch (error) {
      throw writeError(error, this.#temporary)
    }
    this.#size += piece.length
  }

  /** Forgets what was written: the other side begins anew. */
  async restart(): Promise<void> {
    await this.#file.truncate(0)
    this.#hash = createHash(this.#algorithm)
    this.#size = 0
  }

  /**
   * Puts it in its place, where a damaged one may lie. Throws DIGEST_MISMATCH or SIZE_MISMATCH, and nothing is kept, if it is
   * not what was expected.
   */
  async commit(expected: Partial<BlobFacts> = {}): Promise<BlobFacts> {
    const digest = this.digest
    const size = this.#size
    try {
      if (expected.size !== undefined && expected.size !== size) {
        const subject = expected.digest === undefined ? 'The blob' : `Blob ${expected.digest}`
        throw new MayflyError('SIZE_MISMATCH', `${subject} has ${size} bytes, not ${expected.size}`, {
          ...(expected.digest === undefined ? {} : { digest: expected.digest }),
          value: size,
        })
      }
      if (expected.digest !== undefined && expected.digest !== digest) {
        throw new MayflyError('DIGEST_MISMATCH', `The content has the digest ${digest}, not ${expected.digest}`, {
          digest: expected.digest,
          value: digest,
        })
      }
      this.#isOver = true
      await this.#file.close()
      await this.#disk.moveIn(this.#temporary, this.#blobs.path(digest))
      return { digest, size }
    } catch (error) {
      await this.abort()
      throw writeError(error, this.#temporary)
    }
  }

  /** Drops it. Safe after `commit` too. */
  async abort(): Promise<void> {
    try {
      if (!this.#isOver) {
        this.#isOver = true
        await this.#file.close()
      }
    } finally {
      await rm(this.#temporary, { force: true })
    }
  }
}

function digestFrom(digest: string, hash: Hash): string {
  return `${splitDigest(digest).algorithm}:${hash.digest('hex')}`
}
