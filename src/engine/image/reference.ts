/**
 * Image references, in the grammar and with the defaults of Docker (github.com/distribution/reference):
 *
 *     [registry host[:port]/]repository[:tag][@digest]
 *
 * The first component is a registry only if it has a dot or a colon, is `localhost` or has an upper-case letter; everything
 * else is on Docker Hub.
 */

import { MayflyError } from '../errors.js'
import { digestProblem } from './digest.js'

/** What an image is called. Complete: there is a tag or a digest, and the registry is never left out. */
export interface ImageReference {
  /** Host, with its port if one was given. Docker Hub is `docker.io`. */
  readonly registry: string
  /** Such as `library/postgres`. */
  readonly repository: string
  readonly tag: string | undefined
  /** Of a manifest or an index. When there is one, it alone decides what is fetched. */
  readonly digest: string | undefined
}

/** How Docker Hub is called in references. */
export const DOCKER_HUB = 'docker.io'
const DEFAULT_TAG = 'latest'
/** Namespace of Docker Hub's official images, which is left out when people write. */
const OFFICIAL = 'library/'

/** Registry and repository together, as docker's limit. */
const MAX_NAME_LENGTH = 255
/** Longer than any valid reference. Checked first, so that no pattern runs over megabytes. */
const MAX_LENGTH = MAX_NAME_LENGTH + 1 + 128 + 1 + 'sha512:'.length + 128

const DOMAIN =
  /^(?:(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])(?:\.(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9]))*|\[[a-f0-9:]+\])(?::[0-9]+)?$/i
const COMPONENT = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/

/**
 * Reads a reference as Docker does: `postgres` is `docker.io/library/postgres:latest`, and `localhost:5000/team/app:1.2` is of a registry
 * on this machine.
 *
 * Throws INVALID_REFERENCE with what was expected and, as `value`, the part that is wrong.
 */
export function parseReference(text: string): ImageReference {
  if (typeof text !== 'string') throw new TypeError(`An image reference is a string, not ${typeof text}`)
  const fail = (part: string, why: string): never => {
    throw invalid(text, part, why)
  }
  if (text === '') fail('', 'it is empty; expected a name such as postgres:16')
  if (text.length > MAX_LENGTH) fail(`${text.slice(0, 40)}…`, `it is ${text.length} characters long`)
  if (/^[0-9a-f]{64}$/.test(text)) fail(text, '64 hexadecimal digits are an image id; a name cannot look like one')

  const [name, digest] = cut(text, '@')
  if (digest !== undefined) {
    const problem = digestProblem(digest)
    if (problem) fail(digest, `after @ a digest is expected, such as sha256:<64 digits>: ${problem}`)
  }
  const { registry, rest } = splitRegistry(name)
  const [path, tag] = cut(rest, ':')
  if (tag !== undefined && !TAG.test(tag)) {
    fail(tag, 'a tag has 1 to 128 letters, digits, "_", "." and "-", and does not begin with "." or "-"')
  }
  if (!DOMAIN.test(registry)) {
    fail(registry, 'a registry is a host name, an IPv4 address or an IPv6 address in brackets, and perhaps a port')
  }
  for (const component of path.split('/')) {
    if (COMPONENT.test(component)) continue
    if (component === '') fail(path, 'a part of the repository is empty')
    if (COMPONENT.test(component.toLowerCase())) fail(component, 'a repository must be in lower case')
    fail(
      component,
      'each part of a repository has lower-case letters and digits, separated by ".", "_", "__" or any number of "-"',
    )
  }
  const repository = registry === DOCKER_HUB && !path.includes('/') ? OFFICIAL + path : path
  if (registry.length + 1 + repository.length > MAX_NAME_LENGTH) {
    fail(path, `registry and repository have more than ${MAX_NAME_LENGTH} characters together`)
  }
  return Object.freeze({ registry, repository, tag: tag ?? (digest === undefined ? DEFAULT_TAG : undefined), digest })
}

/** Reads a name for an image that is here. Throws INVALID_REFERENCE, also for one with a digest: that says what the image is, and is not given. */
export function parseNewName(text: string): ImageReference {
  const reference = parseReference(text)
  if (reference.digest === undefined) return reference
  throw invalid(text, reference.digest, 'a name that is given to an image cannot have a digest')
}

/** The canonical text: `docker.io/library/postgres:16`. */
export function formatReference(reference: ImageReference): string {
  return `${reference.registry}/${reference.repository}${suffix(reference)}`
}

/** The text as people write it: `postgres:16`. Reading it gives the same reference again. */
export function familiarReference(reference: ImageReference): string {
  return familiarName(reference) + suffix(reference)
}

/** Registry and repository as people write them: `postgres`, as in the first column of `docker images`. */
export function familiarName({ registry, repository }: Pick<ImageReference, 'registry' | 'repository'>): string {
  const full = `${registry}/${repository}`
  if (registry !== DOCKER_HUB) return full
  const short =
    repository.startsWith(OFFICIAL) && repository.indexOf('/', OFFICIAL.length) < 0
      ? repository.slice(OFFICIAL.length)
      : repository
  // docker.io/localhost/app is a repository of Docker Hub's, localhost/app is not.
  return splitRegistry(short).registry === DOCKER_HUB && !short.startsWith(`${DOCKER_HUB}/`) ? short : full
}

function suffix({ tag, digest }: ImageReference): string {
  return (tag === undefined ? '' : `:${tag}`) + (digest === undefined ? '' : `@${digest}`)
}

function splitRegistry(name: string): { registry: string; rest: string } {
  const slash = name.indexOf('/')
  const first = name.slice(0, Math.max(slash, 0))
  if (first === 'index.docker.io') return { registry: DOCKER_HUB, rest: name.slice(slash + 1) }
  if (slash >= 0 && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase())) {
    return { registry: first, rest: name.slice(slash + 1) }
  }
  return { registry: DOCKER_HUB, rest: name }
}

/** The text before and after the first separator. */
function cut(text: string, separator: string): [before: string, after: string | undefined] {
  const at = text.indexOf(separator)
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}

function invalid(text: string, part: string, why: string): MayflyError {
  const shown = JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text)
  const which = part === '' || part === text ? '' : ` (at ${JSON.stringify(part)})`
  return new MayflyError('INVALID_REFERENCE', `${shown} is no image reference${which}: ${why}`, {
    field: 'reference',
    value: part,
  })
}
