/**
 * What a caller may ask of a container: the options of `Engine.create`, `start` and `run`, and of `exec`.
 *
 * These are plain data. `validate.ts` checks and completes them at the door, `plan.ts` turns them into a launch plan.
 */

/** Where the root file system comes from. Nothing of it is ever written to: the container gets a layer of its own. */
export type RootFilesystem =
  /** A directory, used as the only read-only layer. */
  | { readonly directory: string }
  /** Directories of unpacked layers, lowest first (the order of an image's manifest). */
  | { readonly layers: readonly string[] }
  /** A tar file (plain or gzip), unpacked once into the store by its digest. */
  | { readonly tar: string }

/** A network port of the container that the host can reach under its loopback addresses. */
export interface PublishedPort {
  /** Port inside the container, 1 to 65535. */
  readonly container: number
  /** Port on the host, 1 to 65535. @default a free one, the same number for IPv4 and IPv6 */
  readonly host?: number
  /** @default 'tcp' */
  readonly protocol?: 'tcp' | 'udp'
  /** Host address to listen on. @default 127.0.0.1 and ::1 */
  readonly hostIp?: string
}

/**
 * A host path, a volume, the files of an image or a temporary file system inside the container.
 *
 * Run by an ordinary user, ids are mapped: root in the container is that user on this machine, others are its subordinate ids
 * (/etc/subuid), if it has any. Files of a bind mount belong to root in the container where they are the user's, and to nobody (65534) where
 * they are somebody else's; what is written to a volume belongs, on this machine, to the mapped ids. Containers of the same user see all the
 * same.
 */
export type Mount =
  | {
      readonly type: 'bind'
      /** Absolute host path that exists, unless `createSource`. */
      readonly source: string
      /** Absolute path in the container, made when missing. */
      readonly target: string
      /** @default false */
      readonly readonly?: boolean
      /** @default 'rprivate' */
      readonly propagation?: 'rprivate' | 'private' | 'rslave' | 'slave'
      /** Makes a directory where there is nothing, as `docker run -v` does. @default false: MOUNT_SOURCE_NOT_FOUND */
      readonly createSource?: boolean
      /** What is mounted below the source is there, too. @default true */
      readonly recursive?: boolean
    }
  | {
      readonly type: 'volume'
      /** Name of the volume, made when missing. @default none: a directory of the container's own, which goes with it */
      readonly source?: string
      readonly target: string
      readonly readonly?: boolean
      /** An empty volume does not get what the image has at the target. @default false */
      readonly noCopy?: boolean
      /** Only this directory or file of the volume, which must be there. */
      readonly subpath?: string
      /** Of the volume if it is made now; one that is there keeps its own. */
      readonly labels?: Readonly<Record<string, string>>
    }
  | {
      /** The files of an image, read-only. */
      readonly type: 'image'
      /** Reference or id; pulled when it is not here. */
      readonly source: string
      readonly target: string
      /** Only this directory or file of it. */
      readonly subpath?: string
    }
  | {
      readonly type: 'tmpfs'
      readonly target: string
      /** Bytes. @default half of the memory */
      readonly sizeBytes?: number
      /** Permission bits. @default 0o1777 */
      readonly mode?: number
      /** Further mount options, such as `noexec`. */
      readonly options?: readonly string[]
    }

/** A container's place on a network. */
export interface ContainerNetwork {
  /** Name or id; `bridge` is the default network. */
  readonly network: string
  /** Names under which the containers of that network find this one, beside its own. */
  readonly aliases?: readonly string[]
  /** A certain IPv4 address of the subnet. @default a free one */
  readonly address?: string
  /** A certain address of the network's IPv6 subnet. @default a free one, if the network has IPv6 */
  readonly ipv6Address?: string
}

/** A host device that the container may use. */
export interface Device {
  readonly host: string
  /** @default the host path */
  readonly container?: string
  /** Any of r, w, m. @default 'rwm' */
  readonly permissions?: string
}

/** A limit of the kernel for each process: see setrlimit(2). */
export interface Ulimit {
  readonly soft: number
  /** @default the soft limit */
  readonly hard?: number
}

/** Limits that control groups enforce. A limit whose controller is missing fails the start and says so. */
export interface ResourceLimits {
  /** Bytes; at least 512 KiB. */
  readonly memoryBytes?: number
  /** Bytes of memory and swap together; -1 = unlimited swap. @default twice the memory */
  readonly memorySwapBytes?: number
  readonly memoryReservationBytes?: number
  /** Processors, such as 1.5. */
  readonly cpus?: number
  /** Relative weight, 2 to 262144. @default 1024 */
  readonly cpuShares?: number
  /** Processors by number, such as `0-2,5`. */
  readonly cpusetCpus?: string
  readonly cpusetMems?: string
  /** Processes and threads; -1 = unlimited. */
  readonly pids?: number
  /** 10 to 1000. */
  readonly blkioWeight?: number
  /**
   * Most that it may write to its root file system, in bytes; more is `no space left on device`. What it writes is in memory then, and counts
   * there. At least 64 KiB.
   */
  readonly diskBytes?: number
  readonly deviceReadBps?: readonly DeviceRate[]
  readonly deviceWriteBps?: readonly DeviceRate[]
  readonly deviceReadIops?: readonly DeviceRate[]
  readonly deviceWriteIops?: readonly DeviceRate[]
}

/** How much of a device may be used in a second. */
export interface DeviceRate {
  /** Block device, such as `/dev/sda`. */
  readonly path: string
  /** Bytes or operations a second. */
  readonly rate: number
}

/** A Docker-format seccomp profile (the JSON of `--security-opt seccomp=profile.json`), parsed. */
export interface SeccompProfile {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number
  readonly architectures?: readonly string[]
  readonly archMap?: readonly { architecture: string; subArchitectures: readonly string[] | null }[]
  readonly syscalls?: readonly SeccompRule[]
}

/** System calls and what becomes of them, as in Docker’s profiles. */
export interface SeccompRule {
  readonly names?: readonly string[]
  readonly name?: string
  readonly action: string
  readonly errnoRet?: number
  readonly args?: readonly { index: number; value: number; valueTwo?: number; op: string }[] | null
  readonly includes?: { caps?: readonly string[]; arches?: readonly string[]; minKernel?: string }
  readonly excludes?: { caps?: readonly string[]; arches?: readonly string[]; minKernel?: string }
}

/** `private`, the host's, or that of another container given by its id or name. */
export type NamespaceMode = 'private' | 'host' | `container:${string}`

/** What is common to a container's first process and to `exec`. */
export interface ProcessOptions {
  /** Program and arguments; never empty. The program is looked up in the container's PATH. */
  readonly command: readonly string[]
  /** Added to the default PATH, HOME, HOSTNAME (and TERM with a terminal). */
  readonly env?: Readonly<Record<string, string>>
  /** `name`, `uid`, `name:group`, `uid:gid`, looked up inside the root. @default '0' */
  readonly user?: string
  /** Further groups, by name or number. */
  readonly groups?: readonly string[]
  /** Absolute path inside the container; must exist. @default '/' */
  readonly workdir?: string
  /** A terminal: stdout and stderr become one stream. @default false */
  readonly tty?: boolean | { readonly columns: number; readonly rows: number }
  /** Keep stdin open for `attach`. @default false */
  readonly stdin?: boolean
  /** All capabilities, all devices, no seccomp, nothing masked. @default false */
  readonly privileged?: boolean
}

/** Whether an image comes from the registry: when it is not in the store, each time, or not at all. */
export type PullPolicy = 'missing' | 'always' | 'never'

/** What a container had written, kept as a layer: see `Container.snapshot` and `Engine.prepared`. */
export interface Snapshot extends AsyncDisposable {
  /** `undefined`: it goes with its session. */
  readonly key: string | undefined
  /** Directories, uppermost first: what was written, and the layers below. @internal */
  readonly layers: readonly string[]
  /** Of the container that it was made of, if that is known. @internal */
  readonly options: ContainerOptions | undefined
  /** Removes it, unless a container uses it. One without a key goes with its session at the latest. */
  remove(): Promise<void>
}

/**
 * A container: of an image, or of a root file system. What is said here comes before what the image says, as with `docker run`:
 * `env` and `labels` by name, everything else as a whole.
 */
export interface ContainerOptions extends Omit<ProcessOptions, 'command'> {
  /** Reference (`postgres:16`), id or beginning of an id of an image. What is in the store is used; see `pull`. */
  readonly image?: string
  /** Instead of an image. */
  readonly rootfs?: RootFilesystem
  /**
   * Begins with what the container of this snapshot had written. All options are that container's, except for the name and what is given
   * here; a prepared state with a key knows only its image.
   */
  readonly from?: Snapshot
  /**
   * Program and arguments; with an entrypoint, the arguments behind it.
   *
   * @default the image's command, unless `entrypoint` is given
   */
  readonly command?: readonly string[]
  /** What stands before the command. `[]` = nothing, also where the image says otherwise. @default the image's */
  readonly entrypoint?: readonly string[]
  /** @default 'missing' */
  readonly pull?: PullPolicy
  /** Platform of the image, such as `linux/arm64`. @default the one in the store, else the host's */
  readonly platform?: string
  /** Ports on which the program listens, such as 80 or '53/udp'; publishes nothing. The image's are added. */
  readonly exposedPorts?: readonly (number | string)[]
  /** Unique in the engine. @default two words made up, such as `brisk_heron` */
  readonly name?: string
  readonly hostname?: string
  readonly domainname?: string
  readonly labels?: Readonly<Record<string, string>>
  /** Create `workdir` when missing. @default true with an image, else false */
  readonly createWorkdir?: boolean
  /** Remove everything at exit. @default true */
  readonly remove?: boolean
  /** Where writes go: `disk`, or `memory` (lost with the container either way). @default 'disk' */
  readonly scratch?: 'disk' | 'memory'
  readonly readonlyRootfs?: boolean
  readonly mounts?: readonly Mount[]
  /** Shorthand: path → mount options, as `docker run --tmpfs`. */
  readonly tmpfs?: Readonly<Record<string, string>>
  /** The mounts and volumes of other containers, in the same places: names or ids, with `:ro` read-only. Mounts of its own come before. */
  readonly volumesFrom?: readonly (string | { readonly container: string; readonly readonly?: boolean })[]
  /** /dev/shm in bytes. @default 67108864 */
  readonly shmSizeBytes?: number
  readonly capAdd?: readonly string[]
  readonly capDrop?: readonly string[]
  /** @default 'default' */
  readonly seccomp?: 'default' | 'unconfined' | SeccompProfile
  /** @default false, as Docker */
  readonly noNewPrivileges?: boolean
  readonly devices?: readonly Device[]
  readonly sysctls?: Readonly<Record<string, string>>
  readonly ulimits?: Readonly<Record<string, number | Ulimit>>
  readonly limits?: ResourceLimits
  /** A PID 1 of ours that reaps and passes signals on. @default false */
  readonly init?: boolean
  /** Name (`SIGINT`, `INT`) or number. @default 'SIGTERM' */
  readonly stopSignal?: string | number
  /** Milliseconds from the stop signal to SIGKILL; -1 waits for ever. @default 10000 */
  readonly stopTimeoutMs?: number
  readonly pid?: NamespaceMode
  readonly ipc?: NamespaceMode
  readonly uts?: 'private' | 'host'
  /** @default 'bridge' */
  readonly network?: 'bridge' | 'none' | 'host' | `container:${string}`
  /**
   * Networks of `engine.networks`, on each of which it has an address and finds the other containers. The first that is not internal is the way
   * out.
   *
   * @default the default network, `bridge`
   */
  readonly networks?: readonly (string | ContainerNetwork)[]
  /**
   * TCP ports of this machine that it may reach, also where only its loopback listens: at `host.mayfly.internal`,
   * `host.docker.internal` or `host.testcontainers.internal`, which is the gateway. `true`: all of them.
   *
   * @default none
   */
  readonly hostAccess?: { readonly ports: readonly number[] | true }
  /** Further names under which containers of this session find this one. */
  readonly networkAliases?: readonly string[]
  readonly ports?: readonly (number | PublishedPort)[]
  /** Lines for /etc/hosts: name → address, or addresses. */
  readonly extraHosts?: Readonly<Record<string, string | readonly string[]>>
  /** Name servers instead of the session's own. */
  readonly dns?: readonly string[]
  readonly dnsSearch?: readonly string[]
  readonly dnsOptions?: readonly string[]
  readonly oomScoreAdj?: number
  /**
   * Milliseconds by which its clocks that count from the boot (CLOCK_MONOTONIC, CLOCK_BOOTTIME: uptimes, timeouts) are ahead of this machine's,
   * or behind. The time of day cannot be shifted: Linux has one for all. Timers run as fast as ever.
   *
   * @default 0
   */
  readonly clockOffsetMs?: number
  /** Bytes of output kept; the oldest goes first. @default 33554432 */
  readonly logBytes?: number
}

/** A program to be run in a container that runs. */
export type ExecOptions = ProcessOptions
