/** How many files this process may still open. */

import { closeSync, openSync } from 'node:fs'
import { MayflyError } from './errors.js'

/** Throws ENGINE_UNAVAILABLE, beginning with what cannot be done, unless so many files can be opened. */
export function demandDescriptors(count: number, what: string): void {
  const spare: number[] = []
  try {
    while (spare.length < count) spare.push(openSync('/dev/null', 'r'))
  } catch (error) {
    if (isOutOfDescriptors(error)) throw outOfDescriptors(what)
  } finally {
    for (const descriptor of spare) closeSync(descriptor)
  }
}

export function isOutOfDescriptors(error: unknown): boolean {
  return /^E[MN]FILE$/.test((error as NodeJS.ErrnoException).code ?? '')
}

/** @param what such as `Cannot read /etc/hosts` */
export function outOfDescriptors(what: string): MayflyError {
  return new MayflyError('ENGINE_UNAVAILABLE', `${what}: this process has too many files open (EMFILE)`)
}
