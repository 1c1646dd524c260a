/** Functions that are called at the turns of a container's life, without a class of one's own. */

import type { ContainerSpec, Inspection } from './backends/backend.js'
import { MayflyError } from './engine/errors.js'
import { nearest, refuse } from './engine/launch/check.js'
import type { StartedTestContainer } from './started-container.js'

/** Each is awaited. One that throws fails the start with HOOK_FAILED, or is thrown by `stop()` when the container is gone. */
export interface Hooks {
  /** Before it is made; the spec is final. */
  readonly beforeCreate?: (spec: ContainerSpec) => unknown
  /** It exists and does not run; files have not been copied yet. */
  readonly created?: (containerId: string) => unknown
  /** Its program was started; it is not ready. */
  readonly starting?: (inspection: Inspection) => unknown
  /** It is ready; `start()` resolves after this. */
  readonly started?: (container: StartedTestContainer) => unknown
  /** It is about to be stopped. */
  readonly stopping?: (container: StartedTestContainer) => unknown
  /** It has been stopped. */
  readonly stopped?: (container: StartedTestContainer) => unknown
}

const NAMES = ['beforeCreate', 'created', 'starting', 'started', 'stopping', 'stopped']

/** Throws INVALID_OPTION. */
export function checkHooks(hooks: Hooks): Hooks {
  if (typeof hooks !== 'object' || hooks === null) refuse('hooks', hooks, 'expected an object with functions')
  for (const [name, hook] of Object.entries(hooks)) {
    if (!NAMES.includes(name)) {
      const near = nearest(name, NAMES)
      const question = near ? `; did you mean ${near}?` : ''
      throw new MayflyError('INVALID_OPTION', `hooks.${name}: there is no such hook${question}`, {
        field: `hooks.${name}`,
      })
    }
    if (hook !== undefined && typeof hook !== 'function') {
      throw new MayflyError('INVALID_OPTION', `hooks.${name}: expected a function, got ${typeof hook}`, {
        field: `hooks.${name}`,
      })
    }
  }
  return Object.freeze({ ...hooks })
}

/** Of which container it is, by name; by its image while there is none and nobody has given it a name. */
type Owner = string | { readonly name: string | undefined; readonly image: string }

/** Calls one, for what it gives. What is not an error of ours is thrown as HOOK_FAILED with the hook's name; an abort as it is. */
export async function callHook<T>(name: string, owner: Owner, hook: () => T): Promise<Awaited<T>> {
  try {
    return await hook()
  } catch (error) {
    const isAbort = error instanceof Error && /^(Abort|Timeout)Error$/.test(error.name)
    if (error instanceof MayflyError || isAbort) throw error
    const said = error instanceof Error ? error.message : String(error)
    const { name: container, image } = typeof owner === 'string' ? { name: owner, image: owner } : owner
    const message = `"${container ?? image}": its hook ${name} threw: ${said}`
    const facts = { value: name, ...(container === undefined ? {} : { container }) }
    throw new MayflyError('HOOK_FAILED', message, facts, { cause: error })
  }
}
