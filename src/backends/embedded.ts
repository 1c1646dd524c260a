/** The backend on mayfly's own engine: containers are children of this process, images lie in the store. */

import { Engine, type EngineOptions } from '../engine/engine.js'
import type { ConnectOptions, Network } from '../engine/networks.js'
import type { ContainerOptions, Mount, Snapshot } from '../engine/options.js'
import type {
  Backend,
  BackendContainer,
  BackendNetwork,
  BackendState,
  BackendVolume,
  BuildRequest,
  ContainerMount,
  ContainerSpec,
  EnsureImageOptions,
  ImageFacts,
  NetworkAttachment,
  NetworkOptions,
  VolumeOptions,
  WithSignal,
} from './backend.js'
import { EmbeddedContainer } from './embedded-container.js'
import { EmbeddedImages } from './embedded-images.js'

const DEFAULT_NETWORK = 'bridge'

export class EmbeddedBackend implements Backend {
  readonly name = 'embedded'
  readonly host = 'localhost'
  readonly #engine: Engine
  readonly #images: EmbeddedImages

  /** Throws ENGINE_UNAVAILABLE with the reason. */
  static async open(options: EngineOptions = {}): Promise<EmbeddedBackend> {
    return new EmbeddedBackend(await Engine.open(options))
  }

  /** On an engine that is open already; closing the backend closes it. */
  constructor(engine: Engine) {
    this.#engine = engine
    this.#images = new EmbeddedImages(engine)
  }

  ensureImage(reference: string, options: EnsureImageOptions): Promise<ImageFacts> {
    return this.#images.ensure(reference, options)
  }

  findImage(reference: string): Promise<ImageFacts | undefined> {
    return this.#images.find(reference)
  }

  buildImage(request: BuildRequest): Promise<ImageFacts> {
    return this.#images.build(request)
  }

  removeImage(reference: string): Promise<void> {
    return this.#images.remove(reference)
  }

  async createContainer(
    spec: ContainerSpec,
    { signal, from }: WithSignal & { readonly from?: BackendState } = {},
  ): Promise<BackendContainer> {
    signal?.throwIfAborted()
    const options: ContainerOptions = {
      ...withoutUndefined(toOptions(spec)),
      ...(from ? { from: from as Snapshot } : {}),
    }
    const container = await this.#engine.create(options, signal ? { signal } : {})
    return new EmbeddedContainer(this.#engine, container, this.#images)
  }

  findState(key: string): BackendState | undefined {
    return this.#engine.prepared.find(key)
  }

  prepareState(
    key: string,
    make: (signal: AbortSignal) => Promise<BackendContainer>,
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<BackendState> {
    const makeHere = async (signal: AbortSignal) => ((await make(signal)) as EmbeddedContainer).engineContainer
    return this.#engine.prepared.ensure(key, makeHere, options)
  }

  async createNetwork(options: NetworkOptions, control: WithSignal = {}): Promise<BackendNetwork> {
    return new EmbeddedNetwork(this.#engine, await this.#engine.networks.create(withoutUndefined(options), control))
  }

  createVolume(options: VolumeOptions, control: WithSignal = {}): Promise<BackendVolume> {
    return this.#engine.volumes.createNew(withoutUndefined(options), control)
  }

  async exposeHostPorts(ports: readonly number[], { signal }: WithSignal = {}): Promise<void> {
    signal?.throwIfAborted()
    await this.#engine.exposeHostPorts(ports)
  }

  async close(): Promise<void> {
    await this.#images.close()
    await this.#engine.close()
  }
}

class EmbeddedNetwork implements BackendNetwork {
  readonly #engine: Engine
  readonly #network: Network

  constructor(engine: Engine, network: Network) {
    this.#engine = engine
    this.#network = network
  }

  get id(): string {
    return this.#network.id
  }

  get name(): string {
    return this.#network.name
  }

  get subnet(): string {
    return this.#network.subnet
  }

  get ipv6Subnet(): string {
    return this.#network.ipv6?.subnet ?? ''
  }

  connect(container: string, attachment: Omit<NetworkAttachment, 'network'>): Promise<void> {
    return this.#engine.networks.connect(container, this.id, toPlace(attachment))
  }

  disconnect(container: string): Promise<void> {
    return this.#engine.networks.disconnect(container, this.id)
  }

  remove(): Promise<void> {
    return this.#network.remove()
  }
}

function toPlace({ aliases, ipAddress, ipv6Address }: Omit<NetworkAttachment, 'network'>): ConnectOptions {
  return {
    aliases,
    ...(ipAddress === undefined ? {} : { address: ipAddress }),
    ...(ipv6Address === undefined ? {} : { ipv6Address }),
  }
}

function toOptions(spec: ContainerSpec): {
  readonly [Name in keyof ContainerOptions]: ContainerOptions[Name] | undefined
} {
  const { networks, networkMode } = spec
  const tmpfs = spec.mounts.filter((mount) => mount.type === 'tmpfs')
  return {
    image: spec.image,
    // `ensureImage` has fetched it, or was told not to.
    pull: 'never',
    platform: spec.platform,
    name: spec.name,
    command: spec.command,
    entrypoint: spec.entrypoint,
    env: spec.env,
    labels: spec.labels,
    user: spec.user,
    groups: spec.groups,
    workdir: spec.workdir,
    createWorkdir: spec.workdir === undefined ? undefined : true,
    hostname: spec.hostname,
    domainname: spec.domainname,
    tty: spec.tty,
    stdin: spec.stdin,
    // It stays when it exits: whoever started it may still read its log and its files. `remove()` or the session ends it.
    remove: false,
    mounts: spec.mounts.flatMap((mount) => (mount.type === 'tmpfs' ? [] : [toMount(mount)])),
    tmpfs: Object.fromEntries(tmpfs.map(({ target, options = '' }) => [target, options])),
    ports: networkMode === undefined || networkMode === DEFAULT_NETWORK ? spec.ports : undefined,
    network: networkMode as ContainerOptions['network'],
    networks: networks.map(({ network, ...rest }) => ({ network, ...toPlace(rest) })),
    // Containers without a network of their own are on the common one, where names are answered too.
    networkAliases: networks.length === 0 ? spec.aliases : undefined,
    volumesFrom: spec.volumesFrom,
    extraHosts: spec.extraHosts,
    dns: spec.dns,
    dnsSearch: spec.dnsSearch,
    dnsOptions: spec.dnsOptions,
    privileged: spec.privileged,
    capAdd: spec.capAdd,
    capDrop: spec.capDrop,
    seccomp: spec.seccomp,
    noNewPrivileges: spec.noNewPrivileges,
    readonlyRootfs: spec.readonlyRootfs,
    devices: spec.devices,
    sysctls: spec.sysctls,
    ulimits: spec.ulimits,
    limits: spec.limits,
    clockOffsetMs: spec.clockOffsetMs,
    shmSizeBytes: spec.shmSizeBytes,
    init: spec.init,
    stopSignal: spec.stopSignal,
    stopTimeoutMs: spec.stopTimeoutMs,
    ipc: spec.ipc as ContainerOptions['ipc'],
    pid: spec.pid as ContainerOptions['pid'],
    logBytes: spec.logBytes,
  }
}

function toMount(mount: Exclude<ContainerMount, { type: 'tmpfs' }>): Mount {
  const { subpath, ...rest } = mount as Exclude<ContainerMount, { type: 'tmpfs' }> & { readonly subpath?: string }
  return subpath === undefined ? (rest as Mount) : ({ ...rest, subpath } as Mount)
}

function withoutUndefined<T extends object>(object: T): { [Name in keyof T]: Exclude<T[Name], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as never
}
