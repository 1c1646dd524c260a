/**
 * Where an image really comes from: a substitution of the caller's says what to fetch instead, mirrors stand in for Docker Hub.
 * Either way it is kept under the name that was asked for.
 */

import { MayflyError } from '../errors.js'
import { DOCKER_HUB, familiarReference, formatReference, type ImageReference, parseReference } from './reference.js'

/** Renames images: gets and returns references such as `docker.io/library/postgres:16`. */
export type Substitute = (reference: string) => string

/** The reference after substitution. Throws INVALID_REFERENCE for what `substitute` makes of it. */
export function substituteReference(reference: ImageReference, substitute?: Substitute): ImageReference {
  if (!substitute) return reference
  const replaced: unknown = substitute(formatReference(reference))
  if (typeof replaced !== 'string') {
    throw new TypeError(`substitute must return a reference as a string, not ${typeof replaced}`)
  }
  return parseReference(replaced)
}

/**
 * Where to fetch an image from, in the order to try. For everything but Docker Hub that is the reference itself.
 *
 * MAYFLY_HUB_MIRROR is `host[:port][/prefix]`, or several with commas between them. Docker Hub is tried after them only if it is
 * named: `mirror.example:5000,docker.io`. Where it is not set, TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX is put before the name as it is
 * usually written, as Testcontainers does: without `library/`.
 *
 * Throws INVALID_OPTION for a variable that makes no sense.
 */
export function pullSources(reference: ImageReference, environment: NodeJS.ProcessEnv = process.env): ImageReference[] {
  if (reference.registry !== DOCKER_HUB) return [reference]
  const mirrors = environment.MAYFLY_HUB_MIRROR?.trim()
  if (mirrors) {
    const entries = mirrors.split(',').map((entry) => entry.trim())
    return entries.filter((entry) => entry !== '').map((entry) => atMirror(entry, reference))
  }
  const prefix = environment.TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX?.trim()
  if (prefix) {
    const field = 'TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX'
    if (prefix.includes('@')) throw invalid(field, prefix.replace(/^.*@/s, '…@'), 'it holds a user name or an "@"')
    return [parsed(`${withoutSlashes(prefix)}/${familiarReference(reference)}`, field, prefix)]
  }
  return [reference]
}

function atMirror(mirror: string, reference: ImageReference): ImageReference {
  const field = 'MAYFLY_HUB_MIRROR'
  const place = withoutSlashes(mirror)
  const host = place.split('/')[0]!
  // It must not hold a password, so one that does is not repeated.
  if (place.includes('@')) throw invalid(field, place.replace(/^.*@/s, '…@'), 'it holds a user name or an "@"')
  if (place.includes('://')) throw invalid(field, mirror, 'it begins with a scheme')
  if (!/[.:]/.test(host) && host !== 'localhost') {
    throw invalid(field, mirror, `${JSON.stringify(host)} does not look like a host: it has neither a dot nor a port`)
  }
  const { repository, tag, digest } = reference
  const suffix = `${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`
  return parsed(`${place}/${repository}${suffix}`, field, mirror)
}

function parsed(name: string, field: string, value: string): ImageReference {
  try {
    return parseReference(name)
  } catch (error) {
    throw invalid(field, value, (error as Error).message, error)
  }
}

function withoutSlashes(text: string): string {
  return text.replace(/\/+$/, '')
}

function invalid(field: string, value: string, why: string, cause?: unknown): MayflyError {
  return new MayflyError(
    'INVALID_OPTION',
    `${field} is ${JSON.stringify(value)}: ${why}`,
    { field, value, hint: 'expected host[:port][/prefix], such as mirror.example:5000/hub' },
    cause === undefined ? undefined : { cause },
  )
}
