/**
 * The store on the disk that all engines of a user share: where things lie, and what a file's digest is.
 *
 * Writers work under temporary names and rename, so no reader ever sees a half-written file.
 */

import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { MayflyError } from './errors.js'

/** Longest path of a store: the warden's socket lies below it, and the kernel allows 107 bytes for that one. */
const MAX_HOME_BYTES = 107 - '/sessions/0123456789ab/s'.length

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

  constructor(home: string) {
    this.home = home
  }

  /** Makes what is missing. Idempotent. */
  async prepare(): Promise<void> {
    await mkdir(join(this.home, 'layers'), { recursive: true, mode: 0o700 })
    await mkdir(join(this.home, 'cache', 'digests'), { recursive: true, mode: 0o700 })
  }

  /** Where the unpacked tar with this digest lies, or will lie: complete or absent. */
  tarLayer(digest: string): string {
    return join(this.home, 'layers', `tar-${digest}`)
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
    if (after.mtimeNs === mtimeNs && after.size === size) await replaceFile(entry, digest)
    return digest
  }
}

/** Writes a file so that readers see the old or the new contents, never a part. */
async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}`
  await writeFile(temporary, text, { mode: 0o600 })
  await rename(temporary, path)
}
