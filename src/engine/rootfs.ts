/** Root file systems: from what the caller names to the layer directories that the warden mounts. */

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { access, mkdir, open, rename } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Readable, Transform, type TransformCallback } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { deleteTree, sendArchive } from './archive.js'
import { MayflyError } from './errors.js'
import type { RootFilesystem } from './options.js'
import type { Session } from './session.js'
import type { Store } from './store.js'

/**
 * The unpacked tree within its directory of the store. The outer directory is always ours, so that it can be moved; the tree's
 * top belongs to whom the archive says, who in a user namespace is somebody else.
 */
const TREE = 'tree'

export class RootFilesystems {
  readonly #session: Session
  readonly #store: Store
  /** Unpacking under way, by digest: containers that start together do it once. */
  readonly #unpacking = new Map<string, Promise<string>>()
  #sequence = 0

  constructor(session: Session, store: Store) {
    this.#session = session
    this.#store = store
  }

  /**
   * The layer directories, uppermost first. Directories are answered at once, without a promise: whether they exist is
   * for the warden to tell, who opens them anyway. A tar is unpacked into the store when it is not there yet.
   *
   * Throws ROOTFS_NOT_FOUND and ROOTFS_INVALID.
   */
  layers(rootfs: RootFilesystem): readonly string[] | Promise<readonly string[]> {
    if ('directory' in rootfs) return [resolve(rootfs.directory)]
    if ('layers' in rootfs) return rootfs.layers.map((layer) => resolve(layer)).reverse()
    return this.#tarLayer(resolve(rootfs.tar)).then((layer) => [join(layer, TREE)])
  }

  async #tarLayer(tar: string): Promise<string> {
    const digest = await this.#store.digestOf(tar).catch((error) => {
      throw rootfsError(tar, error)
    })
    const layer = this.#store.tarLayer(digest)
    if (await exists(layer)) return layer
    let unpacking = this.#unpacking.get(digest)
    if (!unpacking) {
      unpacking = this.#unpack(tar, digest, layer).finally(() => this.#unpacking.delete(digest))
      this.#unpacking.set(digest, unpacking)
    }
    return unpacking
  }

  /** Unpacks in the session's directory, where a crash leaves nothing behind, and moves the whole into place. */
  async #unpack(tar: string, digest: string, layer: string): Promise<string> {
    const temporary = join(this.#session.facts.session, `unpack-${++this.#sequence}`)
    const hash = new HashingStream()
    const decoder = await decoderFor(tar)
    const file = createReadStream(tar, { highWaterMark: 1024 * 1024 })
    const flow = decoder ? pipeline(file, hash, decoder) : pipeline(file, hash)
    flow.catch(() => {}) // told through the last stream, which sendArchive reads
    const attempt = { verb: 'unpack', container: tar }
    try {
      await mkdir(temporary, { mode: 0o700 })
      await sendArchive(this.#session, 'unpack', ['target', join(temporary, TREE)], decoder ?? hash, attempt)
      // An archive ends before its file does when something is appended; the digest is of all of it.
      if (hash.digest() !== digest) {
        throw new MayflyError('ROOTFS_INVALID', `Root file system ${tar} changed while it was read`, {
          field: 'rootfs.tar',
          value: tar,
        })
      }
      await rename(temporary, layer)
      return layer
    } catch (error) {
      await this.#discard(temporary)
      // Another process was faster. Its layer is complete, or it would not have that name.
      if (['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '') && (await exists(layer)))
        return layer
      throw rootfsError(tar, error)
    }
  }

  /** What cannot be removed now goes with the session, in whose directory it lies. */
  async #discard(directory: string): Promise<void> {
    if (await exists(directory)) await deleteTree(this.#session, directory).catch(() => {})
  }
}

function rootfsError(tar: string, error: unknown): unknown {
  const facts = { field: 'rootfs.tar', value: tar }
  if (error instanceof MayflyError) {
    if (error.code !== 'ARCHIVE_INVALID' && error.code !== 'PATH_NOT_FOUND') return error
    return new MayflyError(
      'ROOTFS_INVALID',
      error.message,
      { ...facts, ...(error.step ? { step: error.step } : {}) },
      { cause: error },
    )
  }
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ENOENT') {
    return new MayflyError(
      'ROOTFS_NOT_FOUND',
      `Root file system ${tar} does not exist`,
      { ...facts, errno: code },
      { cause: error },
    )
  }
  return new MayflyError('ROOTFS_INVALID', `Cannot unpack root file system ${tar}: ${message}`, facts, { cause: error })
}

const MAGIC: readonly (readonly [name: string, bytes: readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a]],
  ['bzip2', [0x42, 0x5a, 0x68]],
]

/** What undoes the compression, which the first bytes tell; undefined for a plain tar. */
async function decoderFor(tar: string): Promise<(NodeJS.ReadWriteStream & Readable) | undefined> {
  const file = await open(tar)
  const head = Buffer.alloc(8)
  try {
    await file.read(head, 0, head.length, 0)
  } finally {
    await file.close()
  }
  const compression = MAGIC.find(([, bytes]) => bytes.every((byte, index) => head[index] === byte))?.[0]
  if (!compression) return undefined
  if (compression === 'gzip') return createGunzip({ chunkSize: 256 * 1024 })
  throw new MayflyError(
    'ROOTFS_INVALID',
    `Root file system ${tar} is compressed with ${compression}; plain and gzip are understood`,
    {
      field: 'rootfs.tar',
      value: tar,
      hint: `decompress it first, for example with \`${compression} -d\``,
    },
  )
}

/** Passes bytes on and computes their digest. */
class HashingStream extends Transform {
  readonly #hash = createHash('sha256')

  override _transform(piece: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#hash.update(piece)
    done(null, piece)
  }

  /** The digest. Once, after the end. */
  digest(): string {
    return this.#hash.digest('hex')
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
