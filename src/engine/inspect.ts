/** Everything known about a container, as plain data. */

import type { RuntimeConfig } from './image/config.js'
import type { CompleteContainerOptions } from './launch/complete.js'
import { runtimeConfig } from './launch/image.js'
import type { ContainerExit, ContainerState, Life } from './life.js'
import type { LinkFact, PublishedFact } from './wire.js'

/** All that is known of a container. */
export interface ContainerInspection {
  readonly id: string
  readonly name: string
  readonly state: ContainerState
  /** In the session's PID namespace; null when it does not run. */
  readonly pid: number | null
  readonly createdAt: Date
  readonly startedAt: Date | null
  /** How it ended the last time; null when it runs or never did. */
  readonly exit: ContainerExit | null
  readonly network: {
    /** '' when it has no address of its own. */
    readonly address: string
    readonly gateway: string
    readonly ports: readonly PublishedFact[]
    /** Each by the id of its network. */
    readonly networks: readonly LinkFact[]
  }
  /** What runs in it, in the words of `docker inspect`: the image's config, with what the options say instead. The health check is in there. */
  readonly config: RuntimeConfig
  /** All options, completed with their defaults. */
  readonly options: CompleteContainerOptions
}

export function inspectLife(life: Life): ContainerInspection {
  return {
    id: life.id,
    name: life.name,
    state: life.state,
    pid: life.isRunning ? (life.pid ?? null) : null,
    createdAt: life.createdAt,
    startedAt: life.startedAt ?? null,
    exit: life.isRunning ? null : (life.exit ?? null),
    network: { address: life.address, gateway: life.gateway, ports: life.ports, networks: life.networks },
    config: runtimeConfig(life.options),
    options: life.options,
  }
}
