/** Other images instead of those that are named: a mirror, a copy of the company's, a smaller one. */

import { checkReference } from './checks.js'
import { MayflyError } from './engine/errors.js'

/** Gets and gives references such as `postgres:17`. */
export type ImageSubstitution = (reference: string) => string | Promise<string>

let global: ImageSubstitution | undefined

/**
 * Names the images that containers of this process are really made of, from now on. A container's own
 * `withImageSubstitution` comes before it; `undefined` ends it.
 *
 * `MAYFLY_HUB_MIRROR` is applied after both. Images that were just built are not renamed.
 *
 * @example
 * import { substituteImages } from 'mayfly'
 *
 * substituteImages((reference) => (reference.includes('/') ? reference : `registry.example.com/hub/${reference}`))
 */
export function substituteImages(substitution: ImageSubstitution | undefined): void {
  if (substitution !== undefined && typeof substitution !== 'function') {
    throw new MayflyError('INVALID_OPTION', 'substitution: expected a function', { field: 'substitution' })
  }
  global = substitution
}

/** Throws INVALID_REFERENCE for what the functions make of it. */
export async function substituteImage(reference: string, own: ImageSubstitution | undefined): Promise<string> {
  const substitution = own ?? global
  if (!substitution) return reference
  return checkReference(await substitution(reference), 'substituted image')
}
