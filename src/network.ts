/** Networks on which containers find each other by name. */

import type { BackendNetwork, NetworkOptions } from './backends/backend.js'
import { currentBackend } from './backends/current.js'
import { textsByName } from './checks.js'
import { boolean, type Check, optional, sparse, string } from './engine/launch/check.js'
import type { StartedTestContainer } from './started-container.js'

const shape = sparse({
  name: optional(string),
  subnet: optional(string),
  gateway: optional(string),
  ipRange: optional(string),
  internal: optional(boolean),
  labels: optional(textsByName),
}) as Check<NetworkOptions>

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
    this.#options = 'nextUuid' in options ? { name: options.nextUuid() } : shape(options, 'network')
  }

  /** Makes it. Throws NAME_TAKEN. */
  async start({ signal }: { readonly signal?: AbortSignal } = {}): Promise<StartedNetwork> {
    const backend = await currentBackend()
    const network = await backend.createNetwork(this.#options, signal ? { signal } : {})
    return new StartedNetwork(network)
  }
}

/** A network that is there. */
export class StartedNetwork implements AsyncDisposable {
  readonly #network: BackendNetwork

  /** @internal */
  constructor(network: BackendNetwork) {
    this.#network = network
  }

  /** Unique. */
  getId(): string {
    return this.#network.id
  }

  /** As given, or one made up. */
  getName(): string {
    return this.#network.name
  }

  /** Such as `10.5.0.0/24`; '' where it is not known. */
  getSubnet(): string {
    return this.#network.subnet
  }

  /** Adds a running container, under its name and these. */
  connect(
    container: StartedTestContainer,
    { aliases = [], ipAddress }: { readonly aliases?: readonly string[]; readonly ipAddress?: string } = {},
  ): Promise<void> {
    return this.#network.connect(container.getId(), { aliases, ...(ipAddress === undefined ? {} : { ipAddress }) })
  }

  /** Takes a container off it. */
  disconnect(container: StartedTestContainer): Promise<void> {
    return this.#network.disconnect(container.getId())
  }

  /** Removes it. May be called twice. */
  async stop(): Promise<StoppedNetwork> {
    await this.#network.remove()
    return new StoppedNetwork()
  }

  /** Removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

/** A network that was. */
export class StoppedNetwork {}
