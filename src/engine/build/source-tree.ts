/**
 * Trees that COPY, ADD and RUN --mount take files from: a build context, or the layers of an image or stage.
 *
 * Paths are relative to the tree's root, without a slash at either end; '' is the root. Links never lead out of it.
 */

import { posix } from 'node:path'
import { MayflyError } from '../errors.js'
import type { Session } from '../session.js'
import type { Entry } from '../tree.js'
import { listDirectory, type TransferSource, Workspace } from '../workspace.js'
import type { FileDigests } from './file-digests.js'
import type { IgnorePatterns } from './ignore.js'

/** An entry whose `path` is its real one: from the tree's root, through no link. */
export interface SourceTree {
  /** Such as `the build context`, for messages. */
  readonly label: string
  /** Nothing outside of it can be meant. */
  readonly isContext: boolean
  /** Files belong to whom the tree says; else to root, whoever they belong to on this machine. */
  readonly keepsOwners: boolean
  /**
   * The entry at a path; undefined when there is none. Links on the way are followed, and one that is the last part if `follow`.
   */
  find(path: string, follow: boolean): Promise<Entry | undefined>
  /** Everything below a directory (a real path), parents before what is in them, names in byte order. */
  below(path: string): Promise<readonly Entry[]>
  /** SHA-256 of regular files, by their real paths. */
  digests(entries: readonly Entry[]): Promise<readonly string[]>
  transferSource(): Promise<TransferSource>
  /** Lets go of what it holds. */
  close(): Promise<void>
}

/** As the kernel does. */
const MAX_LINKS = 40

/** A directory of this machine, what .dockerignore names left out. It is listed once, as far as somebody asks for it. */
export class ContextTree implements SourceTree {
  readonly label: string
  readonly isContext = true
  readonly keepsOwners: boolean
  readonly directory: string
  readonly #session: Session
  readonly #ignore: IgnorePatterns | undefined
  readonly #files: FileDigests
  readonly #signal: AbortSignal | undefined
  /** By path, of those names in the root whose trees have been listed. */
  readonly #entries = new Map<string, Entry>()
  readonly #children = new Map<string, Entry[]>()
  readonly #listed = new Map<string, Promise<void>>()
  #top: Promise<void> | undefined
  #wasListedWhole = false
  readonly #ignored = new Set<string>()

  constructor(options: {
    readonly session: Session
    readonly directory: string
    readonly label: string
    readonly ignore: IgnorePatterns | undefined
    readonly files: FileDigests
    readonly signal: AbortSignal | undefined
    /** @default false */
    readonly keepsOwners?: boolean
  }) {
    this.#session = options.session
    this.keepsOwners = options.keepsOwners ?? false
    this.directory = options.directory
    this.label = options.label
    this.#ignore = options.ignore
    this.#files = options.files
    this.#signal = options.signal
  }

  async find(path: string, follow: boolean): Promise<Entry | undefined> {
    let left = path.split('/').filter((part) => part !== '' && part !== '.')
    let here = ''
    for (let links = 0; ; ) {
      const part = left.shift()
      if (part === undefined) return this.#entry(here)
      if (part === '..') {
        if (here === '') return undefined // a link that leads out: there is nothing
        here = parent(here)
        continue
      }
      const next = here === '' ? part : `${here}/${part}`
      const entry = await this.#entry(next)
      if (entry?.type !== 'l' || (left.length === 0 && !follow)) {
        if (!entry || (entry.type !== 'd' && left.length > 0)) return undefined
        here = next
        continue
      }
      if (++links > MAX_LINKS) return undefined
      if (entry.link.startsWith('/')) here = ''
      left = [...entry.link.split('/').filter((one) => one !== '' && one !== '.'), ...left]
    }
  }

  async below(path: string): Promise<readonly Entry[]> {
    await this.#listTop()
    if (path === '') await this.#listAll()
    else await this.#list(path.split('/')[0]!)
    const all: Entry[] = []
    const walk = (directory: string) => {
      for (const entry of this.#children.get(directory) ?? []) {
        all.push(entry)
        if (entry.type === 'd') walk(entry.path)
      }
    }
    walk(path)
    return all
  }

  digests(entries: readonly Entry[]): Promise<readonly string[]> {
    return this.#files.of(this.directory, entries, this.#signal)
  }

  async transferSource(): Promise<TransferSource> {
    return { directory: this.directory }
  }

  /** Whether .dockerignore leaves out a path that exists: for messages. */
  isIgnored(path: string): boolean {
    for (let one = path; one !== ''; one = parent(one)) if (this.#ignored.has(one)) return true
    return false
  }

  /** Whether everything that was looked at is as it was then: else a copy may hold something else than its key says. */
  async isUnchanged(): Promise<boolean> {
    const tops = this.#wasListedWhole ? [''] : [...this.#listed.keys()].filter((name) => this.#entries.has(name))
    try {
      for (const top of tops) {
        for await (const now of listDirectory(this.#session, this.directory, `/${top}`, this.#options())) {
          const path = [top, now.path].filter((part) => part !== '').join('/')
          const before = path === '' ? undefined : this.#entries.get(path)
          if (before && (before.ino !== now.ino || before.ctimeNs !== now.ctimeNs || before.size !== now.size))
            return false
        }
      }
      return true
    } catch (error) {
      // One is gone that this copy may not even have wanted.
      if (error instanceof MayflyError && error.code === 'PATH_NOT_FOUND') return false
      throw error
    }
  }

  async close(): Promise<void> {}

  async #entry(path: string): Promise<Entry | undefined> {
    await this.#listTop()
    if (path !== '') await this.#list(path.split('/')[0]!)
    return this.#entries.get(path)
  }

  #listTop(): Promise<void> {
    this.#top ??= (async () => {
      for await (const entry of listDirectory(this.#session, this.directory, '/', this.#options(1))) this.#add(entry)
    })()
    return this.#top
  }

  /** Everything: at one go where nothing in the root is left out. */
  async #listAll(): Promise<void> {
    const names = this.#children.get('') ?? []
    const isOneGo = this.#ignored.size === 0 && this.#listed.size === 0
    if (!isOneGo) {
      await Promise.all(names.map(({ path }) => this.#list(path)))
      return
    }
    const listing = (async () => {
      for await (const entry of listDirectory(this.#session, this.directory, '/', this.#options())) {
        if (entry.path.includes('/')) this.#add(entry)
      }
      for (const { path } of names) this.#prune(path)
    })()
    this.#wasListedWhole = true
    for (const { path } of names) this.#listed.set(path, listing)
    await listing
  }

  /** One name in the root, and all below it: what is left out as a whole is not even looked at. */
  #list(name: string): Promise<void> {
    const known = this.#listed.get(name)
    if (known) return known
    const listing = (async () => {
      const entry = this.#entries.get(name)
      if (entry?.type !== 'd') return
      for await (const one of listDirectory(this.#session, this.directory, `/${name}`, this.#options())) {
        if (one.path !== '') this.#add({ ...one, path: `${name}/${one.path}` })
      }
      this.#prune(name)
    })()
    this.#listed.set(name, listing)
    return listing
  }

  #options(depth?: number) {
    return { ...(depth === undefined ? {} : { depth }), ...(this.#signal ? { signal: this.#signal } : {}) }
  }

  #add(entry: Entry): void {
    const { path } = entry
    if (path !== '' && this.#ignore?.excludes(path)) {
      this.#ignored.add(path)
      // A directory may hold something that is not left out.
      if (entry.type !== 'd' || !this.#ignore.mayReincludeBelow(path)) return
    }
    if (path !== '' && this.#ignored.has(parent(path)) && !this.#entries.has(parent(path))) return
    this.#entries.set(path, entry)
    if (path === '') return
    const siblings = this.#children.get(parent(path))
    if (siblings) siblings.push(entry)
    else this.#children.set(parent(path), [entry])
  }

  /** Takes away excluded directories in which nothing is left. */
  #prune(name: string): void {
    if (this.#ignored.size === 0) return
    const visit = (entry: Entry): boolean => {
      const children = (this.#children.get(entry.path) ?? []).filter(visit)
      if (entry.type === 'd') this.#children.set(entry.path, children)
      const isKept = !this.#ignored.has(entry.path) || (entry.type === 'd' && children.length > 0)
      if (!isKept) this.#entries.delete(entry.path)
      return isKept
    }
    const top = this.#entries.get(name)
    if (top && !visit(top))
      this.#children.set(
        '',
        this.#children.get('')!.filter((entry) => entry !== top),
      )
  }
}

/** See {@link ContextTree.isUnchanged}. Layers never change. */
export async function isUnchanged(tree: SourceTree): Promise<boolean> {
  return !(tree instanceof ContextTree) || tree.isUnchanged()
}

/** The layers of a stage or an image. They are stacked, and looked at, when somebody asks. */
export class LayersTree implements SourceTree {
  readonly label: string
  readonly isContext = false
  readonly keepsOwners = true
  readonly #session: Session
  readonly #layers: readonly string[]
  readonly #signal: AbortSignal | undefined
  #opening: Promise<Workspace> | undefined
  readonly #found = new Map<string, Promise<Entry | undefined>>()

  /** @param layers directories, uppermost first; at least one */
  constructor(session: Session, layers: readonly string[], label: string, signal: AbortSignal | undefined) {
    this.#session = session
    this.#layers = layers
    this.label = label
    this.#signal = signal
  }

  find(path: string, follow: boolean): Promise<Entry | undefined> {
    const key = `${follow}${path}`
    let finding = this.#found.get(key)
    if (!finding) {
      finding = this.workspace().then((workspace) => findIn(workspace, path, follow, this.#signal))
      this.#found.set(key, finding)
    }
    return finding
  }

  async below(path: string): Promise<readonly Entry[]> {
    const workspace = await this.workspace()
    const all: Entry[] = []
    for await (const entry of workspace.list(`/${path}`, this.#signal ? { signal: this.#signal } : {}))
      if (entry.path !== '') all.push(path === '' ? entry : { ...entry, path: `${path}/${entry.path}` })
    return all
  }

  async digests(entries: readonly Entry[]): Promise<readonly string[]> {
    const workspace = await this.workspace()
    return workspace.digest(
      entries.map(({ path }) => path),
      this.#signal,
    )
  }

  async transferSource(): Promise<TransferSource> {
    return { workspace: await this.workspace() }
  }

  workspace(): Promise<Workspace> {
    this.#opening ??= Workspace.open(this.#session, this.#layers)
    return this.#opening
  }

  async close(): Promise<void> {
    const opening = this.#opening
    if (opening) await opening.then((workspace) => workspace.remove())
  }
}

/**
 * The entry at a path of a workspace, under its real path. A link that leads nowhere is no entry; `realPath` tells where it leads.
 */
async function findIn(
  workspace: Workspace,
  path: string,
  follow: boolean,
  signal?: AbortSignal,
): Promise<Entry | undefined> {
  const real = await realPath(workspace, path, follow, signal)
  return real.entry ? { ...real.entry, path: real.path } : undefined
}

/** Where a path really is, also when nothing is there (yet): every link resolved as within a root directory. */
export async function realPath(
  workspace: Workspace,
  path: string,
  follow: boolean,
  signal?: AbortSignal,
): Promise<{ readonly path: string; readonly entry: Entry | undefined }> {
  let left = path.split('/').filter((part) => part !== '' && part !== '.')
  let here = ''
  let entry: Entry | undefined
  for (let links = 0; ; ) {
    const part = left.shift()
    if (part === undefined) {
      if (here === '' && !entry) entry = await lookAt(workspace, '', signal)
      return { path: here, entry }
    }
    if (part === '..') {
      here = parent(here)
      entry = here === '' ? undefined : await lookAt(workspace, here, signal)
      continue
    }
    const next = here === '' ? part : `${here}/${part}`
    entry = await lookAt(workspace, next, signal)
    if (!entry) {
      // Nothing below it can exist either.
      const rest = posix.normalize(['', next, ...left].join('/')).slice(1)
      return { path: rest, entry: undefined }
    }
    if (entry.type !== 'l' || (left.length === 0 && !follow)) {
      here = next
      continue
    }
    if (++links > MAX_LINKS) {
      throw new MayflyError('PATH_NOT_FOUND', `/${path}: too many symbolic links`, { value: path, errno: 'ELOOP' })
    }
    left = [...entry.link.split('/').filter((one) => one !== '' && one !== '.'), ...left]
    if (entry.link.startsWith('/')) here = ''
  }
}

async function lookAt(workspace: Workspace, path: string, signal?: AbortSignal): Promise<Entry | undefined> {
  try {
    for await (const entry of workspace.list(`/${path}`, { depth: 0, ...(signal ? { signal } : {}) })) return entry
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'PATH_NOT_FOUND') throw error
  }
  return undefined
}

export function parent(path: string): string {
  const slash = path.lastIndexOf('/')
  return slash < 0 ? '' : path.slice(0, slash)
}
