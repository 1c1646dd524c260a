/** What the faces of one started container share: its backend's container, what is known of it, and how far its life is. */

import { Readable } from 'node:stream'
import type { Backend, BackendContainer, HealthCheck, Inspection } from './backends/backend.js'
import type { Definition } from './definition.js'
import { MayflyError } from './engine/errors.js'
import type { StartedFault } from './faults.js'
import { firstMappedPort, mappedPort } from './ports.js'
import type { Health, WaitTarget } from './wait/strategy.js'

export class RunningContainer {
  readonly backend: Backend
  readonly container: BackendContainer
  readonly definition: Definition
  /** The definition's, else the image's. */
  readonly healthCheck: HealthCheck | undefined
  /** As of its last start. */
  inspection: Inspection
  health: Health = 'none'
  /** It began with a kept state, or stands on one since: files need not be copied in, nor data be made. */
  isUponState = false
  /** Who programs run as that name nobody, where that is not the user of the first process. */
  programUser: string | undefined
  /** Runs its migrations. */
  migrate: () => Promise<void> = async () => {}
  /** Throws where it is not this process's to stop. */
  requireOwn: () => void = () => {}
  /** The stop under way or done: there is one, however often it is asked for. */
  stopping: Promise<void> | undefined
  /** The stop has come so far that nothing can be done with it any more: functions that are called before may use it. */
  isEnding = false
  /** Those that were made and not undone. */
  readonly faults = new Set<StartedFault>()
  /** Called, in this order, when it has been stopped. */
  readonly afterStop: (() => Promise<unknown>)[] = []

  constructor(
    backend: Backend,
    container: BackendContainer,
    definition: Definition,
    healthCheck: HealthCheck | undefined,
    inspection: Inspection,
  ) {
    this.backend = backend
    this.container = container
    this.definition = definition
    this.healthCheck = healthCheck
    this.inspection = inspection
  }

  /** Throws CONTAINER_NOT_RUNNING, with the verb, once it is stopped. */
  requireUsable(verb: string): void {
    if (!this.isEnding) return
    const { name } = this.container
    throw new MayflyError('CONTAINER_NOT_RUNNING', `Cannot ${verb} "${name}": it was stopped`, { container: name })
  }

  /** Looks again: after a start, ports may be others. */
  async refresh(): Promise<Inspection> {
    const inspection = await this.container.inspect()
    const { networkMode, ports } = this.definition
    // On the host's own network every port is the host's.
    const own = ports.map(({ container, protocol = 'tcp' }) => ({ container, protocol, host: container, hostIp: '' }))
    this.inspection = networkMode === 'host' ? { ...inspection, ports: own } : inspection
    return this.inspection
  }

  /** For wait strategies. */
  target(): WaitTarget {
    const { container, definition, inspection } = this
    const { ports } = inspection
    return {
      container,
      healthCheck: this.healthCheck,
      exposedPorts: definition.ports.map(({ container: port, protocol = 'tcp' }) => ({ container: port, protocol })),
      startedAt: inspection.startedAt ?? inspection.createdAt,
      getId: () => container.id,
      getName: () => container.name,
      getHost: () => this.backend.host,
      getMappedPort: (port, protocol) => mappedPort(ports, container.name, port, protocol),
      getFirstMappedPort: () => firstMappedPort(ports, container.name),
      reportHealth: (health) => {
        this.health = health
      },
    }
  }

  /** A tar of a path. Rejects when there is nothing, rather than failing the stream later. */
  async archive(path: string, signal?: AbortSignal): Promise<Readable> {
    const tar = this.container.copyOut(path, signal ? { signal } : {})
    const first = await tar.next()
    async function* all(): AsyncGenerator<Uint8Array> {
      try {
        if (!first.done) yield first.value
        yield* { [Symbol.asyncIterator]: () => tar }
      } finally {
        await tar.return?.()
      }
    }
    return Readable.from(all(), { objectMode: false })
  }
}
