/** The flags of `mayfly run`: docker's, and what they mean as {@link ContainerOptions}. */
import { readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import type {
  ContainerOptions,
  Device,
  DeviceRate,
  NamespaceMode,
  PullPolicy,
  ResourceLimits,
  RootFilesystem,
  SeccompProfile,
} from '../engine/options.js'
import { repeatable } from './append.js'
import { NO, YES } from './boolean-flags.js'
import { parseVariable, readEnvironmentFile } from './environment.js'
import { parseMount, parseTmpfs, parseVolume } from './mount.js'
import { defined, optional, pair, parseHost, parseUlimit } from './notation.js'
import { parsePort } from './port.js'
import { parseNumber, parseSize, parseSizeOrUnlimited } from './size.js'
import { UsageError } from './usage-error.js'

/** What commander makes of the command line: texts, to be understood in {@link containerOptions}. */
export interface RunFlags {
  readonly addHost?: readonly string[]
  readonly blkioWeight?: string
  readonly capAdd?: readonly string[]
  readonly capDrop?: readonly string[]
  readonly commit?: string
  readonly commitChange?: readonly string[]
  readonly cpuShares?: string
  readonly cpus?: string
  readonly cpusetCpus?: string
  readonly cpusetMems?: string
  readonly detach?: boolean
  readonly device?: readonly string[]
  readonly deviceReadBps?: readonly string[]
  readonly deviceReadIops?: readonly string[]
  readonly deviceWriteBps?: readonly string[]
  readonly deviceWriteIops?: readonly string[]
  readonly dns?: readonly string[]
  readonly dnsOption?: readonly string[]
  readonly dnsSearch?: readonly string[]
  readonly domainname?: string
  readonly entrypoint?: string
  readonly env?: readonly string[]
  readonly envFile?: readonly string[]
  readonly expose?: readonly string[]
  readonly groupAdd?: readonly string[]
  readonly hostname?: string
  readonly init?: boolean
  readonly interactive?: boolean
  readonly ipc?: string
  readonly label?: readonly string[]
  readonly memory?: string
  readonly memoryReservation?: string
  readonly memorySwap?: string
  readonly mount?: readonly string[]
  readonly name?: string
  readonly network?: string
  readonly networkAlias?: readonly string[]
  readonly oomScoreAdj?: string
  readonly pid?: string
  readonly pidsLimit?: string
  readonly platform?: string
  readonly privileged?: boolean
  readonly publish?: readonly string[]
  readonly pull?: PullPolicy
  readonly quiet?: boolean
  readonly readOnly?: boolean
  readonly rootfs?: string
  readonly securityOpt?: readonly string[]
  readonly shmSize?: string
  readonly stopSignal?: string
  readonly stopTimeout?: string
  readonly sysctl?: readonly string[]
  readonly tmpfs?: readonly string[]
  readonly tty?: boolean
  readonly ulimit?: readonly string[]
  readonly user?: string
  readonly uts?: string
  readonly storageOpt?: readonly string[]
  readonly volume?: readonly string[]
  readonly volumesFrom?: readonly string[]
  readonly workdir?: string
}

/** Adds the flags to a command. */
export function declareRunFlags(command: Command): Command {
  const many = (flags: string, description: string) => repeatable(command, flags, description)
  many('--add-host <name:address>', 'line for /etc/hosts')
  command.option('--blkio-weight <weight>', 'relative weight of block I/O, 10 to 1000')
  many('--cap-add <capability>', 'add a Linux capability')
  many('--cap-drop <capability>', 'drop a Linux capability')
  command.option('--commit <name>', 'keep what the command changes as an image of this name, however it ends')
  many('--commit-change <instruction>', 'Dockerfile instruction for that image, such as \'CMD ["serve"]\'')
  command.option('-c, --cpu-shares <weight>', 'relative weight of processor time')
  command.option('--cpus <number>', 'processors, such as 1.5')
  command.option('--cpuset-cpus <list>', 'processors by number, such as 0-2,5')
  command.option('--cpuset-mems <list>', 'memory nodes by number')
  command.option('-d, --detach', 'not available: containers end with their command')
  many('--device <host[:container[:rwm]]>', 'host device to use')
  many('--device-read-bps <device:rate>', 'bytes a second read from a device')
  many('--device-read-iops <device:rate>', 'reads a second from a device')
  many('--device-write-bps <device:rate>', 'bytes a second written to a device')
  many('--device-write-iops <device:rate>', 'writes a second to a device')
  many('--dns <address>', 'name server')
  many('--dns-option <option>', 'option for /etc/resolv.conf')
  many('--dns-search <domain>', 'search domain')
  command.option('--domainname <name>', 'NIS domain name')
  command.option('--entrypoint <program>', 'program; the other words are its arguments')
  many('-e, --env <name=value>', 'environment variable; a name alone passes yours on')
  many('--env-file <file>', 'file of environment variables')
  many('--expose <port[/protocol]>', 'port that the program listens on')
  many('--group-add <group>', 'further group')
  command.option('-h, --hostname <name>', 'host name')
  command.option('--init', 'a PID 1 that reaps processes and passes signals on')
  command.option('-i, --interactive', 'pass stdin on')
  command.option('--ipc <mode>', 'private, host or container:NAME')
  many('-l, --label <key=value>', 'label')
  command.option('-m, --memory <size>', 'memory limit, such as 64m')
  command.option('--memory-reservation <size>', 'memory the kernel tries to stay below when it is short')
  command.option('--memory-swap <size>', 'memory and swap together; -1 for unlimited swap')
  many('--mount <fields>', 'type=volume|bind|image|tmpfs,source=…,target=…[,readonly]')
  command.option('--name <name>', 'name of the container')
  command.option('--network <mode>', 'bridge, none, host or container:NAME')
  command.addOption(new Option('--net <mode>').hideHelp())
  many('--network-alias <name>', 'further name on the network')
  command.option('--oom-score-adj <number>', 'preference of the out-of-memory killer, -1000 to 1000')
  command.option('--pid <mode>', 'private, host or container:NAME')
  command.option('--pids-limit <number>', 'processes and threads; -1 for unlimited')
  command.option('--platform <platform>', 'of the image, such as linux/arm64')
  command.option('--privileged', 'all capabilities and devices, nothing masked')
  many('-p, --publish <port>', 'port on the host: [ip:][host port:]port[/udp]')
  command.addOption(
    new Option('--pull <when>', 'ask the registry for the image').choices(['missing', 'always', 'never']),
  )
  command.option('-q, --quiet', 'no progress of a pull')
  command.option('--read-only', 'root file system read-only')
  command.option('--rm', 'remove the container at its exit: always so')
  command.option('--rootfs <dir|tar>', 'instead of an image: a directory, or a tar file (plain or gzip)')
  many('--security-opt <option>', 'seccomp=unconfined, seccomp=FILE or no-new-privileges')
  command.option('--shm-size <size>', 'size of /dev/shm')
  command.option('--stop-signal <signal>', 'signal that asks it to end')
  command.option('--stop-timeout <seconds>', 'time from that signal to SIGKILL')
  many('--storage-opt <size=bytes>', 'most that it may write to its root file system, such as size=1g')
  many('--sysctl <name=value>', 'kernel parameter')
  many('--tmpfs <path[:options]>', 'file system in memory')
  command.option('-t, --tty', 'give it a terminal')
  many('--ulimit <name=soft[:hard]>', 'resource limit')
  command.option('-u, --user <user[:group]>', 'user, looked up inside')
  command.option('--uts <mode>', 'private or host')
  many('-v, --volume <[source:]container[:ro]>', 'host path, volume by name, or a path alone: a volume of its own')
  many('--volumes-from <container[:ro]>', 'not available: other containers end with their commands')
  command.option('-w, --workdir <directory>', 'working directory')
  return command
}

/** What the command line asks for. Throws {@link UsageError}; the engine checks the rest. */
export function containerOptions(
  given: RunFlags & { readonly net?: string },
  words: readonly string[],
): ContainerOptions {
  const flags = withoutEmpty(given)
  if (flags.detach) {
    throw new UsageError(
      '--detach is not available: a container ends with its command',
      'put the command itself in the background',
    )
  }
  if (flags.volumesFrom) {
    throw new UsageError(
      '--volumes-from is not available: a container ends with its command, and there is none to take volumes from',
      'give both the same volume by name: --volume NAME:PATH',
    )
  }
  const security = securityOptions(flags.securityOpt ?? [])
  const network = flags.network ?? flags.net
  const size = { columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 }
  return defined<ContainerOptions>({
    ...whatToRun(flags, words),
    capAdd: flags.capAdd,
    capDrop: flags.capDrop,
    createWorkdir: flags.workdir === undefined ? undefined : true,
    devices: flags.device?.map(parseDevice),
    dns: flags.dns,
    dnsOptions: flags.dnsOption,
    dnsSearch: flags.dnsSearch,
    domainname: flags.domainname,
    env: environment(flags),
    exposedPorts: flags.expose,
    extraHosts: flags.addHost && extraHosts(flags.addHost),
    groups: flags.groupAdd,
    hostname: flags.hostname,
    init: flags.init,
    ipc: flags.ipc as NamespaceMode | undefined,
    labels: flags.label && Object.fromEntries(flags.label.map((label) => pair('--label', label, ''))),
    limits: limits(flags),
    mounts: [
      ...(flags.volume ?? []).map((text) => parseVolume(text)),
      ...(flags.mount ?? []).map((text) => parseMount(text)),
    ],
    name: flags.name,
    network: (network === 'default' ? 'bridge' : network) as ContainerOptions['network'] | undefined,
    networkAliases: flags.networkAlias,
    noNewPrivileges: security.noNewPrivileges,
    oomScoreAdj: optional(flags.oomScoreAdj, (text) => parseNumber('--oom-score-adj', text)),
    platform: flags.platform,
    pid: flags.pid as NamespaceMode | undefined,
    ports: flags.publish?.flatMap(parsePort),
    privileged: flags.privileged,
    pull: flags.pull,
    readonlyRootfs: flags.readOnly,
    seccomp: security.seccomp,
    shmSizeBytes: optional(flags.shmSize, (text) => parseSize('--shm-size', text)),
    stdin: flags.interactive,
    stopSignal: flags.stopSignal,
    stopTimeoutMs: optional(flags.stopTimeout, stopTimeout),
    sysctls: flags.sysctl && Object.fromEntries(flags.sysctl.map((text) => pair('--sysctl', text))),
    tmpfs: flags.tmpfs && Object.fromEntries(flags.tmpfs.map(parseTmpfs)),
    tty: flags.tty ? size : undefined,
    ulimits: flags.ulimit && Object.fromEntries(flags.ulimit.map(parseUlimit)),
    user: flags.user,
    uts: flags.uts as 'private' | 'host' | undefined,
    workdir: flags.workdir,
  })
}

/** Flags that, without a text, are as if they had not been given: what scripts write with a variable that is not set, as docker takes it. */
// biome-ignore format: a list of words
const MAY_BE_EMPTY: readonly (keyof RunFlags)[] = [
  'cpusetCpus', 'cpusetMems', 'domainname', 'hostname', 'ipc', 'name', 'network', 'pid',
  'platform', 'stopSignal', 'user', 'uts', 'workdir',
]
/** And those of which 0 means that there is no limit of its own. */
// biome-ignore format: a list of words
const MAY_BE_ZERO: readonly (keyof RunFlags)[] = [
  'blkioWeight', 'cpuShares', 'cpus', 'memory', 'memoryReservation', 'memorySwap', 'pidsLimit', 'shmSize',
]

function withoutEmpty<Flags extends RunFlags>(given: Flags): Flags {
  const isNone = ([name, value]: [string, unknown]) =>
    (value === '' && (MAY_BE_EMPTY as readonly string[]).includes(name)) ||
    (value === '0' && (MAY_BE_ZERO as readonly string[]).includes(name))
  return Object.fromEntries(Object.entries(given).filter((flag) => !isNone(flag))) as Flags
}

type Subject = Pick<ContainerOptions, 'image' | 'rootfs' | 'entrypoint' | 'command'>

/** With an image, the first word is its name; an empty entrypoint stands for none, as with docker. */
function whatToRun({ rootfs, entrypoint }: RunFlags, words: readonly string[]): Subject {
  if (rootfs !== undefined) {
    const command = entrypoint ? [entrypoint, ...words] : words
    if (command.length === 0) {
      throw new UsageError('The command is missing', 'mayfly run --rootfs DIR|TAR COMMAND [ARGUMENT…]')
    }
    return { rootfs: rootFilesystem(rootfs), command }
  }
  const [image, ...command] = words
  if (!image) {
    throw new UsageError('Nothing to run', 'name an image: mayfly run IMAGE [COMMAND] [ARGUMENT…], or --rootfs DIR|TAR')
  }
  return {
    image,
    ...(entrypoint === undefined ? {} : { entrypoint: entrypoint === '' ? [] : [entrypoint] }),
    ...(command.length > 0 ? { command } : {}),
  }
}

function rootFilesystem(path: string): RootFilesystem {
  const absolute = resolve(path)
  // What does not exist is the engine's to tell.
  return statSync(absolute, { throwIfNoEntry: false })?.isFile() ? { tar: absolute } : { directory: absolute }
}

/** A name that is given twice has both addresses, as with docker. */
function extraHosts(texts: readonly string[]): Record<string, readonly string[]> {
  const all = new Map<string, string[]>()
  for (const [name, address] of texts.map(parseHost)) all.set(name, [...(all.get(name) ?? []), address])
  return Object.fromEntries(all)
}

function environment(flags: RunFlags): Record<string, string> {
  const fromFiles = (flags.envFile ?? []).flatMap(readEnvironmentFile)
  const fromFlags = (flags.env ?? [])
    .map((text) => parseVariable('--env', text))
    .filter((variable) => variable !== undefined)
  return Object.fromEntries([...fromFiles, ...fromFlags])
}

function limits(flags: RunFlags): ResourceLimits | undefined {
  const disk = flags.storageOpt?.map(diskQuota).at(-1)
  const rates = (flag: string, texts: readonly string[] | undefined, parse: (flag: string, text: string) => number) =>
    texts?.map((text) => parseRate(flag, text, parse))
  const limits = defined<ResourceLimits>({
    diskBytes: disk,
    memoryBytes: optional(flags.memory, (text) => parseSize('--memory', text)),
    memoryReservationBytes: optional(flags.memoryReservation, (text) => parseSize('--memory-reservation', text)),
    memorySwapBytes: optional(flags.memorySwap, (text) => parseSizeOrUnlimited('--memory-swap', text)),
    cpus: optional(flags.cpus, (text) => parseNumber('--cpus', text, { fraction: true })),
    cpuShares: optional(flags.cpuShares, (text) => parseNumber('--cpu-shares', text)),
    cpusetCpus: flags.cpusetCpus,
    cpusetMems: flags.cpusetMems,
    pids: optional(flags.pidsLimit, (text) => parseNumber('--pids-limit', text)),
    blkioWeight: optional(flags.blkioWeight, (text) => parseNumber('--blkio-weight', text)),
    deviceReadBps: rates('--device-read-bps', flags.deviceReadBps, parseSize),
    deviceWriteBps: rates('--device-write-bps', flags.deviceWriteBps, parseSize),
    deviceReadIops: rates('--device-read-iops', flags.deviceReadIops, parseNumber),
    deviceWriteIops: rates('--device-write-iops', flags.deviceWriteIops, parseNumber),
  })
  return Object.keys(limits).length > 0 ? limits : undefined
}

function diskQuota(text: string): number {
  const [name, value] = pair('--storage-opt', text)
  if (name !== 'size') throw new UsageError(`--storage-opt ${name} is not known`, 'size is, such as size=1g')
  return parseSize('--storage-opt size', value)
}

function parseRate(flag: string, text: string, parse: (flag: string, text: string) => number): DeviceRate {
  const colon = text.lastIndexOf(':')
  if (colon < 1) throw new UsageError(`${flag} must be device:rate, such as /dev/sda:1mb, not "${text}"`)
  return { path: text.slice(0, colon), rate: parse(flag, text.slice(colon + 1)) }
}

function parseDevice(text: string): Device {
  const [host = '', second, third, ...rest] = text.split(':')
  const isPermissions = (word: string) => /^[rwm]{1,3}$/.test(word)
  const container = second !== undefined && !(third === undefined && isPermissions(second)) ? second : undefined
  const permissions = third ?? (container === undefined ? second : undefined)
  if (!host || rest.length > 0 || (permissions !== undefined && !isPermissions(permissions))) {
    throw new UsageError(`--device must be host[:container[:rwm]], not "${text}"`)
  }
  return defined<Device>({ host, container, permissions })
}

function stopTimeout(text: string): number {
  const seconds = parseNumber('--stop-timeout', text)
  return seconds === -1 ? -1 : seconds * 1000
}

interface SecurityOptions {
  readonly seccomp?: 'unconfined' | SeccompProfile
  readonly noNewPrivileges?: boolean
}

function securityOptions(options: readonly string[]): SecurityOptions {
  let result: SecurityOptions = {}
  for (const option of options) {
    const [, key = '', value] = /^([^=:]+)(?:[=:](.*))?$/s.exec(option) ?? []
    if (key === 'no-new-privileges' && (value === undefined || YES.test(value) || NO.test(value)))
      result = { ...result, noNewPrivileges: value === undefined || YES.test(value) }
    else if (key === 'seccomp' && value === 'unconfined') result = { ...result, seccomp: 'unconfined' }
    else if (key === 'seccomp' && value) result = { ...result, seccomp: readProfile(value) }
    else if (!((key === 'apparmor' || key === 'label') && value !== undefined)) {
      // apparmor and label change nothing: mayfly sets no such label in the first place.
      throw new UsageError(
        `--security-opt "${option}" is not known`,
        'seccomp=unconfined, seccomp=FILE and no-new-privileges are',
      )
    }
  }
  return result
}

function readProfile(path: string): SeccompProfile {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as SeccompProfile
  } catch (error) {
    const why = error instanceof SyntaxError ? 'not JSON' : (error as NodeJS.ErrnoException).code
    throw new UsageError(`--security-opt seccomp=${path}: ${why}`)
  }
}
