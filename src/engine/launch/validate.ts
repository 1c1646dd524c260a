/**
 * The door for options: everything that a caller hands in is checked here, once, and completed with the defaults. Behind it every
 * field is present and true (complete.ts), so that planning can be pure and the warden gets nothing it must argue with.
 *
 * What only the machine can tell (does the path exist, is the port free, is there such a user in the image) is not asked here.
 */

import { isIP } from 'node:net'
import { posix } from 'node:path'
import type { SeccompProfile } from '../options.js'
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
  CompleteMount,
  CompletePort,
  CompleteProcessOptions,
  CompleteUlimit,
  TerminalSize,
} from './complete.js'
import { checkProfile } from './seccomp/rules.js'
import { parseSignal } from './signal.js'

export { parseSignal }

/**
 * Checks and completes the options of a container. The result is new and frozen; `options` stays as it is.
 *
 * Throws {@link MayflyError}: INVALID_OPTION, ARGUMENTS_TOO_LONG, or SYSCTL_REFUSED for a setting that is not the container's own.
 * `field` and `value` say which; values of `env` and of `command` are never shown.
 */
export function validateContainer(options: unknown): CompleteContainerOptions {
  const { tmpfs, ...given } = containerShape(options, '')
  const complete = { ...given, mounts: Object.freeze([...given.mounts, ...tmpfs]) }
  checkSize(complete)
  checkMountTargets(complete.mounts)
  checkTogether(complete)
  return Object.freeze(complete)
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
const INT32_MAX = 2_147_483_647

// --- Process ---------------------------------------------------------------------------------------------------------------

const command: Check<readonly string[]> = (value, field) => {
  const words = list(secret)(value, field)
  if (words.length === 0) return refuseUnseen(field, 'expected a program and its arguments, got an empty array')
  if (words[0] === '') return refuseUnseen(`${field}[0]`, 'the name of the program is empty')
  return words
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
  const owner = account(name, text, 'user', field)
  return group === undefined ? owner : `${owner}:${account(group, text, 'group', field)}`
}

const group: Check<string> = (value, field) => account(string(value, field), String(value), 'group', field)

/** An absolute path, without `.`, `..` and doubled slashes. */
const absolutePath: Check<string> = (value, field) => {
  const text = string(value, field)
  if (!text.startsWith('/')) return refuse(field, text, 'expected an absolute path')
  const path = posix.normalize(text)
  return path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path
}

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
  command,
  env: defaulted(record(environmentName, secret), EMPTY_RECORD),
  groups: defaulted(list(group), EMPTY_LIST),
  tty: defaulted(terminal, false as const),
  stdin: defaulted(boolean, false),
  privileged: defaulted(boolean, false),
}

const execShape = shape({ ...processFields, user: optional(user), workdir: optional(workdir) })

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

/** /proc must be what the kernel says (CVE-2019-19921, CVE-2025-52881); the warden refuses it too, where a symlink leads there. */
const mountTarget: Check<string> = (value, field) => {
  const path = absolutePath(value, field)
  if (path === '/') return refuse(field, value, 'nothing can be mounted over the root')
  const isOfProc = path === '/proc' || path.startsWith('/proc/')
  return isOfProc ? refuse(field, value, 'nothing can be mounted over /proc') : path
}

const bindShape = shape({
  type: oneOf('bind'),
  source: absolutePath,
  target: mountTarget,
  readonly: defaulted(boolean, false),
  propagation: defaulted(oneOf('rprivate', 'private', 'rslave', 'slave'), 'rprivate' as const),
})

const tmpfsShape = shape({
  type: oneOf('tmpfs'),
  target: mountTarget,
  sizeBytes: optional(integer(1)),
  mode: optional(integer(0, 0o7777)),
  options: defaulted(list(string), EMPTY_LIST),
})

const mount: Check<CompleteMount> = (value, field) => {
  const type = (value as { type?: unknown } | null | undefined)?.type
  if (type === 'bind') return bindShape(value, field)
  if (type !== 'tmpfs') return refuse(member(field, 'type'), type, "expected 'bind' or 'tmpfs'")
  const { target, sizeBytes, mode, options } = tmpfsShape(value, field)
  const sized = [
    ...options,
    ...(sizeBytes === undefined ? [] : [`size=${sizeBytes}`]),
    ...(mode === undefined ? [] : [`mode=${mode.toString(8)}`]),
  ]
  return temporary(target, sized, member(field, 'options'))
}

/** `docker run --tmpfs /run:rw,size=64m`, as an object. */
const tmpfsShorthand: Check<readonly CompleteMount[]> = (value, field) =>
  Object.freeze(
    Object.entries(record(string, string)(value, field)).map(([path, options]) => {
      const at = member(field, path)
      const words = options.split(',').filter((word) => word !== '')
      return temporary(mountTarget(path, at), words, at)
    }),
  )

/** Flags in pairs: the later of the two wins, and the first of a pair needs no word. */
const FLAG_PAIRS: Readonly<Record<string, string>> = { rw: 'ro', suid: 'nosuid', dev: 'nodev', exec: 'noexec' }
const OTHER_FLAGS = ['noatime', 'relatime', 'strictatime']
const TMPFS_DATA =
  /^(size=\d+[kKmMgG%]?|nr_blocks=\d+[kKmMgG]?|nr_inodes=\d+[kKmMgG]?|mode=0?[0-7]{3,4}|[ug]id=\d{1,10}|huge=(never|always|within_size|advise))$/

/** Flags begin as Docker's: nosuid, nodev, noexec. */
function temporary(target: string, words: readonly string[], field: string): CompleteMount {
  const flags = new Set(['nosuid', 'nodev', 'noexec'])
  const data = new Map<string, string>()
  for (const word of words) {
    const opposite = Object.hasOwn(FLAG_PAIRS, word) ? FLAG_PAIRS[word] : undefined
    if (opposite) flags.delete(opposite)
    else if (Object.values(FLAG_PAIRS).includes(word) || OTHER_FLAGS.includes(word)) flags.add(word)
    else if (TMPFS_DATA.test(word)) data.set(word.split('=')[0]!, word)
    else refuse(field, word, 'expected options of tmpfs such as noexec, size=64m or mode=1777')
  }
  return Object.freeze({
    type: 'tmpfs',
    target,
    flags: Object.freeze([...flags]),
    data: Object.freeze([...data.values()]),
  })
}

function checkMountTargets(mounts: readonly CompleteMount[]): void {
  const seen = new Set<string>()
  for (const [index, { target }] of mounts.entries()) {
    if (seen.has(target)) refuse(`mounts[${index}].target`, target, 'expected one mount for each target')
    seen.add(target)
  }
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
  deviceReadBps: rates,
  deviceWriteBps: rates,
  deviceReadIops: rates,
  deviceWriteIops: rates,
})

// --- Network ---------------------------------------------------------------------------------------------------------------

/** Labels of letters, digits, `-` and (as tests have them) `_`; hostname(7) allows 64 bytes in all. */
const LABELS = /^[a-z\d_]([\w-]{0,61}[a-z\d_])?(\.[a-z\d_]([\w-]{0,61}[a-z\d_])?)*$/i

function domain(what: string, most: number): Check<string> {
  return (value, field) => {
    const text = string(value, field)
    if (text.length > most) return refuse(field, text, `expected at most ${most} characters`)
    return LABELS.test(text) ? text : refuse(field, text, `expected ${what} of letters, digits and hyphens`)
  }
}

const address: Check<string> = (value, field) =>
  isIP(string(value, field)) ? (value as string) : refuse(field, value, 'expected an IP address')

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

const containerName: Check<string> = (value, field) => {
  const text = string(value, field)
  if (text.length > 253) return refuse(field, text, 'expected at most 253 characters')
  return CONTAINER_NAME.test(text)
    ? text
    : refuse(field, text, 'expected a letter or digit, then letters, digits, _, . and -')
}

// --- Container -------------------------------------------------------------------------------------------------------------

const containerShape = shape({
  ...processFields,
  rootfs,
  name: optional(containerName),
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
  networkAliases: defaulted(list(domain('a name', 253)), EMPTY_LIST),
  ports: defaulted(list(port), EMPTY_LIST),
  extraHosts: defaulted(
    record(domain('a host name', 253), (value, field) => (value === 'host-gateway' ? value : address(value, field))),
    EMPTY_RECORD,
  ),
  dns: defaulted(list(address), EMPTY_LIST),
  dnsSearch: defaulted(
    list((value, field) => (value === '.' ? value : domain('a domain', 253)(value, field))),
    EMPTY_LIST,
  ),
  dnsOptions: defaulted(list(pattern('an option of resolv.conf such as ndots:1', /^[a-z][\w:.-]*$/i)), EMPTY_LIST),
  oomScoreAdj: optional(integer(-1000, 1000)),
  logBytes: defaulted(integer(4096, 2 ** 40), 32 * KIB * KIB),
})

/** Whether two addresses to listen on have one in common, as far as can be told without looking: `*` is the loopback's two. */
function overlap(one: string, other: string): boolean {
  const isLoopback = (address: string) => address === '127.0.0.1' || address === '::1'
  return one === other || (one === '*' && isLoopback(other)) || (other === '*' && isLoopback(one))
}

/** Options that are right alone and wrong together. */
function checkTogether(options: CompleteContainerOptions): void {
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
