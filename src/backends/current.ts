/** The backend of this process or worker: opened when it is first needed, so that loading the library loads no engine. */

import type { Backend } from './backend.js'

/**
 * Property of the global object, of a function that is told what to call at the end. Whoever runs this context may leave one there: a test
 * runner ends a test file's context while the process goes on, and so do the containers of a backend that nobody closes.
 */
export const AT_END = Symbol.for('mayfly.at-end')

let current: Promise<Backend> | undefined

/** The backend that everything uses. Opening it again is tried if the last attempt failed. */
export function currentBackend(): Promise<Backend> {
  if (!current) {
    const opening = import('./embedded.js').then(({ EmbeddedBackend }) => EmbeddedBackend.open())
    current = opening
    ;(globalThis as { readonly [AT_END]?: (close: () => Promise<void>) => void })[AT_END]?.(closeBackend)
    opening.catch(() => {
      if (current === opening) current = undefined
    })
  }
  return current
}

/**
 * Uses another backend from now on, or with `undefined` the default one again. What runs stays with the backend that started it,
 * which whoever opened it closes.
 */
export function useBackend(backend: Backend | undefined): void {
  current = backend && Promise.resolve(backend)
}

/** Closes the backend that was opened, with everything that it has started; quiet when there is none. The next use opens another. */
export async function closeBackend(): Promise<void> {
  const opened = current
  current = undefined
  const backend = await opened?.catch(() => undefined)
  await backend?.close()
}
