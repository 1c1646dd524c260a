/**
 * The store on the disk that all engines of a user share: images, their layers, and where everything lies.
 *
 *     blobs/sha256/<hex>        content by digest: configs, manifests, compressed layers
 *     layers/<chainID>/         one unpacked layer
 *     layers/tar-<hex>/         one unpacked tar that serves as a root file system
 *     images/<hex>.json         one image
 *     refs/…                    one file a name
 *     cache/                    what can be made again: build cache, prepared states, digests of files
 *     locks/, gc.lock           held by the kernel for whom the warden serves; files without meaning otherwise
 *     temporary/<session>       names of images that go with a session
 *     sessions/<id>/            what a session is writing; gone with it
 *
 * Writers work under temporary names and rename, so no reader ever sees a half-written file.
 */

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, isAbsolute, join } from 'node:path'
import { MayflyError } from '../errors.js'
import type { Session } from '../session.js'
import { Blobs } from './blobs.js'
import { StoreDisk } from './disk.js'
import { Images } from './images.js'
import { Layers } from './layers.js'
import { PreparedStates } from './prepared.js'
import { type Pruned, type PruneOptions, prune } from './prune.js'
import { sweep } from './sweep.js'
import { TarTrees } from './tar-trees.js'
import { TemporaryNames } from './temporary-names.js'
import { type StoreUsage, usage } from './usage.js'
import { type Verification, type VerifyOptions, verify } from './verify.js'
import { Writing } from './writing.js'

/** Longest path of a store: the warden's socket lies below it, and the kernel allows 107 bytes for that one. */
const MAX_HOME_BYTES = 107 - '/sessions/0123456789ab/s'.length

/** How long removing an image waits for writers before it leaves its layers to the next `prune`. */
const SWEEP_WAIT_MS = 200

/**
 * The directory of the store: what is given, else MAYFLY_HOME, else /var/lib/mayfly as root and
 * `$XDG_DATA_HOME/mayfly` (~/.local/share/mayfly) as anybody else.
 *
 * Throws INVALID_OPTION when it is not absolute or too long.
 */
export function storeHome(given?: string): string {
  const home = given ?? (process.env.MAYFLY_HOME || defaultHome())
  const field = given === undefined ? 'MAYFLY_HOME' : 'home'
  if (typeof home !== 'string' || !isAbsolute(home) || home.includes('\0')) {
    throw new MayflyError('INVALID_OPTION', `${field} must be an absolute path, not ${JSON.stringify(home)}`, {
      field,
      value: home,
    })
  }
  const length = Buffer.byteLength(home)
  if (length > MAX_HOME_BYTES) {
    throw new MayflyError(
      'INVALID_OPTION',
      `${field} is ${length} bytes long: a socket below it would exceed the kernel's limit, at most ${MAX_HOME_BYTES} are possible`,
      { field, value: home, hint: 'set MAYFLY_HOME to a shorter path on the same disk' },
    )
  }
  return home
}

function defaultHome(): string {
  if (process.getuid?.() === 0) return '/var/lib/mayfly'
  return join(process.env.XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'mayfly')
}

export class Store {
  readonly home: string
  readonly disk: StoreDisk
  readonly blobs: Blobs
  readonly layers: Layers
  readonly tars: TarTrees
  readonly images: Images
  readonly prepared: PreparedStates
  readonly temporaryNames: TemporaryNames
  readonly #writing: Writing

  /** Without a session it is for reading; writing then throws TypeError. Call `prepare` before a session opens in it. */
  constructor(home: string, session?: Session) {
    this.home = home
    this.disk = new StoreDisk(home, session)
    this.blobs = new Blobs(this.disk)
    this.layers = new Layers(this.disk)
    this.tars = new TarTrees(this.disk)
    this.prepared = new PreparedStates(this.disk)
    this.#writing = new Writing(this.disk)
    this.images = new Images(this.disk, this.blobs, this.layers, this.#writing, (removed) => this.#sweepAfter(removed))
    this.temporaryNames = new TemporaryNames(this.disk, (reference, id) => this.#forgetName(reference, id))
  }

  /** Makes what is missing. Idempotent. */
  async prepare(): Promise<void> {
    await makeDirectory(this.home)
    for (const path of ['layers', 'locks', 'images', 'refs', 'blobs/sha256', 'cache/digests', 'cache/build']) {
      await mkdir(join(this.home, path), { recursive: true, mode: 0o700 })
    }
  }

  /**
   * Does work that adds to the store. Nothing is removed meanwhile: what the work has made so far belongs to no image yet. Starting a container
   * from an image belongs in here too, until its overlay is mounted. Nests; waits for a `prune` under way.
   */
  writing<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    return this.#writing.run(signal, work)
  }

  /** A path for something temporary on the store's disk, gone with the session. Nothing is there yet. */
  temporary(): Promise<string> {
    return this.disk.temporary()
  }

  /** Removes a file or directory made at a temporary path. Never throws. */
  discard(path: string): Promise<void> {
    return this.disk.discard(path)
  }

  /** Called for each damage that is found: BLOB_DAMAGED, LAYER_DAMAGED or STORE_DAMAGED. Returns what ends it. */
  onDamage(listener: (damage: MayflyError) => void): () => void {
    return this.disk.onDamage(listener)
  }

  /** Removes what no image needs, and more if told so. Throws STORE_BUSY while something is being written. */
  prune(options: PruneOptions = {}): Promise<Pruned> {
    return prune(this, this.#writing, options)
  }

  /** How much the store holds, and how much of it `prune` could remove. */
  usage(options: Pick<PruneOptions, 'user'> = {}): Promise<StoreUsage> {
    return usage(this, options)
  }

  /** Reads everything and compares it with its digests. What is damaged is removed, so that it is fetched again. */
  verify(options: VerifyOptions = {}): Promise<Verification> {
    return verify(this, options)
  }

  /**
   * SHA-256 of a file, in hexadecimal. It is read only when its path, inode, size or time of change is not the one of an
   * earlier call, in this process or another.
   */
  async digestOf(path: string, signal?: AbortSignal): Promise<string> {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
    const key = createHash('sha256').update([path, dev, ino, size, mtimeNs, ctimeNs].join('\0')).digest('hex')
    const entry = join(this.home, 'cache', 'digests', key)
    const known = await readFile(entry, 'utf8').catch(() => '')
    if (/^[0-9a-f]{64}$/.test(known)) return known
    const hash = createHash('sha256')
    for await (const piece of createReadStream(path, { highWaterMark: 1024 * 1024, ...(signal ? { signal } : {}) })) {
      hash.update(piece)
    }
    const digest = hash.digest('hex')
    const after = await stat(path, { bigint: true })
    const isSame = after.mtimeNs === mtimeNs && after.size === size
    if (isSame && this.disk.isWritable) await this.disk.replaceFile(entry, digest)
    return digest
  }

  async #forgetName(reference: string, id: string): Promise<void> {
    const image = await this.images.resolve(reference)
    // What cannot be removed now is without a name, and `prune` takes it.
    if (image?.id === id) await this.images.remove(reference).catch(() => {})
  }

  /** What an image that was removed leaves behind; left to the next `prune` when somebody is writing. */
  async #sweepAfter(removed: readonly string[]): Promise<readonly string[]> {
    try {
      return (await this.#writing.alone(SWEEP_WAIT_MS, undefined, () => sweep(this, { among: removed }))).layers
    } catch (error) {
      if (error instanceof MayflyError && error.code === 'STORE_BUSY') return []
      throw error
    }
  }
}

/**
 * With its parents. Node's own `recursive` tries for ever where a directory that is there refuses with ENOENT to have anything made in it, as
 * /proc does.
 */
async function makeDirectory(path: string): Promise<void> {
  const make = () => mkdir(path, { mode: 0o700 })
  try {
    await make()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return
    if (code !== 'ENOENT' || (await isThere(dirname(path)))) throw error
    await makeDirectory(dirname(path))
    await make().catch((failure) => {
      if (failure.code !== 'EEXIST') throw failure // another process was as fast
    })
  }
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
