/** Other images instead of those that are named: a mirror, a copy of the company's, a smaller one. */

import { checkReference } from './checks.js'
import type { Definition } from './definition.js'
import { MayflyError } from './engine/errors.js'
import { callHook } from './hooks.js'

/** Gets and gives references such as `postgres:17`. One that throws fails the start with HOOK_FAILED. */
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

/** Throws INVALID_REFERENCE for what the functions make of it, and HOOK_FAILED for what they throw. */
export async function substituteImage(definition: Definition): Promise<string> {
  const { image, substitution: own } = definition
  const substitution = own ?? global
  if (!substitution) return image
  const name = own ? 'imageSubstitution' : 'substituteImages'
  return checkReference(await callHook(name, definition, () => substitution(image)), 'substituted image')
}
