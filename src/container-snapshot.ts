/** What `snapshot()` of a started container gives. */

import type { BackendState } from './backends/backend.js'

/**
 * The files of a container as they were: `start({ from })` begins with them, and `reset()` returns to them. It goes with the session.
 *
 * @example
 * import { GenericContainer } from 'mayfly'
 *
 * const definition = new GenericContainer('redis:8').withExposedPorts(6379)
 * await using first = await definition.start()
 * const snapshot = await first.snapshot()
 * await using second = await definition.start({ from: snapshot })
 */
export class ContainerSnapshot implements AsyncDisposable {
  /** Undefined: it cannot be started from. @internal */
  readonly state: BackendState | undefined
  /** @internal */
  isRemoved = false
  private readonly removal: () => Promise<void>

  /** @internal */
  constructor(state: BackendState | undefined, removal: () => Promise<void>) {
    this.state = state
    this.removal = removal
  }

  /** Removes it: nothing can be started from it any more. What stands on it keeps it until it ends. */
  async remove(): Promise<void> {
    this.isRemoved = true
    await this.removal()
  }

  /** Removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove()
  }
}
