/**
 * Which image a name means: one file a reference, as git's loose refs.
 *
 *     refs/docker.io/library/postgres/_tags/16
 *     refs/docker.io/library/postgres/_digests/sha256-<hex>
 *
 * No part of a repository begins with an underscore, and the grammar of references allows neither `..` nor slashes in any
 * part, so names cannot meet and cannot leave the directory.
 */

import { type Dirent, readdirSync } from 'node:fs'
import { rmdir, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { MayflyError } from '../errors.js'
import { isDigest } from '../image/digest.js'
import { formatReference, type ImageReference, parseReference } from '../image/reference.js'
import { isAbsent, readSmallFile, type StoreDisk } from './disk.js'

const TAGS = '_tags'
const DIGESTS = '_digests'

export interface NamedImage {
  /** Canonical. Has a digest, or else a tag, never both. */
  readonly reference: ImageReference
  readonly id: string
}

export class References {
  readonly #disk: StoreDisk
  readonly #root: string

  constructor(disk: StoreDisk) {
    this.#disk = disk
    this.#root = join(disk.home, 'refs')
  }

  /** The image's id. A digest alone decides where there is one. Undefined for what is unknown, or damaged and told. */
  get(reference: ImageReference): string | undefined {
    return this.#read(this.#path(reference))
  }

  async set(reference: ImageReference, id: string): Promise<void> {
    // Durable: images that were built or loaded here cannot be fetched again by their name.
    await this.#disk.replaceFile(this.#path(reference), `${id}\n`, true)
  }

  /** No error when it is unknown. */
  async remove(reference: ImageReference): Promise<void> {
    await this.#unlink(this.#path(reference))
  }

  async #unlink(path: string): Promise<void> {
    await unlink(path).catch((error) => {
      if (!isAbsent(error)) throw error
    })
    // Directories that are empty now. Who is writing into one at this moment makes it again.
    for (let directory = dirname(path); directory !== this.#root; directory = dirname(directory)) {
      try {
        await rmdir(directory)
      } catch {
        return
      }
    }
  }

  /** All names. */
  all(): NamedImage[] {
    const found: NamedImage[] = []
    for (const entry of listFiles(this.#root)) {
      const reference = referenceOf(entry)
      if (!reference) continue
      const id = this.#read(join(this.#root, entry))
      if (id !== undefined) found.push({ reference, id })
    }
    return found.sort((a, b) => (formatReference(a.reference) < formatReference(b.reference) ? -1 : 1))
  }

  /** Paths of those that name none of these images, or nothing at all; removed unless it is only to be told. */
  async removeDead(images: ReadonlySet<string>, dryRun: boolean): Promise<string[]> {
    const dead: string[] = []
    for (const entry of listFiles(this.#root)) {
      const path = join(this.#root, entry)
      const text = readSmallFile(path)
      if (text === undefined || images.has(text.trimEnd())) continue
      if (!dryRun) await this.#unlink(path)
      dead.push(path)
    }
    // Who died before the file made its directory only.
    if (!dryRun) for (const directory of listDirectories(this.#root)) await rmdir(directory).catch(() => {})
    return dead
  }

  #path({ registry, repository, tag, digest }: ImageReference): string {
    const last = digest === undefined ? join(TAGS, tag!) : join(DIGESTS, digest.replace(':', '-'))
    return join(this.#root, registry, repository, last)
  }

  #read(path: string): string | undefined {
    const text = readSmallFile(path)
    if (text === undefined) return undefined
    const id = text.endsWith('\n') ? text.slice(0, -1) : ''
    if (isDigest(id) && id.startsWith('sha256:')) return id
    this.#disk.damaged(
      new MayflyError('STORE_DAMAGED', `The reference in ${path} does not name an image`, {
        path,
        hint: 'it counts as absent; pull, build or tag the image again',
      }),
    )
    return undefined
  }
}

function referenceOf(entry: string): ImageReference | undefined {
  const match = /^(.+)\/(?:_tags\/([^/]+)|_digests\/([a-z0-9]+)-([0-9a-f]+))$/.exec(entry)
  if (!match) return undefined
  const [, name, tag, algorithm, hex] = match
  try {
    return parseReference(tag === undefined ? `${name}@${algorithm}:${hex}` : `${name}:${tag}`)
  } catch {
    return undefined // somebody else's file
  }
}

function listFiles(directory: string, prefix = ''): string[] {
  return entriesOf(directory).flatMap((entry) => {
    const path = prefix + entry.name
    return entry.isDirectory() ? listFiles(join(directory, entry.name), `${path}/`) : [path]
  })
}

/** Those below come before the one they are in. */
function listDirectories(root: string): string[] {
  return entriesOf(root).flatMap((entry) => {
    const path = join(root, entry.name)
    return entry.isDirectory() ? [...listDirectories(path), path] : []
  })
}

function entriesOf(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
  } catch (error) {
    if (isAbsent(error)) return []
    throw error
  }
}
