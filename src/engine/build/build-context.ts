/** From what a build is given to a tree and a Dockerfile: directories as they are, everything else laid out on the store's disk first. */

import { constants } from 'node:fs'
import { mkdir, open, readFile, realpath, stat } from 'node:fs/promises'
import { isAbsolute, join, posix, resolve } from 'node:path'
import { piecesOf } from '../archive-formats/pieces.js'
import { MayflyError } from '../errors.js'
import { decompress } from '../store/decompress.js'
import { unpackLayer } from '../store/layer-archive.js'
import type { BuildContext } from './context.js'
import { layOutFiles } from './context-files.js'
import type { FileDigests } from './file-digests.js'
import { checkout, parseGitReference, resolveCommit } from './git.js'
import { IgnorePatterns, parseIgnoreFile } from './ignore.js'
import type { BuildOptions, ContextFile } from './options.js'
import { ContextTree } from './source-tree.js'

export interface OpenContext {
  readonly tree: ContextTree
  /** What is called so in messages. */
  readonly file: string
  readonly dockerfile: Uint8Array | string
}

export interface ContextWorld {
  readonly context: BuildContext
  readonly files: FileDigests
  readonly signal: AbortSignal
  /** Temporary directories, to be discarded when the build is over. */
  readonly temporaries: string[]
}

const MAX_DOCKERFILE_BYTES = 16 * 1024 * 1024
const DEFAULT_FILE = 'Dockerfile'

/** Throws CONTEXT_INVALID when there is no such context or no Dockerfile in it. */
export async function openContext(world: ContextWorld, options: BuildOptions): Promise<OpenContext> {
  const { context: source, file = DEFAULT_FILE } = options
  if ('dockerfile' in source) {
    const directory = await layOut(world, source.files ?? {})
    const tree = treeOf(
      world,
      directory,
      'the build context',
      await rulesOf(world, directory, [`${DEFAULT_FILE}.dockerignore`, '.dockerignore']),
    )
    return { tree, file: DEFAULT_FILE, dockerfile: source.dockerfile }
  }
  if ('directory' in source) {
    const directory = await existing(resolve(source.directory))
    const path = isAbsolute(file) ? file : join(directory, file)
    const dockerfile = options.dockerfile ?? (await readDockerfile(path))
    const ignore = (await readIgnore(`${path}.dockerignore`)) ?? (await readIgnore(join(directory, '.dockerignore')))
    return {
      tree: treeOf(world, directory, 'the build context', ignore),
      file: options.dockerfile === undefined ? file : DEFAULT_FILE,
      dockerfile,
    }
  }
  const directory = 'tar' in source ? await unpack(world, source.tar) : await clone(world, source.git, options)
  const dockerfile = options.dockerfile ?? (await readInside(world, directory, file))
  if (dockerfile === undefined) {
    throw new MayflyError('CONTEXT_INVALID', `There is no ${file} in the build context`, {
      field: 'file',
      value: file,
      hint: 'the option `file` names another one',
    })
  }
  // As Docker has it: of what comes from elsewhere nothing is left out, and whoever made a tar has said to whom its files belong.
  return { tree: treeOf(world, directory, 'the build context', undefined, 'tar' in source), file, dockerfile }
}

/** A further context: a directory or a repository. */
export async function openNamedContext(world: ContextWorld, name: string, source: string): Promise<ContextTree> {
  const isRepository = parseGitReference(source) !== undefined
  const directory = isRepository ? await clone(world, source, {}) : await existing(resolve(source))
  const rules = isRepository ? undefined : await rulesOf(world, directory, ['.dockerignore'])
  return treeOf(world, directory, `the context "${name}"`, rules)
}

function treeOf(
  { context, files, signal }: ContextWorld,
  directory: string,
  label: string,
  ignore: IgnorePatterns | undefined,
  keepsOwners = false,
): ContextTree {
  return new ContextTree({ session: context.session, directory, label, ignore, files, signal, keepsOwners })
}

async function existing(directory: string): Promise<string> {
  const real = await realpath(directory).catch((error: NodeJS.ErrnoException) => error)
  const isDirectory = typeof real === 'string' && (await stat(real)).isDirectory()
  if (isDirectory) return real
  const why =
    typeof real === 'string'
      ? 'is not a directory'
      : real.code === 'ENOENT'
        ? 'does not exist'
        : `cannot be read: ${real.message}`
  throw new MayflyError('CONTEXT_INVALID', `The build context ${directory} ${why}`, {
    field: 'context',
    value: directory,
  })
}

/** The Dockerfile of a directory is the user's own, wherever it lies and whatever link leads to it. */
async function readDockerfile(path: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(path)
    if (size > MAX_DOCKERFILE_BYTES) throw new Error(`it is ${size} bytes long`)
    return await readFile(path)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? 'there is no such file' : message
    throw new MayflyError(
      'CONTEXT_INVALID',
      `Cannot read the Dockerfile ${path}: ${why}`,
      { field: 'file', value: path, ...(code ? { errno: code } : {}), hint: 'the option `file` names another one' },
      { cause: error },
    )
  }
}

async function readIgnore(path: string): Promise<IgnorePatterns | undefined> {
  const text = await readFile(path).catch(() => undefined)
  return text && new IgnorePatterns(parseIgnoreFile(text), posix.basename(path))
}

/** The first of these files that there is, in a tree that somebody else has made. */
async function rulesOf(
  world: ContextWorld,
  directory: string,
  names: readonly string[],
): Promise<IgnorePatterns | undefined> {
  for (const name of names) {
    const text = await readInside(world, directory, name)
    if (text) return new IgnorePatterns(parseIgnoreFile(text), name)
  }
  return undefined
}

/** Links are followed inside the tree only: a Dockerfile that is a link to /etc/shadow is none. */
async function readInside(world: ContextWorld, directory: string, path: string): Promise<Uint8Array | undefined> {
  const found = await treeOf(world, directory, 'the build context', undefined).find(path, true)
  if (found?.type !== 'f' || found.size > MAX_DOCKERFILE_BYTES) return undefined
  const file = await open(join(directory, found.path), constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    return await file.readFile()
  } finally {
    await file.close()
  }
}

async function unpack(
  world: ContextWorld,
  tar: Extract<BuildOptions['context'], { tar: unknown }>['tar'],
): Promise<string> {
  const { store, session } = world.context
  const temporary = await store.temporary()
  await mkdir(temporary, { mode: 0o700 })
  world.temporaries.push(temporary)
  const tree = join(temporary, 'tree')
  try {
    await unpackLayer(session, tree, decompress(piecesOf(tar)), { layer: false, sync: false }, world.signal)
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'ARCHIVE_INVALID') throw error
    throw new MayflyError(
      'CONTEXT_INVALID',
      `The build context is no usable tar: ${error.message}`,
      { field: 'context.tar' },
      { cause: error },
    )
  }
  return tree
}

async function clone(world: ContextWorld, source: string, options: Partial<BuildOptions>): Promise<string> {
  const git = parseGitReference(source)
  if (!git) {
    throw new MayflyError('CONTEXT_INVALID', `"${source}" is no git repository that can be fetched`, {
      field: 'context.git',
      value: source,
      hint: 'for example https://host/project.git#branch:directory',
    })
  }
  const commit = await resolveCommit(git, world.signal)
  const keepGit = options.buildArgs?.BUILDKIT_CONTEXT_KEEP_GIT_DIR === '1'
  const directory = await checkout(world.context, git, commit, keepGit, world.signal)
  world.temporaries.push(directory)
  if (git.subdirectory === '') return directory
  // A link in the repository must not make the context a directory of the host.
  const found = await treeOf(world, directory, 'the repository', undefined).find(git.subdirectory, true)
  if (found?.type === 'd') return join(directory, found.path)
  throw new MayflyError('CONTEXT_INVALID', `The repository has no directory ${git.subdirectory}`, {
    value: git.subdirectory,
  })
}

/** Files of the API, in a directory of ours. */
async function layOut(world: ContextWorld, files: Readonly<Record<string, ContextFile>>): Promise<string> {
  const temporary = await world.context.store.temporary()
  await mkdir(temporary, { mode: 0o700 })
  world.temporaries.push(temporary)
  await layOutFiles(temporary, files)
  return temporary
}
