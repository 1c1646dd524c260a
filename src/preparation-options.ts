/** What a definition and its class say about prepared states (preparation.ts). */

import type { ContainerSpec, ImageFacts } from './backends/backend.js'
import type { Migration } from './migrations.js'

/** How the state of a service that is ready may be kept, for later starts to begin with. */
export interface Preparable {
  /** Another one when a change of the fixture makes kept states useless. */
  readonly version: number
  /** What ends the server so that its files are whole. */
  readonly stopSignal?: string
  /** How long that may take. Milliseconds. */
  readonly stopTimeoutMs: number
  /** Also where nothing is said of it, and there are no migrations. */
  readonly byDefault: boolean
  /** What the container that makes the state is given besides. */
  readonly first?: (spec: ContainerSpec, image: ImageFacts) => ContainerSpec
  /** What a container that begins with the state may leave out. */
  readonly again?: (spec: ContainerSpec, image: ImageFacts) => ContainerSpec
}

/** What a definition says about prepared states. */
export interface Preparation {
  readonly isOn: boolean | undefined
  readonly key: string | undefined
  readonly migrations: readonly Migration[]
}

export const NO_PREPARATION: Preparation = Object.freeze({ isOn: undefined, key: undefined, migrations: [] })

/** Of containers that no fixture knows. */
export const ANY_CONTAINER: Preparable = { version: 1, stopTimeoutMs: 60_000, byDefault: false }
