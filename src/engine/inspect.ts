/** Everything known about a container, as plain data. */

import type { CompleteContainerOptions } from './launch/complete.js'
import type { ContainerExit, ContainerState, Life } from './life.js'
import type { PublishedFact } from './wire.js'

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
  }
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
    network: { address: life.address, gateway: life.gateway, ports: life.ports },
    options: life.options,
  }
}
