/** The definition of a container, as users write it. */

import type { HealthCheck, Inspection } from './backends/backend.js'
import {
  abortSignal,
  absolutePath,
  type BindMount,
  bindMounts,
  checkReference,
  command,
  containerName,
  type DeviceToPass,
  devices,
  type ExtraHost,
  environment,
  extraHosts,
  flag,
  healthCheck,
  platformName,
  positive,
  type ResourcesQuota,
  resourcesQuota,
  text,
  texts,
  textsByName,
  type UlimitPair,
  ulimits,
} from './checks.js'
import { ContainerSnapshot } from './container-snapshot.js'
import {
  type ArchiveToCopy,
  archivesToCopy,
  type ContentToCopy,
  type CopyToContainerOptions,
  contentsToCopy,
  copyOptions,
  type DirectoryToCopy,
  type FileToCopy,
  filesToCopy,
} from './copy.js'
import { type CreateModifier, type Definition, definitionOf, type LogConsumer, securityOptions } from './definition.js'
import { MayflyError } from './engine/errors.js'
import { anything, type Check, defaulted, integer, list, optional, refuse, sparse } from './engine/launch/check.js'
import type { PublishedPort, ResourceLimits } from './engine/options.js'
import { GenericContainerBuilder } from './generic-container-builder.js'
import { callHook, checkHooks, type Hooks } from './hooks.js'
import { hostPorts } from './host-ports.js'
import type { ImageSubstitution } from './image-substitution.js'
import { checkMigration, type Migration, runMigrations, type SqlRunner } from './migrations.js'
import { isSameNetwork, Network, type NetworkPlace, networkPlace, StartedNetwork } from './network.js'
import { takeFromPool } from './pool.js'
import { type PortWithOptionalBinding, portToExpose } from './ports.js'
import type { Preparable } from './preparation-options.js'
import type { ImagePullPolicy } from './pull-policy.js'
import type { RunningContainer } from './running-container.js'
import { startContainer } from './start.js'
import { startGraph } from './start-all.js'
import { StartedTestContainer } from './started-container.js'
import { StartedVolume } from './volume.js'
import { checkTimeout, type WaitStrategy } from './wait/strategy.js'

/** How one container of a definition is started. */
export interface StartOptions {
  /** Begins with these files: see `snapshot()` of a started container. @default those of the image, or of a prepared state */
  readonly from?: ContainerSnapshot
  /** Gives up with its reason; what was begun is removed. */
  readonly signal?: AbortSignal
}

/** A volume in a container. */
export interface VolumeMount {
  /** One that was started, or a name: of one that is there, else it is made and stays. */
  readonly volume: StartedVolume | string
  /** Absolute path, made when missing. */
  readonly target: string
  /** @default false */
  readonly readonly?: boolean
  /** Only this directory or file of it, which must be there. @default all of it */
  readonly subpath?: string
}

/** The files of an image in a container. */
export interface ImageMount {
  /** Reference or id. */
  readonly image: string
  /** Absolute path, made when missing. */
  readonly target: string
  /** Only this directory or file of it. @default all of it */
  readonly subpath?: string
}

/** A function in which `with…` change the container at hand, for constructors of subclasses. */
type Configuration<Self> = (container: Self) => unknown

/** Anything that can be started. */
export interface TestContainer {
  /** Resolves when it is ready. */
  start(options?: StartOptions): Promise<StartedTestContainer>
}

const GIB = 2 ** 30

const startOptions = sparse({ signal: optional(abortSignal), from: anything })
const dnsOptions = sparse({ servers: optional(texts), search: optional(texts), options: optional(texts) })
/** The values are checked with those of the whole container, at its start. */
const limitNames = sparse({
  memoryBytes: anything,
  memorySwapBytes: anything,
  memoryReservationBytes: anything,
  cpus: anything,
  cpuShares: anything,
  cpusetCpus: anything,
  cpusetMems: anything,
  pids: anything,
  blkioWeight: anything,
  diskBytes: anything,
  deviceReadBps: anything,
  deviceWriteBps: anything,
  deviceReadIops: anything,
  deviceWriteIops: anything,
} satisfies Record<keyof ResourceLimits, Check<unknown>>)
const volumesFromOptions = sparse({ readonly: optional(flag) })
const volumeName: Check<string> = (value, field) =>
  value instanceof StartedVolume ? value.getName() : text(value, field)

const volumeMounts = list(
  sparse({ volume: volumeName, target: absolutePath, readonly: defaulted(flag, false), subpath: optional(text) }),
) as Check<readonly { volume: string; target: string; readonly: boolean; subpath?: string }[]>
const imageMounts = list(
  sparse({ image: checkReference, target: absolutePath, subpath: optional(text) }),
) as unknown as Check<readonly ImageMount[]>

/**
 * A container to be started, as often as you like: each `start()` gives one of its own.
 *
 * **Definitions never change.** Each `with…` returns another one and leaves this one as it is, so a shared base can be varied
 * safely. A call whose result is not used does nothing.
 *
 * Subclasses stay themselves: `with…` returns an instance of the subclass with its fields copied. Their fields must not be private
 * names (`#field`), which cannot be copied. Two places are made for statements without a result: a constructor may call
 * `configure()`, and in `beforeContainerCreated()` `with…` change the container that is about to be made.
 *
 * @example
 * import { GenericContainer, Wait } from 'mayfly'
 *
 * const redis = new GenericContainer('redis:8').withExposedPorts(6379)
 * await using started = await redis.withWaitStrategy(Wait.forLogMessage('Ready to accept connections')).start()
 * const port = started.getMappedPort(6379)
 */
export class GenericContainer implements TestContainer {
  /** @internal */
  protected definition: Definition
  /** @internal */
  protected dependencies: readonly GenericContainer[] = []
  /** @internal */
  protected poolSize = 0
  /** Another one for each definition, and the same for copies that are no other definition. @internal */
  protected identity: object = {}
  /** How its state may be kept; undefined: nothing is known of it. @internal */
  readonly preparable: Preparable | undefined = undefined
  /** `with…` change this one. @internal */
  protected isOpen = false

  /** Throws INVALID_REFERENCE for what is no name of an image. */
  constructor(image: string) {
    this.definition = definitionOf(checkReference(image), false)
  }

  /**
   * An image to be built from a Dockerfile: in a directory with all its files, or in memory.
   *
   * @default dockerfileName: 'Dockerfile'
   * @example
   * import { GenericContainer } from 'mayfly'
   *
   * const image = await GenericContainer.fromDockerfile('./service').withTarget('test').build()
   * const other = await GenericContainer.fromDockerfile({
   *   dockerfile: 'FROM alpine:3.22\nCOPY hello.txt /',
   *   files: { 'hello.txt': 'hello' },
   * }).build()
   */
  static fromDockerfile(
    context: string | { readonly dockerfile: string; readonly files?: Readonly<Record<string, string | Uint8Array>> },
    dockerfileName = 'Dockerfile',
  ): GenericContainerBuilder {
    return new GenericContainerBuilder(context, dockerfileName, (image) => {
      const container = new GenericContainer(image)
      container.definition = Object.freeze({ ...container.definition, isBuilt: true })
      return container
    })
  }

  /**
   * Makes a container, starts it and waits until it is ready: by its wait strategy, else its health check or the image's, else
   * until all exposed ports are listened on.
   *
   * Rejects, when nothing of it is left, with a `MayflyError` that carries the container's name, how it ended and its last output.
   */
  async start(options: StartOptions = {}): Promise<StartedTestContainer> {
    const { signal = new AbortController().signal, from } = startOptions(options, 'start')
    signal.throwIfAborted()
    if (from !== undefined) checkSnapshot(from)
    if (this.dependencies.length === 0) {
      const start = (own: AbortSignal) => this.launch(own, from)
      return this.poolSize > 0 && !from ? takeFromPool(this.identity, this.poolSize, start, signal) : start(signal)
    }
    // Not by `start()` again: a subclass has its own around this one.
    const [started] = await startGraph([this], signal, (_self, own) => this.launch(own, from))
    return started!
  }

  /** Starts this one alone. @internal */
  protected async launch(signal: AbortSignal, from?: ContainerSnapshot): Promise<StartedTestContainer> {
    let draft = this
    const running = await startContainer(
      {
        define: async () => {
          draft = this.copy({ isOpen: true })
          await draft.beforeContainerCreated?.()
          return draft.definition
        },
        created: async (containerId) => draft.containerCreated?.(containerId),
        starting: async (inspection) => draft.containerStarting?.(inspection, false),
        started: (started) => draft.tellStarted(started),
        from: from?.state,
        preparable: () => draft.preparable,
        isHooked: () => draft.containerCreated !== undefined || draft.containerStarting !== undefined,
        migrate: (running, migrations) => draft.migrate(running, migrations),
      },
      signal,
    )
    return new StartedTestContainer(running)
  }

  private migrate(running: RunningContainer, migrations: readonly Migration[]): Promise<void> {
    const started = new StartedTestContainer(running)
    return runMigrations(migrations, this.face(started), this.sqlRunner(started))
  }

  /** What migrations get. @internal */
  protected face(started: StartedTestContainer): StartedTestContainer {
    return started
  }

  /** Runs SQL with a client of the image, if it has one. @internal */
  protected sqlRunner(_started: StartedTestContainer): SqlRunner | undefined {
    return undefined
  }

  private async tellStarted(running: RunningContainer): Promise<void> {
    const started = new StartedTestContainer(running)
    const name = started.getName()
    await callHook('containerStarted', name, () => this.containerStarted?.(started, running.inspection, false))
    for (const hooks of running.definition.hooks) await callHook('started', name, () => hooks.started?.(started))
  }

  /** For subclasses: the container is about to be made. `with…` change it, here and only here. */
  protected beforeContainerCreated?(): Promise<void>

  /** For subclasses: it exists and does not run. */
  protected containerCreated?(containerId: string): Promise<void>

  /** For subclasses: its program was started; it is not ready. */
  protected containerStarting?(inspection: Inspection, reused: boolean): Promise<void>

  /** For subclasses: it is ready; `start()` resolves after this. */
  protected containerStarted?(container: StartedTestContainer, inspection: Inspection, reused: boolean): Promise<void>

  /** For constructors of subclasses: in the function, `with…` change this container instead of giving another one. */
  protected configure(configuration: Configuration<this>): void {
    this.isOpen = true
    try {
      configuration(this)
    } finally {
      this.isOpen = false
    }
  }

  /** For subclasses: a copy with other fields, or this one with them while it is open. */
  protected copy(fields: Partial<Pick<this, never>> & object): this {
    const target = this.isOpen
      ? this
      : Object.assign(Object.create(Object.getPrototypeOf(this)), this, { identity: {} })
    return Object.assign(target, fields)
  }

  private with(change: Partial<Definition>): this {
    return this.copy({ definition: Object.freeze({ ...this.definition, ...change }) })
  }

  /** Program and arguments; with an entrypoint, the arguments behind it. @default the image's */
  withCommand(words: readonly string[]): this {
    return this.with({ command: command(words, 'command') })
  }

  /** What stands before the command; `[]` for nothing. @default the image's */
  withEntrypoint(words: readonly string[]): this {
    return this.with({ entrypoint: command(words, 'entrypoint') })
  }

  /** Unique among those that run. @default one made up */
  withName(name: string): this {
    return this.with({ name: containerName(name, 'name') })
  }

  /** @default the first 12 digits of its id */
  withHostname(hostname: string): this {
    return this.with({ hostname: text(hostname, 'hostname') })
  }

  /** `name`, `uid`, `name:group` or `uid:gid`. @default the image's */
  withUser(user: string): this {
    return this.with({ user: text(user, 'user') })
  }

  /** Further groups of its user, by name or number. */
  withGroups(...groups: readonly string[]): this {
    return this.with({ groups: [...this.definition.groups, ...texts(groups, 'groups')] })
  }

  /** @default the image's */
  withWorkingDir(workingDir: string): this {
    return this.with({ workdir: absolutePath(workingDir, 'workingDir') })
  }

  /** Platform of the image, such as `linux/arm64`. @default this machine's */
  withPlatform(platform: string): this {
    return this.with({ platform: platformName(platform, 'platform') })
  }

  /** Added to those given before. */
  withLabels(labels: Readonly<Record<string, string>>): this {
    return this.with({ labels: { ...this.definition.labels, ...textsByName(labels, 'labels') } })
  }

  /** Added to those given before; a name given again has its new value. */
  withEnvironment(variables: Readonly<Record<string, string>>): this {
    return this.with({ env: { ...this.definition.env, ...environment(variables, 'environment') } })
  }

  /** A terminal: stdout and stderr become one stream. @default false */
  withTty(tty = true): this {
    return this.with({ tty: flag(tty, 'tty') })
  }

  /** Ports that can be reached from this process; added to those given before. A port given again has its new binding. */
  withExposedPorts(...ports: readonly PortWithOptionalBinding[]): this {
    const exposed = ports.map((port, index) => portToExpose(port, `exposedPorts[${index}]`))
    const isAgain = (port: PublishedPort) =>
      exposed.some((one) => one.container === port.container && one.protocol === port.protocol)
    return this.with({ ports: [...this.definition.ports.filter((port) => !isAgain(port)), ...exposed] })
  }

  /** Paths of this machine in the container; added to those given before. */
  withBindMounts(mounts: readonly BindMount[]): this {
    const binds = bindMounts(mounts, 'bindMounts').map(({ source, target, mode, createSource }) => ({
      type: 'bind' as const,
      source,
      target,
      readonly: mode === 'ro',
      ...(createSource ? { createSource } : {}),
    }))
    return this.with({ mounts: [...this.definition.mounts, ...binds] })
  }

  /** Volumes in the container; added to those given before. */
  withVolumes(...volumes: readonly VolumeMount[]): this {
    const mounts = volumeMounts(volumes, 'volumes').map(({ volume: source, ...mount }) => ({
      type: 'volume' as const,
      source,
      ...mount,
    }))
    return this.with({ mounts: [...this.definition.mounts, ...mounts] })
  }

  /** Directories and files of images, read-only; added to those given before. An image that is not here is fetched. */
  withImageMounts(...images: readonly ImageMount[]): this {
    const mounts = imageMounts(images, 'imageMounts').map(({ image: source, ...mount }) => ({
      type: 'image' as const,
      source,
      ...mount,
    }))
    return this.with({ mounts: [...this.definition.mounts, ...mounts] })
  }

  /** Has the mounts and volumes of a started container too, in the same places. */
  withVolumesFrom(container: StartedTestContainer, options: { readonly readonly?: boolean } = {}): this {
    const { readonly = false } = volumesFromOptions(options, 'volumesFrom')
    if (!(container instanceof StartedTestContainer)) refuse('container', container, 'expected a started container')
    const from = { container: container.getId(), readonly }
    return this.with({ volumesFrom: [...this.definition.volumesFrom, from] })
  }

  /** Directories in memory: path → options, such as `{ '/tmp': 'rw,size=64m' }`. */
  withTmpFs(directories: Readonly<Record<string, string>>): this {
    const checked = Object.entries(textsByName(directories, 'tmpFs'))
    const mounts = checked.map(([target, options]) => ({
      type: 'tmpfs' as const,
      target: absolutePath(target, 'tmpFs'),
      options,
    }))
    return this.with({ mounts: [...this.definition.mounts, ...mounts] })
  }

  /** A read-only root file system; mounts stay writable. @default false */
  withReadonlyRootfs(readonly = true): this {
    return this.with({ readonlyRootfs: flag(readonly, 'readonlyRootfs') })
  }

  /** By name, as of `ulimit`: `{ nofile: { hard: 1024, soft: 1024 } }`. */
  withUlimits(limits: Readonly<Record<string, UlimitPair>>): this {
    return this.with({ ulimits: { ...this.definition.ulimits, ...ulimits(limits, 'ulimits') } })
  }

  /** As of `docker run --security-opt`. */
  withSecurityOpt(...options: readonly string[]): this {
    return this.with(securityOptions(texts(options, 'securityOpt')))
  }

  /** Such as `NET_ADMIN`; added to those given before, and to the usual ones. */
  withAddedCapabilities(...capabilities: readonly string[]): this {
    return this.with({ capAdd: [...this.definition.capAdd, ...texts(capabilities, 'addedCapabilities')] })
  }

  /** Such as `NET_RAW` or `ALL`; added to those given before. */
  withDroppedCapabilities(...capabilities: readonly string[]): this {
    return this.with({ capDrop: [...this.definition.capDrop, ...texts(capabilities, 'droppedCapabilities')] })
  }

  /** All capabilities, all devices, nothing masked. */
  withPrivilegedMode(privileged = true): this {
    return this.with({ privileged: flag(privileged, 'privileged') })
  }

  /** Devices of this machine: `/dev/fuse`, or with another path and permissions inside. */
  withDevices(...given: readonly (string | DeviceToPass)[]): this {
    const added = devices(given, 'devices').map((device) => {
      if (typeof device === 'string') return { host: device }
      const { source, target, permissions } = device
      return { host: source, ...(target ? { container: target } : {}), ...(permissions ? { permissions } : {}) }
    })
    return this.with({ devices: [...this.definition.devices, ...added] })
  }

  /** Kernel settings of the container's own, such as `net.core.somaxconn`. */
  withSysctls(sysctls: Readonly<Record<string, string>>): this {
    return this.with({ sysctls: { ...this.definition.sysctls, ...textsByName(sysctls, 'sysctls') } })
  }

  /** `private`, `host` or `container:<name or id>`. */
  withIpcMode(ipcMode: string): this {
    return this.with({ ipc: text(ipcMode, 'ipcMode') })
  }

  /** `private`, `host` or `container:<name or id>`. */
  withPidMode(pidMode: string): this {
    return this.with({ pid: text(pidMode, 'pidMode') })
  }

  /** Size of /dev/shm. @default 67108864 */
  withSharedMemorySize(bytes: number): this {
    return this.with({ shmSizeBytes: positive(bytes, 'sharedMemorySize') })
  }

  /** Memory in GiB and processors. @default no limits */
  withResourcesQuota(quota: ResourcesQuota): this {
    const { memory, cpu } = resourcesQuota(quota, 'resourcesQuota')
    return this.withLimits({
      ...(memory === undefined ? {} : { memoryBytes: Math.ceil(memory * GIB) }),
      ...(cpu === undefined ? {} : { cpus: cpu }),
    })
  }

  /** Processors, such as 1.5. */
  withCpus(cpus: number): this {
    return this.withLimits({ cpus: resourcesQuota({ cpu: cpus }, 'cpus').cpu! })
  }

  /** All limits that there are; added to those given before. */
  withLimits(limits: ResourceLimits): this {
    limitNames(limits, 'limits')
    return this.with({ limits: { ...this.definition.limits, ...limits } })
  }

  /**
   * Most that it may write to its root file system, in bytes: more is `no space left on device`. What it writes is in memory then, and
   * counts there, also in what the image declares as volumes. Named volumes and mounts have no such limit.
   */
  withDiskQuota(bytes: number): this {
    return this.withLimits({ diskBytes: positive(bytes, 'diskQuota') })
  }

  /**
   * Milliseconds by which its clocks that count from the boot are ahead, or behind: uptimes and monotonic times. The time of day cannot be
   * shifted: Linux has one for all.
   */
  withClockOffset(milliseconds: number): this {
    return this.with({ clockOffsetMs: integer(Number.MIN_SAFE_INTEGER)(milliseconds, 'clockOffset') })
  }

  /** A first process that reaps and passes signals on, as of `docker run --init`. */
  withInit(init = true): this {
    return this.with({ init: flag(init, 'init') })
  }

  /** What asks it to end. @default the image's, else SIGTERM */
  withStopSignal(signal: string | number): this {
    return this.with({ stopSignal: signal })
  }

  /** Kept for testcontainers: the log is always kept by us. */
  withDefaultLogDriver(): this {
    return this.with({})
  }

  /**
   * One network, of several. Without any, containers are on a common one.
   *
   * Of a set of `shareContainers` the definition of a network will do. On a shared network, the container runs in the process that shares it, and
   * belongs to this one all the same; it cannot be on a network of this process as well.
   */
  withNetwork(network: StartedNetwork | Network, place: NetworkPlace = {}): this {
    if (!(network instanceof StartedNetwork || network instanceof Network)) {
      refuse('network', network, 'expected a network that was started', 'await new Network().start()')
    }
    const attachment = { network, aliases: [], ...networkPlace(place, 'network') }
    const others = this.definition.networks.filter((other) => !isSameNetwork(other.network, network))
    return this.with({ networks: [...others, attachment] })
  }

  /** `bridge`, `none`, `host`, `container:<name or id>` or the name of a network, instead of networks. */
  withNetworkMode(networkMode: string): this {
    return this.with({ networkMode: text(networkMode, 'networkMode') })
  }

  /** Names under which containers of its networks find it, besides its own; added to those given before. */
  withNetworkAliases(...aliases: readonly string[]): this {
    return this.with({ aliases: [...this.definition.aliases, ...texts(aliases, 'networkAliases')] })
  }

  /** Lines of /etc/hosts; added to those given before: a host that is given twice has both addresses. */
  withExtraHosts(hosts: readonly ExtraHost[]): this {
    const all = new Map(Object.entries(this.definition.extraHosts))
    for (const { host, ipAddress } of extraHosts(hosts, 'extraHosts')) {
      all.set(host, [...(all.get(host) ?? []), ipAddress])
    }
    return this.with({ extraHosts: Object.fromEntries(all) })
  }

  /** Name servers instead of the session's own, and the domains that are searched. */
  withDns(dns: {
    readonly servers?: readonly string[]
    readonly search?: readonly string[]
    readonly options?: readonly string[]
  }): this {
    const { servers = [], search = [], options = [] } = dnsOptions(dns, 'dns')
    return this.with({ dns: servers, dnsSearch: search, dnsOptions: options })
  }

  /** Ports of this machine that it may reach: see `TestContainers.exposeHostPorts`. */
  withHostPortAccess(...ports: readonly number[]): this {
    return this.with({ hostPorts: [...this.definition.hostPorts, ...hostPorts(ports)] })
  }

  /** How it tells that it is well. Times in milliseconds. @default the image's */
  withHealthCheck(check: HealthCheck): this {
    return this.with({ healthCheck: healthCheck(check, 'healthCheck') })
  }

  /** When it is ready. */
  withWaitStrategy(waitStrategy: WaitStrategy): this {
    if (typeof waitStrategy?.waitUntilReady !== 'function') {
      refuse('waitStrategy', waitStrategy, 'expected a wait strategy such as Wait.forListeningPorts()')
    }
    return this.with({ waitStrategy })
  }

  /** Milliseconds until it must be ready. @default that of the wait strategy, 60000 */
  withStartupTimeout(startupTimeoutMs: number): this {
    return this.with({ startupTimeoutMs: checkTimeout('startupTimeout', startupTimeoutMs) })
  }

  /** How often a start is tried, each time with a new container. @default 1 */
  withStartupAttempts(attempts: number): this {
    return this.with({ startupAttempts: positive(attempts, 'startupAttempts') })
  }

  /** When its image is fetched. @default when it is missing */
  withPullPolicy(pullPolicy: ImagePullPolicy): this {
    if (typeof pullPolicy?.shouldPull !== 'function') refuse('pullPolicy', pullPolicy, 'expected one of PullPolicy')
    return this.with({ pullPolicy })
  }

  /** Names the image that it is really made of; comes before `substituteImages`. */
  withImageSubstitution(substitution: ImageSubstitution): this {
    return this.with({ substitution })
  }

  /** Removed by `stop()`, unless that says otherwise. It goes with the session in any case. @default true */
  withAutoRemove(autoRemove: boolean): this {
    return this.with({ autoRemove: flag(autoRemove, 'autoRemove') })
  }

  /** Kept for testcontainers: whatever is said, nothing outlives the process. */
  withAutoCleanup(_autoCleanup: boolean): this {
    return this.with({})
  }

  /** Throws NOT_SUPPORTED: containers do not outlive their process. */
  withReuse(): this {
    throw new MayflyError('NOT_SUPPORTED', 'Containers end with the process that started them, so none can be reused', {
      hint: 'a start takes milliseconds; to share one between test files, start it in the global setup of your test runner',
    })
  }

  /** Files that are there before it starts; added to those given before. */
  withCopyFilesToContainer(files: readonly FileToCopy[]): this {
    return this.withCopies({ files: filesToCopy(files, 'files') })
  }

  /** Directories with all that is in them; added to those given before. */
  withCopyDirectoriesToContainer(directories: readonly DirectoryToCopy[]): this {
    return this.withCopies({ directories: filesToCopy(directories, 'directories') })
  }

  /** Files from texts, Buffers and streams. What a stream holds is read at the first start, and kept in memory for others. */
  withCopyContentToContainer(contents: readonly ContentToCopy[]): this {
    return this.withCopies({ contents: contentsToCopy(contents, 'contents') })
  }

  /** Tar archives, each unpacked in its directory, which must exist. Streams can be read once, so such a definition can be started once. */
  withCopyArchivesToContainer(archives: readonly ArchiveToCopy[]): this {
    return this.withCopies({ archives: archivesToCopy(archives, 'archives') })
  }

  private withCopies(added: Partial<Definition['copies']>): this {
    const { copies } = this.definition
    const merged = Object.fromEntries(
      Object.entries(copies).map(([kind, list]) => [kind, [...list, ...(added[kind as keyof typeof copies] ?? [])]]),
    ) as unknown as Definition['copies']
    return this.with({ copies: merged })
  }

  /** How copies are made. */
  withCopyToContainerOptions(options: CopyToContainerOptions): this {
    return this.with({ copyOptions: copyOptions(options, 'copyToContainerOptions') })
  }

  /** Gets its output as a stream, from the first byte on; called before the container is waited for. */
  withLogConsumer(logConsumer: LogConsumer): this {
    if (typeof logConsumer !== 'function') refuse('logConsumer', logConsumer, 'expected a function')
    return this.with({ logConsumers: [...this.definition.logConsumers, logConsumer] })
  }

  /** Functions to be called at the turns of its life; added to those given before. */
  withHooks(hooks: Hooks): this {
    return this.with({ hooks: [...this.definition.hooks, checkHooks(hooks)] })
  }

  /**
   * The last word on what is made: gets the whole spec, gives another.
   *
   * @example
   * import { GenericContainer } from 'mayfly'
   *
   * const odd = new GenericContainer('alpine:3.22').withCreateModifier((spec) => ({ ...spec, domainname: 'example.com' }))
   */
  withCreateModifier(modifier: CreateModifier): this {
    if (typeof modifier !== 'function') refuse('createModifier', modifier, 'expected a function')
    return this.with({ modifiers: [...this.definition.modifiers, modifier] })
  }

  /**
   * Whether starts begin with a prepared state: what the first one has made of the image, the migrations included, is kept in the store, and
   * others, in any process, begin with that. It is made anew when anything of what it depends on has changed.
   *
   * Without effect where something is mounted, where a line of the log is waited for, and with hooks that see the container before it is ready.
   *
   * @default true for the fixtures of databases, and where there are migrations or a snapshot key
   */
  withPreparedState(isOn = true): this {
    return this.withPreparation({ isOn: flag(isOn, 'preparedState') })
  }

  /** Part of the key of its prepared state: for what nobody can see from outside, such as the version of a script of yours. */
  withSnapshotKey(key: string): this {
    return this.withPreparation({ key: text(key, 'snapshotKey') })
  }

  /**
   * What is done once to a service that was just made: a function, or the `.sql` files of a directory in the order of their names, run by
   * the image's own client. Later starts begin with the result. Added to those given before.
   *
   * A function without a key is run once in each process; with a key, its result is kept for all.
   *
   * A migration that fails rejects `start()` with MIGRATION_FAILED, the file and what the client said, and nothing is kept.
   */
  withMigrations(
    migrations: string | ((started: StartedTestContainer) => unknown),
    options: { readonly key?: string } = {},
  ): this {
    const added = checkMigration(migrations, options)
    return this.withPreparation({ migrations: [...this.definition.preparation.migrations, added] })
  }

  private withPreparation(change: Partial<Definition['preparation']>): this {
    return this.with({ preparation: Object.freeze({ ...this.definition.preparation, ...change }) })
  }

  /**
   * Keeps so many containers of this very definition ready, from its first `start()` on: the next `start()` takes one of them, and in the background
   * another is started. Those that nobody takes end with the process. Without effect where it depends on other containers, and with `from`.
   *
   * @example
   * import { postgres } from 'mayfly/fixtures/postgres'
   *
   * const database = postgres().withMigrations('./migrations').withPool(2)
   * await using first = await database.start()
   * await using second = await database.start() // was ready
   */
  withPool(size: number): this {
    return this.copy({ poolSize: positive(size, 'pool') })
  }

  /**
   * Containers that are ready before this one is started. `start()` starts them with it, and its `stop()` stops them; started
   * together by `startAll`, a shared one is started once.
   */
  dependsOn(...containers: readonly GenericContainer[]): this {
    for (const [index, container] of containers.entries()) {
      if (!(container instanceof GenericContainer)) {
        refuse(`dependsOn[${index}]`, container, 'expected the definition of a container')
      }
    }
    return this.copy({ dependencies: [...this.dependencies, ...containers] })
  }
}

function checkSnapshot(from: unknown): asserts from is ContainerSnapshot {
  if (!(from instanceof ContainerSnapshot)) refuse('from', from, 'expected what snapshot() of a container gives')
  if (!from.state) {
    refuse(
      'from',
      'a snapshot of a database',
      'no container can be started from it',
      'use snapshot({}) of the container',
    )
  }
  if (from.isRemoved) refuse('from', 'a snapshot', 'it was removed')
}
