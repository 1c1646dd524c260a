/** What the planner must know of the host and of the session: plain data, so that a plan can be tested anywhere. */

/** A character or block device of the host. */
export interface HostDevice {
  /** Absolute path on the host. */
  readonly path: string
  readonly type: 'c' | 'b'
  readonly major: number
  readonly minor: number
  /** Permission bits. */
  readonly mode: number
}

/** Files and host name that containers in one network namespace share. Kept by the engine with each container. */
export interface NetworkIdentity {
  readonly hostname: string
  readonly domainname: string | undefined
  /** Contents of /etc/hosts and /etc/resolv.conf, `@ADDRESS@` and `@GATEWAY@` not yet replaced. */
  readonly hosts: string
  readonly resolvConf: string
}

/** A container of the session whose namespaces another one wants to join. */
export interface JoinedContainer {
  /** 64 hexadecimal digits. */
  readonly id: string
  /** What its plan said of its network. */
  readonly identity: NetworkIdentity
  /** Its address; '' if it has none. */
  readonly address: string
  /** Of its first network; '' if it has none. */
  readonly gateway: string
}

/** A network of the session. */
export interface NetworkFacts {
  readonly id: string
  readonly isInternal: boolean
}

/** The host, read once by `readHost()`. */
export interface HostFacts {
  /** `process.arch`. */
  readonly arch: 'x64' | 'arm64'
  /** `os.release()`, such as `6.18.5-cloud`. */
  readonly kernel: string
  /** Possible processors (/sys/devices/system/cpu/possible), as a count. */
  readonly cpus: number
  /** Capabilities that this process could hand on: its bounding set. */
  readonly capabilities: bigint
  /** Capabilities that this kernel has; in a user namespace of our own we have them all. */
  readonly kernelCapabilities: bigint
  /** There is swap, and control groups can count it. */
  readonly limitsSwap: boolean
  readonly hostname: string
  /** Contents of /etc/hosts and /etc/resolv.conf, '' when there is none. */
  readonly hosts: string
  readonly resolvConf: string
  /**
   * The device at a host path, or all devices below a directory (`/dev` for privileged containers; terminals and the console
   * left out). Empty when the path is neither.
   */
  hostDevices(path: string): readonly HostDevice[]
}

/** Host and session as the planner sees them. */
export interface SessionFacts extends HostFacts {
  /** From the warden's ready event. */
  readonly rootless: boolean
  readonly cgroups: 'v1' | 'v2' | 'hybrid' | 'none'
  /** The container with this name, id or unambiguous start of an id. Throws NO_SUCH_CONTAINER. */
  container(reference: string): JoinedContainer
  /** The network with this name, id or unambiguous start of an id. Throws NO_SUCH_NETWORK, of the option that names it. */
  network(reference: string, field?: string): NetworkFacts
  /** Directory of the named volumes. */
  readonly volumes: string
}
