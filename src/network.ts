/** Networks on which containers find each other by name. */

import type { BackendNetwork, NetworkOptions } from './backends/backend.js'
import { areTogether, backendUpon } from './backends/current.js'
import { abortSignal, texts, textsByName } from './checks.js'
import { MayflyError } from './engine/errors.js'
import { anything, boolean, type Check, optional, refuse, sparse, string } from './engine/launch/check.js'
import type { StartedTestContainer } from './started-container.js'

const ipv6Shape = sparse({ subnet: optional(string), gateway: optional(string), ipRange: optional(string) })

const shape = sparse({
  name: optional(string),
  subnet: optional(string),
  gateway: optional(string),
  ipRange: optional(string),
  ipv6: optional((value, field) => (typeof value === 'boolean' ? value : ipv6Shape(value, field))),
  internal: optional(boolean),
  labels: optional(textsByName),
}) as Check<NetworkOptions>
const startOptions = sparse({ signal: optional(abortSignal), beside: anything })

/** How a network is made. */
export interface NetworkStartOptions {
  readonly signal?: AbortSignal
  /** One that is shared by `shareContainers`: containers can be on both. */
  readonly beside?: StartedNetwork
}

/** A container's place on a network. */
export interface NetworkPlace {
  /** Names under which the containers of that network find it, besides its own. */
  readonly aliases?: readonly string[]
  /** A certain address of the subnet. @default a free one */
  readonly ipAddress?: string
  /** A certain address of the IPv6 subnet. @default a free one, if the network has IPv6 */
  readonly ipv6Address?: string
}

/** @internal */
export const networkPlace: Check<NetworkPlace> = sparse({
  aliases: optional(texts),
  ipAddress: optional(string),
  ipv6Address: optional(string),
})

/**
 * A network to be made.
 *
 * @example
 * import { GenericContainer, Network } from 'mayfly'
 *
 * await using network = await new Network().start()
 * await using db = await new GenericContainer('postgres:17').withNetwork(network).withNetworkAliases('db').start()
 */
export class Network {
  readonly #options: NetworkOptions

  /** Throws INVALID_OPTION. */
  constructor(options: NetworkOptions | { nextUuid(): string } = {}) {
    // testcontainers takes a source of names here.
    const { nextUuid } = (options ?? {}) as { nextUuid?: unknown }
    const isSource = typeof nextUuid === 'function'
    this.#options = shape(isSource ? { name: (options as { nextUuid(): string }).nextUuid() } : options, 'network')
  }

  /**
   * Makes it.
   *
   * Throws NAME_TAKEN, SUBNET_IN_USE when the subnet overlaps a route of the host or another network, INVALID_OPTION, and NOT_SUPPORTED
   * where there are no networks or, for one with IPv6, the kernel has none.
   *
   * A container can be on several networks that are all of this process, or all beside a shared one: made in the process that shares it, and
   * gone with this one.
   *
   * @default beside: none
   */
  async start(options: NetworkStartOptions = {}): Promise<StartedNetwork> {
    const { signal, beside } = startOptions(options, 'start')
    if (beside !== undefined && !(beside instanceof StartedNetwork)) {
      refuse('beside', beside, 'expected a network that was started', 'such as shared.inject().network')
    }
    const backend = await backendUpon(beside ? [beside.getId()] : [])
    const network = await backend.createNetwork(this.#options, signal ? { signal } : {})
    return new StartedNetwork(network)
  }
}

/** A network that is there. */
export class StartedNetwork implements AsyncDisposable {
  private readonly network: BackendNetwork

  /** @internal */
  constructor(network: BackendNetwork) {
    this.network = network
  }

  /** Unique. */
  getId(): string {
    return this.network.id
  }

  /** As given, or one made up. */
  getName(): string {
    return this.network.name
  }

  /** Such as `10.5.0.0/24`; '' where it is not known. */
  getSubnet(): string {
    return this.network.subnet
  }

  /** Such as `fd00:5::/64`; '' where it has no IPv6. */
  getIpv6Subnet(): string {
    return this.network.ipv6Subnet
  }

  /**
   * Adds a running container, under its name and these.
   *
   * Throws NETWORK_CONNECTED, ADDRESS_IN_USE when the address is another's or none is left, INVALID_OPTION, and NOT_SUPPORTED for a
   * container that has no networks of its own, and for one of this process and a network that is shared, or the reverse: start it on the
   * shared network.
   */
  async connect(container: StartedTestContainer, place: NetworkPlace = {}): Promise<void> {
    const checked = networkPlace(place, 'network')
    this.requireBeside(container)
    await this.network.connect(container.getId(), { aliases: [], ...checked })
  }

  /**
   * Takes a container off it; connections over it end.
   *
   * Throws NETWORK_NOT_CONNECTED, and NOT_SUPPORTED for a container of this process and a network that is shared, or the reverse.
   */
  async disconnect(container: StartedTestContainer): Promise<void> {
    this.requireBeside(container)
    await this.network.disconnect(container.getId())
  }

  private requireBeside(container: StartedTestContainer): void {
    if (areTogether(this.getId(), container.getId())) return
    const message = `"${container.getName()}" and the network "${this.getName()}" are of different processes`
    throw new MayflyError('NOT_SUPPORTED', message, {
      container: container.getName(),
      hint: 'start it on the shared network: withNetwork(network)',
    })
  }

  /** Removes it. May be called twice. Throws NETWORK_IN_USE while a container is on it. */
  async stop(): Promise<StoppedNetwork> {
    await this.network.remove()
    return new StoppedNetwork()
  }

  /** As {@link stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

/** A network that was. */
export class StoppedNetwork {}

/** Where a network that was not started by itself is found: one that is shared under a definition. */
const shared = new WeakMap<Network, () => StartedNetwork>()

/** From now on the definition stands for what this gives, where a container is to be on it. @internal */
export function shareNetwork(network: Network, started: () => StartedNetwork): void {
  shared.set(network, started)
}

/** Throws INVALID_OPTION for a definition of which nothing is known to be started. @internal */
export function networkId(network: Network | StartedNetwork): string {
  if (network instanceof StartedNetwork) return network.getId()
  const find = shared.get(network)
  if (find) return find().getId()
  return refuse('network', network, 'expected a network that was started', 'await new Network().start() gives it')
}

/** @internal */
export function isSameNetwork(one: Network | StartedNetwork, other: Network | StartedNetwork): boolean {
  if (one === other) return true
  return one instanceof StartedNetwork && other instanceof StartedNetwork && one.getId() === other.getId()
}
