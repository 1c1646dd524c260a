import { describe, expect, it } from 'vitest'
import { MayflyError } from '../../../src/engine/errors.js'
import { ALL_CAPABILITIES, maskOf } from '../../../src/engine/launch/capabilities.js'
import type { HostDevice, JoinedContainer, SessionFacts } from '../../../src/engine/launch/facts.js'
import { planExec, planLaunch } from '../../../src/engine/launch/plan.js'
import { validateContainer, validateExec } from '../../../src/engine/launch/validate.js'

const ID = 'a'.repeat(64)
const OTHER_ID = 'b'.repeat(64)
const EXEC_ID = 'c'.repeat(64)
const TARGET = { id: ID, name: 'brisk_heron', layers: ['/layers/2', '/layers/1'] }
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const OTHER: JoinedContainer = {
  id: OTHER_ID,
  address: '10.83.4.7',
  gateway: '10.83.4.1',
  identity: {
    hostname: 'other',
    domainname: undefined,
    hosts: '127.0.0.1\tlocalhost\n@ADDRESS@\tother\n',
    resolvConf: 'nameserver @GATEWAY@\n',
  },
}
const HOST_DEVICES: Record<string, HostDevice[]> = {
  '/dev': [
    { path: '/dev/null', type: 'c', major: 1, minor: 3, mode: 0o666 },
    { path: '/dev/sda', type: 'b', major: 8, minor: 0, mode: 0o660 },
  ],
  '/dev/fuse': [{ path: '/dev/fuse', type: 'c', major: 10, minor: 229, mode: 0o666 }],
  '/dev/sda': [{ path: '/dev/sda', type: 'b', major: 8, minor: 0, mode: 0o660 }],
  '/dev/snd': [
    { path: '/dev/snd/seq', type: 'c', major: 116, minor: 1, mode: 0o660 },
    { path: '/dev/snd/timer', type: 'c', major: 116, minor: 33, mode: 0o660 },
  ],
}
const FACTS: SessionFacts = {
  arch: 'x64',
  kernel: '6.18.0',
  cpus: 2,
  capabilities: ALL_CAPABILITIES,
  kernelCapabilities: ALL_CAPABILITIES,
  limitsSwap: false,
  rootless: false,
  cgroups: 'v2',
  hostname: 'laptop',
  hosts: '127.0.0.1 localhost laptop',
  resolvConf: 'search corp.example lan\nnameserver 127.0.0.53\noptions edns0\n',
  hostDevices: (path) => HOST_DEVICES[path] ?? [],
  container(reference) {
    if (reference === 'other' || reference === OTHER_ID) return OTHER
    if (reference === ID) return { id: ID, address: '', gateway: '', identity: { ...OTHER.identity, hostname: 'me' } }
    throw new MayflyError('NO_SUCH_CONTAINER', `there is no container ${reference}`)
  },
  network(reference) {
    if (!['bridge', 'back', 'ba', 'inner'].includes(reference)) throw new MayflyError('NO_SUCH_NETWORK', reference)
    return { id: reference === 'bridge' ? reference : reference.slice(0, 2), isInternal: reference === 'inner' }
  },
  volumes: '/store/volumes',
}

const launch = (options: object = {}, facts: Partial<SessionFacts> = {}) =>
  planLaunch(
    validateContainer({ rootfs: { directory: '/r' }, command: ['true'], ...options }),
    { ...FACTS, ...facts },
    TARGET,
  )
const exec = (container: object, options: object, facts: Partial<SessionFacts> = {}) =>
  planExec(
    validateContainer({ rootfs: { directory: '/r' }, command: ['true'], ...container }),
    validateExec({ command: ['sh', '-c', 'id'], ...options }),
    { ...FACTS, ...facts },
    { id: ID, exec: EXEC_ID },
  )

/** Values of one key, in order. */
function valuesOf({ words }: { words: readonly string[] }, key: string): string[] {
  return words.filter((_, index) => index % 2 === 1 && words[index - 1] === key)
}
/** Mount steps as `kind target options data`, with `source → ` where there is one. */
function mountsOf({ words }: { words: readonly string[] }): string[] {
  const mounts: string[] = []
  for (let index = 0; index < words.length; index += 2) {
    const [key, value] = [words[index]!, words[index + 1]!]
    if (key === 'mount') mounts.push(value)
    else if (['source', 'target', 'options', 'data'].includes(key)) mounts[mounts.length - 1] += ` ${value}`
  }
  return mounts
}
/** Content of the file at this path. */
function fileOf({ words }: { words: readonly string[] }, path: string): string | undefined {
  const index = words.findIndex((word, at) => word === path && words[at - 1] === 'file')
  return index < 0 ? undefined : words[index + 2]
}

describe('planLaunch', () => {
  it('says all that Docker’s defaults are, in order', () => {
    const plan = launch()
    const [seccomp] = plan.programs.keys()
    expect(plan.words).toEqual([
      ...['id', ID, 'name', 'brisk_heron', 'hostname', 'aaaaaaaaaaaa', 'rm', '1'],
      ...['layer', '/layers/2', 'layer', '/layers/1'],
      ...['mount', 'proc', 'target', '/proc', 'options', 'nosuid,noexec,nodev'],
      ...['mount', 'tmpfs', 'target', '/dev', 'options', 'nosuid,strictatime', 'data', 'mode=755,size=65536k'],
      ...['mount', 'devpts', 'target', '/dev/pts', 'options', 'nosuid,noexec'],
      ...['data', 'newinstance,ptmxmode=0666,mode=0620,gid=5'],
      ...['mount', 'sysfs', 'target', '/sys', 'options', 'nosuid,noexec,nodev,ro'],
      ...['mount', 'cgroup', 'target', '/sys/fs/cgroup', 'options', 'nosuid,noexec,nodev,ro'],
      ...['mount', 'mqueue', 'target', '/dev/mqueue', 'options', 'nosuid,noexec,nodev'],
      ...['mount', 'tmpfs', 'target', '/dev/shm', 'options', 'nosuid,noexec,nodev', 'data', 'mode=1777,size=67108864'],
      ...['device', 'c:1:3:666:/dev/null', 'device', 'c:1:5:666:/dev/zero', 'device', 'c:1:7:666:/dev/full'],
      ...['device', 'c:1:8:666:/dev/random', 'device', 'c:1:9:666:/dev/urandom', 'device', 'c:5:0:666:/dev/tty'],
      ...['link', 'pts/ptmx:/dev/ptmx', 'link', '/proc/self/fd:/dev/fd', 'link', '/proc/self/fd/0:/dev/stdin'],
      ...[
        'link',
        '/proc/self/fd/1:/dev/stdout',
        'link',
        '/proc/self/fd/2:/dev/stderr',
        'link',
        '/proc/kcore:/dev/core',
      ],
      'device-rules',
      'allow c *:* m\nallow b *:* m\nallow c 1:3 rwm\nallow c 1:5 rwm\nallow c 1:7 rwm\nallow c 1:8 rwm\nallow c 1:9 rwm\n' +
        'allow c 5:0 rwm\nallow c 5:1 rwm\nallow c 5:2 rwm\nallow c 136:* rwm',
      ...['mask', '/proc/acpi', 'mask', '/proc/asound', 'mask', '/proc/interrupts', 'mask', '/proc/kcore'],
      ...['mask', '/proc/keys', 'mask', '/proc/latency_stats', 'mask', '/proc/sched_debug', 'mask', '/proc/scsi'],
      ...[
        'mask',
        '/proc/timer_list',
        'mask',
        '/proc/timer_stats',
        'mask',
        '/sys/devices/virtual/powercap',
        'mask',
        '/sys/firmware',
      ],
      ...[
        'mask',
        '/sys/devices/system/cpu/cpu0/thermal_throttle',
        'mask',
        '/sys/devices/system/cpu/cpu1/thermal_throttle',
      ],
      ...['readonly-path', '/proc/bus', 'readonly-path', '/proc/fs', 'readonly-path', '/proc/irq'],
      ...['readonly-path', '/proc/sys', 'readonly-path', '/proc/sysrq-trigger'],
      ...['file', '/etc/hosts', 'content'],
      '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n' +
        'ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n@ADDRESS@\taaaaaaaaaaaa\n',
      ...['file', '/etc/hostname', 'content', 'aaaaaaaaaaaa\n'],
      ...['file', '/etc/resolv.conf', 'content', 'nameserver @GATEWAY@\nsearch corp.example lan\noptions ndots:0\n'],
      ...['arg', 'true', 'default-env', PATH, 'default-env', 'HOSTNAME=aaaaaaaaaaaa'],
      ...[
        'user',
        '0',
        'workdir',
        '/',
        'caps',
        'a80425fb',
        'seccomp',
        seccomp,
        'umask',
        '0022',
        'log-bytes',
        '33554432',
      ],
    ])
    expect(plan.warnings).toEqual([])
    expect(plan.programs.get(seccomp!)!.length % 8).toBe(0)
  })

  it('passes on what the options say of the process', () => {
    const plan = launch({
      command: ['sh', '-c', 'echo "$A"'],
      env: { A: 'x=y', EMPTY: '' },
      user: 'app:staff',
      groups: ['audio', '1001'],
      workdir: '/srv/../app',
      createWorkdir: true,
      tty: { columns: 120, rows: 40 },
      stdin: true,
      init: true,
      remove: false,
      scratch: 'memory',
      readonlyRootfs: true,
      noNewPrivileges: true,
      oomScoreAdj: -5,
      logBytes: 4096,
      ulimits: { nofile: 1024, core: { soft: 0, hard: -1 } },
      sysctls: { 'net.core.somaxconn': '100' },
      hostname: 'db',
      domainname: 'example.org',
    })
    const expected: Record<string, string[]> = {
      arg: ['sh', '-c', 'echo "$A"'],
      env: ['A=x=y', 'EMPTY='],
      'default-env': [PATH, 'HOSTNAME=db', 'TERM=xterm'],
      user: ['app:staff'],
      'group-add': ['audio', '1001'],
      workdir: ['/srv/../app'],
      'workdir-create': ['1'],
      tty: ['1'],
      cols: ['120'],
      rows: ['40'],
      stdin: ['1'],
      init: ['1'],
      rm: [],
      upper: ['memory'],
      readonly: ['1'],
      'no-new-privileges': ['1'],
      'oom-score-adj': ['-5'],
      'log-bytes': ['4096'],
      rlimit: ['nofile:1024:1024', 'core:0:-1'],
      sysctl: ['net.core.somaxconn=100'],
      hostname: ['db'],
      domainname: ['example.org'],
    }
    for (const [key, values] of Object.entries(expected)) expect(valuesOf(plan, key), key).toEqual(values)
    expect(fileOf(plan, '/etc/hosts')).toContain('@ADDRESS@\tdb.example.org db\n')
  })

  it('is the same for equal input, and pure', () => {
    expect(launch({ env: { A: '1' } })).toEqual(launch({ env: { A: '1' } }))
  })
})

describe('mounts in a plan', () => {
  it('come after the default ones, those that others lie in first', () => {
    const plan = launch({
      mounts: [
        { type: 'bind', source: '/host/deep', target: '/data/a/b', readonly: true },
        { type: 'bind', source: '/host', target: '/data', propagation: 'rslave' },
        { type: 'tmpfs', target: '/t', sizeBytes: 4096 },
      ],
    })
    expect(mountsOf(plan).slice(7)).toEqual([
      'bind /host /data rec,rslave',
      'tmpfs /t nosuid,nodev,noexec size=4096',
      'bind /host/deep /data/a/b rec,rprivate,ro',
    ])
  })

  it('take the place of default mounts and files at the same target', () => {
    const plan = launch({
      mounts: [
        { type: 'tmpfs', target: '/dev/shm' },
        { type: 'bind', source: '/h', target: '/etc/hosts' },
      ],
    })
    expect(mountsOf(plan).filter((one) => one.includes('/dev/shm'))).toEqual(['tmpfs /dev/shm nosuid,nodev,noexec'])
    expect(fileOf(plan, '/etc/hosts')).toBeUndefined()
    expect(fileOf(plan, '/etc/hostname')).toBeDefined()
  })

  it('give /dev/shm the size that was asked for', () => {
    expect(mountsOf(launch({ shmSizeBytes: 1048576 }))).toContain(
      'tmpfs /dev/shm nosuid,noexec,nodev mode=1777,size=1048576',
    )
  })

  it('are the host’s for shared memory and queues with ipc host', () => {
    const plan = launch({ ipc: 'host' })
    expect(mountsOf(plan).slice(-2)).toEqual([
      'mqueue /dev/mqueue nosuid,noexec,nodev',
      'bind /dev/shm /dev/shm rprivate',
    ])
    expect(mountsOf(launch({ ipc: 'host' }, { rootless: true }))).not.toContain(
      'mqueue /dev/mqueue nosuid,noexec,nodev',
    )
    expect(valuesOf(plan, 'ipc')).toEqual(['host'])
  })
})

describe('a privileged plan', () => {
  const plan = launch({ privileged: true })

  it('covers nothing, filters nothing and allows every device', () => {
    for (const key of ['mask', 'readonly-path', 'seccomp', 'device-rules']) expect(valuesOf(plan, key), key).toEqual([])
    expect(plan.programs.size).toBe(0)
  })

  it('has all capabilities and all devices of the host, each once', () => {
    expect(valuesOf(plan, 'caps')).toEqual(['1ffffffffff'])
    const devices = valuesOf(plan, 'device')
    expect(devices).toContain('b:8:0:660:/dev/sda')
    expect(devices.filter((one) => one.endsWith(':/dev/null'))).toHaveLength(1)
  })

  it('may write to /sys and the control groups', () => {
    expect(mountsOf(plan)).toEqual(
      expect.arrayContaining(['sysfs /sys nosuid,noexec,nodev', 'cgroup /sys/fs/cgroup nosuid,noexec,nodev']),
    )
  })

  it('keeps a filter that the caller gave', () => {
    const own = launch({ privileged: true, seccomp: { defaultAction: 'SCMP_ACT_LOG' } })
    expect(valuesOf(own, 'seccomp')).toEqual([...own.programs.keys()])
    expect(own.programs.size).toBe(1)
  })

  it('says which capabilities this machine cannot give, and goes on', () => {
    const limited = launch({ privileged: true }, { capabilities: ALL_CAPABILITIES & ~maskOf(['CAP_SYS_RESOURCE']) })
    expect(valuesOf(limited, 'caps')).toEqual(['1fffeffffff'])
    expect(limited.warnings).toEqual(['this process cannot hand on CAP_SYS_RESOURCE: the container runs without'])
  })
})

describe('capabilities in a plan', () => {
  it('are refused when added by name and not to be had', () => {
    const facts = { capabilities: ALL_CAPABILITIES & ~maskOf(['CAP_SYS_RESOURCE']) }
    expect(() => launch({ capAdd: ['SYS_RESOURCE'] }, facts)).toThrow(
      expect.objectContaining({ code: 'CAPABILITY_UNAVAILABLE', field: 'capAdd[0]' }),
    )
  })

  it('are all to be had in a user namespace of our own', () => {
    expect(valuesOf(launch({ capAdd: ['ALL'] }, { rootless: true, capabilities: 0n }), 'caps')).toEqual(['1ffffffffff'])
  })

  it('choose the filter', () => {
    const usual = valuesOf(launch(), 'seccomp')
    expect(valuesOf(launch({ capAdd: ['SYS_ADMIN'] }), 'seccomp')).not.toEqual(usual)
    expect(valuesOf(launch({ env: { A: '1' } }), 'seccomp')).toEqual(usual)
    expect(valuesOf(launch({ seccomp: 'unconfined' }), 'seccomp')).toEqual([])
  })
})

describe('devices in a plan', () => {
  it('get a node and a rule each, with everything below a directory', () => {
    const plan = launch({
      devices: [
        { host: '/dev/fuse', permissions: 'rw' },
        { host: '/dev/snd', container: '/dev/sound' },
      ],
    })
    expect(valuesOf(plan, 'device').slice(6)).toEqual([
      'c:10:229:666:/dev/fuse',
      'c:116:1:660:/dev/sound/seq',
      'c:116:33:660:/dev/sound/timer',
    ])
    expect(valuesOf(plan, 'device-rules')[0]!.split('\n').slice(11)).toEqual([
      'allow c 10:229 rw',
      'allow c 116:1 rwm',
      'allow c 116:33 rwm',
    ])
  })

  it('are the host’s, bound, in a user namespace', () => {
    const plan = launch({ devices: [{ host: '/dev/fuse', container: '/dev/f' }] }, { rootless: true })
    expect(valuesOf(plan, 'device')).toEqual([
      ...['null', 'zero', 'full', 'random', 'urandom', 'tty'].map((name) => `bind:/dev/${name}:/dev/${name}`),
      'bind:/dev/fuse:/dev/f',
    ])
  })

  it('that are not there are refused', () => {
    expect(() => launch({ devices: [{ host: '/dev/none' }] })).toThrow(
      expect.objectContaining({ code: 'DEVICE_NOT_FOUND', field: 'devices[0].host', value: '/dev/none' }),
    )
  })
})

describe('a rootless plan', () => {
  it('does not name a group for terminals that may not be mapped', () => {
    expect(mountsOf(launch({}, { rootless: true }))).toContain(
      'devpts /dev/pts nosuid,noexec newinstance,ptmxmode=0666,mode=0620',
    )
  })

  it('binds /sys where a new one would be refused', () => {
    expect(mountsOf(launch({ network: 'host' }, { rootless: true }))).toContain(
      'bind /sys /sys rec,rprivate,nosuid,noexec,nodev,ro',
    )
    expect(mountsOf(launch({ network: 'none' }, { rootless: true }))).toContain('sysfs /sys nosuid,noexec,nodev,ro')
  })
})

describe('the network of a plan', () => {
  it('has published ports and further names', () => {
    const plan = launch({
      ports: [
        80,
        { container: 53, host: 5353, protocol: 'udp', hostIp: '127.0.0.2' },
        { container: 80, hostIp: '::1' },
      ],
      networkAliases: ['db', 'primary'],
    })
    expect(valuesOf(plan, 'publish')).toEqual(['tcp:*:0:80', 'udp:127.0.0.2:5353:53', 'tcp:::1:0:80'])
    expect(valuesOf(plan, 'dns-name')).toEqual(['db', 'primary'])
    expect(valuesOf(plan, 'net')).toEqual([])
  })

  it('knows further hosts, the gateway among them', () => {
    const hosts = fileOf(
      launch({ extraHosts: { api: '10.0.0.9', 'host.docker.internal': 'host-gateway' } }),
      '/etc/hosts',
    )!
    expect(hosts).toContain(
      'ff02::2\tip6-allrouters\n10.0.0.9\tapi\n@GATEWAY@\thost.docker.internal\n@ADDRESS@\taaaaaaaaaaaa\n',
    )
  })

  it('has several addresses of one host, and the short form of its own name', () => {
    const hosts = fileOf(
      launch({ extraHosts: { api: ['10.0.0.9', '10.0.0.8'] }, hostname: 'a.b.example' }),
      '/etc/hosts',
    )!
    expect(hosts).toContain('10.0.0.9\tapi\n10.0.0.8\tapi\n@ADDRESS@\ta.b.example a\n')
    const named = launch({ hostname: 'a.b', domainname: 'example' })
    expect(fileOf(named, '/etc/hosts')).toContain('@ADDRESS@\ta.b.example a.b a\n')
  })

  it('asks the name servers that were named, with their options', () => {
    const plan = launch({ dns: ['1.1.1.1', '9.9.9.9'], dnsSearch: ['.'], dnsOptions: ['ndots:2', 'rotate'] })
    expect(fileOf(plan, '/etc/resolv.conf')).toBe('nameserver 1.1.1.1\nnameserver 9.9.9.9\noptions ndots:2 rotate\n')
  })

  it('keeps the session’s name server when only the search list changes', () => {
    expect(fileOf(launch({ dnsSearch: ['a.example'] }), '/etc/resolv.conf')).toBe(
      'nameserver @GATEWAY@\nsearch a.example\noptions ndots:0\n',
    )
  })

  it('has no address without a network', () => {
    const plan = launch({ network: 'none' })
    expect(fileOf(plan, '/etc/hosts')).not.toContain('@ADDRESS@')
    expect(fileOf(plan, '/etc/resolv.conf')).toBe(FACTS.resolvConf)
    expect(valuesOf(plan, 'net')).toEqual(['none'])
  })

  it('has the host’s files and name in the host’s network', () => {
    const plan = launch({ network: 'host', extraHosts: { api: '10.0.0.9' } })
    expect(fileOf(plan, '/etc/hosts')).toBe('127.0.0.1 localhost laptop\n10.0.0.9\tapi\n')
    expect(fileOf(plan, '/etc/resolv.conf')).toBe(FACTS.resolvConf)
    expect(fileOf(plan, '/etc/hostname')).toBe('laptop\n')
    expect(valuesOf(plan, 'hostname')).toEqual(['laptop'])
  })

  it('replaces in the host’s resolv.conf only what was asked for', () => {
    const plan = launch({ network: 'host', dnsSearch: ['x.example'] })
    expect(fileOf(plan, '/etc/resolv.conf')).toBe('nameserver 127.0.0.53\nsearch x.example\n')
  })

  it('takes over the files of the container that it joins', () => {
    const plan = launch({ network: 'container:other' })
    expect(valuesOf(plan, 'net')).toEqual([`container:${OTHER_ID}`])
    expect(fileOf(plan, '/etc/hosts')).toBe('127.0.0.1\tlocalhost\n10.83.4.7\tother\n')
    expect(fileOf(plan, '/etc/resolv.conf')).toBe('nameserver 10.83.4.1\n')
    expect(valuesOf(plan, 'hostname')).toEqual(['other'])
    expect(plan.identity.hosts).toBe('127.0.0.1\tlocalhost\n10.83.4.7\tother\n')
  })

  it('fails for a container to join that is not there', () => {
    for (const key of ['network', 'pid', 'ipc']) {
      expect(() => launch({ [key]: 'container:nobody' })).toThrow(
        expect.objectContaining({ code: 'NO_SUCH_CONTAINER' }),
      )
    }
  })

  it('tells identity for those who join later', () => {
    expect(launch({ hostname: 'db' }).identity).toMatchObject({
      hostname: 'db',
      resolvConf: expect.stringContaining('@GATEWAY@'),
    })
  })
})

describe('namespaces in a plan', () => {
  it('are private unless told otherwise, and containers go by their ids', () => {
    const plan = launch({ pid: 'container:other', ipc: 'container:other', uts: 'host' })
    expect(valuesOf(plan, 'pid')).toEqual([`container:${OTHER_ID}`])
    expect(valuesOf(plan, 'ipc')).toEqual([`container:${OTHER_ID}`])
    expect(valuesOf(plan, 'uts')).toEqual(['host'])
    for (const key of ['pid', 'ipc', 'uts', 'net', 'cgroupns']) expect(valuesOf(launch(), key), key).toEqual([])
  })

  it('leave the host’s name alone with uts host', () => {
    const plan = launch({ uts: 'host' })
    expect(valuesOf(plan, 'hostname')).toEqual([])
    expect(valuesOf(plan, 'default-env')).toContain('HOSTNAME=laptop')
  })
})

describe('limits in a plan', () => {
  it('are in the warden’s units', () => {
    const plan = launch({
      limits: {
        memoryBytes: 2 ** 28,
        memorySwapBytes: -1,
        memoryReservationBytes: 2 ** 27,
        cpus: 1.5,
        cpuShares: 512,
        cpusetCpus: '0-1',
        cpusetMems: '0',
        pids: -1,
        blkioWeight: 300,
        deviceReadBps: [{ path: '/dev/sda', rate: 1048576 }],
        deviceWriteIops: [{ path: '/dev/sda', rate: 100 }],
      },
    })
    expect(valuesOf(plan, 'limit')).toEqual([
      ...[
        'memory=268435456',
        'memory-swap=-1',
        'memory-reservation=134217728',
        'cpu-period-us=100000',
        'cpu-quota-us=150000',
      ],
      ...['cpu-shares=512', 'cpuset-cpus=0-1', 'cpuset-mems=0', 'pids=-1', 'blkio-weight=300'],
      ...['read-bps=8:0 1048576', 'write-iops=8:0 100'],
    ])
  })

  it('allow as much swap as memory, where there is swap', () => {
    const limits = { memoryBytes: 2 ** 28 }
    expect(valuesOf(launch({ limits }), 'limit')).toEqual(['memory=268435456'])
    expect(valuesOf(launch({ limits }, { limitsSwap: true }), 'limit')).toEqual([
      'memory=268435456',
      'memory-swap=536870912',
    ])
  })

  it('on what is no block device are refused', () => {
    for (const path of ['/dev/none', '/dev/fuse', '/dev/snd']) {
      expect(() => launch({ limits: { deviceWriteBps: [{ path, rate: 1 }] } })).toThrow(
        expect.objectContaining({ code: 'DEVICE_NOT_FOUND', field: 'limits.deviceWriteBps[0].path', value: path }),
      )
    }
  })
})

describe('planExec', () => {
  it('runs as the container does unless told otherwise', () => {
    const container = {
      user: 'app',
      groups: ['audio'],
      workdir: '/srv',
      env: { A: '1', B: '2' },
      ulimits: { nofile: 64 },
      noNewPrivileges: true,
    }
    const plan = exec(container, {})
    expect(plan.words).toEqual([
      ...[
        'id',
        ID,
        'exec',
        EXEC_ID,
        'arg',
        'sh',
        'arg',
        '-c',
        'arg',
        'id',
        'default-env',
        PATH,
        'default-env',
        'HOSTNAME=me',
      ],
      ...['env', 'A=1', 'env', 'B=2', 'user', 'app', 'group-add', 'audio', 'workdir', '/srv'],
      ...[
        'caps',
        'a80425fb',
        'no-new-privileges',
        '1',
        'seccomp',
        [...launch().programs.keys()][0],
        'rlimit',
        'nofile:64:64',
      ],
    ])
  })

  it('prefers what the exec says', () => {
    const plan = exec(
      { user: 'app', workdir: '/srv', env: { A: '1', B: '2' } },
      { user: '0:0', workdir: '/', env: { B: 'x' }, tty: true, stdin: true, groups: ['audio'] },
    )
    expect(valuesOf(plan, 'user')).toEqual(['0:0'])
    expect(valuesOf(plan, 'workdir')).toEqual(['/'])
    expect(valuesOf(plan, 'env')).toEqual(['A=1', 'B=x'])
    expect(valuesOf(plan, 'default-env')).toContain('TERM=xterm')
    expect([...valuesOf(plan, 'cols'), ...valuesOf(plan, 'rows'), ...valuesOf(plan, 'stdin')]).toEqual([
      '80',
      '24',
      '1',
    ])
    expect(valuesOf(plan, 'group-add')).toEqual(['audio'])
  })

  it('has no filter and all capabilities when privileged, or in a privileged container', () => {
    for (const plan of [exec({}, { privileged: true }), exec({ privileged: true }, {})]) {
      expect(valuesOf(plan, 'caps')).toEqual(['1ffffffffff'])
      expect(valuesOf(plan, 'seccomp')).toEqual([])
    }
  })
})
