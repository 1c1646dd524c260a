/** Volumes: directories that several containers share, or that outlive one. */

import type { BackendVolume, VolumeOptions } from './backends/backend.js'
import { currentBackend } from './backends/current.js'
import { abortSignal, textsByName } from './checks.js'
import { type Check, optional, sparse, string } from './engine/launch/check.js'

const shape = sparse({ name: optional(string), labels: optional(textsByName) }) as Check<VolumeOptions>
const startOptions = sparse({ signal: optional(abortSignal) })

/**
 * A volume to be made.
 *
 * @example
 * import { GenericContainer, Volume } from 'mayfly'
 *
 * await using data = await new Volume().start()
 * await using writer = await new GenericContainer('redis:8').withVolumes({ volume: data, target: '/data' }).start()
 */
export class Volume {
  readonly #options: VolumeOptions

  /** Throws INVALID_OPTION. */
  constructor(options: VolumeOptions = {}) {
    this.#options = shape(options, 'volume')
  }

  /**
   * Makes it. One that is there already, perhaps made by another process, is mounted by its name instead: see `withVolumes`.
   *
   * Throws NAME_TAKEN, and INVALID_OPTION.
   */
  async start(options: { readonly signal?: AbortSignal } = {}): Promise<StartedVolume> {
    const { signal } = startOptions(options, 'start')
    const backend = await currentBackend()
    return new StartedVolume(await backend.createVolume(this.#options, signal ? { signal } : {}))
  }
}

/** A volume that is there. */
export class StartedVolume implements AsyncDisposable {
  readonly #volume: BackendVolume

  /** @internal */
  constructor(volume: BackendVolume) {
    this.#volume = volume
  }

  /** As given, or one made up. */
  getName(): string {
    return this.#volume.name
  }

  /** Removes it with everything in it. May be called twice. Throws VOLUME_IN_USE while a container has it. */
  stop(): Promise<void> {
    return this.#volume.remove()
  }

  /** As {@link stop}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }
}
