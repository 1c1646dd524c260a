/** COPY, ADD and WORKDIR: files into a workspace upon the stage's layers; what was written is the layer. */

import { constants, createReadStream } from 'node:fs'
import { mkdir, open, writeFile } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { MayflyError } from '../errors.js'
import { decompress } from '../store/decompress.js'
import type { Layer } from '../store/layers.js'
import type { Entry } from '../tree.js'
import { type TransferRecord, type TransferSource, Workspace } from '../workspace.js'
import type { KeyPart } from './cache.js'
import { contentPart } from './content-key.js'
import { type CopyRules, copyRecords, goesInto, type Owner, severalFiles } from './copy-records.js'
import { parseMode } from './dockerfile/mode.js'
import type { CopyInstruction, Heredoc } from './dockerfile/types.js'
import { type Owner as OwnerNames, parseOwner } from './dockerfile/values.js'
import { checkout, type GitReference, parseGitReference, resolveCommit } from './git.js'
import { IgnorePatterns } from './ignore.js'
import { LastCopies, type LastCopy, MIN_FILES } from './last-copies.js'
import type { Executed } from './lookup.js'
import { makeLayer, withWorkspace } from './make-layer.js'
import { resolveOwner } from './owners.js'
import { fetchFile, type RemoteFile } from './remote-file.js'
import type { MountWorld } from './run-mounts.js'
import { type Selection, select } from './select.js'
import { ContextTree, isUnchanged, LayersTree, realPath, type SourceTree } from './source-tree.js'
import type { CopyStep, WorkdirStep } from './stage-plan.js'

/** One source of a COPY or ADD, as far as it must be known for the key. */
type Source =
  | {
      readonly kind: 'tree'
      readonly tree: SourceTree
      readonly identity: string | undefined
      readonly paths: readonly string[]
      /** What of it is copied. Looked up once, as is its content. */
      selections(): Promise<readonly Selection[]>
      content(): Promise<KeyPart>
    }
  | { readonly kind: 'heredoc'; readonly file: Heredoc }
  | { readonly kind: 'url'; readonly file: RemoteFile; readonly isUnpacked: boolean }
  | { readonly kind: 'git'; readonly git: GitReference; readonly commit: string; readonly keepGitDirectory: boolean }

export interface PreparedCopy {
  readonly step: CopyStep
  readonly sources: readonly Source[]
  /** Local archives are unpacked. */
  readonly unpacks: boolean
}

const MEGABYTE = 1024 * 1024

/** Fetches what has to be fetched to know the key. */
export async function prepareCopy(world: MountWorld, step: CopyStep): Promise<PreparedCopy> {
  const { context, options, signal } = world
  const { instruction } = step
  const sources: Source[] = []
  const paths: string[] = []
  for (const source of instruction.sources) {
    const git = instruction.kind === 'ADD' ? parseGitReference(source) : undefined
    if (git && instruction.kind === 'ADD') {
      const commit = await resolveCommit(
        instruction.checksum ? { ...git, checksum: instruction.checksum } : git,
        signal,
      )
      const keepGitDirectory = instruction.keepGitDir ?? options.buildArgs?.BUILDKIT_CONTEXT_KEEP_GIT_DIR === '1'
      sources.push({ kind: 'git', git, commit, keepGitDirectory })
    } else if (instruction.kind === 'ADD' && /^https?:\/\//i.test(source)) {
      const file = await fetchFile(context, source, instruction.checksum, signal)
      if (file.name === '' && step.destination.endsWith('/') && !instruction.unpack) {
        throw new MayflyError('FETCH_FAILED', `No name for a file shows in ${source}`, {
          value: source,
          hint: 'name the file in the destination instead of a directory',
        })
      }
      sources.push({ kind: 'url', file, isUnpacked: instruction.unpack === true })
    } else paths.push(source)
  }
  if (paths.length > 0) {
    const { tree, identity } = await world.source(instruction.kind === 'COPY' ? instruction.from : undefined)
    const selections = once(() => selected(step, tree, paths))
    const content = once(async () => contentPart(tree, await selections()))
    sources.push({ kind: 'tree', tree, identity, paths, selections, content })
  }
  // Last, so that they take the place of files of the same name, as BuildKit has it.
  for (const file of instruction.files) sources.push({ kind: 'heredoc', file })
  return { step, sources, unpacks: instruction.kind === 'ADD' && instruction.unpack !== false }
}

/** What the result depends on besides the layers below. See `mountsPart` for `byContent`. */
export async function copyKey(
  { step, sources, unpacks }: PreparedCopy,
  byContent: boolean,
): Promise<{ readonly part: KeyPart; readonly hasContent: boolean }> {
  const { instruction, destination } = step
  let hasContent = false
  const parts: KeyPart[] = []
  for (const source of sources) {
    if (source.kind === 'heredoc') parts.push(['heredoc', source.file.name, source.file.content])
    else if (source.kind === 'git') parts.push(['git', source.commit, source.git.subdirectory, source.keepGitDirectory])
    else if (source.kind === 'url') {
      const { file, isUnpacked } = source
      parts.push(['url', file.digest, file.name, file.modifiedAt?.getTime() ?? null, isUnpacked])
    } else if (source.identity !== undefined && !byContent) {
      const flags = [instruction.kind === 'COPY' && instruction.parents, ...instruction.exclude]
      parts.push(['by', source.identity, source.paths, flags])
    } else {
      if (source.identity !== undefined) hasContent = true
      parts.push(['tree', await source.content()])
    }
  }
  const part: KeyPart = {
    destination,
    chown: instruction.chown || null,
    chmod: instruction.chmod || null,
    link: instruction.link,
    several: isOfSeveral(instruction), // then the destination must be a directory
    unpacks,
    sources: parts,
  }
  return { part, hasContent }
}

function isOfSeveral({ sources, files }: CopyStep['instruction']): boolean {
  return sources.length + files.length > 1
}

function selected({ instruction }: CopyStep, tree: SourceTree, paths: readonly string[]): Promise<Selection[]> {
  const { exclude } = instruction
  return select(tree, paths, {
    parents: instruction.kind === 'COPY' && (instruction as CopyInstruction).parents,
    exclude: exclude.length > 0 ? new IgnorePatterns(exclude, '--exclude') : undefined,
  })
}

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let begun: Promise<T> | undefined
  return () => {
    begun ??= work()
    return begun
  }
}

/** What a COPY has made. */
export interface Copied extends Executed {
  /** Remembers it for the next time that the same is copied. Only where it matches the key. */
  remember(): Promise<void>
}

/**
 * Does it. With `--link` the layer is made upon nothing, and `parent` must be undefined; `layers` are the stage's all the same, for names of
 * owners.
 */
export async function executeCopy(
  world: MountWorld,
  prepared: PreparedCopy,
  layers: readonly string[],
  parent: Layer | undefined,
): Promise<Copied> {
  const { context, emptyLayer, signal } = world
  const { step, sources, unpacks } = prepared
  const { instruction } = step
  const owner = !instruction.chown ? undefined : await ownerOf(world, parseOwner(instruction.chown), layers)
  const chmod = !instruction.chmod ? undefined : parseMode(instruction.chmod)
  const base = instruction.link ? [emptyLayer] : layers
  const workspace = await Workspace.open(context.session, base)
  return withWorkspace(workspace, async () => {
    const copy = new Copy(world, workspace, { destination: step.destination, owner, chmod })
    if (isOfSeveral(instruction)) await copy.checkDestination()
    const [only] = sources
    if (sources.length === 1 && only?.kind === 'tree' && isRepeated(world, instruction, only.tree)) {
      const last = new LastCopies(context.store.disk, context.store.layers)
      const key = last.key(only.tree.directory, JSON.stringify([step.text, step.destination]))
      const digests = await copy.again(only.tree, await only.selections(), await last.get(key))
      const matchesKey = await only.tree.isUnchanged()
      const layer = await makeLayer(context, workspace.id, parent, signal)
      return {
        layer,
        matchesKey,
        remember: async () => {
          if (layer && digests.size >= MIN_FILES) await last.set(key, layer, digests)
        },
      }
    }
    for (const source of sources) {
      if (source.kind === 'heredoc') await copy.heredoc(source.file)
      else if (source.kind === 'git') await copy.git(source)
      else if (source.kind === 'url') await copy.remote(source.file, source.isUnpacked)
      else await copy.tree(source.tree, await source.selections(), unpacks)
    }
    const matchesKey = await areUnchanged(sources)
    return { layer: await makeLayer(context, workspace.id, parent, signal), matchesKey, remember: async () => {} }
  })
}

async function areUnchanged(sources: readonly Source[]): Promise<boolean> {
  for (const source of sources) {
    if (source.kind === 'tree' && !(await isUnchanged(source.tree))) return false
  }
  return true
}

/** A directory of the user's is likely to be copied again; what was unpacked for this build never is. */
function isRepeated(
  { context }: MountWorld,
  instruction: CopyStep['instruction'],
  tree: SourceTree,
): tree is ContextTree {
  const isMainContext = instruction.kind === 'COPY' && instruction.from === undefined && tree instanceof ContextTree
  return isMainContext && !tree.directory.startsWith(`${context.store.home}/`)
}

async function ownerOf({ context, signal }: MountWorld, names: OwnerNames, layers: readonly string[]): Promise<Owner> {
  const workspace = await Workspace.open(context.session, layers)
  try {
    return await resolveOwner(context.session, workspace, names, true, signal)
  } finally {
    await workspace.remove()
  }
}

class Copy {
  readonly #world: MountWorld
  readonly #workspace: Workspace
  readonly #rules: CopyRules

  constructor(world: MountWorld, workspace: Workspace, rules: CopyRules) {
    this.#world = world
    this.#workspace = workspace
    this.#rules = rules
  }

  /** Throws COPY_CONFLICT where several sources would become one file after the other. */
  async checkDestination(): Promise<void> {
    const { destination } = this.#rules
    if (!goesInto(destination, await this.#destination())) throw severalFiles(destination)
  }

  async tree(tree: SourceTree, selections: readonly Selection[], unpacks: boolean): Promise<void> {
    const files: Selection[] = []
    const archives: Selection[] = []
    for (const selection of selections) {
      const isArchive =
        unpacks && !selection.isDirectory && tree instanceof ContextTree && (await isTar(tree, selection))
      ;(isArchive ? archives : files).push(selection)
    }
    if (files.length > 0) await this.#transfer(await tree.transferSource(), files, tree.keepsOwners)
    for (const archive of archives) {
      const path = join((tree as ContextTree).directory, archive.entries[0]!.entry.path)
      await this.#unpack(path)
    }
  }

  /**
   * Copies from a context what is not in the layer of the last time. Returns the digests of all files for the next time, by their paths
   * in the layer: none of those that have further names in the context, or extended attributes.
   */
  async again(
    tree: ContextTree,
    selections: readonly Selection[],
    last: LastCopy | undefined,
  ): Promise<ReadonlyMap<string, string>> {
    const rules = this.#rootsRules()
    const records = copyRecords(selections, rules, await this.#destination())
    const entries = selections.flatMap((selection) => selection.entries.map(({ entry }) => entry))
    const isPlain = ({ type, nlink, xattrs }: Entry) => type === 'f' && nlink === 1 && xattrs === ''
    const known = await tree.digests(entries.filter(isPlain))
    const digests = new Map<string, string>()
    let next = 0
    const marked = records.map((record, index) => {
      if (!isPlain(entries[index]!)) return record
      const digest = known[next++]!
      digests.set(record.destination, digest)
      return last?.digests.get(record.destination) === digest ? { ...record, isInBase: true } : record
    })
    await this.#workspace.transfer(await tree.transferSource(), marked, this.#world.signal, last?.tree)
    return digests
  }

  async heredoc({ name, content }: Heredoc): Promise<void> {
    const { context } = this.#world
    const directory = await context.store.temporary()
    await mkdir(directory, { mode: 0o700 })
    try {
      await writeFile(join(directory, 'content'), content, { mode: 0o644, flag: 'wx' })
      await this.#file(directory, 'content', posix.basename(name), 0o644)
    } finally {
      await context.store.discard(directory)
    }
  }

  async remote(file: RemoteFile, isUnpacked: boolean): Promise<void> {
    if (isUnpacked) await this.#unpack(join(file.directory, file.file))
    else {
      const mtimeNs = BigInt(file.modifiedAt?.getTime() ?? 0) * 1_000_000n
      await this.#file(file.directory, file.file, file.name, 0o600, mtimeNs)
    }
  }

  async git({ git, commit, keepGitDirectory }: Extract<Source, { kind: 'git' }>): Promise<void> {
    const { context, signal } = this.#world
    const directory = await checkout(context, git, commit, keepGitDirectory, signal)
    try {
      const tree = plainTree(this.#world, directory, `the repository ${git.remote}`)
      const selections = await select(tree, [git.subdirectory || '.'], { parents: false, exclude: undefined })
      await this.#transfer({ directory }, selections, false)
    } finally {
      await context.store.discard(directory)
    }
  }

  /** One file of ours under a name of its own. */
  async #file(directory: string, file: string, name: string, mode: number, mtimeNs?: bigint): Promise<void> {
    const { destination, owner, chmod } = this.#rules
    const facts = await this.#destination()
    await this.#workspace.transfer(
      { directory },
      [
        {
          source: file,
          destination: goesInto(destination, facts) ? posix.join(facts.path, name) : facts.path,
          mode: chmod ? chmod(mode, false) : mode,
          uid: owner?.uid ?? 0,
          gid: owner?.gid ?? 0,
          parentsUid: owner?.uid ?? 0,
          parentsGid: owner?.gid ?? 0,
          mtimeNs,
        },
      ],
      this.#world.signal,
    )
  }

  async #transfer(source: TransferSource, selections: readonly Selection[], keepsOwners: boolean): Promise<void> {
    const rules = keepsOwners ? this.#rules : this.#rootsRules()
    const records: TransferRecord[] = copyRecords(selections, rules, await this.#destination())
    await this.#workspace.transfer(source, records, this.#world.signal)
  }

  /** What lies in a directory of this machine belongs to root. */
  #rootsRules(): CopyRules {
    return { ...this.#rules, owner: this.#rules.owner ?? { uid: 0, gid: 0 } }
  }

  async #destination() {
    const { path, entry } = await realPath(this.#workspace, this.#rules.destination, true, this.#world.signal)
    return { path: `/${path}`, type: entry?.type }
  }

  /** The destination is a directory for what is in an archive, whether its name ends with a slash or not. */
  async #unpack(archive: string): Promise<void> {
    const { context, emptyLayer, signal } = this.#world
    const { owner } = this.#rules
    const facts = await this.#destination()
    const ids = { uid: owner?.uid ?? 0, gid: owner?.gid ?? 0, parentsUid: owner?.uid ?? 0, parentsGid: owner?.gid ?? 0 }
    const top = { source: '/', destination: facts.path, mode: 0o755, ...ids, keepDirectory: true }
    if (facts.path !== '/') await this.#workspace.transfer({ directory: emptyLayer }, [top], signal)
    const bytes = decompress(
      createReadStream(archive, { highWaterMark: MEGABYTE, flags: constants.O_RDONLY | constants.O_NOFOLLOW } as never),
    )
    if (!owner) {
      await this.#workspace.copyIn(facts.path, bytes, { chown: true, signal })
      return
    }
    // Everything in it gets another owner: unpacked aside, and then copied.
    const aside = await Workspace.open(context.session, [emptyLayer])
    try {
      await aside.copyIn('/', bytes, { chown: true, signal })
      const records: TransferRecord[] = []
      for await (const { path } of aside.list('/', { signal })) {
        if (path !== '')
          records.push({ source: path, destination: posix.join(facts.path, path), ...ids, hardLinks: true })
      }
      await this.#workspace.transfer({ workspace: aside }, records, signal)
    } finally {
      await aside.remove()
    }
  }
}

/** A directory of ours as a tree, nothing left out. */
function plainTree({ context, signal, files }: MountWorld, directory: string, label: string): ContextTree {
  return new ContextTree({ session: context.session, directory, label, ignore: undefined, files, signal })
}

const BLOCK_BYTES = 512

/** Whether a file is a tar, compressed or not: by what is in it, as docker has it. */
async function isTar(tree: ContextTree, { entries }: Selection): Promise<boolean> {
  const entry: Entry = entries[0]!.entry
  if (entry.type !== 'f' || entry.size === 0) return false
  // The path is a real one: no part of it was a link when it was listed. Should one be by now, it is not followed at the end.
  const file = await open(join(tree.directory, entry.path), constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const head = Buffer.alloc(BLOCK_BYTES)
    let filled = 0
    for await (const piece of decompress(file.createReadStream({ autoClose: false, highWaterMark: 64 * 1024 }))) {
      filled += Buffer.from(piece).copy(head, filled)
      if (filled >= BLOCK_BYTES) break
    }
    return filled >= BLOCK_BYTES && isHeader(head)
  } catch {
    return false // it looks compressed and is not: a file like any other
  } finally {
    await file.close()
  }
}

/** The sum of a tar header's bytes is in it, its own field counted as spaces. */
function isHeader(head: Buffer): boolean {
  const written = Number.parseInt(
    head
      .toString('latin1', 148, 156)
      .replace(/[\0 ]+/g, ' ')
      .trim(),
    8,
  )
  let sum = 0
  for (const [index, byte] of head.entries()) sum += index >= 148 && index < 156 ? 32 : byte
  return written === sum
}

export function workdirKey(step: WorkdirStep): KeyPart {
  return ['workdir', step.path, step.user]
}

/** Makes the directory where it is missing. */
export async function executeWorkdir(
  { context, emptyLayer, signal }: MountWorld,
  step: WorkdirStep,
  layers: readonly string[],
  parent: Layer | undefined,
): Promise<Layer | undefined> {
  const workspace = await Workspace.open(context.session, layers)
  return withWorkspace(workspace, async () => {
    const { path, entry } = await realPath(workspace, step.path, true, signal)
    if (entry?.type === 'd') {
      await workspace.remove()
      return undefined
    }
    if (entry) {
      throw new MayflyError('COPY_CONFLICT', `WORKDIR ${step.path} is not a directory`, { value: step.path })
    }
    const names = step.user === '' ? { user: '0', group: undefined } : parseOwner(step.user)
    const { uid, gid } = await resolveOwner(context.session, workspace, names, false, signal)
    const record = { source: '/', destination: `/${path}`, mode: 0o755, uid, gid, parentsUid: uid, parentsGid: gid }
    await workspace.transfer({ directory: emptyLayer }, [record], signal)
    return makeLayer(context, workspace.id, parent, signal)
  })
}

/** For trees of images and stages that nobody named: a layer list, uppermost first, or the empty layer. */
export function layersTree(
  { context, emptyLayer, signal }: MountWorld,
  layers: readonly string[],
  label: string,
): LayersTree {
  return new LayersTree(context.session, layers.length > 0 ? layers : [emptyLayer], label, signal)
}
