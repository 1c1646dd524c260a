/**
 * From complete options to a launch plan: the words that tell the warden, step by step, how to make a container or run a program
 * in one (native/PROTOCOL.md). Everything that is policy is decided here, and nothing is touched: a plan is compared as an array.
 */

import { MayflyError } from '../errors.js'
import type { DeviceRate } from '../options.js'
import { capabilityNames, limitCapabilities, resolveCapabilities } from './capabilities.js'
import { refuse } from './check.js'
import type {
  CompleteContainerOptions,
  CompleteExecOptions,
  CompleteMount,
  CompleteProcessOptions,
} from './complete.js'
import {
  DEFAULT_DEVICE_RULES,
  DEFAULT_LINKS,
  DEFAULT_PATH,
  defaultDevices,
  defaultMounts,
  maskedPaths,
  READONLY_PATHS,
} from './defaults.js'
import type { HostDevice, NetworkIdentity, SessionFacts } from './facts.js'
import { networkIdentity } from './network-files.js'
import { compileSeccomp } from './seccomp/compile.js'
import { DEFAULT_SECCOMP_PROFILE } from './seccomp/default-profile.js'

/** Words for the warden, and what must be there before they are sent. */
export interface Plan {
  /** Key, value, key, value…: what stands behind verb and sequence number. */
  readonly words: readonly string[]
  /** Seccomp programs that the words refer to, by name. Sent once in a session, with the verb `seccomp`. */
  readonly programs: ReadonlyMap<string, Buffer>
  /** What was taken away because this machine cannot give it; for people. */
  readonly warnings: readonly string[]
}

export interface LaunchPlan extends Plan {
  /** To be kept: containers that join this one's network take it over. */
  readonly identity: NetworkIdentity
}

export interface LaunchTarget {
  /** 64 hexadecimal digits. */
  readonly id: string
  readonly name: string
  /** Directories, the uppermost first. */
  readonly layers: readonly string[]
}

export interface ExecTarget {
  /** The container's id. */
  readonly id: string
  /** The exec's own, 64 hexadecimal digits. */
  readonly exec: string
}

/**
 * The plan of `create` and `run`. Throws CAPABILITY_UNAVAILABLE, DEVICE_NOT_FOUND, and what `facts.container` throws for a container
 * to join that is not there.
 */
export function planLaunch(options: CompleteContainerOptions, facts: SessionFacts, target: LaunchTarget): LaunchPlan {
  const identity = networkIdentity(options, facts, target.id)
  const security = planSecurity(options, options.privileged, facts)
  const devices = planDevices(options, facts)
  const words = [
    ...pairs('id', [target.id]),
    ...pairs('name', [target.name]),
    ...planNames(options, identity),
    ...flag('rm', options.remove),
    ...pairs('layer', target.layers),
    ...(options.scratch === 'memory' ? ['upper', 'memory'] : []),
    ...(options.limits.diskBytes === undefined ? [] : ['upper-bytes', String(options.limits.diskBytes)]),
    ...flag('readonly', options.readonlyRootfs),
    ...planMounts(options, facts),
    ...devices,
    ...(options.privileged
      ? []
      : [...pairs('mask', maskedPaths(facts.cpus)), ...pairs('readonly-path', READONLY_PATHS)]),
    ...planFiles(options, identity),
    ...planProcess(options, identity.hostname),
    ...pairs('env', assignments(options.env)),
    'user',
    options.user,
    ...pairs('group-add', options.groups),
    'workdir',
    options.workdir,
    ...flag('workdir-create', options.createWorkdir),
    ...security.words,
    ...pairs('rlimit', rlimits(options)),
    'umask',
    '0022',
    ...(options.oomScoreAdj === undefined ? [] : ['oom-score-adj', String(options.oomScoreAdj)]),
    ...pairs('sysctl', assignments(options.sysctls)),
    ...planNamespaces(options, facts),
    ...planNetworks(options, facts),
    ...pairs('host-port', options.hostAccess.map(String)),
    ...pairs('dns-name', options.networkAliases),
    ...pairs(
      'publish',
      options.ports.map(({ protocol, hostIp, host, container }) => `${protocol}:${hostIp}:${host}:${container}`),
    ),
    ...pairs('limit', planLimits(options, facts)),
    ...(options.clockOffsetMs === 0 ? [] : ['clock-offset', String(options.clockOffsetMs * 1_000_000)]),
    ...flag('init', options.init),
    'log-bytes',
    String(options.logBytes),
  ]
  return { words, programs: security.programs, warnings: security.warnings, identity }
}

/** The plan of `exec` in a container that was launched with `container`. What `exec` leaves open is as the container has it. */
export function planExec(
  container: CompleteContainerOptions,
  exec: CompleteExecOptions,
  facts: SessionFacts,
  target: ExecTarget,
): Plan {
  const { hostname } = facts.container(target.id).identity
  const security = planSecurity(container, container.privileged || exec.privileged, facts)
  const words = [
    ...pairs('id', [target.id]),
    ...pairs('exec', [target.exec]),
    ...planProcess(exec, hostname),
    ...pairs('env', assignments({ ...container.env, ...exec.env })),
    'user',
    exec.user ?? container.user,
    ...pairs('group-add', [...new Set([...container.groups, ...exec.groups])]),
    'workdir',
    exec.workdir ?? container.workdir,
    ...security.words,
    ...pairs('rlimit', rlimits(container)),
  ]
  return { words, programs: security.programs, warnings: security.warnings }
}

function pairs(key: string, values: readonly string[]): string[] {
  return values.flatMap((value) => [key, value])
}

function flag(key: string, isSet: boolean): string[] {
  return isSet ? [key, '1'] : []
}

function assignments(entries: Readonly<Record<string, string>>): string[] {
  return Object.entries(entries).map(([name, value]) => `${name}=${value}`)
}

/** The host's names are not ours to set. */
function planNames({ uts }: CompleteContainerOptions, { hostname, domainname }: NetworkIdentity): string[] {
  if (uts === 'host') return []
  return ['hostname', hostname, ...(domainname === undefined ? [] : ['domainname', domainname])]
}

/** Program, arguments and what a terminal changes. HOME comes from the image's passwd, so the warden sets it. */
function planProcess({ command, tty, stdin }: CompleteProcessOptions, hostname: string): string[] {
  return [
    ...pairs('arg', command),
    ...pairs('default-env', [`PATH=${DEFAULT_PATH}`, `HOSTNAME=${hostname}`, ...(tty ? ['TERM=xterm'] : [])]),
    ...(tty ? ['tty', '1', 'cols', String(tty.columns), 'rows', String(tty.rows)] : []),
    ...flag('stdin', stdin),
  ]
}

/**
 * A mount of the caller takes the place of the default one at its target, and follows the mounts that it may lie in. A volume of the
 * image is left out where the caller mounts something over it or binds what it lies in: a directory of the host stays as it is. Not so one
 * that the caller asks for.
 */
function planMounts(options: CompleteContainerOptions, facts: SessionFacts): string[] {
  const taken = new Set(options.mounts.map(({ target }) => target))
  const defaults = defaultMounts(options, facts).filter(({ target }) => !taken.has(target))
  const depth = ({ target }: { readonly target: string }) => target.split('/').length
  const volumes = options.volumes.filter(
    (path) =>
      !taken.has(path) && (options.ownVolumes.includes(path) || !options.mounts.some((one) => isBindOver(one, path))),
  )
  const own = [...options.mounts, ...volumes.map((target) => ({ type: 'anonymous', target }) as const)].sort(
    (a, b) => depth(a) - depth(b),
  )
  return [...defaults.flatMap(({ words }) => words), ...own.flatMap((mount) => planMount(mount, facts))]
}

function isBindOver({ type, target }: CompleteMount, path: string): boolean {
  return type !== 'tmpfs' && path.startsWith(`${target}/`)
}

type PlannedMount = CompleteMount | { readonly type: 'anonymous'; readonly target: string }

function planMount(mount: PlannedMount, facts: SessionFacts): string[] {
  if (mount.type === 'anonymous') return ['mount', 'volume', 'target', mount.target]
  if (mount.type === 'volume') {
    const directory = `${facts.volumes}/${mount.source}`
    const part = mount.subpath
    return [
      ...['mount', 'bind', 'source', part === undefined ? `${directory}/data` : `/${part}`],
      ...(part === undefined ? [] : ['source-root', `${directory}/data`]),
      ...['target', mount.target, 'options', `private${mount.readonly ? ',ro' : ''}`],
      ...(mount.noCopy || part !== undefined ? [] : ['fill', `${directory}/filling`]),
      ...['hold', directory],
    ]
  }
  if (mount.type === 'image') {
    return [
      ...['mount', 'image', ...pairs('image-layer', mount.layers)],
      ...(mount.subpath === undefined ? [] : ['source', `/${mount.subpath}`]),
      ...['target', mount.target, 'options', 'private,ro', ...pairs('hold', mount.layers)],
    ]
  }
  if (mount.type === 'shared') {
    const { container, source, target, readonly } = mount
    return [
      ...['mount', 'bind', 'source', source, 'source-root', `container:${container}`],
      ...['target', target, 'options', `private${readonly ? ',ro' : ''}`],
    ]
  }
  if (mount.type === 'bind') {
    const options = `${mount.recursive ? 'rec,' : ''}${mount.propagation}${mount.readonly ? ',ro' : ''}`
    return ['mount', 'bind', 'source', mount.source, 'target', mount.target, 'options', options]
  }
  const { target, flags, data } = mount
  return [
    ...['mount', 'tmpfs', 'target', target, 'options', flags.join(',')],
    ...(data.length > 0 ? ['data', data.join(',')] : []),
  ]
}

/** Nodes, links and rules. As root, nodes are made; in a user namespace that is forbidden, and the host's are bound. */
function planDevices(options: CompleteContainerOptions, facts: SessionFacts): string[] {
  const nodes = new Map<string, HostDevice>(defaultDevices(options, facts).map((device) => [device.path, device]))
  const rules = [...DEFAULT_DEVICE_RULES]
  for (const [index, { host, container, permissions }] of options.devices.entries()) {
    const found = facts.hostDevices(host)
    if (found.length === 0) {
      throw new MayflyError('DEVICE_NOT_FOUND', `devices[${index}].host: there is no device at ${host}`, {
        field: `devices[${index}].host`,
        value: host,
      })
    }
    for (const device of found) {
      nodes.set(device.path === host ? container : container + device.path.slice(host.length), device)
      rules.push(`allow ${device.type} ${device.major}:${device.minor} ${permissions}`)
    }
  }
  const deviceRules = options.privileged ? [] : ['device-rules', [...new Set(rules)].join('\n')]
  // What is mounted there has them, as runc sees it; and what is made in it would be made at its source.
  if (options.mounts.some(({ type, target: at }) => at === '/dev' && type !== 'tmpfs')) return deviceRules
  return [
    ...pairs(
      'device',
      [...nodes].map(([path, { path: source, type, major, minor, mode }]) =>
        facts.rootless ? `bind:${source}:${path}` : `${type}:${major}:${minor}:${mode.toString(8)}:${path}`,
      ),
    ),
    ...pairs(
      'link',
      DEFAULT_LINKS.map(([to, path]) => `${to}:${path}`),
    ),
    ...deviceRules,
  ]
}

/** A file that the caller mounts something over is left to the caller. */
function planFiles({ mounts }: CompleteContainerOptions, { hostname, hosts, resolvConf }: NetworkIdentity): string[] {
  const files: Readonly<Record<string, string>> = {
    '/etc/hosts': hosts,
    '/etc/hostname': `${hostname}\n`,
    '/etc/resolv.conf': resolvConf,
  }
  const taken = new Set(mounts.map(({ target }) => target))
  return Object.entries(files)
    .filter(([path]) => !taken.has(path))
    .flatMap(([path, content]) => ['file', path, 'content', content])
}

/** Capabilities, no-new-privileges and the filter. A profile of the caller's own holds also where all else is allowed. */
function planSecurity(options: CompleteContainerOptions, isPrivileged: boolean, facts: SessionFacts): Plan {
  const wanted = resolveCapabilities(options.capAdd, options.capDrop, isPrivileged) & facts.kernelCapabilities
  const available = facts.rootless ? facts.kernelCapabilities : facts.capabilities
  const capabilities = limitCapabilities(wanted, available, isPrivileged ? [] : options.capAdd)
  const profile =
    options.seccomp === 'unconfined' || (options.seccomp === 'default' && isPrivileged)
      ? undefined
      : options.seccomp === 'default'
        ? DEFAULT_SECCOMP_PROFILE
        : options.seccomp
  const program = profile && compileSeccomp(profile, { architecture: facts.arch, capabilities, kernel: facts.kernel })
  const missing = capabilityNames(wanted & ~capabilities)
  return {
    words: [
      'caps',
      capabilities.toString(16),
      ...flag('no-new-privileges', options.noNewPrivileges),
      ...(program ? ['seccomp', program.name] : []),
    ],
    programs: new Map(program ? [[program.name, program.code]] : []),
    warnings:
      missing.length > 0 ? [`this process cannot hand on ${missing.join(', ')}: the container runs without`] : [],
  }
}

function rlimits({ ulimits }: CompleteContainerOptions): string[] {
  return Object.entries(ulimits).map(([name, { soft, hard }]) => `${name}:${soft}:${hard}`)
}

function planNamespaces({ pid, ipc, uts, network }: CompleteContainerOptions, facts: SessionFacts): string[] {
  const mode = (value: string) =>
    value.startsWith('container:') ? `container:${facts.container(value.slice('container:'.length)).id}` : value
  const keep = (key: string, value: string, usual: string) => (value === usual ? [] : [key, mode(value)])
  return [
    ...keep('pid', pid, 'private'),
    ...keep('ipc', ipc, 'private'),
    ...keep('uts', uts, 'private'),
    ...keep('net', network, 'bridge'),
  ]
}

function planNetworks({ networks, hostAccess }: CompleteContainerOptions, facts: SessionFacts): string[] {
  const found = networks.map((one, index) => ({ ...one, ...facts.network(one.network, `networks[${index}].network`) }))
  for (const [index, { id, network }] of found.entries()) {
    if (found.findIndex((other) => other.id === id) < index) {
      refuse(`networks[${index}].network`, network, 'expected each network once')
    }
  }
  if (hostAccess.length > 0 && found.length > 0 && found.every(({ isInternal }) => isInternal)) {
    refuse('hostAccess', hostAccess.join(', '), 'there is no way to the host from internal networks')
  }
  return found.flatMap(({ id, aliases, address, ipv6Address }) => [
    ...['network', id],
    ...pairs('alias', aliases),
    ...(address === undefined ? [] : ['address', address]),
    ...(ipv6Address === undefined ? [] : ['address-v6', ipv6Address]),
  ])
}

const CPU_PERIOD_US = 100_000

/** Docker's default for swap (as much again as memory) is set only where swap exists and can be counted: nobody asked for it. */
function planLimits({ limits }: CompleteContainerOptions, facts: SessionFacts): string[] {
  const { memoryBytes, cpus } = limits
  const swapBytes =
    limits.memorySwapBytes ?? (memoryBytes !== undefined && facts.limitsSwap ? memoryBytes * 2 : undefined)
  const values: readonly (readonly [string, number | string | undefined])[] = [
    ['memory', memoryBytes],
    ['memory-swap', swapBytes],
    ['memory-reservation', limits.memoryReservationBytes],
    ['cpu-period-us', cpus === undefined ? undefined : CPU_PERIOD_US],
    ['cpu-quota-us', cpus === undefined ? undefined : Math.round(cpus * CPU_PERIOD_US)],
    ['cpu-shares', limits.cpuShares],
    ['cpuset-cpus', limits.cpusetCpus],
    ['cpuset-mems', limits.cpusetMems],
    ['pids', limits.pids],
    ['blkio-weight', limits.blkioWeight],
  ]
  return [
    ...values.filter(([, value]) => value !== undefined).map(([key, value]) => `${key}=${value}`),
    ...deviceRates('read-bps', 'deviceReadBps', limits.deviceReadBps, facts),
    ...deviceRates('write-bps', 'deviceWriteBps', limits.deviceWriteBps, facts),
    ...deviceRates('read-iops', 'deviceReadIops', limits.deviceReadIops, facts),
    ...deviceRates('write-iops', 'deviceWriteIops', limits.deviceWriteIops, facts),
  ]
}

function deviceRates(key: string, option: string, rates: readonly DeviceRate[] = [], facts: SessionFacts): string[] {
  return rates.map(({ path, rate }, index) => {
    const [device, ...more] = facts.hostDevices(path)
    if (!device || more.length > 0 || device.type !== 'b') {
      const field = `limits.${option}[${index}].path`
      throw new MayflyError('DEVICE_NOT_FOUND', `${field}: there is no block device at ${path}`, { field, value: path })
    }
    return `${key}=${device.major}:${device.minor} ${rate}`
  })
}
