/** The backend of this process or worker: opened when it is first needed, so that loading the library loads no engine. */

import { MayflyError } from '../engine/errors.js'
import type { Backend } from './backend.js'

/**
 * Property of the global object, of a function that is told what to call at the end. Whoever runs this context may leave one there: a test
 * runner ends a test file's context while the process goes on, and so do the containers of a backend that nobody closes.
 */
export const AT_END = Symbol.for('mayfly.at-end')

let current: Promise<Backend> | undefined
/** Ids and names of containers and networks of other backends: see {@link putElsewhere}. */
const elsewhere = new Map<string, Backend>()

/** The backend that everything uses. Opening it again is tried if the last attempt failed. */
export function currentBackend(): Promise<Backend> {
  if (!current) {
    const opening = import('./embedded.js').then(({ EmbeddedBackend }) => EmbeddedBackend.open())
    current = opening
    closeAtEnd()
    opening.catch(() => {
      if (current === opening) current = undefined
    })
  }
  return current
}

function closeAtEnd(): void {
  ;(globalThis as { readonly [AT_END]?: (close: () => Promise<void>) => void })[AT_END]?.(closeBackend)
}

/** These containers or networks are another backend's, and so is what is started upon them from now on. */
export function putElsewhere(backend: Backend, ...names: readonly string[]): void {
  if (elsewhere.size === 0) closeAtEnd()
  for (const name of names) elsewhere.set(name, backend)
}

/** They are gone. */
export function leaveElsewhere(backend: Backend, ...names: readonly string[]): void {
  for (const name of names) if (elsewhere.get(name) === backend) elsewhere.delete(name)
}

/** Whether two containers or networks can have to do with each other: they are of one backend. */
export function areTogether(one: string, other: string): boolean {
  return elsewhere.get(one) === elsewhere.get(other)
}

/**
 * The backend for a container upon these: networks, containers whose network or mounts it has. Throws NOT_SUPPORTED when they are not all of one.
 */
export async function backendUpon(names: readonly string[]): Promise<Backend> {
  const [first] = names
  const other = names.find((name) => !areTogether(first!, name))
  const found = first === undefined ? undefined : elsewhere.get(first)
  if (other !== undefined) {
    const [shared, own] = found ? [first, other] : [other, first]
    throw new MayflyError('NOT_SUPPORTED', `A container cannot be upon "${own}" and "${shared}": only one is shared`, {
      value: own,
      hint: 'a network beside a shared one: new Network().start({ beside: network })',
    })
  }
  return found ?? currentBackend()
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
  const others = new Set(elsewhere.values())
  current = undefined
  // What others own stays where it is; only what was started there from here ends.
  await Promise.all([...others].map((other) => other.close()))
  const backend = await opened?.catch(() => undefined)
  await backend?.close()
}
