/**
 * What the library needs of whatever runs its containers.
 *
 * The embedded engine is one implementation; a Docker-compatible endpoint or a cluster can be others. Nothing above this file
 * knows which one it talks to. Rules for all of them:
 *
 * - Everything that takes time takes an `AbortSignal`, ends promptly with its reason, and leaves nothing half made.
 * - Errors are `MayflyError` with the codes of `src/engine/errors.ts`. What a program in a container does wrong is a result.
 * - Nothing keeps node alive but an outstanding promise, or a `next()` of a stream that was not opened with `background`.
 * - What a backend cannot do throws NOT_SUPPORTED and says what to do instead.
 */

import type { Device, PublishedPort, ResourceLimits, SeccompProfile, Ulimit } from '../engine/options.js'

/** How a command in the container tells whether it is well. Times in milliseconds. */
export interface HealthCheck {
  /** `['CMD', program, …]` runs a program, `['CMD-SHELL', script]` the image's shell; exit code 0 is healthy. `['NONE']`: none. */
  readonly test: readonly string[]
  /** Between two checks, once it is healthy. @default 30000 */
  readonly interval?: number
  /** Of one check. @default 30000 */
  readonly timeout?: number
  /** Failures in a row that make it unhealthy. @default 3 */
  readonly retries?: number
  /** Failures this long after the start do not count. @default 0 */
  readonly startPeriod?: number
}

/** One of the networks of a container. */
export interface NetworkAttachment {
  /** Id or name of a network made by {@link Backend.createNetwork}. */
  readonly network: string
  /** Names under which the containers of that network find this one, beside its own. */
  readonly aliases: readonly string[]
  /** A certain address of the network's subnet. @default a free one */
  readonly ipAddress?: string
  /** A certain address of the network's IPv6 subnet. @default a free one, if the network has IPv6 */
  readonly ipv6Address?: string
}

/** A directory of the container that comes from elsewhere. Targets are absolute and made when missing. */
export type ContainerMount =
  /** Of this machine. */
  | {
      readonly type: 'bind'
      readonly source: string
      readonly target: string
      readonly readonly?: boolean
      /** Makes a directory where there is nothing. @default false */
      readonly createSource?: boolean
    }
  /** A volume made by {@link Backend.createVolume}, by name. */
  | {
      readonly type: 'volume'
      readonly source: string
      readonly target: string
      readonly readonly?: boolean
      /** Only this directory or file of it. */
      readonly subpath?: string
    }
  /** The files of an image, read-only, by the image's name. */
  | { readonly type: 'image'; readonly source: string; readonly target: string; readonly subpath?: string }
  /** In memory; options as of `docker run --tmpfs`, such as `rw,size=64m`. */
  | { readonly type: 'tmpfs'; readonly target: string; readonly options?: string }

/**
 * A container as the backend is to make it: what a definition comes to, complete with names and defaults of the library. What is
 * absent is the image's, or the backend's default.
 */
export interface ContainerSpec {
  /** Reference, after substitution. The backend has it: see {@link Backend.ensureImage}. */
  readonly image: string
  readonly platform?: string
  readonly name?: string
  readonly command?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  readonly user?: string
  readonly groups?: readonly string[]
  readonly workdir?: string
  readonly hostname?: string
  readonly domainname?: string
  readonly tty?: boolean
  readonly stdin?: boolean
  /** Ports that the host can reach. A port without `host` gets a free one. */
  readonly ports: readonly PublishedPort[]
  readonly mounts: readonly ContainerMount[]
  readonly networks: readonly NetworkAttachment[]
  /** Further names on the network that containers are on without any. */
  readonly aliases?: readonly string[]
  /** Ids of containers whose mounts it has, too. */
  readonly volumesFrom?: readonly { readonly container: string; readonly readonly: boolean }[]
  /** `bridge`, `none`, `host`, `container:<id>`; instead of `networks`. @default 'bridge' */
  readonly networkMode?: string
  /** Lines for /etc/hosts: name → address, or `host-gateway`. */
  readonly extraHosts: Readonly<Record<string, string | readonly string[]>>
  readonly dns?: readonly string[]
  readonly dnsSearch?: readonly string[]
  readonly dnsOptions?: readonly string[]
  readonly privileged?: boolean
  readonly capAdd?: readonly string[]
  readonly capDrop?: readonly string[]
  readonly seccomp?: 'default' | 'unconfined' | SeccompProfile
  readonly noNewPrivileges?: boolean
  readonly readonlyRootfs?: boolean
  readonly devices?: readonly Device[]
  readonly sysctls?: Readonly<Record<string, string>>
  readonly ulimits?: Readonly<Record<string, Ulimit>>
  readonly limits?: ResourceLimits
  /** Of the clocks that count from the boot. @default 0 */
  readonly clockOffsetMs?: number
  readonly shmSizeBytes?: number
  readonly init?: boolean
  readonly stopSignal?: string | number
  /** Grace of a stop that names none. */
  readonly stopTimeoutMs?: number
  readonly ipc?: string
  readonly pid?: string
  readonly logBytes?: number
}

/** Whether the registry is asked. */
export type PullDecision = 'missing' | 'always' | 'never'

/** What the library needs to know of an image. */
export interface ImageFacts {
  /** `sha256:…` */
  readonly id: string
  readonly exposedPorts: readonly { readonly port: number; readonly protocol: 'tcp' | 'udp' | 'sctp' }[]
  readonly healthCheck: HealthCheck | undefined
  /** When it came here; what pull policies of an age go by. */
  readonly arrivedAt: Date | undefined
  readonly labels: Readonly<Record<string, string>>
  readonly entrypoint: readonly string[]
  readonly command: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** @default '0' */
  readonly user: string
}

/** Which image, and when its registry is asked for it. */
export interface EnsureImageOptions {
  readonly pull: PullDecision
  readonly platform?: string
  readonly signal?: AbortSignal
}

/** An image to be built. */
export interface BuildRequest {
  /** A directory of this machine, or a Dockerfile as text with files under their paths. */
  readonly context:
    | { readonly directory: string }
    | { readonly dockerfile: string; readonly files: Readonly<Record<string, string | Uint8Array>> }
  /** Path of the Dockerfile, relative to the context directory. */
  readonly file?: string
  readonly tag: string
  /** The name is forgotten when the backend is closed. */
  readonly temporary: boolean
  readonly buildArgs: Readonly<Record<string, string>>
  readonly target?: string
  readonly platform?: string
  readonly noCache: boolean
  /** Asks the registry for base images even when they are here. */
  readonly pull: boolean
  readonly secrets: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  /** Lines of progress, for people. */
  readonly onLine?: (line: string) => void
  readonly signal?: AbortSignal
}

/** A network to be made. */
export interface NetworkOptions {
  /** @default one made up */
  readonly name?: string
  /** Such as `10.5.0.0/24`. @default a free one */
  readonly subnet?: string
  /** The router's address of the subnet, which must be given. @default its first */
  readonly gateway?: string
  /** Part of the subnet from which containers get addresses. @default all of it */
  readonly ipRange?: string
  /** An IPv6 subnet beside the IPv4 one: one that is given, with its gateway and range, or a free one below fd00::/8. @default false */
  readonly ipv6?: boolean | { readonly subnet?: string; readonly gateway?: string; readonly ipRange?: string }
  /** No way out of it, and none in but published ports. @default false */
  readonly internal?: boolean
  readonly labels?: Readonly<Record<string, string>>
}

/** A volume to be made. */
export interface VolumeOptions {
  /** @default one made up */
  readonly name?: string
  readonly labels?: Readonly<Record<string, string>>
}

/** A network that lives until `remove()` or the end of the session. */
export interface BackendNetwork {
  readonly id: string
  readonly name: string
  /** '' where the backend does not say. */
  readonly subnet: string
  /** '' on a network without IPv6. */
  readonly ipv6Subnet: string
  /** Adds a running container. */
  connect(
    container: string,
    attachment: { readonly aliases: readonly string[]; readonly ipAddress?: string; readonly ipv6Address?: string },
  ): Promise<void>
  /** Takes a container off it. */
  disconnect(container: string): Promise<void>
  /** May be called twice. */
  remove(): Promise<void>
}

/** A volume. It outlives its containers, not its `remove()`. */
export interface BackendVolume {
  readonly name: string
  /** May be called twice. */
  remove(): Promise<void>
}

/** Where in its life a container is. */
export type ContainerStatus = 'created' | 'running' | 'paused' | 'exited' | 'removed'

/** How the first process of a container ended. */
export interface ExitFacts {
  /** 0 to 255; 128 and the signal's number when a signal ended it. */
  readonly exitCode: number
  /** Such as `SIGKILL`; null when it ended by itself. */
  readonly signal: string | null
  /** Memory ran out. */
  readonly oomKilled: boolean
  readonly finishedAt: Date
}

/** A container as it is now. */
export interface Inspection {
  readonly id: string
  readonly name: string
  readonly status: ContainerStatus
  readonly hostname: string
  readonly labels: Readonly<Record<string, string>>
  readonly createdAt: Date
  readonly startedAt: Date | null
  /** How it ended the last time; null while it runs or when it never did. */
  readonly exit: ExitFacts | null
  /** Published ports as they are open now; the same port twice when it is open on several addresses. */
  readonly ports: readonly PublishedPortFact[]
  readonly networks: readonly {
    readonly id: string
    readonly name: string
    readonly ipAddress: string
    readonly gateway: string
    /** Both '' on a network without IPv6. */
    readonly ipv6Address: string
    readonly ipv6Gateway: string
  }[]
}

/** A port of a container, and where it is reached. */
export interface PublishedPortFact {
  readonly container: number
  readonly protocol: 'tcp' | 'udp'
  /** Address on the host. */
  readonly hostIp: string
  readonly host: number
}

/** A piece of output as it was written. */
export interface LogPiece {
  readonly stream: 'stdout' | 'stderr'
  readonly data: Uint8Array
  readonly time: Date
}

/** Which part of a log. */
export interface BackendLogOptions {
  readonly follow?: boolean
  readonly since?: Date
  readonly until?: Date
  readonly tail?: number
  readonly stdout?: boolean
  readonly stderr?: boolean
  /** An outstanding `next()` does not keep node alive. @default false */
  readonly background?: boolean
  readonly signal?: AbortSignal
}

/** A program to be run in a container. */
export interface ExecRequest {
  readonly command: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly workdir?: string
  readonly user?: string
  readonly privileged?: boolean
  readonly input?: string | Uint8Array
  /** Kills the program. */
  readonly signal?: AbortSignal
}

/** How a program in a container has ended, and what it printed. */
export interface ExecFacts {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
  /** Both, in the order in which they came. */
  readonly output: string
}

/** What a container uses now; null where this machine does not count. */
export interface ResourceUsage {
  readonly cpuNs: number | null
  readonly memoryBytes: number | null
  readonly memoryPeakBytes: number | null
  readonly memoryLimitBytes: number | null
  readonly processes: number | null
  readonly readBytes: number | null
  readonly writeBytes: number | null
  readonly receivedBytes: number | null
  readonly sentBytes: number | null
}

/** An image to be made of a container. */
export interface CommitRequest {
  /** Name of the image, such as `app:prepared`. */
  readonly reference: string
  readonly comment?: string
  readonly author?: string
  /** Instructions of a Dockerfile, such as `ENV A=b`. */
  readonly changes: readonly string[]
  readonly pause: boolean
  /** The name is forgotten when the backend is closed. */
  readonly temporary: boolean
  readonly signal?: AbortSignal
}

/** What a container had written, kept: others begin with it. */
export interface BackendState {
  /** Removes it, unless a container stands on it. */
  remove(): Promise<void>
}

/** How the files of a container are kept. */
export interface KeepStateOptions {
  /** How long the container may take to end by itself; it is killed then. */
  readonly timeoutMs: number
  /** It goes on with the state below it, and runs again if it ran. Otherwise it has ended. */
  readonly stay: boolean
  readonly signal?: AbortSignal
}

/** What was done to a container for a while. */
export interface BackendFault {
  /** Ends it. May be called twice, and is quiet when the container is gone. */
  undo(): Promise<void>
}

/** What happens to the packets of a container, in both directions. */
export interface NetworkFaultRequest {
  /** Part that gets lost, 0 to 1. */
  readonly loss?: number
  /** Milliseconds. */
  readonly latency?: number
  readonly jitter?: number
  readonly bytesPerSecond?: number
  /** Id of the container at the other end. @default everything that is not about such a one */
  readonly peer?: string
}

/** A program in a container, with its streams. */
export interface BackendProcess {
  /** Writes to its stdin. */
  write(bytes: Uint8Array): Promise<void>
  /** Read once. */
  readonly stdout: AsyncIterableIterator<Uint8Array>
  readonly stderr: AsyncIterableIterator<Uint8Array>
  /** Ends it at once. */
  kill(): Promise<void>
}

/** What takes time can be given up. */
export interface WithSignal {
  readonly signal?: AbortSignal
}

/** A container of a backend. */
export interface BackendContainer {
  readonly id: string
  readonly name: string
  /** For the first time or again. Resolves when its program runs. */
  start(options?: WithSignal): Promise<void>
  /** Asks it to end, and kills it after `timeoutMs`; quiet when it has ended. */
  stop(options: { readonly timeoutMs?: number; readonly signal?: AbortSignal }): Promise<void>
  /** Sends a signal to its first process. */
  kill(signal: string | number): Promise<void>
  /** Freezes every process in it. */
  pause(): Promise<BackendFault>
  /** Lets it go on. */
  unpause(): Promise<void>
  /** Stops it and starts it again. */
  restart(options: { readonly timeoutMs?: number; readonly signal?: AbortSignal }): Promise<void>
  /** Disturbs its network. Of several faults that concern the same packets the latest holds; when it is undone, the one before it does again. */
  impair(fault: NetworkFaultRequest): Promise<BackendFault>
  /** Its disk is full until all such faults are undone. */
  fillDisk(): Promise<BackendFault>
  /** With force, running or not. May be called twice. */
  remove(options: { readonly force: boolean; readonly volumes: boolean }): Promise<void>
  /** What is known of it now. */
  inspect(): Promise<Inspection>
  /** Its end, also one that was before. */
  wait(options?: WithSignal): Promise<ExitFacts>
  /** What it uses now. */
  stats(): Promise<ResourceUsage>
  /** Its output. */
  logs(options: BackendLogOptions): AsyncIterableIterator<LogPiece>
  /** Runs a program in it, to its end. */
  exec(request: ExecRequest): Promise<ExecFacts>
  /** Runs a program for as long as it is wanted. It ends with the container. */
  open(request: Omit<ExecRequest, 'input' | 'signal'>): Promise<BackendProcess>
  /** Unpacks a tar in a directory of it, running or not. */
  copyIn(path: string, tar: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, options?: WithSignal): Promise<void>
  /** The file or tree as a tar, its entries named from the path's last component on. */
  copyOut(path: string, options?: WithSignal): AsyncIterableIterator<Uint8Array>
  /**
   * Stops it and keeps what it has written, for as long as the session. One that does not `stay` has to end by itself: throws
   * CONTAINER_EXITED when it was killed or has failed, TIMEOUT when its time was over.
   */
  keepState(options: KeepStateOptions): Promise<BackendState>
  /**
   * Throws away what it has written since it was made, or since the state was kept that it stands on, and starts it again, with the same
   * address and ports. `prepare` is called before the start.
   */
  reset(options: { readonly prepare?: () => Promise<void>; readonly signal?: AbortSignal }): Promise<void>
  /** Makes an image of what it has written, and resolves to the image's id. */
  commit(request: CommitRequest): Promise<string>
  /**
   * Until something in it listens on the TCP port, on an address that others can reach; at once if it does. A backend that can
   * tell tells; one that cannot tries to connect, at short intervals. Rejects when the container ends.
   */
  waitForPort(port: number, options?: WithSignal): Promise<void>
  /** Ports on which something listens, as far as it is known: for messages. */
  listeningPorts(): readonly { readonly port: number; readonly address: string }[]
}

/** What makes containers for the library: an engine of this process, or one elsewhere. The library knows no more of it than this. */
export interface Backend {
  /** Such as `embedded`, for messages. */
  readonly name: string
  /** Where published ports are reached from this process, such as `localhost`. */
  readonly host: string
  /** Throws IMAGE_NOT_FOUND, and what the registry says. */
  ensureImage(reference: string, options: EnsureImageOptions): Promise<ImageFacts>
  /** What is here under this name; undefined if nothing is. Asks no registry. */
  findImage(reference: string, platform?: string): Promise<ImageFacts | undefined>
  /** Builds an image. Throws BUILD_FAILED with the step. */
  buildImage(request: BuildRequest): Promise<ImageFacts>
  /** Forgets a name; quiet when there is none. */
  removeImage(reference: string): Promise<void>
  /** Throws NAME_TAKEN and what is wrong with the spec. */
  createContainer(
    spec: ContainerSpec,
    options?: WithSignal & { readonly from?: BackendState },
  ): Promise<BackendContainer>
  /** A state that is kept for all processes, by its key; undefined if there is none. */
  findState(key: string): BackendState | undefined | Promise<BackendState | undefined>
  /**
   * The same; where there is none, `make` gives a container that is ready, which is stopped cleanly, kept and removed. Once, in however
   * many processes it is asked for at the same time. What fails keeps nothing.
   */
  prepareState(
    key: string,
    make: (signal: AbortSignal) => Promise<BackendContainer>,
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<BackendState>
  /** Makes a network. Throws NAME_TAKEN. */
  createNetwork(options: NetworkOptions, control?: WithSignal): Promise<BackendNetwork>
  /** Makes a volume. Throws NAME_TAKEN when there is one under that name, perhaps of another process. */
  createVolume(options: VolumeOptions, control?: WithSignal): Promise<BackendVolume>
  /**
   * Lets containers reach these TCP ports of the host's loopback, under the address that `host-gateway` stands for. For all
   * containers of the session, until it ends. May be called twice for one port.
   */
  exposeHostPorts(ports: readonly number[], options?: WithSignal): Promise<void>
  /** Ends the session: everything that was started goes. May be called twice. */
  close(): Promise<void>
}
