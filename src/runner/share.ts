/** One set of containers for all workers of a test runner: started in its main process, rebuilt in each worker from plain data. */

import { deserialize, serialize } from 'node:v8'
import type { Backend, Inspection } from '../backends/backend.js'
import type { Definition } from '../definition.js'
import { MayflyError } from '../engine/errors.js'
import type { GenericContainer } from '../generic-container.js'
import { RunningContainer } from '../running-container.js'
import { startAll } from '../start-all.js'
import { StartedTestContainer } from '../started-container.js'
import type { AnyStarted, Member } from './members.js'
import { type Address, ContainerDesk, remoteContainer } from './remote.js'

/** What a worker has to know of a container. */
interface Facts {
  readonly host: string
  readonly inspection: Inspection
  /** As it was started: accessors of fixtures read from it. */
  readonly env: Readonly<Record<string, string>>
}

interface Told {
  readonly address: Address
  readonly containers: Readonly<Record<string, Facts>>
}

/** Containers that run for others. */
export interface SharedSet {
  /** For {@link rebuild}: text, with the passwords of the containers in it. */
  readonly told: string
  /** May be called twice. */
  stop(): Promise<void>
}

/** Starts them side by side, dependencies first. */
export async function startShared(members: readonly Member<string>[], signal: AbortSignal): Promise<SharedSet> {
  const started = await startAll(
    members.map(({ definition }) => definition),
    { signal },
  )
  const desk = await ContainerDesk.open()
  const containers = members.map(({ name }, index): [string, Facts] => {
    const { running } = started[index] as unknown as { readonly running: RunningContainer }
    desk.add(running.container)
    return [name, { host: running.backend.host, inspection: running.inspection, env: running.definition.env }]
  })
  const told: Told = { address: desk.address, containers: Object.fromEntries(containers) }
  return {
    told: serialize(told).toString('base64'),
    async stop() {
      const outcomes = await Promise.allSettled([desk.close(), ...started.map((one) => one.stop())])
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    },
  }
}

/** The containers as a worker has them. Throws INVALID_OPTION for a set that is not the one that was started. */
export function rebuild(members: readonly Member<string>[], text: string): AnyStarted {
  const { address, containers } = deserialize(Buffer.from(text, 'base64')) as Told
  return Object.fromEntries(
    members.map(({ name, definition }) => {
      const facts = containers[name]
      if (facts) return [name, rebuildOne(definition, address, facts)]
      throw new MayflyError('INVALID_OPTION', `The global setup started no container "${name}"`, {
        field: `containers.${name}`,
        hint: `it started ${Object.keys(containers).join(', ')}; two sets need two names: shareContainers(set, { name })`,
      })
    }),
  )
}

function rebuildOne(container: GenericContainer, address: Address, facts: Facts): StartedTestContainer {
  const { definition, wrap } = container as unknown as {
    readonly definition: Definition
    /** Fixtures have it. */
    readonly wrap?: (started: StartedTestContainer) => StartedTestContainer
  }
  const { host, inspection, env } = facts
  const remote = remoteContainer(address, inspection.id, inspection.name)
  // Of a backend, what has been started needs only where its ports are.
  const backend = { name: 'remote', host } as Backend
  const running = new RunningContainer(backend, remote, { ...definition, env }, definition.healthCheck, inspection)
  const started = new StartedTestContainer(running)
  return wrap ? wrap.call(container, started) : started
}
