/**
 * Which entries of a tree a COPY or ADD takes, and under which names: the sources' side, before it is known what the destination
 * looks like. Rules as BuildKit's: links are followed where a source names them, never below; of a directory the contents are
 * taken; a pattern that matches nothing takes nothing.
 */

import { posix } from 'node:path'
import { MayflyError } from '../errors.js'
import type { Entry } from '../tree.js'
import { hasWildcard, splitWildcards } from './glob.js'
import { IgnorePatterns, matchGlob } from './ignore.js'
import { ContextTree, parent, type SourceTree } from './source-tree.js'

/** One entry to copy. */
export interface SelectedEntry {
  /** Where it comes from; `path` is its real path. */
  readonly entry: Entry
  /** Below the selection's destination; '' is the selection itself. */
  readonly relative: string
  /** A directory on the way to what was selected: one that is there already keeps what it is. */
  readonly isOnTheWay: boolean
}

/** What one source, or one match of its pattern, has become. */
export interface Selection {
  /** Last part of its name: what a file is called when the destination is a directory. */
  readonly name: string
  /** Entries are contents of a directory and go into the destination, or one file that goes to it. */
  readonly isDirectory: boolean
  /** Parents before what is in them. */
  readonly entries: readonly SelectedEntry[]
}

export interface SelectOptions {
  /** `COPY --parents`: names keep their directories. */
  readonly parents: boolean
  /** `--exclude` as a matcher of paths below the source. */
  readonly exclude: IgnorePatterns | undefined
}

/** Throws SOURCE_NOT_FOUND for a source without wildcards that is not there, SOURCE_OUTSIDE for one that leads out of a context. */
export async function select(
  tree: SourceTree,
  sources: readonly string[],
  options: SelectOptions,
): Promise<Selection[]> {
  const selections: Selection[] = []
  for (const source of sources) {
    const path = insidePath(tree, source)
    if (options.parents) selections.push(await selectWithParents(tree, source, options))
    else {
      for (const match of await matches(tree, path)) {
        const selection = await selectOne(tree, match, source, options)
        if (selection) selections.push(selection)
      }
    }
  }
  return selections
}

/** The source as a path below the tree's root. */
function insidePath(tree: SourceTree, source: string): string {
  const normal = posix.normalize(source.startsWith('/') ? source : `./${source}`)
  if (tree.isContext && (normal === '..' || normal.startsWith('../'))) {
    throw new MayflyError('SOURCE_OUTSIDE', `"${source}" is outside of ${tree.label}`, {
      value: source,
      hint: 'only what lies in the context can be copied; use a directory further up as the context, or a named one',
    })
  }
  return posix.join('/', source).replace(/^\/+|\/+$/g, '')
}

async function matches(tree: SourceTree, path: string): Promise<readonly string[]> {
  const { fixed, pattern } = splitWildcards(path)
  if (pattern === '') return [fixed]
  const base = await tree.find(fixed, true)
  if (base?.type !== 'd') return []
  const prefix = base.path === '' ? 0 : base.path.length + 1
  const depth = pattern.split('/').length
  return (await tree.below(base.path))
    .map((entry) => entry.path)
    .filter((one) => {
      const relative = one.slice(prefix)
      return relative.split('/').length === depth && matchGlob(pattern, relative)
    })
}

async function selectOne(
  tree: SourceTree,
  path: string,
  source: string,
  { exclude }: SelectOptions,
): Promise<Selection | undefined> {
  const name = posix.basename(path)
  const found = await tree.find(path, true)
  if (!found) throw await notFound(tree, path, source)
  if (found.type !== 'd') {
    if (exclude?.excludes(name) || !isCopied(found)) return undefined
    return { name, isDirectory: false, entries: [{ entry: found, relative: '', isOnTheWay: false }] }
  }
  const prefix = found.path === '' ? 0 : found.path.length + 1
  const below = (await tree.below(found.path))
    .filter(isCopied)
    .map((entry) => ({ entry, relative: entry.path.slice(prefix), isOnTheWay: false }))
  return {
    name,
    isDirectory: true,
    entries: [{ entry: found, relative: '', isOnTheWay: false }, ...withoutExcluded(below, exclude)],
  }
}

/** `a/./b/c` keeps `b/c`: what is before the point is only where to look. */
async function selectWithParents(tree: SourceTree, source: string, { exclude }: SelectOptions): Promise<Selection> {
  const pivot = source.indexOf('/./')
  const basePath = insidePath(tree, pivot < 0 ? '/' : source.slice(0, pivot) || '/')
  const wanted = insidePath(tree, pivot < 0 ? source : source.slice(pivot + 3))
  const base = await tree.find(basePath, true)
  if (base?.type !== 'd') throw await notFound(tree, basePath, source)
  const prefix = base.path === '' ? 0 : base.path.length + 1
  const below = await tree.below(base.path)
  const isAll = wanted === ''
  const included = new IgnorePatterns(isAll ? [] : [wanted], 'COPY')
  const chosen = new Map<string, SelectedEntry>()
  const byPath = new Map(below.map((entry) => [entry.path.slice(prefix), entry]))
  const candidates: SelectedEntry[] = []
  for (const [relative, entry] of byPath) {
    if (isCopied(entry) && (isAll || included.excludes(relative)))
      candidates.push({ entry, relative, isOnTheWay: false })
  }
  if (candidates.length === 0 && !isAll && !hasWildcard(wanted)) {
    throw await notFound(tree, posix.join(basePath, wanted), source)
  }
  for (const candidate of withoutExcluded(candidates, exclude)) {
    const missing: string[] = []
    for (let up = parent(candidate.relative); up !== '' && !chosen.has(up); up = parent(up)) missing.unshift(up)
    for (const up of missing) chosen.set(up, { entry: byPath.get(up)!, relative: up, isOnTheWay: true })
    chosen.set(candidate.relative, candidate)
  }
  return {
    name: posix.basename(basePath),
    isDirectory: true,
    entries: [{ entry: base, relative: '', isOnTheWay: false }, ...chosen.values()],
  }
}

/** A directory that is excluded stays when something below it is not. */
function withoutExcluded(
  entries: readonly SelectedEntry[],
  exclude: IgnorePatterns | undefined,
): readonly SelectedEntry[] {
  if (!exclude) return entries
  const kept = new Set<string>()
  for (const { relative } of entries) {
    if (exclude.excludes(relative)) continue
    for (let up = relative; up !== '' && !kept.has(up); up = parent(up)) kept.add(up)
  }
  return entries.filter(({ relative }) => kept.has(relative))
}

/** A socket means nothing without its process. */
function isCopied({ type }: Entry): boolean {
  return type !== 's'
}

async function notFound(tree: SourceTree, path: string, source: string): Promise<MayflyError> {
  const link = await tree.find(path, false)
  if (link?.type === 'l') {
    const leadsOut =
      tree.isContext && (link.link.startsWith('/') || posix.join(parent(link.path), link.link).startsWith('..'))
    if (leadsOut) {
      return new MayflyError(
        'SOURCE_OUTSIDE',
        `"${source}" is a symbolic link that leads out of ${tree.label}: ${link.link}`,
        {
          value: source,
        },
      )
    }
    return new MayflyError(
      'SOURCE_NOT_FOUND',
      `"${source}" is a symbolic link to ${link.link}, which is not in ${tree.label}`,
      {
        value: source,
      },
    )
  }
  const isIgnored = tree instanceof ContextTree && tree.isIgnored(path)
  return new MayflyError('SOURCE_NOT_FOUND', `"/${path}" is not in ${tree.label}`, {
    value: source,
    ...(isIgnored ? { hint: 'it exists, but .dockerignore leaves it out' } : {}),
  })
}
