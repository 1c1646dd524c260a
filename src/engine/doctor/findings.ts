/** From facts to sentences: what works, what does not, why, and the one command that mends it. Pure, so it is tested as such. */
import { capabilityNames } from '../launch/capabilities.js'
import type { Machine } from './machine.js'
import type { ProbeResult, Probes } from './probes.js'
import type { Trial } from './trial.js'

export interface Finding {
  readonly group: Group
  readonly name: string
  /** `fails`: something asked for will fail. `absent`: mayfly does without, as `why` says. */
  readonly verdict: 'works' | 'fails' | 'absent'
  /** More about what works. */
  readonly detail?: string
  readonly why?: string
  /** One command, or where there is none, one thing to do. */
  readonly remedy?: string
}

export const GROUPS = [
  'containers',
  'this process',
  'namespaces',
  'file systems',
  'network',
  'limits',
  'kernel',
] as const
export type Group = (typeof GROUPS)[number]

const GIB = 1024 ** 3
/** With volatile overlays; and with those of ordinary users. */
const MIN_KERNEL = [5, 10] as const
const MIN_KERNEL_ROOTLESS = [5, 11] as const
const SYS_ADMIN = 1n << 21n
/** What a session as root uses (capability.h). */
const ROOT_CAPABILITIES =
  'CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_ADMIN SYS_CHROOT SYS_PTRACE SYS_ADMIN MKNOD SETFCAP'
/** What unprivileged Docker must be told before containers can be nested in its own. */
const NESTING =
  'docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined …'
const POD = 'set in the pod: hostUsers: false, procMount: Unmasked, seccompProfile and appArmorProfile: Unconfined'

export function explain(machine: Machine, probes: Probes, trial: Trial): Finding[] {
  const context = new Context(machine, probes)
  return [
    ...container(context, trial),
    ...thisProcess(context),
    ...namespaces(context),
    ...(context.isBlocked ? [] : fileSystems(context)),
    ...storeDisk(context),
    ...(context.isBlocked ? [] : network(context, trial)),
    ...limits(context),
    ...kernel(context),
  ]
}

/** Containers can run at all. */
export function canRun(machine: Machine, trial: Trial): boolean {
  return trial.error === undefined && machine.store.isWritable
}

class Context {
  readonly machine: Machine
  readonly probes: Probes
  /** A session of this process lives in a user namespace. */
  readonly isRootless: boolean

  constructor(machine: Machine, probes: Probes) {
    this.machine = machine
    this.probes = probes
    this.isRootless = !(machine.capabilities & SYS_ADMIN)
  }

  ok(probe: string): boolean {
    return this.probes.get(probe)?.ok ?? false
  }

  /** `mount overlay: EPERM`, in the kernel's words. */
  answer(probe: string): string {
    const result = this.probes.get(probe)
    if (!result) return 'not tried'
    // The control groups' own messages are sentences already.
    if (probe.startsWith('cgroup') && result.message) return result.message
    return `${[result.step, result.subject].filter(Boolean).join(' ')}: ${result.errno ?? result.message}`
  }

  errno(probe: string): string | undefined {
    return this.probes.get(probe)?.errno
  }

  /** Nothing that needs a namespace could be tried, and there is nothing to say of it but that. */
  get isBlocked(): boolean {
    return this.isRootless && !this.ok('user-namespace')
  }

  get isNested(): boolean {
    return this.machine.surroundings !== 'none'
  }

  /** What lets containers run inside the container that this process is in. */
  get nestingRemedy(): string {
    if (this.machine.surroundings === 'kubernetes') return POD
    if (this.machine.ci === 'GitLab CI') return 'set privileged = true in the runner’s [runners.docker]'
    if (this.machine.ci === 'GitHub Actions') return 'add to the job’s container: options: --privileged'
    return NESTING
  }
}

function finding(
  group: Group,
  name: string,
  ok: boolean,
  more: Omit<Partial<Finding>, 'verdict'> & { optional?: boolean } = {},
): Finding {
  const { detail, why, remedy, optional = false } = more
  if (ok) return { group, name, verdict: 'works', ...(detail ? { detail } : {}) }
  return { group, name, verdict: optional ? 'absent' : 'fails', ...(why ? { why } : {}), ...(remedy ? { remedy } : {}) }
}

function container({ machine }: Context, trial: Trial): Finding[] {
  const name = 'a container runs'
  if (trial.error !== undefined) {
    const failures = [withRemedy(name, trial.error)]
    const { errorWithoutNetwork = trial.error } = trial
    // The same error twice says nothing new; another one is the next thing to mend.
    return errorWithoutNetwork === trial.error
      ? failures
      : [...failures, withRemedy('a container without network runs', errorWithoutNetwork)]
  }
  const detail = `call to exit and removal in ${trial.durationMs?.toFixed(1)} ms${trial.networkError ? ', without a network' : ''}`
  const ids = trial.info?.ids
  return [
    finding('containers', name, true, { detail }),
    finding('containers', 'users', ids !== 'single', {
      detail: ids === 'root' ? 'all ids of this machine' : 'a range of ids in a user namespace',
      optional: true,
      why: `one user id only (${machine.userName}): programs that change user or owner fail`,
    }),
  ]
}

/** An engine's error as a finding. Its hint is the remedy, unless it leads here. */
function withRemedy(name: string, error: string): Finding {
  const remedy = /Hint: (.*)/.exec(error)?.[1]
  const isUseful = remedy !== undefined && !remedy.includes('mayfly doctor')
  return finding('containers', name, false, { why: error.split('\n')[0] ?? '', ...(isUseful ? { remedy } : {}) })
}

function thisProcess({ machine, isRootless }: Context): Finding[] {
  const group = 'this process'
  const isNodeNew = compare(machine.nodeVersion, [20, 19]) >= 0
  const missing = ROOT_CAPABILITIES.split(' ').map((name) => `CAP_${name}`)
  const held = new Set(capabilityNames(machine.capabilities))
  const lacking = missing.filter((name) => !held.has(name))
  const isRoot = machine.uid === 0
  return [
    finding(group, 'node', isNodeNew, {
      detail: machine.nodeVersion,
      why: `${machine.nodeVersion} is older than 20.19`,
      remedy: 'install Node 20.19 or newer',
    }),
    finding(group, 'processor', machine.architecture === 'x64' || machine.architecture === 'arm64', {
      detail: machine.architecture,
      why: `${machine.architecture} has no prebuilt native program`,
      remedy: 'make -C native, in a checkout of mayfly',
    }),
    isRoot && lacking.length > 0
      ? finding(group, 'privileges', false, {
          optional: true,
          why: `root without ${lacking.join(', ')}${isRootless ? ': treated as an ordinary user' : ''}`,
          remedy: machine.surroundings === 'none' ? 'run as full root' : 'docker run --privileged …',
        })
      : finding(group, 'privileges', true, {
          detail: isRootless
            ? `ordinary user ${machine.userName} (${machine.uid}): containers live in a user namespace`
            : 'root, with every capability that is needed',
        }),
    finding(group, 'no_new_privs', !machine.noNewPrivileges, {
      detail: 'not set',
      optional: true,
      why: 'set: newuidmap and other setuid programs have no effect',
      remedy:
        machine.surroundings === 'kubernetes'
          ? 'set in the pod: allowPrivilegeEscalation: true'
          : 'start this process without no_new_privs',
    }),
    finding(group, 'seccomp', machine.seccompMode === 0, {
      detail: 'no filter on this process',
      optional: true,
      why: `this process runs under a filter (mode ${machine.seccompMode}), which containers inherit`,
    }),
    finding(group, 'surroundings', true, {
      detail: [machine.surroundings === 'none' ? 'not in a container' : `inside ${machine.surroundings}`, machine.ci]
        .filter(Boolean)
        .join(', '),
    }),
  ]
}

const NAMESPACES = ['pid', 'mount', 'network', 'ipc', 'uts', 'cgroup', 'time'] as const

function namespaces(context: Context): Finding[] {
  const { machine } = context
  const group = 'namespaces'
  const found: Finding[] = []
  if (context.isRootless) {
    found.push(
      finding(group, 'user', context.ok('user-namespace'), {
        detail: 'this user may make them',
        ...whyNoUserNamespace(context),
      }),
    )
    found.push(idRange(context))
  }
  const broken = NAMESPACES.filter((name) => !context.ok(`${name}-namespace`))
  const userNamespaceIsWhy = context.isBlocked
  found.push(
    finding(group, broken.length > 0 ? broken.join(', ') : NAMESPACES.join(', '), broken.length === 0, {
      why: userNamespaceIsWhy ? 'for want of a user namespace' : context.answer(`${broken[0]}-namespace`),
      ...(userNamespaceIsWhy
        ? {}
        : {
            remedy: context.isNested ? context.nestingRemedy : 'run as root, or on a kernel built with all namespaces',
          }),
    }),
  )
  if (!context.isRootless) {
    found.push(
      finding(group, 'user', context.ok('user-namespace'), {
        optional: true,
        why: `${context.answer('user-namespace')}; not needed as root`,
        detail:
          machine.sysctls['kernel.apparmor_restrict_unprivileged_userns'] === '1'
            ? 'for root; AppArmor restricts them for others'
            : 'may be made too',
      }),
    )
  }
  return found
}

/** The first cause that applies, from the most certain on. */
function whyNoUserNamespace(context: Context): Pick<Finding, 'why' | 'remedy'> {
  const { machine } = context
  const { sysctls } = machine
  const answer = context.answer('user-namespace')
  if (sysctls['user.max_user_namespaces'] === '0') {
    return { why: `${answer}; user.max_user_namespaces is 0`, remedy: 'sudo sysctl -w user.max_user_namespaces=15000' }
  }
  if (sysctls['kernel.unprivileged_userns_clone'] === '0') {
    return { why: `${answer}; only root may`, remedy: 'sudo sysctl -w kernel.unprivileged_userns_clone=1' }
  }
  if (sysctls['kernel.apparmor_restrict_unprivileged_userns'] === '1') {
    return {
      why: `${answer}; AppArmor takes their capabilities away`,
      remedy: 'sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
    }
  }
  if (context.isNested)
    return { why: `${answer}; the container around this process forbids it`, remedy: context.nestingRemedy }
  return { why: answer, remedy: 'sudo -E env "PATH=$PATH" npx mayfly doctor' }
}

function idRange(context: Context): Finding {
  const { machine } = context
  const name = 'range of ids'
  const consequence = 'containers have one user id only'
  if (context.ok('id-range')) return finding('namespaces', name, true, { detail: `${machine.subuid} by newuidmap` })
  const absent = (why: string, remedy?: string) =>
    finding('namespaces', name, false, { optional: true, why: `${why}; ${consequence}`, ...(remedy ? { remedy } : {}) })
  if (!machine.programs.includes('newuidmap') || !machine.programs.includes('newgidmap')) {
    return absent('newuidmap and newgidmap are not installed', 'sudo apt-get install uidmap')
  }
  if (!machine.subuid || !machine.subgid) {
    const user = machine.userName
    return absent(
      `${user} has no line in /etc/subuid and /etc/subgid`,
      `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${user}`,
    )
  }
  if (machine.noNewPrivileges) return absent('no_new_privs takes newuidmap’s power')
  return absent(context.answer('id-range'), 'sudo chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap')
}

function fileSystems(context: Context): Finding[] {
  const { machine, isRootless } = context
  const group = 'file systems'
  const nesting = context.isNested ? { remedy: context.nestingRemedy } : {}
  const overlay = isRootless ? 'overlay-userxattr' : 'overlay'
  const need = (name: string, probe: string) =>
    finding(group, name, context.ok(probe), { why: context.answer(probe), ...nesting })
  const option = (name: string, probe: string, consequence: string) =>
    finding(group, name, context.ok(probe), { optional: true, why: `${context.answer(probe)}; ${consequence}` })
  // What is tried lies in memory, where no kernel before 6.6 keeps a user's attributes: a removed directory that is made again needs one.
  const isMemoryWhy = isRootless && context.errno(overlay) === 'EIO'
  return [
    finding(group, 'overlay', context.ok(overlay) || isMemoryWhy, {
      detail: isRootless ? 'with userxattr, in a user namespace' : '',
      why: context.answer(overlay),
      remedy:
        context.errno(overlay) === 'ENODEV'
          ? 'sudo modprobe overlay'
          : context.isNested
            ? context.nestingRemedy
            : 'use Linux 5.11 or newer',
    }),
    ...(isMemoryWhy
      ? [
          finding(group, 'overlay in memory', false, {
            optional: true,
            why: 'with scratch: memory or a limited disk, a directory of the image cannot be removed and made again (EIO)',
            remedy: 'use Linux 6.6 or newer, or run as root',
          }),
        ]
      : []),
    option(
      'overlay, volatile',
      'overlay-volatile',
      'what is thrown away is flushed first (Linux 5.10 and newer need not)',
    ),
    finding(
      group,
      'tmpfs, bind mount, pivot_root, devpts, mqueue, sysfs',
      BASIC_MOUNTS.every((probe) => context.ok(probe)),
      {
        why: BASIC_MOUNTS.filter((probe) => !context.ok(probe))
          .map((probe) => context.answer(probe))
          .join('; '),
        ...nesting,
      },
    ),
    finding(group, '/proc', context.ok('proc'), {
      why: machine.isProcMasked
        ? `${context.answer('proc')}; parts of /proc are covered here, so no new one may be mounted`
        : context.answer('proc'),
      ...nesting,
    }),
    need('paths inside a root (openat2)', 'openat2'),
    isRootless
      ? need('devices by bind mount', 'bind-device')
      : finding(group, 'device nodes', context.ok('device-node'), {
          optional: true,
          why: `${context.answer('device-node')}; the host’s are bound instead`,
        }),
    option('cgroup2', 'cgroup2', 'containers see no /sys/fs/cgroup of version 2'),
  ]
}

const BASIC_MOUNTS = ['tmpfs', 'bind-mount', 'pivot-root', 'devpts', 'mqueue', 'sysfs']

function storeDisk(context: Context): Finding[] {
  const { store } = context.machine
  const group = 'file systems'
  return [
    storeLocation(context),
    finding(group, 'free space', store.freeBytes >= GIB, {
      detail: `${(store.freeBytes / GIB).toFixed(1)} GiB at ${store.existing}`,
      optional: true,
      why: `${(store.freeBytes / GIB).toFixed(2)} GiB left at ${store.existing}`,
      remedy: 'export MAYFLY_HOME=DIRECTORY on a larger disk',
    }),
  ]
}

function storeLocation(context: Context): Finding {
  const { store } = context.machine
  const name = `store ${store.home}`
  const failed = (why: string, remedy: string) => finding('file systems', name, false, { why, remedy })
  if (!store.isWritable)
    return failed(`${store.existing} is not writable`, 'export MAYFLY_HOME=DIRECTORY that is yours')
  // Where no overlay may be mounted at all, another place does not help.
  const isStoreWhy = !context.isRootless || context.errno('overlay-userxattr') !== 'EPERM'
  if (context.ok('overlay-on-store') || context.isBlocked || !isStoreWhy) {
    const surprising = store.options.filter(
      (option) => option === 'nodev' || option === 'nosuid' || option === 'noexec',
    )
    // Overlays are mounts of their own, so nodev and nosuid of what lies below do not reach into containers.
    return finding('file systems', name, true, { detail: [store.fileSystem, ...surprising].join(', ') })
  }
  const answer = `${context.answer('overlay-on-store')} on ${store.fileSystem}`
  if (store.fileSystem === 'overlay') {
    return failed(
      `${answer}: an overlay cannot be the upper layer of another`,
      `docker run --volume mayfly:${store.home} …`,
    )
  }
  return failed(answer, 'export MAYFLY_HOME=DIRECTORY on ext4, xfs, btrfs or tmpfs')
}

function network(context: Context, { info, networkError }: Trial): Finding[] {
  const group = 'network'
  const need = (name: string, probe: string, module: string, more: { optional?: boolean; consequence?: string } = {}) =>
    finding(group, name, context.ok(probe), {
      optional: more.optional ?? false,
      why: [context.answer(probe), more.consequence].filter(Boolean).join('; '),
      // A module is missing, rather than a permission.
      ...(context.errno(probe) === 'EPERM' ? {} : { remedy: `sudo modprobe ${module}` }),
    })
  const wayOut = { optional: true, consequence: 'no way out for containers' }
  const found = [
    need('veth', 'veth', 'veth'),
    need('bridge', 'bridge', 'bridge'),
    need('nftables, tproxy', 'nft-tproxy', 'nft_tproxy', wayOut),
    need('nftables, socket', 'nft-socket', 'nft_socket', wayOut),
    finding(group, 'published ports on ::1', context.ok('ipv6-loopback'), {
      optional: true,
      why: `${context.answer('ipv6-loopback')}; published on 127.0.0.1 only`,
    }),
  ]
  if (networkError !== undefined) {
    return [...found, finding(group, 'a session’s network', false, { why: networkError.split('\n')[0] ?? '' })]
  }
  if (!info) return found
  return [
    ...found,
    finding(group, 'way out of containers', info.hasEgress, {
      detail: 'through sockets of this host',
      optional: true,
      why: info.warnings.join('; ') || 'the engine found none',
    }),
    finding(group, 'containers’ addresses from this host', info.isHostReachable, {
      optional: true,
      why: context.isRootless ? 'needs root; published ports work' : 'no route; published ports work',
    }),
  ]
}

const LIMITS = [
  ['memory', 'cgroup-memory'],
  ['swap', 'cgroup-memory-swap'],
  ['cpu', 'cgroup-cpu'],
  ['cpuset', 'cgroup-cpuset'],
  ['pids', 'cgroup-pids'],
  ['blkio', 'cgroup-blkio'],
] as const

function limits(context: Context): Finding[] {
  const { machine, isRootless, probes } = context
  const group = 'limits'
  const mode = cgroupMode(probes.get('cgroups'))
  const isUseless = LIMITS.every(([, probe]) => !context.ok(probe))
  const remedy =
    machine.hasSystemd && isRootless && mode === 'v2'
      ? { remedy: 'systemd-run --user --scope -p Delegate=yes npm test' }
      : isRootless
        ? { remedy: 'run as root' }
        : context.isNested
          ? { remedy: 'docker run --privileged …' }
          : {}
  return [
    finding(group, 'control groups', mode !== undefined && mode !== 'none' && !isUseless, {
      detail: mode === 'hybrid' ? 'version 1 with version 2 beside it' : mode === 'v1' ? 'version 1' : 'version 2',
      optional: true,
      why: `none that this process may use${context.ok('cgroups') ? '' : ` (${context.answer('cgroups')})`}; containers start without limits`,
      ...remedy,
    }),
    ...LIMITS.map(([name, probe]) =>
      finding(group, name, context.ok(probe), {
        optional: true,
        why: `${context.answer(probe)}; a start with this limit fails`,
        ...remedy,
      }),
    ),
    // Nobody enforces them for an ordinary user, and nobody needs to: the kernel lets no user namespace make device nodes.
    finding(group, 'device rules', isRootless || context.ok('cgroup-devices'), {
      detail: isRootless ? 'not needed, for the user namespace keeps devices out' : '',
      optional: true,
      why: `${context.answer('cgroup-devices')}; the file system’s permissions decide`,
    }),
    finding(group, 'pause', context.ok('cgroup-freezer'), {
      optional: true,
      why: `${context.answer('cgroup-freezer')}; pause() fails`,
      ...remedy,
    }),
  ]
}

function cgroupMode(result: ProbeResult | undefined): string | undefined {
  const detail = result?.detail as { mode?: string } | undefined
  return detail?.mode
}

/** Without these nothing starts. */
const NEEDED: readonly (readonly [name: string, probe: string])[] = [
  ['clone3 (5.3)', 'clone3'],
  ['pidfd (5.3)', 'pidfd'],
  ['mounts by descriptor (5.2)', 'mount-api'],
  ['programs in memory (memfd)', 'memfd-exec'],
  ['seccomp filters (3.17)', 'seccomp-filter'],
]
const WELCOME: readonly (readonly [name: string, probe: string, consequence: string])[] = [
  ['start inside a control group (5.7)', 'clone-into-cgroup', 'a process moves itself there'],
  ['seccomp notification (5.5)', 'seccomp-notification', 'waitForPort() is not told by the kernel'],
  ['pidfd_getfd (5.6)', 'pidfd-getfd', 'waitForPort() is not told by the kernel'],
  ['mount_setattr (5.12)', 'mount-setattr', 'a bind mount with options for what is mounted below its source fails'],
  ['cgroup.kill (5.14)', 'cgroup-kill', 'processes are killed one by one'],
]

function kernel(context: Context): Finding[] {
  const { machine, isRootless } = context
  const least = isRootless ? MIN_KERNEL_ROOTLESS : MIN_KERNEL
  const isOldForUsers = isRootless && compare(machine.kernel, MIN_KERNEL) >= 0
  return [
    finding('kernel', 'Linux', compare(machine.kernel, least) >= 0, {
      detail: machine.kernel,
      why: `${machine.kernel} is older than ${least.join('.')}${isOldForUsers ? ', and lets only root mount overlays' : ''}`,
      remedy: isOldForUsers ? 'run as root, or use Linux 5.11 or newer' : `use Linux ${least.join('.')} or newer`,
    }),
    ...NEEDED.filter(([, probe]) => !(context.isBlocked && probe.startsWith('mount'))).map(([name, probe]) =>
      finding('kernel', name, context.ok(probe), {
        why: context.answer(probe),
        ...(context.isNested ? { remedy: context.nestingRemedy } : {}),
      }),
    ),
    ...WELCOME.map(([name, probe, consequence]) =>
      finding('kernel', name, context.ok(probe), { optional: true, why: `${context.answer(probe)}; ${consequence}` }),
    ),
  ]
}

/** Compares the first two numbers of a version. */
function compare(version: string, [major, minor]: readonly [number, number]): number {
  const [haveMajor = 0, haveMinor = 0] = version.split(/[.-]/).map(Number)
  return haveMajor - major || haveMinor - minor
}
