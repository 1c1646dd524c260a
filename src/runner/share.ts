/** One set of containers and networks for all workers of a test runner: started in its main process, rebuilt in each worker from plain data. */

import { deserialize, serialize } from 'node:v8'
import type { Inspection } from '../backends/backend.js'
import { currentBackend, putElsewhere } from '../backends/current.js'
import type { Definition } from '../definition.js'
import { MayflyError } from '../engine/errors.js'
import type { GenericContainer } from '../generic-container.js'
import { StartedNetwork, shareNetwork } from '../network.js'
import { RunningContainer } from '../running-container.js'
import { startAll } from '../start-all.js'
import { StartedTestContainer } from '../started-container.js'
import type { Address } from './conversation.js'
import { ContainerDesk } from './desk.js'
import type { SharedMembers } from './members.js'
import { RemoteBackend, remoteContainer, remoteNetwork } from './remote.js'
import { type NetworkFacts, refusal } from './work.js'

/** What a worker has to know of a container. */
interface Facts {
  readonly inspection: Inspection
  /** As it was started: accessors of fixtures read from it. */
  readonly env: Readonly<Record<string, string>>
}

interface Told {
  readonly address: Address
  /** Where ports are reached. */
  readonly host: string
  readonly containers: Readonly<Record<string, Facts>>
  readonly networks: Readonly<Record<string, NetworkFacts>>
}

/** Containers that run for others. */
export interface SharedSet {
  /** For {@link rebuild}: text, with the passwords of the containers in it. */
  readonly told: string
  /** May be called twice. */
  stop(): Promise<void>
}

/** What a worker has of a set. */
export type AnyShared = Readonly<Record<string, StartedTestContainer | StartedNetwork>>

/** Starts the networks, and on them the containers side by side, dependencies first. */
export async function startShared(members: SharedMembers, signal: AbortSignal): Promise<SharedSet> {
  const backend = await currentBackend()
  const desk = await ContainerDesk.open(backend)
  const networks: StartedNetwork[] = []
  let containers: readonly StartedTestContainer[] = []
  const stop = async () => {
    // What workers have started stands on what is shared.
    const failures = await settle([desk.close()])
    failures.push(...(await settle(containers.map((one) => one.stop()))))
    failures.push(...(await settle(networks.map((one) => one.stop()))))
    if (failures.length > 0) throw failures[0]
  }
  try {
    const toldNetworks: [string, NetworkFacts][] = []
    for (const { name, definition } of members.networks) {
      const started = await definition.start({ signal })
      networks.push(started)
      shareNetwork(definition, () => started)
      const { id, name: own, subnet, ipv6Subnet } = desk.addNetwork(insidesOf(started))
      toldNetworks.push([name, { id, name: own, subnet, ipv6Subnet }])
    }
    containers = await startAll(
      members.containers.map(({ definition }) => definition),
      { signal },
    )
    const toldContainers = members.containers.map(({ name }, index): [string, Facts] => {
      const { running } = containers[index] as unknown as { readonly running: RunningContainer }
      desk.add(running.container)
      return [name, { inspection: running.inspection, env: running.definition.env }]
    })
    const told: Told = {
      address: desk.address,
      host: backend.host,
      containers: Object.fromEntries(toldContainers),
      networks: Object.fromEntries(toldNetworks),
    }
    return { told: serialize(told).toString('base64'), stop }
  } catch (error) {
    await stop().catch(() => {}) // the first error is the one that is told
    throw error
  }
}

/** What went wrong. */
async function settle(work: readonly Promise<unknown>[]): Promise<unknown[]> {
  const outcomes = await Promise.allSettled(work)
  return outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []))
}

function insidesOf(network: StartedNetwork) {
  return (network as unknown as { readonly network: Parameters<ContainerDesk['addNetwork']>[0] }).network
}

/** In a worker, before it has asked for anything: the networks' definitions stand for what is shared under them. */
export function expectShared(members: SharedMembers, inject: () => AnyShared): void {
  for (const { name, definition } of members.networks) {
    shareNetwork(definition, () => inject()[name] as StartedNetwork)
  }
}

/** The containers and networks as a worker has them. Throws INVALID_OPTION for a set that is not the one that was started. */
export function rebuild(members: SharedMembers, text: string): AnyShared {
  const { address, host, containers, networks } = deserialize(Buffer.from(text, 'base64')) as Told
  const backend = new RemoteBackend(address, host)
  const started: Record<string, StartedTestContainer | StartedNetwork> = {}
  for (const { name } of members.networks) {
    const facts = networks[name] ?? refuse(name, 'network', networks)
    putElsewhere(backend, facts.id, facts.name)
    started[name] = new StartedNetwork(remoteNetwork(address, facts))
  }
  for (const { name, definition } of members.containers) {
    const facts = containers[name] ?? refuse(name, 'container', containers)
    const { id, name: own } = facts.inspection
    putElsewhere(backend, id, own)
    started[name] = rebuildOne(definition, address, backend, facts)
  }
  return started
}

/** Those of these members, by name. */
export function containersOf(
  shared: AnyShared,
  members: readonly { readonly name: string }[],
): [string, StartedTestContainer][] {
  return members.map(({ name }) => [name, shared[name] as StartedTestContainer])
}

function refuse(name: string, what: string, known: object): never {
  throw new MayflyError('INVALID_OPTION', `The global setup started no ${what} "${name}"`, {
    field: `containers.${name}`,
    hint: `it started ${Object.keys(known).join(', ') || 'none'}; two sets need two names: shareContainers(set, { name })`,
  })
}

function rebuildOne(
  container: GenericContainer,
  address: Address,
  backend: RemoteBackend,
  { inspection, env }: Facts,
): StartedTestContainer {
  const { definition, wrap } = container as unknown as {
    readonly definition: Definition
    /** Fixtures have it. */
    readonly wrap?: (started: StartedTestContainer) => StartedTestContainer
  }
  const remote = remoteContainer(address, inspection)
  const running = new RunningContainer(backend, remote, { ...definition, env }, definition.healthCheck, inspection)
  running.requireOwn = () => {
    throw refusal(inspection.name, 'stop')
  }
  const started = new StartedTestContainer(running)
  return wrap ? wrap.call(container, started) : started
}
