/**
 * Digests of the files of build contexts, remembered between builds: a file is read again only when its inode, size, or time of
 * modification or change is another one. An unchanged context so costs no more than looking at its names.
 *
 * One file for each directory in `cache/digests`, until `prune` removes it. It is only a memory: lost or damaged, everything is read again.
 * A context that was unpacked into the session's directory is never seen again, so of it nothing is remembered.
 */

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Session } from '../session.js'
import type { StoreDisk } from '../store/disk.js'
import type { Entry } from '../tree.js'
import { digestFiles } from '../workspace.js'

/**
 * A file that changed this short a time ago may change again without its times telling, where the clock of the file system is
 * coarse: it is digested, but not remembered.
 */
const SETTLED_NS = 100_000_000n
/** Entries kept for one directory at most; beyond it those that were not asked for go first. */
const MAX_ENTRIES = 500_000

interface Known {
  /** Path → identity and digest, a tab between them. */
  readonly entries: Map<string, string>
  readonly file: string
}

export class FileDigests {
  readonly #session: Session
  readonly #disk: StoreDisk
  readonly #known = new Map<string, Promise<Known>>()

  constructor(session: Session, disk: StoreDisk) {
    this.#session = session
    this.#disk = disk
  }

  /** SHA-256 of regular files below `root`, in hexadecimal. */
  async of(root: string, files: readonly Entry[], signal?: AbortSignal): Promise<readonly string[]> {
    if (files.length === 0) return []
    const known = await this.#load(root)
    const digests: string[] = new Array(files.length)
    const unknown: number[] = []
    for (const [index, file] of files.entries()) {
      const remembered = known.entries.get(file.path)
      const identity = identify(file)
      if (remembered?.startsWith(identity)) digests[index] = remembered.slice(identity.length)
      else unknown.push(index)
    }
    if (unknown.length === 0) return digests
    const now = BigInt(Date.now()) * 1_000_000n
    const fresh = await digestFiles(
      this.#session,
      root,
      unknown.map((index) => files[index]!.path),
      signal,
    )
    for (const [position, index] of unknown.entries()) {
      const file = files[index]!
      digests[index] = fresh[position]!
      if (now - file.ctimeNs < SETTLED_NS) known.entries.delete(file.path)
      else known.entries.set(file.path, identify(file) + fresh[position]!)
    }
    if (!root.startsWith(`${this.#session.facts.session}/`)) await this.#save(known)
    return digests
  }

  #load(root: string): Promise<Known> {
    let known = this.#known.get(root)
    if (!known) {
      const file = join(
        this.#disk.home,
        'cache',
        'digests',
        `context-${createHash('sha256').update(root).digest('hex')}`,
      )
      known = readFile(file, 'utf8')
        .catch(() => '')
        .then((text) => ({ entries: parse(text), file }))
      this.#known.set(root, known)
    }
    return known
  }

  async #save({ entries, file }: Known): Promise<void> {
    let text = ''
    let kept = 0
    for (const [path, value] of entries) if (++kept <= MAX_ENTRIES) text += `${value}\t${path}\0`
    await this.#disk.replaceFile(file, text).catch(() => {}) // only a memory
  }
}

function identify({ dev, ino, size, mtimeNs, ctimeNs }: Entry): string {
  return `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}\t`
}

function parse(text: string): Map<string, string> {
  const entries = new Map<string, string>()
  for (const line of text.split('\0')) {
    const tab = line.lastIndexOf('\t', line.indexOf('\t') + 65)
    if (tab > 0 && /^[0-9a-f]{64}$/.test(line.slice(tab - 64, tab)))
      entries.set(line.slice(tab + 1), line.slice(0, tab))
  }
  return entries
}
