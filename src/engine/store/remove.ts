/** Removing an image by what somebody called it, by the rules of `docker rmi`. */

import { MayflyError } from '../errors.js'
import { isDigest } from '../image/digest.js'
import { familiarReference, type ImageReference, parseReference } from '../image/reference.js'
import type { NamedImage } from './references.js'

export interface RemoveOptions {
  /** Also when it has names in several repositories, or stopped containers use it. Never when one that runs does. @default false */
  readonly force?: boolean
  /** Who uses an image: a container's name, and whether it runs. @default nobody */
  readonly user?: (id: string) => { readonly name: string; readonly isRunning: boolean } | undefined
}

export interface RemovedImage {
  /** Names that are gone, as people write them. */
  readonly untagged: readonly string[]
  /** The image's id and the chainIDs of layers, where they are gone. */
  readonly deleted: readonly string[]
}

interface Plan {
  readonly untag: readonly ImageReference[]
  readonly forget: boolean
}

/** Decides what goes. Throws IMAGE_IN_USE. */
export function planRemoval(
  image: { readonly id: string },
  names: readonly NamedImage[],
  text: string,
  { force = false, user }: RemoveOptions,
): Plan {
  const own = names.map(({ reference }) => reference)
  const asked = nameIn(text, own)
  // A name goes together with the digests of its repository once it was the last tag there: nobody would find them otherwise.
  const untag = asked
    ? withOrphanedDigests(
        own.filter((name) => isSame(name, asked)),
        own,
        asked,
      )
    : own
  const remaining = own.filter((name) => !untag.includes(name))
  if (asked && remaining.length > 0) return { untag, forget: false }
  if (!asked && !force && repositories(own).size > 1) {
    throw inUse(text, `it has names in several repositories: ${own.map(familiarReference).join(', ')}`, {
      hint: 'remove it by each of its names, or force it',
    })
  }
  const holder = user?.(image.id)
  if (holder?.isRunning) {
    throw inUse(text, `container ${holder.name} runs from it`, {
      container: holder.name,
      hint: 'stop the container first',
    })
  }
  if (holder && !force) {
    const hint = 'remove the container first, or force it'
    throw inUse(text, `container ${holder.name} was made from it`, { container: holder.name, hint })
  }
  return { untag, forget: true }
}

function withOrphanedDigests(
  matched: readonly ImageReference[],
  all: readonly ImageReference[],
  asked: ImageReference,
): ImageReference[] {
  const others = all.filter((name) => !matched.includes(name) && repository(name) === repository(asked))
  const hasTag = others.some(({ digest }) => digest === undefined)
  return asked.digest !== undefined || hasTag ? [...matched] : [...matched, ...others]
}

/** The name that was meant; undefined where the image was found by its id or by the beginning of one. */
function nameIn(text: string, names: readonly ImageReference[]): ImageReference | undefined {
  if (isDigest(text) || /^[0-9a-f]{64}$/.test(text)) return undefined
  try {
    const asked = parseReference(text)
    return names.some((name) => isSame(name, asked)) ? asked : undefined
  } catch {
    return undefined
  }
}

function isSame(a: ImageReference, b: ImageReference): boolean {
  if (repository(a) !== repository(b)) return false
  return b.digest === undefined ? a.digest === undefined && a.tag === b.tag : a.digest === b.digest
}

function repository({ registry, repository: path }: ImageReference): string {
  return `${registry}/${path}`
}

function repositories(references: readonly ImageReference[]): Set<string> {
  return new Set(references.map(repository))
}

function inUse(text: string, why: string, facts: { container?: string; hint: string }): MayflyError {
  return new MayflyError('IMAGE_IN_USE', `Cannot remove image ${text}: ${why}`, {
    field: 'image',
    value: text,
    ...facts,
  })
}
