/**
 * Options past the door: what `validate.ts` makes of {@link ContainerOptions} and {@link ProcessOptions}.
 *
 * Every field is present, checked and in its one normal form (`CAP_KILL`, not `kill`; `{ soft, hard }`, not a number), and
 * everything is frozen. `undefined` is left only where the engine, not the caller, knows the value.
 */

import type { ImageConfig } from '../image/config.js'
import type { NamespaceMode, ResourceLimits, RootFilesystem, SeccompProfile } from '../options.js'

/** A terminal's size in character cells. */
export interface TerminalSize {
  readonly columns: number
  readonly rows: number
}

/** What a container's first process and an exec have in common. */
export interface CompleteProcessOptions {
  /** Program and arguments; of a container, the entrypoint included. */
  readonly command: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly groups: readonly string[]
  /** `false`, or a terminal of this size (80 by 24 unless told). */
  readonly tty: false | TerminalSize
  readonly stdin: boolean
  readonly privileged: boolean
}

/** Options of `exec`. A field that is `undefined` is taken from the container. */
export interface CompleteExecOptions extends CompleteProcessOptions {
  readonly user: string | undefined
  readonly workdir: string | undefined
}

/** A port as the warden's `publish` key has it. */
export interface CompletePort {
  readonly container: number
  /** 0 = a free one. */
  readonly host: number
  readonly protocol: 'tcp' | 'udp'
  /** `*` = 127.0.0.1 and ::1. */
  readonly hostIp: string
}

/** A bind mount, a named volume, an image, a directory of another container, or a temporary file system. Paths are absolute and without `.` and `..`. */
export type CompleteMount =
  | {
      readonly type: 'bind'
      readonly source: string
      readonly target: string
      readonly readonly: boolean
      readonly propagation: 'rprivate' | 'private' | 'rslave' | 'slave'
      /** Makes it, a directory, when it is missing. */
      readonly createSource: boolean
      readonly recursive: boolean
    }
  | {
      readonly type: 'volume'
      readonly source: string
      readonly target: string
      readonly readonly: boolean
      readonly noCopy: boolean
      /** Relative, without `..`. */
      readonly subpath: string | undefined
      /** For a volume that has to be made. */
      readonly labels: Readonly<Record<string, string>>
    }
  | {
      readonly type: 'image'
      readonly source: string
      readonly target: string
      readonly subpath: string | undefined
      /** Directories, uppermost first, and the image's id: known when it has been found, else empty. */
      readonly layers: readonly string[]
      readonly id: string
    }
  | {
      /** A directory of another container, by its id. */
      readonly type: 'shared'
      readonly container: string
      readonly source: string
      readonly target: string
      readonly readonly: boolean
    }
  | {
      readonly type: 'tmpfs'
      readonly target: string
      /** Such as `nosuid`. */
      readonly flags: readonly string[]
      /** Such as `size=65536k`. */
      readonly data: readonly string[]
    }

/** A container whose mounts another one has, too. */
export interface CompleteVolumesFrom {
  /** Name or id. */
  readonly container: string
  readonly readonly: boolean
}

/** A container's place on a network. */
export interface CompleteAttachment {
  /** Name or id. */
  readonly network: string
  readonly aliases: readonly string[]
  readonly address: string | undefined
  readonly ipv6Address: string | undefined
}

/** A device that the caller named. */
export interface CompleteDevice {
  readonly host: string
  readonly container: string
  /** Letters of `rwm`, each at most once. */
  readonly permissions: string
}

/** Soft and hard limit; -1 = none. */
export interface CompleteUlimit {
  readonly soft: number
  readonly hard: number
}

/** A port that the program listens on. */
export interface ExposedPort {
  readonly port: number
  readonly protocol: 'tcp' | 'udp' | 'sctp'
}

/** The image of a container. */
export interface ContainerImage {
  /** As the caller named it. */
  readonly reference: string
  /** `sha256:…`, the digest of its config. */
  readonly id: string
  /** `runtimeConfig` (image.ts) gives the part that says what runs, with what the caller said instead. */
  readonly config: ImageConfig
}

/** Options of a container. */
export interface CompleteContainerOptions extends CompleteProcessOptions {
  /** `undefined` with a root file system of the caller's. */
  readonly image: ContainerImage | undefined
  readonly rootfs: RootFilesystem
  /** The first words of `command`: what is not of the command's as Docker has it. */
  readonly entrypoint: readonly string[]
  /** Without doubles, in order. */
  readonly exposedPorts: readonly ExposedPort[]
  /** Directories, the image's and others, that are to be there and writable. */
  readonly volumes: readonly string[]
  /** Those of them that the caller asked for. */
  readonly ownVolumes: readonly string[]
  /** `undefined`: the engine makes one up. */
  readonly name: string | undefined
  /** `undefined`: the first 12 digits of the id. */
  readonly hostname: string | undefined
  readonly domainname: string | undefined
  readonly user: string
  readonly workdir: string
  readonly createWorkdir: boolean
  readonly labels: Readonly<Record<string, string>>
  readonly remove: boolean
  readonly scratch: 'disk' | 'memory'
  readonly readonlyRootfs: boolean
  /** The shorthand `tmpfs` included. */
  readonly mounts: readonly CompleteMount[]
  readonly volumesFrom: readonly CompleteVolumesFrom[]
  readonly shmSizeBytes: number
  /** `CAP_…` names or `ALL`. */
  readonly capAdd: readonly string[]
  readonly capDrop: readonly string[]
  readonly seccomp: 'default' | 'unconfined' | SeccompProfile
  readonly noNewPrivileges: boolean
  readonly devices: readonly CompleteDevice[]
  readonly sysctls: Readonly<Record<string, string>>
  readonly ulimits: Readonly<Record<string, CompleteUlimit>>
  readonly limits: ResourceLimits
  readonly init: boolean
  /** Signal number. */
  readonly stopSignal: number
  /** -1 = for ever. */
  readonly stopTimeoutMs: number
  readonly pid: NamespaceMode
  readonly ipc: NamespaceMode
  readonly uts: 'private' | 'host'
  readonly network: 'bridge' | 'none' | 'host' | `container:${string}`
  /** Empty: the default network. */
  readonly networks: readonly CompleteAttachment[]
  /** `*` = every port. */
  readonly hostAccess: readonly (number | '*')[]
  readonly networkAliases: readonly string[]
  readonly ports: readonly CompletePort[]
  readonly extraHosts: Readonly<Record<string, readonly string[]>>
  readonly dns: readonly string[]
  readonly dnsSearch: readonly string[]
  readonly dnsOptions: readonly string[]
  readonly oomScoreAdj: number | undefined
  readonly clockOffsetMs: number
  readonly logBytes: number
}
