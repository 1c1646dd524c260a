/** `RUN --mount`: what is in the step's key, and what has to be there while it runs. */

import { chmod, chown, writeFile } from 'node:fs/promises'
import { posix } from 'node:path'
import { MayflyError } from '../errors.js'
import { Workspace } from '../workspace.js'
import { cacheKey, type KeyPart } from './cache.js'
import { type CacheSeed, openCacheMount } from './cache-mounts.js'
import { contentPart } from './content-key.js'
import type { BuildContext } from './context.js'
import { copyRecords } from './copy-records.js'
import type { BindMount, CacheMount, Mount, RunInstruction } from './dockerfile/types.js'
import type { FileDigests } from './file-digests.js'
import type { BuildOptions } from './options.js'
import { agentSocket, readSecret } from './secrets.js'
import { select } from './select.js'
import { isUnchanged, type SourceTree } from './source-tree.js'
import { openAgentSocket } from './ssh-agent.js'

/** A tree that a mount or a COPY takes files `from`. */
export interface NamedTree {
  readonly tree: SourceTree
  /** What its content follows from, without looking at it; undefined for a context, whose content is looked at. */
  readonly identity: string | undefined
  /** The same tree for one user alone, who may write. */
  own(): SourceTree
}

/** Lets go of one thing; what it returns is awaited. */
export type Closer = () => unknown

export interface MountWorld {
  readonly context: BuildContext
  readonly options: BuildOptions
  /** A directory with nothing in it. */
  readonly emptyLayer: string
  readonly files: FileDigests
  readonly signal: AbortSignal
  /** By `from`; undefined is the build context. */
  source(from: string | undefined): Promise<NamedTree>
}

/** Mounts in place: words for the plan, and how to let go. */
export interface OpenMounts {
  readonly words: readonly string[]
  /** Environment variables that hold secrets. */
  readonly env: readonly (readonly [name: string, value: string])[]
  /** See `Executed`. */
  readonly matchesKey: boolean
  close(): Promise<void>
}

/**
 * What of the mounts is in the key. Secrets, agents and what is in caches are not: a step must not depend on them. What a cache begins with is.
 *
 * @param byContent looks at what is taken from stages and images, instead of at what it was made by
 */
export async function mountsPart(
  world: MountWorld,
  { mounts }: RunInstruction,
  byContent: boolean,
): Promise<{ readonly part: KeyPart; readonly hasContent: boolean }> {
  let hasContent = false
  const parts: KeyPart[] = []
  for (const mount of mounts) {
    const isTaken = mount.type === 'bind' || (mount.type === 'cache' && mount.from !== undefined)
    if (!isTaken) {
      parts.push(otherPart(mount))
      continue
    }
    const { tree, identity } = await world.source(mount.from)
    const isWhole = isRoot(mount.source)
    const isCopied = mount.type === 'cache' || mount.readOnly
    // All of an image is not read only to find that it is another one.
    const looks = identity === undefined || (byContent && isCopied && !isWhole)
    if (identity !== undefined && looks) hasContent = true
    const content = looks ? await contentPart(tree, await selectBound(tree, mount)) : ['by', identity ?? '']
    parts.push([mount.type, mount.target, mount.source, mount.readOnly, content])
  }
  return { part: parts, hasContent }
}

function otherPart(mount: Exclude<Mount, BindMount>): KeyPart {
  switch (mount.type) {
    case 'cache':
      return ['cache', mount.target, mount.source, mount.readOnly]
    case 'tmpfs':
      return ['tmpfs', mount.target, mount.sizeBytes ?? null]
    case 'secret':
      return ['secret', mount.id, mount.target ?? null, mount.env ?? null, mount.mode, mount.uid, mount.gid]
    case 'ssh':
      return ['ssh', mount.id, mount.target ?? null, mount.mode, mount.uid, mount.gid]
  }
}

const isRoot = (path: string) => posix.resolve('/', path) === '/'

function selectBound(tree: SourceTree, mount: BindMount | CacheMount) {
  // A path here is a path: what would be a wildcard elsewhere is not.
  const source = mount.source.replace(/[\\*?[]/g, '\\$&')
  return select(tree, [source], { parents: false, exclude: undefined })
}

/** Opens them all, or none. Caches are taken in the order of their ids, so that two steps never wait for each other. */
export async function openMounts(world: MountWorld, { mounts }: RunInstruction): Promise<OpenMounts> {
  const closers: Closer[] = []
  const words: string[][] = []
  const env: [string, string][] = []
  const changed: Mount[] = []
  const close = async () => {
    for (const one of closers.splice(0).reverse()) await one()
  }
  try {
    const inOrder = [...mounts.entries()].sort(
      ([a, one], [b, other]) => cacheId(one).localeCompare(cacheId(other)) || a - b,
    )
    let agents = 0
    const agentNumbers = new Map(mounts.flatMap((mount) => (mount.type === 'ssh' ? [[mount, agents++] as const] : [])))
    for (const [index, mount] of inOrder) {
      const opened = await openMount(world, mount, closers, env, changed, agentNumbers.get(mount as never) ?? 0)
      words[index] = opened
    }
  } catch (error) {
    await close()
    throw error
  }
  return { words: words.flat(), env, matchesKey: changed.length === 0, close }
}

const cacheId = (mount: Mount) => (mount.type === 'cache' ? mount.id : '')

async function openMount(
  world: MountWorld,
  mount: Mount,
  closers: Closer[],
  env: [string, string][],
  /** Gets those that show something else of a context than was there when it was listed. */
  changed: Mount[],
  agentNumber: number,
): Promise<string[]> {
  const { context, options, signal } = world
  switch (mount.type) {
    case 'tmpfs': {
      const size = mount.sizeBytes === undefined ? '' : `,size=${mount.sizeBytes}`
      return ['mount', 'tmpfs', 'target', mount.target, 'options', 'nosuid,nodev', 'data', `mode=1777${size}`]
    }
    case 'bind':
      return openBind(world, mount, closers, changed)
    case 'cache': {
      const seed = mount.from === undefined ? undefined : await seedOf(await world.source(mount.from))
      const cache = await openCacheMount(context, world.emptyLayer, mount, seed, signal)
      closers.push(() => cache.release())
      if (!cache.matchesKey) changed.push(mount)
      return bindWords(mount.source, cache.directory, mount.target, mount.readOnly)
    }
    case 'secret': {
      const content = await readSecret(mount.id, options.secrets)
      if (!content) return missing(mount.required, `secret "${mount.id}"`, mount.id, 'secrets')
      if (mount.env !== undefined) env.push([mount.env, content.toString()])
      if (mount.target === undefined) return []
      return fileWords(context, mount.target, content, mount, closers)
    }
    case 'ssh': {
      const agent = agentSocket(mount.id, options.ssh)
      if (agent === undefined) return missing(mount.required, `ssh agent "${mount.id}"`, mount.id, 'ssh')
      const socket = await openAgentSocket(context, agent, mount)
      closers.push(() => socket.close())
      const target = mount.target ?? `/run/buildkit/ssh_agent.${agentNumber}`
      if (!env.some(([name]) => name === 'SSH_AUTH_SOCK')) env.push(['SSH_AUTH_SOCK', target])
      return ['mount', 'bind', 'source', socket.path, 'target', target, 'options', 'rprivate']
    }
  }
}

function missing(isRequired: boolean, what: string, id: string, option: string): string[] {
  if (!isRequired) return []
  throw new MayflyError('SECRET_NOT_FOUND', `The step requires ${what}, which was not given`, {
    value: id,
    hint: `the build's option \`${option}\` gives it`,
  })
}

/** What a cache begins with. Where that is a context, another content makes another cache. */
async function seedOf({ tree, identity }: NamedTree): Promise<CacheSeed> {
  if (identity !== undefined) return { tree, identity }
  const all = await select(tree, ['/'], { parents: false, exclude: undefined })
  return { tree, identity: cacheKey('seed', await contentPart(tree, all)) }
}

/** What is bound can be written to where it says so; but what is written is nobody's but the step's, and gone after it. */
async function openBind(world: MountWorld, mount: BindMount, closers: Closer[], changed: Mount[]): Promise<string[]> {
  const { context, signal, emptyLayer } = world
  const named = await world.source(mount.from)
  if (named.identity === undefined) {
    const { tree } = named
    const selections = await selectBound(tree, mount)
    const workspace = await Workspace.open(context.session, [emptyLayer])
    closers.push(() => workspace.remove())
    const rules = { destination: '/bound', owner: { uid: 0, gid: 0 }, chmod: undefined }
    const records = copyRecords(selections, rules, { path: '/bound', type: undefined })
    await workspace.transfer(await tree.transferSource(), records, signal)
    // Asked now: the step is not shown what changes while it runs.
    if (!(await isUnchanged(tree))) changed.push(mount)
    return bindWords('/bound', `container:${workspace.id}`, mount.target, mount.readOnly)
  }
  const tree = mount.readOnly ? named.tree : named.own()
  if (!mount.readOnly) closers.push(() => tree.close())
  const found = await tree.find(mount.source.replace(/^\/+/, ''), true)
  if (!found)
    throw new MayflyError('SOURCE_NOT_FOUND', `"${mount.source}" is not in ${tree.label}`, { value: mount.source })
  const source = await tree.transferSource()
  if (!('workspace' in source)) throw new TypeError('Only a context lies in a directory')
  return bindWords(`/${found.path}`, `container:${source.workspace.id}`, mount.target, mount.readOnly)
}

function bindWords(source: string, root: string, target: string, isReadOnly: boolean): string[] {
  const options = `rec,rprivate${isReadOnly ? ',ro' : ''}`
  return [
    'mount',
    'bind',
    'source',
    posix.resolve('/', source),
    'source-root',
    root,
    'target',
    target,
    'options',
    options,
  ]
}

/** In memory, in the session's own mount namespace; a content that is no text lies in the session's directory for that long. */
export async function fileWords(
  { store }: BuildContext,
  target: string,
  content: Uint8Array,
  { mode, uid, gid }: { readonly mode: number; readonly uid: number; readonly gid: number },
  closers: Closer[],
): Promise<string[]> {
  const text = Buffer.from(content).toString()
  if (!text.includes('\0') && Buffer.from(text).equals(Buffer.from(content))) {
    return ['file', target, 'literal', text, 'mode', mode.toString(8), 'owner', `${uid}:${gid}`]
  }
  const path = await store.temporary()
  closers.push(() => store.discard(path))
  await writeFile(path, content, { mode: 0o600, flag: 'wx' })
  if (process.getuid?.() === 0) await chown(path, uid, gid)
  await chmod(path, mode)
  return ['mount', 'bind', 'source', path, 'target', target, 'options', 'rprivate,ro']
}
