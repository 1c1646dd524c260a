/** What the doctor says about machines other than this one: facts and answers of the kernel in, sentences out. */
import { describe, expect, test } from 'vitest'
import { canRun, explain, type Finding } from '../../../src/engine/doctor/findings.js'
import type { Machine } from '../../../src/engine/doctor/machine.js'
import type { ProbeResult } from '../../../src/engine/doctor/probes.js'
import type { Trial } from '../../../src/engine/doctor/trial.js'

const EVERY_CAPABILITY = (1n << 41n) - 1n

const root: Machine = {
  platform: 'linux',
  architecture: 'x64',
  nodeVersion: '22.12.0',
  kernel: '6.8.0-45-generic',
  uid: 0,
  userName: 'root',
  capabilities: EVERY_CAPABILITY,
  noNewPrivileges: false,
  seccompMode: 0,
  surroundings: 'none',
  ci: undefined,
  isProcMasked: false,
  sysctls: {
    'user.max_user_namespaces': '15000',
    'kernel.unprivileged_userns_clone': undefined,
    'kernel.apparmor_restrict_unprivileged_userns': undefined,
    'vm.memfd_noexec': undefined,
  },
  subuid: undefined,
  subgid: undefined,
  programs: ['newuidmap', 'newgidmap'],
  hasSystemd: true,
  store: {
    home: '/var/lib/mayfly',
    existing: '/var/lib',
    isWritable: true,
    fileSystem: 'ext4',
    options: ['rw', 'relatime'],
    freeBytes: 50 * 1024 ** 3,
  },
}
const user: Machine = {
  ...root,
  uid: 1000,
  userName: 'ada',
  capabilities: 0n,
  subuid: '100000:65536',
  subgid: '100000:65536',
}

const trial: Trial = {
  durationMs: 2.5,
  info: {
    version: '0.1.0',
    pid: 1,
    launcher: 2,
    home: '/h',
    session: '/s',
    rootless: false,
    ids: 'root',
    cgroups: 'v2',
    subnet: '10.0.0.0/22',
    gateway: '10.0.0.1',
    hasEgress: true,
    isHostReachable: true,
    warnings: [],
  },
}

const NAMES =
  `user-namespace id-range pid-namespace mount-namespace network-namespace ipc-namespace uts-namespace cgroup-namespace
  time-namespace clone3 clone-into-cgroup pidfd pidfd-getfd memfd-exec seccomp-filter seccomp-notification tmpfs overlay
  overlay-userxattr overlay-volatile overlay-on-store bind-mount pivot-root proc sysfs devpts mqueue cgroup2 device-node bind-device
  openat2 mount-api mount-setattr veth bridge nft-tproxy nft-socket ipv6-loopback cgroups
  cgroup-memory cgroup-memory-swap cgroup-cpu cgroup-cpuset cgroup-pids cgroup-blkio cgroup-devices cgroup-freezer cgroup-kill`.split(
    /\s+/,
  )

/** A kernel that grants everything but these. */
function kernel(refusals: Record<string, Partial<ProbeResult>> = {}) {
  const results = NAMES.map((probe): ProbeResult => {
    const refusal = refusals[probe]
    if (refusal) return { probe, ok: false, step: 'call', errno: 'EPERM', ...refusal }
    return { probe, ok: true, ...(probe === 'cgroups' ? { detail: { mode: 'v2' } } : {}) }
  })
  return new Map(results.map((result) => [result.probe, result]))
}

const find = (findings: readonly Finding[], name: string) => {
  const found = findings.find((finding) => finding.name === name)
  if (!found) throw new Error(`No finding "${name}" among: ${findings.map((finding) => finding.name).join(', ')}`)
  return found
}

describe('the doctor', () => {
  test('finds nothing wrong where everything works', () => {
    const findings = explain(root, kernel(), trial)
    expect(findings.filter(({ verdict }) => verdict !== 'works')).toEqual([])
    expect(find(findings, 'a container runs').detail).toBe('call to exit and removal in 2.5 ms')
    expect(canRun(root, trial)).toBe(true)
  })

  test('says why a container did not run, and what the engine advises', () => {
    const failed = { error: 'Cannot start "x": mount overlay: EPERM\n  Hint: do this' }
    expect(find(explain(root, kernel(), failed), 'a container runs')).toMatchObject({
      verdict: 'fails',
      why: 'Cannot start "x": mount overlay: EPERM',
      remedy: 'do this',
    })
    expect(canRun(root, failed)).toBe(false)
  })

  test('knows the switch of Ubuntu 24.04', () => {
    const machine = { ...user, sysctls: { ...user.sysctls, 'kernel.apparmor_restrict_unprivileged_userns': '1' } }
    const probes = kernel({ 'user-namespace': { step: 'write', subject: '/proc/self/uid_map' }, 'pid-namespace': {} })
    const findings = explain(machine, probes, { error: 'no' })
    expect(find(findings, 'user')).toMatchObject({
      verdict: 'fails',
      why: 'write /proc/self/uid_map: EPERM; AppArmor takes their capabilities away',
      remedy: 'sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
    })
    expect(find(findings, 'pid').why).toBe('for want of a user namespace')
  })

  test.each([
    ['user.max_user_namespaces', '0', 'sudo sysctl -w user.max_user_namespaces=15000'],
    ['kernel.unprivileged_userns_clone', '0', 'sudo sysctl -w kernel.unprivileged_userns_clone=1'],
  ])('knows %s = %s', (name, value, remedy) => {
    const machine = { ...user, sysctls: { ...user.sysctls, [name]: value } }
    expect(find(explain(machine, kernel({ 'user-namespace': {} }), { error: 'no' }), 'user').remedy).toBe(remedy)
  })

  test.each([
    [{ surroundings: 'docker' }, 'docker run --security-opt seccomp=unconfined'],
    [{ surroundings: 'docker', ci: 'GitLab CI' }, 'privileged = true'],
    [{ surroundings: 'docker', ci: 'GitHub Actions' }, 'options: --privileged'],
    [{ surroundings: 'kubernetes' }, 'hostUsers: false'],
  ] as const)('inside %j it says what the container around it must be given', (where, remedy) => {
    const findings = explain({ ...user, ...where }, kernel({ 'user-namespace': {} }), { error: 'no' })
    expect(find(findings, 'user').remedy).toContain(remedy)
  })

  test('knows why no new /proc can be mounted inside Docker', () => {
    const machine: Machine = { ...root, surroundings: 'docker', isProcMasked: true }
    const finding = find(
      explain(machine, kernel({ proc: { step: 'mount', subject: 'proc' } }), { error: 'no' }),
      '/proc',
    )
    expect(finding.why).toBe('mount proc: EPERM; parts of /proc are covered here, so no new one may be mounted')
    expect(finding.remedy).toContain('systempaths=unconfined')
  })

  test('knows that an overlay cannot lie on an overlay', () => {
    const machine: Machine = { ...root, surroundings: 'docker', store: { ...root.store, fileSystem: 'overlay' } }
    const finding = find(
      explain(machine, kernel({ 'overlay-on-store': { errno: 'EINVAL' } }), { error: 'no' }),
      'store /var/lib/mayfly',
    )
    expect(finding).toMatchObject({ verdict: 'fails', remedy: 'docker run --volume mayfly:/var/lib/mayfly …' })
  })

  test('a store that cannot be written to is the end, whatever else works', () => {
    const machine: Machine = { ...user, store: { ...user.store, isWritable: false } }
    expect(find(explain(machine, kernel(), trial), 'store /var/lib/mayfly').why).toBe('/var/lib is not writable')
    expect(canRun(machine, trial)).toBe(false)
  })

  test.each([
    [{ programs: [] }, 'sudo apt-get install uidmap'],
    [{ subuid: undefined }, 'sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ada'],
    [{ noNewPrivileges: true }, undefined],
    [{}, 'sudo chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap'],
  ] as const)('a user without a range of ids, %j, has one id and is told how to get more', (facts, remedy) => {
    const finding = find(explain({ ...user, ...facts }, kernel({ 'id-range': {} }), trial), 'range of ids')
    expect(finding.verdict).toBe('absent')
    expect(finding.why).toContain('containers have one user id only')
    expect(finding.remedy).toBe(remedy)
  })

  test('a kernel without tproxy has no way out for containers, and one command that mends it', () => {
    const info = { ...trial.info!, hasEgress: false, warnings: ['no tproxy'] }
    const findings = explain(root, kernel({ 'nft-tproxy': { step: 'nft', subject: 'tproxy', errno: 'ENOENT' } }), {
      ...trial,
      info,
    })
    expect(find(findings, 'nftables, tproxy')).toMatchObject({
      verdict: 'absent',
      why: 'nft tproxy: ENOENT; no way out for containers',
      remedy: 'sudo modprobe nft_tproxy',
    })
    expect(find(findings, 'way out of containers')).toMatchObject({ verdict: 'absent', why: 'no tproxy' })
  })

  test('a network that cannot be made is a failure of its own where containers run without one', () => {
    const finding = find(
      explain(root, kernel(), { ...trial, networkError: 'no bridge\n  Hint: x' }),
      'a session’s network',
    )
    expect(finding).toMatchObject({ verdict: 'fails', why: 'no bridge' })
  })

  test('a limit that is not delegated is absent, not a failure, and names the unit that would have it', () => {
    const findings = explain(user, kernel({ 'cgroup-cpuset': { message: 'cpuset is not delegated' } }), trial)
    expect(find(findings, 'cpuset')).toMatchObject({
      verdict: 'absent',
      why: 'cpuset is not delegated; a start with this limit fails',
      remedy: 'systemd-run --user --scope -p Delegate=yes npm test',
    })
  })

  test('old versions are named', () => {
    const findings = explain({ ...root, nodeVersion: '20.9.0', kernel: '5.4.0-100-generic' }, kernel(), trial)
    expect(find(findings, 'node').why).toBe('20.9.0 is older than 20.19')
    expect(find(findings, 'Linux').why).toBe('5.4.0-100-generic is older than 5.10')
  })

  test('Linux 5.10 is new enough for root, and says why it is not for others', () => {
    const old = { kernel: '5.10.0-46-cloud-amd64' }
    const probes = kernel({ 'mount-setattr': { errno: 'ENOSYS' }, 'overlay-userxattr': { errno: 'EPERM' } })
    expect(find(explain({ ...root, ...old }, probes, trial), 'Linux').verdict).toBe('works')
    expect(find(explain({ ...root, ...old }, probes, trial), 'mount_setattr (5.12)').verdict).toBe('absent')
    expect(find(explain({ ...user, ...old }, probes, trial), 'Linux')).toMatchObject({
      verdict: 'fails',
      why: '5.10.0-46-cloud-amd64 is older than 5.11, and lets only root mount overlays',
      remedy: 'run as root, or use Linux 5.11 or newer',
    })
  })

  test('an overlay in memory that cannot make a directory anew is absent, and no failure of overlays', () => {
    const findings = explain(user, kernel({ 'overlay-userxattr': { errno: 'EIO' } }), trial)
    expect(find(findings, 'overlay').verdict).toBe('works')
    expect(find(findings, 'overlay in memory')).toMatchObject({
      verdict: 'absent',
      remedy: expect.stringContaining('6.6'),
    })
  })

  test('root without a capability is told which', () => {
    const machine: Machine = { ...root, surroundings: 'docker', capabilities: EVERY_CAPABILITY & ~(1n << 12n) }
    expect(find(explain(machine, kernel(), trial), 'privileges')).toMatchObject({
      why: 'root without CAP_NET_ADMIN',
      remedy: 'docker run --privileged …',
    })
  })
})
