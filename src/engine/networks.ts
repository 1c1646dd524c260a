/** Networks of a session: containers on one find each other by name, containers of two do not reach each other. */

import { isIP } from 'node:net'
import { MayflyError } from './errors.js'
import { newId } from './ids.js'
import { DEFAULT_NETWORK, domain, ipv4Address, ipv6Address, referenceName } from './launch/attachment.js'
import {
  boolean,
  type Check,
  defaulted,
  nearest,
  optional,
  pattern,
  record,
  refuse,
  shape,
  string,
} from './launch/check.js'
import type { NetworkFacts } from './launch/facts.js'
import type { Life } from './life.js'
import { refusalError } from './refusal.js'
import type { Session } from './session.js'
import type { LaunchFacts, NetworkReply, Refusal } from './wire.js'

/** A network to be made. */
export interface NetworkOptions {
  /** Unique in the engine. @default the first 12 digits of the id */
  readonly name?: string
  /** No way out of it: neither to the host nor further. Published ports lead into it. @default false */
  readonly internal?: boolean
  /** IPv4, from /16 to /29, such as `10.5.0.0/24`. @default a free /24 that overlaps no route of the host */
  readonly subnet?: string
  /** The router's address, of the subnet, which must be given too. @default its first */
  readonly gateway?: string
  /** Part of the subnet from which containers get addresses, such as `10.5.0.128/25`. Others of it can be asked for. @default all of it */
  readonly ipRange?: string
  /**
   * An IPv6 subnet beside the IPv4 one: containers have an address of each family. Published ports are reached over the host's IPv6 in
   * any case.
   *
   * @default false
   */
  readonly ipv6?: boolean | NetworkIpv6Options
  /** Only `bridge`. @default 'bridge' */
  readonly driver?: string
  readonly labels?: Readonly<Record<string, string>>
}

/** The IPv6 part of a network to be made. */
export interface NetworkIpv6Options {
  /** From /16 to /126, such as `fd00:5::/64`. @default a free /64 below fd00::/8, of 40 random bits for all of the engine's (RFC 4193) */
  readonly subnet?: string
  /** The router's address, of the subnet, which must be given too. @default its first but one */
  readonly gateway?: string
  /** Part of the subnet from which containers get addresses, such as `fd00:5::1:0/112`. Others of it can be asked for. @default all of it */
  readonly ipRange?: string
}

/** How a container is known on a network. */
export interface ConnectOptions {
  /** Names under which the containers of that network find this one, beside its own. */
  readonly aliases?: readonly string[]
  /** A certain address of the subnet. @default a free one */
  readonly address?: string
  /** A certain address of the IPv6 subnet. @default a free one, if the network has IPv6 */
  readonly ipv6Address?: string
}

/** A network. It lives until `remove()` or the end of the engine. */
export interface Network extends AsyncDisposable {
  /** 64 hexadecimal digits; `bridge` is the default network's. */
  readonly id: string
  readonly name: string
  /** Such as `10.5.0.0/24`. */
  readonly subnet: string
  /** The router's address on it, and the name server's. */
  readonly gateway: string
  /** Its IPv6 part, or null. The name server answers on the IPv4 gateway, for both families. */
  readonly ipv6: { readonly subnet: string; readonly gateway: string } | null
  readonly internal: boolean
  readonly labels: Readonly<Record<string, string>>
  readonly createdAt: Date
  /** Ids of the containers on it. */
  readonly containers: readonly string[]
  /**
   * Removes it. May be called twice.
   *
   * Throws NETWORK_IN_USE while a container is on it, NOT_SUPPORTED for the default network.
   */
  remove(): Promise<void>
}

const RESERVED = [DEFAULT_NETWORK, 'none', 'host', 'default', 'container']

const SUBNET = /^\d{1,3}(\.\d{1,3}){3}\/\d{1,2}$/

const subnet: Check<string> = (value, field) =>
  string(value, field).includes(':')
    ? refuse(field, value, 'expected an IPv4 subnet such as 10.5.0.0/24', 'ipv6: { subnet } is for an IPv6 one')
    : pattern('an IPv4 subnet such as 10.5.0.0/24', SUBNET)(value, field)

const ipv6Subnet: Check<string> = (value, field) => {
  const [first = '', bits = '', ...rest] = string(value, field).split('/')
  return isIP(first) === 6 && !first.includes('%') && /^\d{1,3}$/.test(bits) && rest.length === 0
    ? string(value, field)
    : refuse(field, value, 'expected an IPv6 subnet such as fd00:5::/64')
}

const ipv6Shape = shape({
  subnet: optional(ipv6Subnet),
  gateway: optional(ipv6Address),
  ipRange: optional(ipv6Subnet),
})

const optionsShape = shape({
  name: optional((value, field) => {
    const name = referenceName(value, field)
    return RESERVED.includes(name) ? refuse(field, name, 'this name has a meaning of its own') : name
  }),
  internal: defaulted(boolean, false),
  subnet: optional(subnet),
  gateway: optional(ipv4Address),
  ipRange: optional(subnet),
  ipv6: defaulted((value, field) => {
    if (value === false) return undefined
    return ipv6Shape(value === true ? {} : value, field)
  }, undefined),
  driver: defaulted(
    (value, field) =>
      string(value, field) === 'bridge'
        ? 'bridge'
        : refuse(field, value, "the only driver here is 'bridge'", undefined, 'NOT_SUPPORTED'),
    'bridge',
  ),
  labels: defaulted(record(string, string), Object.freeze({})),
})

const connectShape = shape({
  aliases: defaulted((value: unknown, field: string) => aliasList(value, field), Object.freeze([])),
  address: optional(ipv4Address),
  ipv6Address: optional(ipv6Address),
})

function aliasList(value: unknown, field: string): readonly string[] {
  if (!Array.isArray(value)) return refuse(field, value, 'expected an array')
  return Object.freeze(value.map((one, index) => domain('a name', 253)(one, `${field}[${index}]`)))
}

interface Known {
  readonly network: Network
  isRemoved: boolean
}

/** What the networks need of the engine. */
export interface NetworksContext {
  readonly session: Session
  /** Containers that are not removed. */
  lives(): Iterable<Life>
  /** Throws NO_SUCH_CONTAINER. */
  find(reference: string): Life
}

/**
 * The networks of an engine, as `engine.networks`.
 *
 * @example
 * await using backend = await engine.networks.create({ name: 'backend', internal: true })
 * await using db = await engine.start({ image: 'postgres:17', networks: [{ network: 'backend', aliases: ['db'] }] })
 */
export class Networks {
  readonly #context: NetworksContext
  readonly #byId = new Map<string, Known>()
  readonly #names = new Map<string, string>()

  /** @internal */
  constructor(context: NetworksContext) {
    this.#context = context
    const { subnet, gateway } = context.session.facts
    if (subnet) {
      const options = { name: DEFAULT_NETWORK, internal: false, labels: Object.freeze({}) }
      this.#add(DEFAULT_NETWORK, options, { subnet, gateway })
    }
  }

  /**
   * Makes a network.
   *
   * Throws NAME_TAKEN, SUBNET_IN_USE when the subnet overlaps a route of the host or another network, INVALID_OPTION, and
   * NOT_SUPPORTED where the engine has no network, for IPv6 where the kernel has none, and for other drivers.
   */
  async create(options: NetworkOptions = {}, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Network> {
    signal?.throwIfAborted()
    const { name, ...rest } = optionsShape(options, 'network')
    needSubnet(rest, 'network')
    if (rest.ipv6) needSubnet(rest.ipv6, 'network.ipv6')
    const id = newId()
    const complete = { ...rest, name: name ?? id.slice(0, 12) }
    if (this.#names.has(complete.name)) {
      const message = `The name "${complete.name}" is taken by another network`
      throw new MayflyError('NAME_TAKEN', message, { field: 'name', value: complete.name })
    }
    this.#names.set(complete.name, id) // at once: nobody may take it in the meantime
    const words = ['network', id, 'internal', complete.internal ? '1' : '0', ...rangeWords(complete, '')]
    if (complete.ipv6) words.push('ipv6', '1', ...rangeWords(complete.ipv6, '-v6'))
    try {
      const reply = await this.#context.session.request('network-create', words)
      if (!reply.ok) throw refusalError(reply, { verb: 'make network', container: complete.name })
      const network = this.#add(id, complete, reply as NetworkReply)
      if (signal?.aborted) await network.remove()
      signal?.throwIfAborted()
      return network
    } catch (error) {
      this.#names.delete(complete.name)
      throw error
    }
  }

  /** All that are there, the default one first. */
  list(): Network[] {
    return [...this.#byId.values()].map(({ network }) => network)
  }

  /** The network with this name, id, or start of an id. Throws NO_SUCH_NETWORK. */
  get(reference: string): Network {
    return this.#find(reference)
  }

  #find(reference: string, field?: string): Network {
    const id = this.#names.get(reference) ?? reference
    const exact = this.#byId.get(id)
    if (exact) return exact.network
    const isPrefix = /^[0-9a-f]+$/.test(reference)
    const matches = this.list().filter((one) => isPrefix && one.id !== DEFAULT_NETWORK && one.id.startsWith(reference))
    if (matches.length === 1) return matches[0]!
    const near = nearest(String(reference), [...this.#names.keys()])
    const message = matches.length > 1 ? `${matches.length} networks have ids that begin with` : 'There is no network'
    throw new MayflyError('NO_SUCH_NETWORK', `${message} "${reference}"`, {
      value: reference,
      ...(field ? { field } : {}),
      ...(near ? { hint: `did you mean "${near}"?` } : {}),
    })
  }

  /**
   * Adds a container to a network, running or not: it has one interface more, and finds and is found by the containers there at once.
   *
   * Throws NOT_SUPPORTED for a container with `network` 'none', 'host' or another container's, NETWORK_CONNECTED, ADDRESS_IN_USE.
   */
  async connect(container: string, network: string, options: ConnectOptions = {}): Promise<void> {
    const { id } = this.get(network)
    const { aliases, address, ipv6Address } = connectShape(options, 'options')
    const words = [
      'network',
      id,
      ...aliases.flatMap((alias) => ['alias', alias]),
      ...(address ? ['address', address] : []),
      ...(ipv6Address ? ['address-v6', ipv6Address] : []),
    ]
    await this.#change('connect', container, words, network)
  }

  /**
   * Takes a container off a network; connections over it end. The way out moves to another of its networks.
   *
   * Throws NETWORK_NOT_CONNECTED.
   */
  async disconnect(container: string, network: string): Promise<void> {
    await this.#change('disconnect', container, ['network', this.get(network).id], network)
  }

  /** What a plan needs to know. Throws NO_SUCH_NETWORK. @internal */
  facts(reference: string, field?: string): NetworkFacts {
    const { id, internal } = this.#find(reference, field)
    return { id, isInternal: internal }
  }

  async #change(verb: 'connect' | 'disconnect', reference: string, words: string[], network: string): Promise<void> {
    const life = this.#context.find(reference)
    const reply = await this.#context.session.request(verb, ['id', life.id, ...words])
    if (!reply.ok) throw changeError(reply, verb, life, network)
    life.learn(reply as LaunchFacts)
  }

  #add(
    id: string,
    { name, internal, labels }: { name: string; internal: boolean; labels: Readonly<Record<string, string>> },
    { subnet, gateway, ipv6 }: Omit<NetworkReply, 'ok'>,
  ): Network {
    const remove = () => this.#remove(known)
    const lives = () => this.#context.lives()
    const network: Network = Object.freeze({
      id,
      name,
      subnet,
      gateway,
      ipv6: ipv6 ? Object.freeze(ipv6) : null,
      internal,
      labels,
      createdAt: new Date(),
      get containers() {
        return [...lives()].filter((life) => life.networks.some((one) => one.network === id)).map((life) => life.id)
      },
      remove,
      [Symbol.asyncDispose]: remove,
    })
    const known: Known = { network, isRemoved: false }
    this.#byId.set(id, known)
    this.#names.set(name, id)
    return network
  }

  async #remove(known: Known): Promise<void> {
    const { id, name } = known.network
    if (known.isRemoved || this.#context.session.failure) return
    if (id === DEFAULT_NETWORK) throw new MayflyError('NOT_SUPPORTED', 'The default network cannot be removed')
    const reply = await this.#context.session.request('network-remove', ['network', id])
    if (!reply.ok && reply.errno !== 'ENOENT') {
      const error = refusalError(reply, { verb: 'remove network', container: name })
      const names = [...this.#context.lives()].filter((life) => life.networks.some((one) => one.network === id))
      if (error.code !== 'NETWORK_IN_USE' || names.length === 0) throw error
      const who = names.map((life) => life.name).join(', ')
      const message = `Cannot remove network "${name}": containers are connected to it: ${who}`
      throw new MayflyError('NETWORK_IN_USE', message, { value: name, hint: 'remove or disconnect them first' })
    }
    known.isRemoved = true
    this.#byId.delete(id)
    this.#names.delete(name)
  }
}

interface Range {
  readonly subnet: string | undefined
  readonly gateway: string | undefined
  readonly ipRange: string | undefined
}

function needSubnet(range: Range, name: string): void {
  for (const field of ['gateway', 'ipRange'] as const) {
    if (range[field] !== undefined && range.subnet === undefined) {
      refuse(`${name}.${field}`, range[field], 'needs a subnet beside it')
    }
  }
}

function rangeWords({ subnet, gateway, ipRange }: Range, family: '' | '-v6'): string[] {
  const words = { subnet, gateway, range: ipRange }
  return Object.entries(words).flatMap(([key, value]) => (value === undefined ? [] : [`${key}${family}`, value]))
}

function changeError(reply: Refusal, verb: string, life: Life, network: string): MayflyError {
  const error = refusalError(reply, { verb, container: life.name })
  const isFull = reply.step === 'address' && !isIP(reply.subject)
  if (reply.step !== 'network' && !isFull) return error
  const facts = { container: life.name, value: network, errno: reply.errno, step: reply.step }
  const preposition = verb === 'connect' ? 'to' : 'from'
  const message = `Cannot ${verb} "${life.name}" ${preposition} network "${network}": ${reply.message}`
  if (reply.errno === 'EEXIST') return new MayflyError('NETWORK_CONNECTED', message, facts)
  if (reply.errno === 'ENOTCONN') return new MayflyError('NETWORK_NOT_CONNECTED', message, facts)
  if (isFull) return new MayflyError('ADDRESS_IN_USE', message, { ...facts, field: 'network' })
  return new MayflyError(error.code, message, facts)
}
