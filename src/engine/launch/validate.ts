/**
 * The door for options: everything that a caller hands in is checked here, once, and completed with the defaults. Behind it every
 * field is present and true (complete.ts), so that planning can be pure and the warden gets nothing it must argue with.
 *
 * What only the machine can tell (does the path exist, is the port free, is there such a user in the image) is not asked here.
 */

import { parsePlatform } from '../image/platform.js'
import type { ContainerOptions, SeccompProfile } from '../options.js'
import { address, attachment, DEFAULT_NETWORK, domain, referenceName } from './attachment.js'
import { normalizeCapability } from './capabilities.js'
import {
  boolean,
  type Check,
  defaulted,
  integer,
  list,
  member,
  number,
  oneOf,
  optional,
  pattern,
  record,
  refuse,
  refuseUnknown,
  refuseUnseen,
  secret,
  shape,
  sparse,
  string,
} from './check.js'
import type {
  CompleteContainerOptions,
  CompleteDevice,
  CompleteExecOptions,
  CompletePort,
  CompleteProcessOptions,
  CompleteUlimit,
  ExposedPort,
  TerminalSize,
} from './complete.js'
import { type ImageFacts, withImage } from './image.js'
import { absolutePath, checkMountTargets, mount, tmpfsShorthand, volumesFrom } from './mounts.js'
import { checkProfile } from './seccomp/rules.js'
import { parseSignal } from './signal.js'

export { parseSignal }

/**
 * Checks and completes the options of a container. The result is new and frozen; `options` stays as it is. With `image` in
 * them, that image must have been found.
 *
 * Throws {@link MayflyError}: INVALID_OPTION, ARGUMENTS_TOO_LONG, or SYSCTL_REFUSED for a setting that is not the container's own.
 * `field` and `value` say which; values of `env` and of `command` are never shown.
 */
export function validateContainer(options: unknown, image?: ImageFacts): CompleteContainerOptions {
  const isObject = typeof options === 'object' && options !== null
  const whole = image && isObject ? withImage(options as ContainerOptions, image) : options
  const { tmpfs, pull: _pull, platform: _platform, ...given } = containerShape(whole, '')
  const isOfImage = given.image !== undefined
  if (isOfImage && given.rootfs !== undefined) {
    refuse('image', given.image, 'expected an image or a root file system, not both', 'leave out `rootfs`')
  }
  if (!isOfImage && given.rootfs === undefined) {
    refuse('rootfs', undefined, 'expected { directory }, { layers } or { tar }', 'or name an `image` instead')
  }
  for (const option of isOfImage ? [] : (['pull', 'platform'] as const)) {
    const value = (options as ContainerOptions)[option]
    if (value !== undefined) refuse(option, value, 'is of use only with `image`')
  }
  const all = [...given.mounts, ...tmpfs]
  checkMountTargets(all)
  const mounts = all.filter((one) => one.type !== 'anonymous')
  const anonymous = all.flatMap((one) => (one.type === 'anonymous' ? [one.target] : []))
  const complete = {
    ...given,
    image: image && Object.freeze({ reference: image.reference, id: image.id, config: image.config }),
    rootfs: given.rootfs ?? Object.freeze({ layers: image?.layers ?? EMPTY_LIST }),
    volumes: Object.freeze([...new Set([...(image?.defaults.volumes ?? []), ...anonymous])]),
    ownVolumes: Object.freeze(anonymous),
    command: Object.freeze([...given.entrypoint, ...(given.command ?? [])]),
    mounts: Object.freeze(mounts),
  }
  if (!isOfImage || image) checkCommand(given.entrypoint, given.command, image)
  checkSize(complete)
  checkTogether(complete)
  return Object.freeze(complete)
}

/**
 * Checks the options before their image is known, as far as that is possible: nothing is fetched for a container that cannot be.
 *
 * Throws as {@link validateContainer}.
 */
export function checkContainer(options: unknown): void {
  validateContainer(options)
}

/** Checks and completes the options of `exec`, as {@link validateContainer} does. */
export function validateExec(options: unknown): CompleteExecOptions {
  const complete = execShape(options, '')
  checkSize(complete)
  return complete
}

/** One string of argv or of the environment, its end included (MAX_ARG_STRLEN, 32 pages). */
const MAX_STRING_BYTES = 131_072
/** Strings and their pointers together: three quarters of _STK_LIM (exec.c), the bound whatever the stack's limit is. */
const MAX_TOTAL_BYTES = 6 * 1024 * 1024
/** The warden takes 65,536 words a request, two for each of these. */
const MAX_STRINGS = 30_000

const KIB = 1024
const UINT16_MAX = 65_535
/** 73 years: a quarter of what the kernel counts in nanoseconds. */
const MAX_CLOCK_MS = 73 * 365 * 86_400_000
const INT32_MAX = 2_147_483_647

// --- Process ---------------------------------------------------------------------------------------------------------------

const command: Check<readonly string[]> = (value, field) => {
  const words = list(secret)(value, field)
  if (words.length === 0) return refuseUnseen(field, 'expected a program and its arguments, got an empty array')
  if (words[0] === '') return refuseUnseen(`${field}[0]`, 'the name of the program is empty')
  return words
}

/** Of a container: entrypoint and command together are what a program and its arguments must be. */
function checkCommand(entrypoint: readonly string[], words: readonly string[] | undefined, image?: ImageFacts): void {
  if (entrypoint.length > 0) {
    if (entrypoint[0] === '') refuseUnseen('entrypoint[0]', 'the name of the program is empty')
  } else if (!image) command(words, 'command')
  else if (words?.length) command(words, 'command')
  else refuseUnseen('command', `image "${image.reference}" has no command of its own: say what to run`)
}

const environmentName: Check<string> = (name) => {
  // A name that is no name may be a whole assignment: only what stands before the '=' is shown.
  const shown = name as string
  const field = member('env', shown.split('=')[0]!)
  if (shown === '') return refuseUnseen('env', 'the name of a variable is empty')
  if (shown.includes('=')) return refuseUnseen(field, 'the name of a variable must not hold "="')
  if (shown.includes('\0')) return refuseUnseen(member('env', shown.replaceAll('\0', '?')), 'must not hold a NUL byte')
  return shown
}

/** `:` parts the user from the group, and a number is an id; all else that passwd(5) can hold may be a name. */
const USER_NAME = /^[^\d\s:+\-\p{Cc}][^\s:\p{Cc}]*$/u

function account(part: string, whole: string, kind: 'user' | 'group', field: string): string {
  if (/^\d+$/.test(part)) {
    const id = Number(part)
    return id <= INT32_MAX ? String(id) : refuse(field, whole, `expected a ${kind} id from 0 to ${INT32_MAX}`)
  }
  return USER_NAME.test(part) ? part : refuse(field, whole, `expected a ${kind}'s name or id`)
}

const user: Check<string> = (value, field) => {
  const text = string(value, field)
  const [name = '', group, ...rest] = text.split(':')
  if (rest.length > 0) return refuse(field, text, "expected 'user' or 'user:group'")
  // As Docker has it, `:group` is root with that group, and `user:` the user.
  const owner = name === '' && group !== undefined ? '0' : account(name, text, 'user', field)
  return group ? `${owner}:${account(group, text, 'group', field)}` : owner
}

const group: Check<string> = (value, field) => account(string(value, field), String(value), 'group', field)

/** Not normalized: with `..` after a symlink, only the kernel knows what it means. */
const workdir: Check<string> = (value, field) => {
  const text = string(value, field)
  return text.startsWith('/') ? text : refuse(field, text, 'expected an absolute path')
}

const terminalSize = shape({ columns: integer(1, UINT16_MAX), rows: integer(1, UINT16_MAX) })
const terminal: Check<false | TerminalSize> = (value, field) => {
  if (value === false) return false
  if (value === true) return Object.freeze({ columns: 80, rows: 24 })
  return typeof value === 'object' && value !== null
    ? terminalSize(value, field)
    : refuse(field, value, 'expected true, false or { columns, rows }')
}

const EMPTY_LIST: readonly never[] = Object.freeze([])
const EMPTY_RECORD: Readonly<Record<string, never>> = Object.freeze({})

const processFields = {
  env: defaulted(record(environmentName, secret), EMPTY_RECORD),
  groups: defaulted(list(group), EMPTY_LIST),
  tty: defaulted(terminal, false as const),
  stdin: defaulted(boolean, false),
  privileged: defaulted(boolean, false),
}

const execShape = shape({ command, ...processFields, user: optional(user), workdir: optional(workdir) })

/** Refuses what execve(2) would, while we still know whether it was the command or the environment. */
function checkSize({ command: argv, env }: CompleteProcessOptions): void {
  const words = Object.entries(env).map(
    ([name, value]) => [member('env', name), Buffer.byteLength(name) + 1 + Buffer.byteLength(value)] as const,
  )
  const programWords = argv.map((word, index) => [`command[${index}]`, Buffer.byteLength(word)] as const)
  for (const [field, bytes] of [...programWords, ...words]) {
    if (bytes + 1 > MAX_STRING_BYTES) {
      tooLong(
        field,
        `${bytes} bytes are too many: the kernel takes ${MAX_STRING_BYTES - 1} in one argument or variable`,
      )
    }
  }
  const sum = (list: readonly (readonly [string, number])[]) =>
    list.reduce((total, [, bytes]) => total + bytes + 1 + 8, 0)
  const [ofCommand, ofEnv] = [sum(programWords), sum(words)]
  const larger = ofEnv > ofCommand ? 'env' : 'command'
  if (ofCommand + ofEnv > MAX_TOTAL_BYTES) {
    tooLong(larger, `command and environment take ${ofCommand + ofEnv} bytes; the kernel takes ${MAX_TOTAL_BYTES}`)
  }
  if (words.length + programWords.length > MAX_STRINGS) {
    const more = words.length > programWords.length ? 'env' : 'command'
    tooLong(
      more,
      `${words.length + programWords.length} arguments and variables are too many; ${MAX_STRINGS} are possible`,
    )
  }
}

function tooLong(field: string, reason: string): never {
  return refuseUnseen(field, reason, 'pass large data as a file: a bind mount or a copy', 'ARGUMENTS_TOO_LONG')
}

// --- Root file system, mounts and devices ----------------------------------------------------------------------------------

const rootfsKinds = {
  directory: shape({ directory: absolutePath }),
  layers: shape({
    layers: (value, field) => {
      const layers = list(absolutePath)(value, field)
      if (layers.length === 0) return refuse(field, value, 'expected at least one directory')
      const twice = layers.findIndex((layer, index) => layers.indexOf(layer) < index)
      // overlayfs refuses it as well (ELOOP), without a word.
      return twice < 0 ? layers : refuse(`${field}[${twice}]`, layers[twice], 'expected each directory once')
    },
  }),
  tar: shape({ tar: absolutePath }),
}

const rootfs: Check<CompleteContainerOptions['rootfs']> = (value, field) => {
  const expected = 'expected { directory }, { layers } or { tar }'
  if (typeof value !== 'object' || value === null) return refuse(field, value, expected)
  const kinds = Object.keys(rootfsKinds) as (keyof typeof rootfsKinds)[]
  refuseUnknown(Object.keys(value), kinds, field)
  const chosen = kinds.filter((kind) => (value as Record<string, unknown>)[kind] !== undefined)
  if (chosen.length !== 1) return refuse(field, value, `${expected}, one of them`)
  return rootfsKinds[chosen[0]!](value, field)
}

const deviceShape = shape({
  host: absolutePath,
  container: optional(absolutePath),
  permissions: defaulted(pattern('letters of rwm', /^(?!.*(.).*\1)[rwm]{1,3}$/), 'rwm'),
})
const device: Check<CompleteDevice> = (value, field) => {
  const { host, container = host, permissions } = deviceShape(value, field)
  return Object.freeze({ host, container, permissions })
}

// --- Isolation -------------------------------------------------------------------------------------------------------------

const capability: Check<string> = (value, field) =>
  normalizeCapability(string(value, field)) ?? refuse(field, value, 'expected a capability such as NET_ADMIN, or ALL')

const filterShape = optional(
  sparse({ caps: optional(list(string)), arches: optional(list(string)), minKernel: optional(string) }),
)
/** Numbers' ranges, actions and operators are checked by `checkProfile`; `comment` is what Docker's files have. */
const profileShape = sparse({
  defaultAction: string,
  defaultErrnoRet: optional(integer(0, UINT16_MAX)),
  architectures: optional(list(string)),
  archMap: optional(
    nullable(list(shape({ architecture: string, subArchitectures: optional(nullable(list(string))) }))),
  ),
  flags: optional(list(string)),
  comment: optional(string),
  syscalls: optional(
    list(
      sparse({
        names: optional(nullable(list(string))),
        name: optional(string),
        action: string,
        errnoRet: optional(integer(0, UINT16_MAX)),
        args: optional(
          nullable(
            list(shape({ index: integer(0, 5), value: integer(0), valueTwo: defaulted(integer(0), 0), op: string })),
          ),
        ),
        includes: filterShape,
        excludes: filterShape,
        comment: optional(string),
      }),
    ),
  ),
})

/** JSON made by Go writes null for lists that are not there. */
function nullable<T>(check: Check<T>): Check<T | undefined> {
  return (value, field) => (value === null ? undefined : check(value, field))
}

const seccomp: Check<'default' | 'unconfined' | SeccompProfile> = (value, field) => {
  if (value === 'default' || value === 'unconfined') return value
  if (typeof value !== 'object' || value === null) {
    return refuse(field, value, "expected 'default', 'unconfined' or the parsed JSON of a profile")
  }
  const profile = profileShape(value, field) as SeccompProfile
  checkProfile(profile, field)
  return profile
}

/**
 * What belongs to the container's ipc, network and uts namespaces; all else would be the host's. Inside a part of the name a slash
 * stands for a dot (`eth0/1`, sysctl(8)), never beside another one: `//` would become `..`.
 */
const OWN_SYSCTLS =
  /^(kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced|domainname)|(fs\.mqueue|net)(\.[\w-]+(\/[\w-]+)*)+)$/

const sysctlName: Check<string> = (value, field) => {
  if (OWN_SYSCTLS.test(value as string)) return value as string
  return refuse(
    field,
    value,
    'expected a setting of the container, not of the host',
    'possible are net.*, fs.mqueue.* and the message queue, semaphore and shared memory settings of kernel.*',
    'SYSCTL_REFUSED',
  )
}

const ULIMITS =
  'as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(' ')

const ulimitName: Check<string> = (value, field) => {
  refuseUnknown(
    [value as string],
    ULIMITS,
    field.slice(0, field.lastIndexOf((value as string) || '.') - 1) || 'ulimits',
  )
  return value as string
}

const ulimitShape = shape({ soft: integer(-1), hard: optional(integer(-1)) })
const ulimit: Check<CompleteUlimit> = (value, field) => {
  const { soft, hard = soft } = ulimitShape(typeof value === 'number' ? { soft: value } : value, field)
  const isAbove = hard !== -1 && (soft === -1 || soft > hard)
  if (isAbove) return refuse(member(field, 'soft'), soft, `expected at most the hard limit ${hard}`)
  return Object.freeze({ soft, hard })
}

// --- Limits ----------------------------------------------------------------------------------------------------------------

const MEMORY_MINIMUM = 512 * KIB
const memory =
  (least: number): Check<number> =>
  (value, field) =>
    typeof value === 'number' && value < least && value !== -1
      ? refuse(field, value, `expected at least ${least} bytes`, 'a container cannot start with less')
      : integer(least)(value, field)

/** Lists such as `0-2,5`. */
const processors: Check<string> = (value, field) => {
  const text = pattern("numbers and ranges such as '0-2,5'", /^\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*$/)(value, field)
  for (const range of text.split(',')) {
    const [first = 0, last = first] = range.split('-').map(Number)
    if (last < first) refuse(field, text, `expected ranges that go up, not ${range}`)
  }
  return text
}

const rates = optional(list(shape({ path: absolutePath, rate: integer(1) })))

const limitsShape = sparse({
  memoryBytes: optional(memory(MEMORY_MINIMUM)),
  memorySwapBytes: optional((value, field) => (value === -1 ? -1 : memory(MEMORY_MINIMUM)(value, field))),
  memoryReservationBytes: optional(memory(MEMORY_MINIMUM)),
  cpus: optional(number(0.01, 100_000)),
  cpuShares: optional(integer(2, 262_144)),
  cpusetCpus: optional(processors),
  cpusetMems: optional(processors),
  pids: optional((value, field) => (value === -1 ? -1 : integer(1, INT32_MAX)(value, field))),
  blkioWeight: optional(integer(10, 1000)),
  diskBytes: optional(integer(64 * KIB, 2 ** 50)),
  deviceReadBps: rates,
  deviceWriteBps: rates,
  deviceReadIops: rates,
  deviceWriteIops: rates,
})

// --- Network ---------------------------------------------------------------------------------------------------------------

const portShape = shape({
  container: integer(1, UINT16_MAX),
  host: defaulted(integer(1, UINT16_MAX), 0),
  protocol: defaulted(oneOf('tcp', 'udp'), 'tcp' as const),
  hostIp: defaulted(address, '*'),
})
const port: Check<CompletePort> = (value, field) =>
  typeof value === 'object' && value !== null
    ? portShape(value, field)
    : portShape({ container: integer(1, UINT16_MAX)(value, field) }, field)

const CONTAINER_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/

function namespaceMode<const T extends string>(...modes: readonly T[]): Check<T | `container:${string}`> {
  const expected = [...modes.map((mode) => `'${mode}'`), "'container:<name or id>'"].join(', ')
  return (value, field) => {
    if (modes.includes(value as T)) return value as T
    const text = string(value, field)
    const isJoin = text.startsWith('container:') && CONTAINER_NAME.test(text.slice('container:'.length))
    return isJoin ? (text as `container:${string}`) : refuse(field, text, `expected ${expected}`)
  }
}

const hostAccessShape = shape({
  ports: (value, field): readonly (number | '*')[] =>
    value === true ? Object.freeze(['*'] as const) : list(hostPort)(value, field),
})
const hostAccess: Check<readonly (number | '*')[]> = (value, field) => hostAccessShape(value, field).ports

/** At the gateway this one is the name server's. */
const NAME_SERVER_PORT = 53
const hostPort: Check<number> = (value, field) =>
  value === NAME_SERVER_PORT
    ? refuse(field, value, "port 53 of the gateway is the session's name server")
    : integer(1, UINT16_MAX)(value, field)

// --- Container -------------------------------------------------------------------------------------------------------------

/** Which image is meant is for the store to tell. */
const imageName: Check<string> = (value, field) =>
  string(value, field) === '' ? refuse(field, value, 'expected a reference such as postgres:16') : (value as string)

const platform: Check<string> = (value, field) => {
  parsePlatform(string(value, field))
  return value as string
}

/** 80, '80', '53/udp', '8000-8010/tcp'. */
const exposedPort: Check<readonly ExposedPort[]> = (value, field) => {
  const [, first, last = first, protocol = 'tcp'] =
    /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/i.exec(
      typeof value === 'number' ? `${value}` : string(value, field),
    ) ?? []
  const [from, to] = [Number(first), Number(last)]
  if (!(from >= 1 && from <= to && to <= UINT16_MAX)) {
    return refuse(field, value, `expected a port from 1 to ${UINT16_MAX} such as 80 or '53/udp'`)
  }
  const kind = protocol.toLowerCase() as ExposedPort['protocol']
  return Array.from({ length: to - from + 1 }, (_, index) => Object.freeze({ port: from + index, protocol: kind }))
}

const exposedPorts: Check<readonly ExposedPort[]> = (value, field) => {
  const all = new Map(
    list(exposedPort)(value, field).flatMap((ports) => ports.map((one) => [`${one.port}/${one.protocol}`, one])),
  )
  return Object.freeze([...all.values()].sort((a, b) => a.port - b.port || (a.protocol < b.protocol ? -1 : 1)))
}

const hostAddress: Check<string> = (value, field) => (value === 'host-gateway' ? value : address(value, field))

const containerShape = shape({
  command: optional(list(secret)),
  ...processFields,
  image: optional(imageName),
  rootfs: optional(rootfs),
  entrypoint: defaulted(list(secret), EMPTY_LIST),
  pull: optional(oneOf('missing', 'always', 'never')),
  platform: optional(platform),
  exposedPorts: defaulted(exposedPorts, EMPTY_LIST),
  name: optional(referenceName),
  hostname: optional(domain('a host name', 64)),
  domainname: optional(domain('a domain name', 64)),
  user: defaulted(user, '0'),
  workdir: defaulted(workdir, '/'),
  createWorkdir: defaulted(boolean, false),
  labels: defaulted(record(string, string), EMPTY_RECORD),
  remove: defaulted(boolean, true),
  scratch: defaulted(oneOf('disk', 'memory'), 'disk' as const),
  readonlyRootfs: defaulted(boolean, false),
  mounts: defaulted(list(mount), EMPTY_LIST),
  tmpfs: defaulted(tmpfsShorthand, EMPTY_LIST),
  volumesFrom: defaulted(list(volumesFrom), EMPTY_LIST),
  shmSizeBytes: defaulted(integer(4096), 64 * KIB * KIB),
  capAdd: defaulted(list(capability), EMPTY_LIST),
  capDrop: defaulted(list(capability), EMPTY_LIST),
  seccomp: defaulted(seccomp, 'default' as const),
  noNewPrivileges: defaulted(boolean, false),
  devices: defaulted(list(device), EMPTY_LIST),
  sysctls: defaulted(record(sysctlName, string), EMPTY_RECORD),
  ulimits: defaulted(record(ulimitName, ulimit), EMPTY_RECORD),
  limits: defaulted(limitsShape, EMPTY_RECORD),
  init: defaulted(boolean, false),
  stopSignal: defaulted(parseSignal, 15),
  stopTimeoutMs: defaulted(integer(-1, INT32_MAX), 10_000),
  pid: defaulted(namespaceMode('private', 'host'), 'private' as const),
  ipc: defaulted(namespaceMode('private', 'host'), 'private' as const),
  uts: defaulted(oneOf('private', 'host'), 'private' as const),
  network: defaulted(namespaceMode('bridge', 'none', 'host'), 'bridge' as const),
  networks: defaulted(list(attachment), EMPTY_LIST),
  hostAccess: defaulted(hostAccess, EMPTY_LIST),
  networkAliases: defaulted(list(domain('a name', 253)), EMPTY_LIST),
  ports: defaulted(list(port), EMPTY_LIST),
  extraHosts: defaulted(
    record(domain('a host name', 253), (value, field) =>
      Array.isArray(value) ? list(hostAddress)(value, field) : Object.freeze([hostAddress(value, field)]),
    ),
    EMPTY_RECORD,
  ),
  dns: defaulted(list(address), EMPTY_LIST),
  dnsSearch: defaulted(
    list((value, field) => (value === '.' ? value : domain('a domain', 253)(value, field))),
    EMPTY_LIST,
  ),
  dnsOptions: defaulted(list(pattern('an option of resolv.conf such as ndots:1', /^[a-z][\w:.-]*$/i)), EMPTY_LIST),
  oomScoreAdj: optional(integer(-1000, 1000)),
  clockOffsetMs: defaulted(integer(-MAX_CLOCK_MS, MAX_CLOCK_MS), 0),
  logBytes: defaulted(integer(4096, 2 ** 40), 32 * KIB * KIB),
})

/** Whether two addresses to listen on have one in common, as far as can be told without looking: `*` is the loopback's two. */
function overlap(one: string, other: string): boolean {
  const isLoopback = (address: string) => address === '127.0.0.1' || address === '::1'
  return one === other || (one === '*' && isLoopback(other)) || (other === '*' && isLoopback(one))
}

/** Networks of its own it can only have where it has no other's, or none. */
function checkNetworks({ network, networks, hostAccess }: CompleteContainerOptions): void {
  if (network !== DEFAULT_NETWORK) {
    if (networks.length > 0)
      refuse('networks', networks.map((one) => one.network).join(', '), `cannot be had with network '${network}'`)
    if (hostAccess.length > 0) refuse('hostAccess', hostAccess.join(', '), `is not possible with network '${network}'`)
  }
  for (const [index, one] of networks.entries()) {
    if (networks.findIndex((other) => other.network === one.network) < index) {
      refuse(`networks[${index}].network`, one.network, 'expected each network once')
    }
  }
}

/** Options that are right alone and wrong together. */
function checkTogether(options: CompleteContainerOptions): void {
  checkNetworks(options)
  const { network, ports, limits, uts, hostname, sysctls, ipc, domainname } = options
  if (ports.length > 0 && network !== 'bridge') {
    refuse('ports', ports.map((one) => one.container).join(', '), `no port can be published with network '${network}'`)
  }
  for (const [index, { protocol, host, hostIp }] of ports.entries()) {
    const isSame = (one: CompletePort) => one.host === host && one.protocol === protocol && overlap(one.hostIp, hostIp)
    if (host !== 0 && ports.slice(0, index).some(isSame)) {
      refuse(`ports[${index}].host`, host, 'expected each port of the host once')
    }
  }
  if (options.clockOffsetMs !== 0 && options.pid === 'host') {
    refuse('clockOffsetMs', options.clockOffsetMs, "is not possible with pid 'host'")
  }
  if (uts === 'host' && (hostname !== undefined || domainname !== undefined)) {
    refuse('hostname', hostname ?? domainname, "cannot be set with uts 'host': the host's would change")
  }
  const { memoryBytes, memorySwapBytes, memoryReservationBytes } = limits
  if (memorySwapBytes !== undefined && memoryBytes === undefined) {
    refuse('limits.memorySwapBytes', memorySwapBytes, 'needs memoryBytes beside it')
  }
  if (memorySwapBytes !== undefined && memorySwapBytes !== -1 && memorySwapBytes < memoryBytes!) {
    refuse(
      'limits.memorySwapBytes',
      memorySwapBytes,
      `counts memory and swap together: expected at least ${memoryBytes}`,
    )
  }
  if (memoryReservationBytes !== undefined && memoryBytes !== undefined && memoryReservationBytes > memoryBytes) {
    refuse('limits.memoryReservationBytes', memoryReservationBytes, `expected at most memoryBytes, ${memoryBytes}`)
  }
  for (const name of Object.keys(sysctls)) {
    const isOfNetwork = name.startsWith('net.')
    const mode = isOfNetwork ? network : ipc
    const isOther = name === 'kernel.domainname' ? uts === 'host' : mode === 'host' || mode.startsWith('container:')
    if (isOther) {
      const namespace = name === 'kernel.domainname' ? 'uts' : isOfNetwork ? 'network' : 'ipc'
      refuse(
        member('sysctls', name),
        sysctls[name],
        `cannot be set: the ${namespace} namespace is not the container's own`,
        undefined,
        'SYSCTL_REFUSED',
      )
    }
  }
}
