/** Root file systems: from what the caller names to the layer directories that the warden mounts. */

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Readable, Transform, type TransformCallback } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { MayflyError } from './errors.js'
import type { RootFilesystem } from './options.js'
import type { Session } from './session.js'
import { unpackLayer } from './store/layer-archive.js'
import type { Store } from './store/store.js'

export class RootFilesystems {
  readonly #session: Session
  readonly #store: Store

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
    return this.#tarTree(resolve(rootfs.tar)).then((tree) => [tree])
  }

  async #tarTree(tar: string): Promise<string> {
    try {
      const digest = await this.#store.digestOf(tar)
      const { tree } = await this.#store.tars.ensure(digest, (temporary) => this.#unpack(tar, digest, temporary))
      return tree
    } catch (error) {
      throw rootfsError(tar, error)
    }
  }

  async #unpack(tar: string, digest: string, temporary: string): Promise<{ sizeBytes: number }> {
    const hash = new HashingStream()
    const decoder = await decoderFor(tar)
    const file = createReadStream(tar, { highWaterMark: 1024 * 1024 })
    const flow = decoder ? pipeline(file, hash, decoder) : pipeline(file, hash)
    flow.catch(() => {}) // told through the last stream, which is read to its end
    const { bytes } = await unpackLayer(this.#session, join(temporary, 'tree'), decoder ?? hash, {
      layer: false,
      name: tar,
    })
    // An archive ends before its file does when something is appended; the digest is of all of it.
    if (hash.digest() !== digest) {
      throw new MayflyError('ROOTFS_INVALID', `Root file system ${tar} changed while it was read`, {
        field: 'rootfs.tar',
        value: tar,
      })
    }
    return { sizeBytes: bytes }
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
