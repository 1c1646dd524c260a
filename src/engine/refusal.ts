/**
 * Turns the warden's refusal (step, subject, errno) into the error that the caller gets: a stable code, the option that
 * was at fault with its value, one sentence and, where we know one, a hint.
 */

import { type ErrorCode, type ErrorFacts, MayflyError } from './errors.js'
import type { CompleteContainerOptions, CompleteProcessOptions } from './launch/complete.js'
import type { ResourceLimits } from './options.js'
import type { Refusal } from './wire.js'

/** What was tried. */
export interface Attempt {
  /** Such as `start`, `exec in`, `pause`: the sentence begins "Cannot <verb> "<name>"". */
  readonly verb: string
  /** Name of the container. */
  readonly container: string
  /** Options of the container that was launched, or of the program that was run in it. */
  readonly options?: CompleteProcessOptions & Partial<Omit<CompleteContainerOptions, 'user' | 'workdir'>> & WhoAndWhere
  /** Which network the options mean by a name: the warden knows ids only. */
  readonly networkId?: (reference: string) => string | undefined
}

interface WhoAndWhere {
  readonly user?: string | undefined
  readonly workdir?: string | undefined
}

type Verdict = { code: ErrorCode } & Pick<ErrorFacts, 'field' | 'value' | 'hint'> & { why?: string }

/** The error for a refusal. */
export function refusalError(refusal: Refusal, attempt: Attempt): MayflyError {
  const { why, code, ...found } = judge(refusal, attempt)
  const facts: ErrorFacts = {
    ...found,
    step: refusal.step,
    container: attempt.container,
    ...(refusal.errno ? { errno: refusal.errno } : {}),
  }
  const reason = why ?? describe(refusal)
  return new MayflyError(code, `Cannot ${attempt.verb} "${attempt.container}": ${reason}`, facts)
}

function describe({ step, subject, errno, message }: Refusal): string {
  const what = subject ? `${step} ${subject}` : step
  const text = message && message !== errno ? `${what}: ${message}` : what
  return errno ? `${text} (${errno})` : text
}

function judge(refusal: Refusal, attempt: Attempt): Verdict {
  const { step, subject, errno } = refusal
  const { options } = attempt
  switch (step) {
    case 'id':
      return { code: 'NO_SUCH_CONTAINER', why: 'there is no such container any more' }
    case 'state':
      return judgeState(refusal, attempt)
    case 'layer':
      return {
        code: errno === 'ENOENT' ? 'ROOTFS_NOT_FOUND' : 'ROOTFS_INVALID',
        ...rootfsField(options?.rootfs, subject),
        why: `root file system ${subject} ${errno === 'ENOENT' ? 'does not exist' : `cannot be used (${errno})`}`,
      }
    case 'mount-source': {
      const part = missingPart(options, subject)
      if (errno === 'ENOENT' && part) return part
      return {
        code: errno === 'ENOENT' ? 'MOUNT_SOURCE_NOT_FOUND' : 'MOUNT_FAILED',
        ...mountField(options, 'source', subject),
        why: `mount source ${subject} ${errno === 'ENOENT' ? 'does not exist' : `cannot be used${refusal.message && `: ${refusal.message}`} (${errno})`}`,
      }
    }
    case 'mount-target':
      return isEscape(errno)
        ? {
            code: 'MOUNT_TARGET_ESCAPES',
            ...mountField(options, 'target', subject),
            why: `mount target ${subject} leads out of the container: ${refusal.message || errno} (${errno})`,
          }
        : {
            code: 'MOUNT_FAILED',
            ...mountField(options, 'target', subject),
            ...(errno === 'ENOTDIR' || errno === 'EISDIR'
              ? { hint: 'a directory is mounted over a directory, and a file over a file' }
              : {}),
          }
    case 'mount':
      return { code: 'MOUNT_FAILED', ...mountField(options, 'target', subject) }
    case 'device': {
      const index =
        options?.devices?.findIndex(({ host, container }) => host === subject || container === subject) ?? -1
      return { code: 'DEVICE_NOT_FOUND', ...(index < 0 ? {} : { field: `devices[${index}].host`, value: subject }) }
    }
    case 'sysctl':
      return { code: 'SYSCTL_REFUSED', ...entryField('sysctls', options?.sysctls, subject) }
    case 'user':
      // There is such a user, but its id has no meaning here: rootless without a range of ids (setresuid(2) says EINVAL).
      if (errno === 'EINVAL') return { code: 'NOT_SUPPORTED', field: 'user', value: options?.user ?? subject }
      return {
        code: 'USER_NOT_FOUND',
        field: 'user',
        value: options?.user ?? subject,
        why: isMissing(errno)
          ? `there is no user "${subject}" in its /etc/passwd`
          : `user ${subject}: ${refusal.message || errno}`,
      }
    case 'group': {
      const index = options?.groups?.indexOf(subject) ?? -1
      return {
        code: 'GROUP_NOT_FOUND',
        field: index < 0 ? 'user' : `groups[${index}]`,
        value: index < 0 ? (options?.user ?? subject) : subject,
        why: isMissing(errno)
          ? `there is no group "${subject}" in its /etc/group`
          : `group ${subject}: ${refusal.message || errno}`,
      }
    }
    case 'workdir': {
      const field = { field: 'workdir', value: options?.workdir ?? subject }
      if (isEscape(errno)) {
        return {
          code: 'WORKDIR_ESCAPES',
          ...field,
          why: `working directory ${subject} leads out of the container (${errno})`,
        }
      }
      if (errno === 'ENOENT') {
        return {
          code: 'WORKDIR_NOT_FOUND',
          ...field,
          why: `working directory ${subject} does not exist`,
          ...(options && 'createWorkdir' in options ? { hint: 'set createWorkdir to make it' } : {}),
        }
      }
      return { code: 'WORKDIR_NOT_FOUND', ...field }
    }
    case 'rlimit':
      return { code: 'LIMIT_REFUSED', ...entryField('ulimits', options?.ulimits, subject) }
    case 'capabilities':
      return { code: 'CAPABILITY_UNAVAILABLE', field: 'capAdd', value: options?.capAdd }
    case 'exec':
      // fork(2) says ENOMEM too in a PID namespace whose first process has ended.
      if (errno === 'ESRCH' || (errno === 'ENOMEM' && attempt.verb.startsWith('run '))) {
        const memory = errno === 'ENOMEM' ? ', or memory ran out' : ''
        return { code: 'CONTAINER_EXITED', why: `it ended while the program was being started${memory} (${errno})` }
      }
      return judgeProgram(refusal, options)
    case 'cgroup':
      if (!options) return { code: 'NOT_SUPPORTED', why: refusal.message } // not a limit: pausing, for one
      return {
        code: 'LIMIT_UNAVAILABLE',
        ...controllerField(options?.limits, subject),
        hint: `the control group controller "${subject}" is missing or not delegated here; \`npx mayfly doctor\` tells more`,
      }
    case 'limit':
      return { code: 'LIMIT_REFUSED', ...limitField(options?.limits, subject) }
    case 'publish':
      return judgePublish(refusal, options?.ports)
    case 'archive':
      if (errno === 'ENOSPC' || errno === 'EDQUOT') return { code: 'DISK_FULL' }
      if (errno === 'EFBIG' || errno === 'E2BIG') return { code: 'ARCHIVE_TOO_LARGE' }
      if (SCARCE.test(errno)) return { code: 'LAUNCH_FAILED' }
      // A path that somebody asked for is missing; what an archive lacks, such as a hard link's target, is the archive's fault.
      return (errno === 'ENOENT' || errno === 'ENOTDIR') && attempt.verb !== 'unpack'
        ? {
            code: 'PATH_NOT_FOUND',
            field: 'path',
            value: subject,
            why: `${subject} ${errno === 'ENOENT' ? 'does not exist in it' : 'is not a directory'}`,
          }
        : { code: 'ARCHIVE_INVALID' }
    case 'clock':
      return errno === 'ERANGE'
        ? { code: 'INVALID_OPTION', field: 'clockOffsetMs', value: options?.clockOffsetMs, why: refusal.message }
        : { code: 'NOT_SUPPORTED', field: 'clockOffsetMs', value: options?.clockOffsetMs, why: describe(refusal) }
    case 'upper':
      if (errno === 'ENOSPC' || errno === 'EDQUOT') return { code: 'DISK_FULL' }
      return errno === 'EOPNOTSUPP' || errno === 'ENOTSUP'
        ? { code: 'NOT_SUPPORTED', why: refusal.message }
        : { code: 'LAUNCH_FAILED' }
    case 'network':
    case 'gateway':
    case 'range':
    case 'subnet':
    case 'address':
    case 'host-port':
    case 'volume':
      return judgeNetworkOrVolume(refusal, attempt)
    case 'lock':
      return { code: errno === 'ENOSPC' || errno === 'EDQUOT' ? 'DISK_FULL' : 'STORE_FAILED' }
    case 'signal':
      return { code: 'INVALID_OPTION', field: 'signal', value: subject }
    default:
      if (errno === 'ESRCH' && (step === 'network' || step === 'namespace')) return judgeJoin(refusal, options)
      if (errno === 'ENOSYS' || errno === 'EOPNOTSUPP') return { code: 'NOT_SUPPORTED' }
      return { code: 'LAUNCH_FAILED' }
  }
}

function judgeState({ message }: Refusal, { verb }: Attempt): Verdict {
  const isRunning = verb === 'start' || verb === 'remove'
  return {
    code: isRunning ? 'CONTAINER_RUNNING' : 'CONTAINER_NOT_RUNNING',
    why: message || `it is ${isRunning ? 'running' : 'not running'}`,
  }
}

function judgeNetworkOrVolume({ step, subject, errno, message }: Refusal, { options, networkId }: Attempt): Verdict {
  const why = message || `${subject}: ${errno}`
  const isV6 = subject.includes(':')
  const index =
    options?.networks?.findIndex(
      (one) => one.network === subject || one.address === subject || isSameAddress(one.ipv6Address, subject),
    ) ?? -1
  const v6 = isV6 ? '.ipv6' : ''
  if (step === 'volume') {
    const mount = options?.mounts?.findIndex((one) => one.type === 'volume' && subject.endsWith(`/${one.source}`)) ?? -1
    const field =
      mount < 0 ? { value: subject } : { field: `mounts[${mount}].source`, value: subject.split('/').at(-1) }
    return errno === 'ENOENT' ? { code: 'NO_SUCH_VOLUME', ...field, why } : { code: 'MOUNT_FAILED', ...field }
  }
  if (step === 'subnet') {
    const code = errno === 'EADDRINUSE' ? 'SUBNET_IN_USE' : errno === 'EINVAL' ? 'INVALID_OPTION' : 'LAUNCH_FAILED'
    return { code, field: `network${v6}.subnet`, value: subject, why: `subnet ${subject}: ${message || errno}` }
  }
  if (step === 'gateway' || step === 'range') {
    const field = step === 'range' ? `network${v6}.ipRange` : `network${v6}.gateway`
    return { code: 'INVALID_OPTION', field, value: subject, why: `${step} ${subject}: ${message}` }
  }
  const full =
    options?.networks?.findIndex(({ network }) => network === subject || networkId?.(network) === subject) ?? -1
  if (step === 'address' && full >= 0) {
    const { network } = options!.networks![full]!
    return { code: 'ADDRESS_IN_USE', field: `networks[${full}].network`, value: network, why: `${why}: ${network}` }
  }
  if (step === 'address') {
    const code = errno === 'EADDRINUSE' ? 'ADDRESS_IN_USE' : 'INVALID_OPTION'
    const name = isV6 ? 'ipv6Address' : 'address'
    const field = index >= 0 ? `networks[${index}].${name}` : options ? 'networks' : name
    return { code, field, value: subject, why }
  }
  if (step === 'host-port') {
    return { code: errno === 'EINVAL' ? 'INVALID_OPTION' : 'NOT_SUPPORTED', field: 'hostAccess', value: subject, why }
  }
  if (errno === 'ESRCH') return judgeJoin({ ok: false, step, subject, errno, message }, options)
  const codes: Readonly<Record<string, ErrorCode>> = {
    ENOENT: 'NO_SUCH_NETWORK',
    EBUSY: 'NETWORK_IN_USE',
    ENOTSUP: 'NOT_SUPPORTED',
    EOPNOTSUPP: 'NOT_SUPPORTED',
    ENOSYS: 'NOT_SUPPORTED',
  }
  const code = codes[errno] ?? 'LAUNCH_FAILED'
  if (code === 'LAUNCH_FAILED') return { code }
  return { code, value: subject, why, ...(subject === 'ipv6' ? { field: 'network.ipv6' } : {}) }
}

/** The warden writes IPv6 addresses in their usual form, whatever was given. */
function isSameAddress(given: string | undefined, subject: string): boolean {
  return given !== undefined && subject.includes(':') && new URL(`http://[${given}]`).hostname === `[${subject}]`
}

/** Namespaces of another container can be joined only while it runs. */
function judgeJoin({ subject, message }: Refusal, options: Attempt['options']): Verdict {
  const field = (['network', 'pid', 'ipc'] as const).find((name) => options?.[name]?.startsWith('container:'))
  return {
    code: 'CONTAINER_NOT_RUNNING',
    ...(field ? { field, value: options?.[field] } : { value: subject }),
    why: message,
  }
}

/** Characters of a program's name that a sentence can bear. */
const MAX_SHOWN = 200

/** The machine has no more of something just now: that is nobody's mistake, neither the program's nor the archive's. */
const SCARCE = /^(?:EAGAIN|ENOMEM|EMFILE|ENFILE)$/

function judgeProgram({ subject, errno, message }: Refusal, options: Attempt['options']): Verdict {
  const given = options?.command[0] ?? subject
  const field = { field: 'command[0]', value: given }
  const program = given.length > MAX_SHOWN ? `${given.slice(0, MAX_SHOWN)}…` : given
  switch (errno) {
    case 'ENOENT':
    case 'ENOTDIR':
      // The kernel says ENOENT too when the program is there and its interpreter or loader is not.
      return program.includes('/')
        ? {
            code: 'PROGRAM_NOT_FOUND',
            ...field,
            why: `there is no ${program} in it, or no interpreter for it${message ? ` (${message})` : ''}`,
            hint: 'if the file is there, look at its first line (#!) or, for a binary, at its loader (libc)',
          }
        : {
            code: 'PROGRAM_NOT_FOUND',
            ...field,
            why: `there is no program "${program}" in its PATH${message ? ` (${message})` : ''}`,
            ...(program.includes(' ')
              ? { hint: `give the words one by one: ${JSON.stringify(program.split(' '))}` }
              : {}),
          }
    case 'EACCES':
    case 'EPERM':
    case 'EISDIR':
      return { code: 'PROGRAM_NOT_EXECUTABLE', ...field, why: `${program} is not executable (${errno})` }
    case 'ENOEXEC':
    case 'ELIBBAD':
      return {
        code: 'PROGRAM_NOT_EXECUTABLE',
        ...field,
        why: `${program} is no program for this machine (${errno})`,
        hint: 'a script needs a first line with its interpreter (#!/bin/sh); a binary must be for this processor',
      }
    case 'E2BIG':
      return {
        code: 'ARGUMENTS_TOO_LONG',
        field: 'command',
        why: 'command and environment are longer than the kernel allows (E2BIG)',
      }
    default:
      return SCARCE.test(errno) ? { code: 'LAUNCH_FAILED' } : { code: 'PROGRAM_NOT_EXECUTABLE', ...field }
  }
}

function judgePublish(
  { subject, errno, message }: Refusal,
  ports: CompleteContainerOptions['ports'] | undefined,
): Verdict {
  // The subject is such as 127.0.0.1:5432/tcp.
  const [, ip, port, protocol] = /^(.*):(\d+)\/(\w+)$/.exec(subject) ?? []
  const index = ports?.findIndex((one) => String(one.host) === port && one.protocol === protocol) ?? -1
  const field = (name: 'host' | 'hostIp') => (index < 0 ? { field: 'ports' } : { field: `ports[${index}].${name}` })
  switch (errno) {
    case 'EADDRINUSE':
      return {
        code: 'PORT_IN_USE',
        ...field('host'),
        value: Number(port),
        why: `port ${port} of ${ip} is in use on the host`,
        hint: 'leave the host port out to get a free one',
      }
    case 'EACCES':
    case 'EPERM':
      return {
        code: 'PORT_NOT_ALLOWED',
        ...field('host'),
        value: Number(port),
        why: `port ${port} needs privileges (${errno})`,
      }
    case 'EADDRNOTAVAIL':
    case 'EAFNOSUPPORT':
      return { code: 'INVALID_OPTION', ...field('hostIp'), value: ip, why: `${ip} is no address of this host` }
    default:
      return {
        code: 'LAUNCH_FAILED',
        ...field('host'),
        value: subject,
        why: `cannot publish ${subject}: ${message || errno}`,
      }
  }
}

/** What `openat2` says of a path that leads out: EXDEV, or ELOOP for a magic link. */
function isEscape(errno: string): boolean {
  return errno === 'EXDEV' || errno === 'ELOOP'
}

function isMissing(errno: string): boolean {
  return errno === 'ENOENT' || errno === 'ESRCH' || errno === ''
}

function rootfsField(
  rootfs: CompleteContainerOptions['rootfs'] | undefined,
  subject: string,
): Pick<ErrorFacts, 'field' | 'value'> {
  if (!rootfs) return { field: 'rootfs', value: subject }
  if ('directory' in rootfs) return { field: 'rootfs.directory', value: rootfs.directory }
  if ('tar' in rootfs) return { field: 'rootfs.tar', value: rootfs.tar }
  const index = rootfs.layers.indexOf(subject)
  return { field: index < 0 ? 'rootfs.layers' : `rootfs.layers[${index}]`, value: subject }
}

/** What a volume or an image was to have at a path of its own. */
function missingPart(options: Attempt['options'], subject: string): Verdict | undefined {
  const mounts = options?.mounts ?? []
  if (mounts.some((mount) => mount.type === 'bind' && mount.source === subject)) return undefined
  for (const [index, mount] of mounts.entries()) {
    if (!('subpath' in mount) || `/${mount.subpath}` !== subject) continue
    return {
      code: 'MOUNT_SOURCE_NOT_FOUND',
      field: `mounts[${index}].subpath`,
      value: mount.subpath,
      why: `there is no ${mount.subpath} in ${mount.type} ${JSON.stringify(mount.source ?? 'without a name')}`,
    }
  }
  return undefined
}

function mountField(
  options: Attempt['options'],
  end: 'source' | 'target',
  subject: string,
): Pick<ErrorFacts, 'field' | 'value'> {
  const mounts = options?.mounts ?? []
  const index = mounts.findIndex(
    (mount) => (end === 'target' ? mount.target : 'source' in mount && mount.source) === subject,
  )
  return index < 0 ? { value: subject } : { field: `mounts[${index}].${end}`, value: subject }
}

function entryField(
  name: string,
  entries: Readonly<Record<string, unknown>> | undefined,
  subject: string,
): Pick<ErrorFacts, 'field' | 'value'> {
  const key = subject.split('=')[0]!
  return { field: `${name}.${key}`, value: entries?.[key] ?? subject }
}

const LIMITS_OF_CONTROLLER: Readonly<Record<string, readonly (keyof ResourceLimits)[]>> = {
  memory: ['memoryBytes', 'memorySwapBytes', 'memoryReservationBytes'],
  cpu: ['cpus', 'cpuShares'],
  cpuset: ['cpusetCpus', 'cpusetMems'],
  pids: ['pids'],
  blkio: ['blkioWeight', 'deviceReadBps', 'deviceWriteBps', 'deviceReadIops', 'deviceWriteIops'],
  io: ['blkioWeight', 'deviceReadBps', 'deviceWriteBps', 'deviceReadIops', 'deviceWriteIops'],
}

function controllerField(limits: ResourceLimits | undefined, controller: string): Pick<ErrorFacts, 'field' | 'value'> {
  const name = LIMITS_OF_CONTROLLER[controller]?.find((key) => limits?.[key] !== undefined)
  return name ? { field: `limits.${name}`, value: limits?.[name] } : { field: 'limits' }
}

const OPTION_OF_LIMIT: Readonly<Record<string, keyof ResourceLimits>> = {
  memory: 'memoryBytes',
  'memory-swap': 'memorySwapBytes',
  'memory-reservation': 'memoryReservationBytes',
  'cpu-quota-us': 'cpus',
  'cpu-period-us': 'cpus',
  'cpu-shares': 'cpuShares',
  'cpuset-cpus': 'cpusetCpus',
  'cpuset-mems': 'cpusetMems',
  pids: 'pids',
  'blkio-weight': 'blkioWeight',
  'read-bps': 'deviceReadBps',
  'write-bps': 'deviceWriteBps',
  'read-iops': 'deviceReadIops',
  'write-iops': 'deviceWriteIops',
}

function limitField(limits: ResourceLimits | undefined, subject: string): Pick<ErrorFacts, 'field' | 'value'> {
  const name = OPTION_OF_LIMIT[subject.split('=')[0]!]
  return name ? { field: `limits.${name}`, value: limits?.[name] } : { field: 'limits', value: subject }
}
