/**
 * What every container gets without being asked: mounts, devices, covered paths. The same as Docker's (moby 29), as lists of the
 * warden's words (native/PROTOCOL.md).
 */

import type { CompleteContainerOptions } from './complete.js'
import type { HostDevice, SessionFacts } from './facts.js'

/** PATH of a container that sets none. */
export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** A mount as its words; `target` apart, so that the caller's mounts can take its place. */
export interface DefaultMount {
  readonly target: string
  readonly words: readonly string[]
}

function mount(kind: string, target: string, options: string, data?: string): DefaultMount {
  return {
    target,
    words: ['mount', kind, 'target', target, 'options', options, ...(data === undefined ? [] : ['data', data])],
  }
}

function bind(source: string, target: string, options: string): DefaultMount {
  return { target, words: ['mount', 'bind', 'source', source, 'target', target, 'options', options] }
}

/**
 * Kernel file systems, in the order in which they are mounted.
 *
 * - privileged: /sys and the control groups are writable;
 * - ipc `host`: shared memory and message queues are the host's, the queues because they belong to the IPC namespace that is
 *   mounted from. With `container:…` queues are shared for the same reason, but files in /dev/shm are not;
 * - rootless: the terminals' group may not be mapped, so devpts is told none; in the host's network namespace a new sysfs is
 *   refused, and the host's is bound; in the host's IPC namespace its queues cannot be mounted (mq_open(3) needs no mount).
 */
export function defaultMounts(options: CompleteContainerOptions, facts: SessionFacts): DefaultMount[] {
  const { privileged, ipc, network, shmSizeBytes } = options
  const access = privileged ? '' : ',ro'
  const terminals = `newinstance,ptmxmode=0666,mode=0620${facts.rootless ? '' : ',gid=5'}`
  const isForeignSysfs = facts.rootless && network === 'host'
  return [
    mount('proc', '/proc', 'nosuid,noexec,nodev'),
    mount('tmpfs', '/dev', 'nosuid,strictatime', 'mode=755,size=65536k'),
    mount('devpts', '/dev/pts', 'nosuid,noexec', terminals),
    isForeignSysfs
      ? bind('/sys', '/sys', `rec,rprivate,nosuid,noexec,nodev${access}`)
      : mount('sysfs', '/sys', `nosuid,noexec,nodev${access}`),
    mount('cgroup', '/sys/fs/cgroup', `nosuid,noexec,nodev${access}`),
    ...(facts.rootless && ipc === 'host' ? [] : [mount('mqueue', '/dev/mqueue', 'nosuid,noexec,nodev')]),
    ipc === 'host'
      ? bind('/dev/shm', '/dev/shm', 'rprivate')
      : mount('tmpfs', '/dev/shm', 'nosuid,noexec,nodev', `mode=1777,size=${shmSizeBytes}`),
  ]
}

const DEFAULT_DEVICES: readonly HostDevice[] = [
  { path: '/dev/null', type: 'c', major: 1, minor: 3, mode: 0o666 },
  { path: '/dev/zero', type: 'c', major: 1, minor: 5, mode: 0o666 },
  { path: '/dev/full', type: 'c', major: 1, minor: 7, mode: 0o666 },
  { path: '/dev/random', type: 'c', major: 1, minor: 8, mode: 0o666 },
  { path: '/dev/urandom', type: 'c', major: 1, minor: 9, mode: 0o666 },
  { path: '/dev/tty', type: 'c', major: 5, minor: 0, mode: 0o666 },
]

/** Device nodes, before those that the caller named: the usual six, and all of the host's for a privileged container. */
export function defaultDevices(options: CompleteContainerOptions, facts: SessionFacts): readonly HostDevice[] {
  if (!options.privileged) return DEFAULT_DEVICES
  const present = new Set(DEFAULT_DEVICES.map(({ path }) => path))
  return [...DEFAULT_DEVICES, ...facts.hostDevices('/dev').filter(({ path }) => !present.has(path))]
}

/** Where each link points, and its path. */
export const DEFAULT_LINKS: readonly (readonly [target: string, path: string])[] = [
  ['pts/ptmx', '/dev/ptmx'],
  ['/proc/self/fd', '/dev/fd'],
  ['/proc/self/fd/0', '/dev/stdin'],
  ['/proc/self/fd/1', '/dev/stdout'],
  ['/proc/self/fd/2', '/dev/stderr'],
  ['/proc/kcore', '/dev/core'],
]

/**
 * What may be opened, from the runtime's point of view and not the image's. Any node may be made (`m`): without a rule of its own
 * it cannot be opened. 5:1 is the console, 5:2 and 136 are terminals. Fuse (10:229) is not there, as in Docker.
 */
export const DEFAULT_DEVICE_RULES: readonly string[] = [
  'allow c *:* m',
  'allow b *:* m',
  'allow c 1:3 rwm',
  'allow c 1:5 rwm',
  'allow c 1:7 rwm',
  'allow c 1:8 rwm',
  'allow c 1:9 rwm',
  'allow c 5:0 rwm',
  'allow c 5:1 rwm',
  'allow c 5:2 rwm',
  'allow c 136:* rwm',
]

const MASKED_PATHS: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
]

/** What tells too much about the host; the warden passes over what is not there. */
export function maskedPaths(cpus: number): string[] {
  const throttles = Array.from({ length: cpus }, (_, cpu) => `/sys/devices/system/cpu/cpu${cpu}/thermal_throttle`)
  return [...MASKED_PATHS, ...throttles]
}

export const READONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
]
