import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MayflyError } from '../../../src/engine/errors.js'
import { validateContainer, validateExec } from '../../../src/engine/launch/validate.js'

const MINIMAL = { rootfs: { directory: '/srv/root' }, command: ['true'] }
const complete = (more: object = {}) => validateContainer({ ...MINIMAL, ...more })

/** The error that these options cause. */
function refusal(more: object): MayflyError {
  try {
    complete(more)
  } catch (error) {
    expect(error).toBeInstanceOf(MayflyError)
    return error as MayflyError
  }
  throw new Error(`${JSON.stringify(more)} was accepted`)
}

describe('validateContainer', () => {
  it('completes everything with its default', () => {
    expect(complete()).toEqual({
      image: undefined,
      rootfs: { directory: '/srv/root' },
      entrypoint: [],
      exposedPorts: [],
      volumes: [],
      ownVolumes: [],
      volumesFrom: [],
      clockOffsetMs: 0,
      command: ['true'],
      env: {},
      groups: [],
      tty: false,
      stdin: false,
      privileged: false,
      name: undefined,
      hostname: undefined,
      domainname: undefined,
      user: '0',
      workdir: '/',
      createWorkdir: false,
      labels: {},
      remove: true,
      scratch: 'disk',
      readonlyRootfs: false,
      mounts: [],
      shmSizeBytes: 67108864,
      capAdd: [],
      capDrop: [],
      seccomp: 'default',
      noNewPrivileges: false,
      devices: [],
      sysctls: {},
      ulimits: {},
      limits: {},
      init: false,
      stopSignal: 15,
      stopTimeoutMs: 10000,
      pid: 'private',
      ipc: 'private',
      uts: 'private',
      network: 'bridge',
      networks: [],
      hostAccess: [],
      networkAliases: [],
      ports: [],
      extraHosts: {},
      dns: [],
      dnsSearch: [],
      dnsOptions: [],
      oomScoreAdj: undefined,
      logBytes: 33554432,
    })
  })

  it('returns something frozen to its depths and leaves what it was given alone', () => {
    const given = {
      ...MINIMAL,
      ports: [80, { container: 443 }],
      env: { A: '1' },
      limits: { deviceReadBps: [{ path: '/dev/sda', rate: 1 }] },
      seccomp: { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['mount'], action: 'SCMP_ACT_ERRNO' }] },
    }
    const copy = structuredClone(given)
    const frozen = (value: unknown): boolean =>
      typeof value !== 'object' || value === null || (Object.isFrozen(value) && Object.values(value).every(frozen))
    expect(frozen(validateContainer(given))).toBe(true)
    expect(given).toEqual(copy)
    expect(Object.isFrozen(given.env)).toBe(false)
  })

  it('brings values into their one form', () => {
    expect(
      complete({
        capAdd: ['net_admin', 'all'],
        ulimits: { nofile: 1024, nproc: { soft: 1, hard: -1 } },
        stopSignal: 'INT',
        tty: true,
        ports: [80, { container: 53, protocol: 'udp', host: 5353, hostIp: '::1' }],
        devices: [{ host: '/dev/fuse' }],
        user: '007:0',
        mounts: [{ type: 'bind', source: '/a//b/../c/', target: '/x/./y' }],
        tmpfs: { '/run': 'rw,exec,size=64m,mode=755' },
      }),
    ).toMatchObject({
      capAdd: ['CAP_NET_ADMIN', 'ALL'],
      ulimits: { nofile: { soft: 1024, hard: 1024 }, nproc: { soft: 1, hard: -1 } },
      stopSignal: 2,
      tty: { columns: 80, rows: 24 },
      ports: [
        { container: 80, host: 0, protocol: 'tcp', hostIp: '*' },
        { container: 53, host: 5353, protocol: 'udp', hostIp: '::1' },
      ],
      devices: [{ host: '/dev/fuse', container: '/dev/fuse', permissions: 'rwm' }],
      user: '7:0',
      mounts: [
        { type: 'bind', source: '/a/c', target: '/x/y', readonly: false, propagation: 'rprivate' },
        { type: 'tmpfs', target: '/run', flags: ['nosuid', 'nodev'], data: ['size=64m', 'mode=755'] },
      ],
    })
  })

  it('takes a mode of few digits', () => {
    const { mounts } = complete({ mounts: [{ type: 'tmpfs', target: '/t', mode: 0o7 }], tmpfs: { '/u': 'mode=0' } })
    expect(mounts.map((mount) => 'data' in mount && mount.data)).toEqual([['mode=7'], ['mode=0']])
  })

  it('takes a temporary file system with size and mode as fields', () => {
    const { mounts } = complete({
      mounts: [{ type: 'tmpfs', target: '/t', sizeBytes: 4096, mode: 0o1777, options: ['dev', 'ro'] }],
    })
    expect(mounts).toEqual([
      { type: 'tmpfs', target: '/t', flags: ['nosuid', 'noexec', 'ro'], data: ['size=4096', 'mode=1777'] },
    ])
  })

  it('keeps a variable named __proto__ a variable', () => {
    const { env } = complete({ env: JSON.parse('{"__proto__": "x", "A": "1"}') })
    expect(Object.entries(env)).toEqual([
      ['__proto__', 'x'],
      ['A', '1'],
    ])
  })

  it('takes a field that is undefined as absent', () => {
    expect(complete({ env: undefined, limits: { pids: undefined } })).toEqual(complete({ limits: {} }))
  })

  it('tells the nearest known option when one is unknown', () => {
    expect(refusal({ environment: {} }).message).toBe('environment: there is no such option; did you mean env?')
    expect(refusal({ shmSize: 1 }).message).toBe('shmSize: there is no such option; did you mean shmSizeBytes?')
    expect(refusal({ zzz: 1 }).message).toContain('Hint: known here: command, env,')
    expect(refusal({ hostName: 'x' }).message).toBe('hostName: there is no such option; did you mean hostname?')
    expect(refusal({ limits: { memoryBtyes: 1 } })).toMatchObject({
      code: 'INVALID_OPTION',
      field: 'limits.memoryBtyes',
      message: 'limits.memoryBtyes: there is no such option; did you mean memoryBytes?',
    })
    expect(refusal({ ulimits: { nofiles: 1 } }).message).toBe(
      'ulimits.nofiles: there is no such option; did you mean nofile?',
    )
  })

  it.each([undefined, null, 7, 'x', [], () => {}])('refuses %o in place of options', (value) => {
    expect(() => validateContainer(value)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  })

  it.each<[field: string, options: object]>([
    ['command', { command: undefined }],
    ['command', { command: [] }],
    ['command', { command: 'true' }],
    ['command[0]', { command: [''] }],
    ['command[1]', { command: ['true', 7] }],
    ['command[1]', { command: ['true', 'a\0b'] }],
    // biome-ignore lint/suspicious/noSparseArray: the hole is the point
    ['command[1]', { command: ['true', , 'b'] }],
    ['env', { env: { '': 'x' } }],
    ['env.A', { env: { 'A=B': 'x' } }],
    ['env["A?"]', { env: { 'A\0': 'x' } }],
    ['env.A', { env: { A: 'x\0' } }],
    ['env.A', { env: { A: null } }],
    ['env.A', { env: { A: 7 } }],
    ['env', { env: ['A=1'] }],
    ['rootfs', { rootfs: undefined }],
    ['rootfs', { rootfs: '/srv' }],
    ['rootfs', { rootfs: {} }],
    ['rootfs', { rootfs: { directory: '/a', tar: '/b' } }],
    ['rootfs.image', { rootfs: { image: 'x' } }],
    ['rootfs.directory', { rootfs: { directory: 'relative' } }],
    ['rootfs.directory', { rootfs: { directory: '/a\0' } }],
    ['rootfs.layers', { rootfs: { layers: [] } }],
    ['rootfs.layers[1]', { rootfs: { layers: ['/a', 'b'] } }],
    ['name', { name: '' }],
    ['name', { name: '-x' }],
    ['name', { name: 'a b' }],
    ['name', { name: 'a/b' }],
    ['name', { name: 'a'.repeat(254) }],
    ['hostname', { hostname: '' }],
    ['hostname', { hostname: '-a' }],
    ['hostname', { hostname: 'a..b' }],
    ['hostname', { hostname: 'a b' }],
    ['hostname', { hostname: 'a\nb' }],
    ['hostname', { hostname: 'a'.repeat(65) }],
    ['hostname', { hostname: 'a'.repeat(64) }],
    ['hostname', { hostname: 'x', uts: 'host' }],
    ['domainname', { domainname: 'a_.-' }],
    ['workdir', { workdir: 'app' }],
    ['workdir', { workdir: '' }],
    ['labels.a', { labels: { a: 1 } }],
    ['remove', { remove: 'yes' }],
    ['scratch', { scratch: 'tape' }],
    ['mounts', { mounts: {} }],
    ['mounts[0].type', { mounts: [{ source: '/a', target: '/b' }] }],
    ['mounts[0].type', { mounts: [null] }],
    ['mounts[0].source', { mounts: [{ type: 'bind', source: 'a', target: '/b' }] }],
    ['mounts[0].source', { mounts: [{ type: 'bind', target: '/b' }] }],
    ['mounts[0].target', { mounts: [{ type: 'bind', source: '/a', target: 'b' }] }],
    ['mounts[0].target', { mounts: [{ type: 'bind', source: '/a', target: '/' }] }],
    ['mounts[0].target', { mounts: [{ type: 'bind', source: '/a', target: '/x/..' }] }],
    ['mounts[0].target', { mounts: [{ type: 'bind', source: '/a', target: '/proc' }] }],
    ['mounts[0].target', { mounts: [{ type: 'tmpfs', target: '/x/../proc/sys' }] }],
    [
      'mounts[1].target',
      {
        mounts: [
          { type: 'tmpfs', target: '/a' },
          { type: 'tmpfs', target: '/a/' },
        ],
      },
    ],
    ['mounts[1].target', { mounts: [{ type: 'tmpfs', target: '/a' }], tmpfs: { '/a': '' } }],
    ['mounts[0].propagation', { mounts: [{ type: 'bind', source: '/a', target: '/b', propagation: 'all' }] }],
    ['mounts[0].options', { mounts: [{ type: 'tmpfs', target: '/a', options: ['size=lots'] }] }],
    ['mounts[0].options', { mounts: [{ type: 'tmpfs', target: '/a', options: ['__proto__'] }] }],
    ['mounts[0].mode', { mounts: [{ type: 'tmpfs', target: '/a', mode: 0o10000 }] }],
    ['tmpfs["/run"]', { tmpfs: { '/run': 'lowerdir=/etc' } }],
    ['tmpfs.run', { tmpfs: { run: '' } }],
    ['shmSizeBytes', { shmSizeBytes: 0 }],
    ['shmSizeBytes', { shmSizeBytes: '64m' }],
    ['capAdd[0]', { capAdd: ['NET_ADMON'] }],
    ['capDrop[0]', { capDrop: [''] }],
    ['seccomp', { seccomp: 'off' }],
    ['seccomp.defaultAction', { seccomp: {} }],
    ['seccomp.defaultAction', { seccomp: { defaultAction: 'SCMP_ACT_NOPE' } }],
    ['seccomp.defaultAction', { seccomp: { defaultAction: 'SCMP_ACT_NOTIFY' } }],
    [
      'seccomp.syscalls[0].action',
      { seccomp: { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['read'], action: 'KILL' }] } },
    ],
    [
      'seccomp.syscalls[0].args[0].op',
      {
        seccomp: {
          defaultAction: 'SCMP_ACT_ALLOW',
          syscalls: [{ names: ['read'], action: 'SCMP_ACT_KILL', args: [{ index: 0, value: 1, op: 'EQ' }] }],
        },
      },
    ],
    [
      'seccomp.syscalls[0].args[0].value',
      {
        seccomp: {
          defaultAction: 'SCMP_ACT_ALLOW',
          syscalls: [
            { names: ['read'], action: 'SCMP_ACT_KILL', args: [{ index: 0, value: 2 ** 64, op: 'SCMP_CMP_EQ' }] },
          ],
        },
      },
    ],
    ['devices[0].host', { devices: [{ host: 'dev/fuse' }] }],
    ['devices[0].permissions', { devices: [{ host: '/dev/fuse', permissions: 'rr' }] }],
    ['devices[0].permissions', { devices: [{ host: '/dev/fuse', permissions: 'rx' }] }],
    ['ulimits.nofile.soft', { ulimits: { nofile: { soft: 2, hard: 1 } } }],
    ['ulimits.nofile.soft', { ulimits: { nofile: { soft: -1, hard: 1 } } }],
    ['ulimits.nofile.soft', { ulimits: { nofile: -2 } }],
    ['ulimits.nofile', { ulimits: { nofile: '1024' } }],
    ['limits.memoryBytes', { limits: { memoryBytes: 512 * 1024 - 1 } }],
    ['limits.memoryBytes', { limits: { memoryBytes: -1 } }],
    ['limits.memoryBytes', { limits: { memoryBytes: '1g' } }],
    ['limits.memorySwapBytes', { limits: { memorySwapBytes: 2 ** 30 } }],
    ['limits.memorySwapBytes', { limits: { memoryBytes: 2 ** 30, memorySwapBytes: 2 ** 29 } }],
    ['limits.memoryReservationBytes', { limits: { memoryBytes: 2 ** 20, memoryReservationBytes: 2 ** 21 } }],
    ['limits.cpus', { limits: { cpus: 0 } }],
    ['limits.cpus', { limits: { cpus: Number.NaN } }],
    ['limits.cpus', { limits: { cpus: Number.POSITIVE_INFINITY } }],
    ['limits.cpuShares', { limits: { cpuShares: 1 } }],
    ['limits.cpuShares', { limits: { cpuShares: 262145 } }],
    ['limits.cpusetCpus', { limits: { cpusetCpus: '0-' } }],
    ['limits.cpusetCpus', { limits: { cpusetCpus: '3-1' } }],
    ['limits.pids', { limits: { pids: 0 } }],
    ['limits.blkioWeight', { limits: { blkioWeight: 9 } }],
    ['limits.deviceReadBps[0].rate', { limits: { deviceReadBps: [{ path: '/dev/sda', rate: 0 }] } }],
    ['stopSignal', { stopSignal: 'NOPE' }],
    ['stopTimeoutMs', { stopTimeoutMs: -2 }],
    ['pid', { pid: 'container:' }],
    ['pid', { pid: 'shared' }],
    ['ipc', { ipc: 'container:a b' }],
    ['uts', { uts: 'container:x' }],
    ['network', { network: 'macvlan' }],
    ['networkAliases[0]', { networkAliases: ['a b'] }],
    ['ports[0]', { ports: [0] }],
    ['ports[0]', { ports: [65536] }],
    ['ports[0]', { ports: ['80'] }],
    ['ports[1].container', { ports: [80, { container: 1.5 }] }],
    ['ports[0].host', { ports: [{ container: 80, host: 65536 }] }],
    ['ports[0].host', { ports: [{ container: 80, host: 0 }] }],
    ['ports[0].protocol', { ports: [{ container: 80, protocol: 'sctp' }] }],
    ['ports[0].hostIp', { ports: [{ container: 80, hostIp: 'localhost' }] }],
    ['ports[0].hostPort', { ports: [{ container: 80, hostPort: 80 }] }],
    ['ports', { ports: [80], network: 'none' }],
    ['ports', { ports: [80], network: 'container:x' }],
    ['extraHosts["a b"]', { extraHosts: { 'a b': '10.0.0.1' } }],
    ['extraHosts.db', { extraHosts: { db: 'other' } }],
    ['extraHosts.db[1]', { extraHosts: { db: ['10.0.0.1', 'other'] } }],
    ['extraHosts.db', { extraHosts: { db: '10.0.0.1\n10.0.0.2 evil' } }],
    ['dns[0]', { dns: ['ns.example'] }],
    ['dnsSearch[0]', { dnsSearch: ['a b'] }],
    ['dnsOptions[0]', { dnsOptions: ['ndots:1\nnameserver 1.2.3.4'] }],
    ['oomScoreAdj', { oomScoreAdj: 1001 }],
    ['logBytes', { logBytes: 4095 }],
    ['tty', { tty: 1 }],
    ['tty.rows', { tty: { columns: 80, rows: 0 } }],
    ['groups[0]', { groups: ['a:b'] }],
  ])('names %s as what is wrong in %j', (field, options) => {
    const error = refusal(options)
    expect(error).toMatchObject({ code: 'INVALID_OPTION', field })
    expect(error.message.startsWith(field)).toBe(true)
  })

  it('refuses sysctls of the host, and those of a namespace that is not the container’s', () => {
    for (const name of [
      'kernel.panic',
      'vm.swappiness',
      'net',
      'net..core',
      'net.//.kernel.panic',
      'kernel.shmmaxx',
      'net.core/../x',
      'net.a\nb',
    ]) {
      expect(refusal({ sysctls: { [name]: '1' } }), name).toMatchObject({ code: 'SYSCTL_REFUSED', value: name })
    }
    expect(refusal({ sysctls: { 'net.core.somaxconn': '1' }, network: 'host' }).message).toContain('network namespace')
    expect(refusal({ sysctls: { 'kernel.shmmax': '1' }, ipc: 'container:x' }).code).toBe('SYSCTL_REFUSED')
    const own = { 'net.core.somaxconn': '1', 'fs.mqueue.msg_max': '2', 'net.ipv4.conf.eth0/1.forwarding': '1' }
    expect(complete({ sysctls: own }).sysctls).toEqual(own)
  })

  it.each([
    '0',
    '1',
    '1:2',
    'name',
    'name:group',
    '1000:wheel',
    '2147483647',
    'www-data',
    '_apt',
    'user.name',
    'DOMAIN\\user',
    'user@realm',
    'samba$',
  ])('accepts the user %j', (user) => expect(complete({ user }).user).toBe(user))

  it.each([
    [':wheel', '0:wheel'],
    [':2000', '0:2000'],
    [':', '0'],
    ['1000:', '1000'],
    ['name:', 'name'],
  ])('takes the user %j for %j', (user, meant) => expect(complete({ user }).user).toBe(meant))

  it.each([
    '',
    '::',
    ':0x1',
    '0x1',
    ' 1',
    '1 ',
    '1\n',
    '1:2:3',
    '-1',
    '+1',
    '1.5',
    '1e3',
    '2147483648',
    '4294967295',
    '4294967296',
    '99999999999999999999',
    '0:4294967295',
    '0:-1',
    'a b',
    'a\tb',
    '1:0x1',
    '\u0000',
  ])('refuses the user %j', (user) =>
    expect(refusal({ user })).toMatchObject({ code: 'INVALID_OPTION', field: 'user', value: user }),
  )

  it.each(['ALL', 'CAP_SYS_ADMIN', 'sys_admin'])('accepts the capability %s', (name) => {
    expect(complete({ capAdd: [name] }).capAdd).toHaveLength(1)
  })

  it('accepts a profile with what Docker’s files have beside the rules', () => {
    const profile = {
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 1,
      archMap: [
        { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86'] },
        { architecture: 'SCMP_ARCH_RISCV64', subArchitectures: null },
      ],
      syscalls: [
        {
          names: ['read', 'no_such_call'],
          action: 'SCMP_ACT_ALLOW',
          args: null,
          comment: '',
          includes: {},
          excludes: { caps: ['CAP_SYS_ADMIN'] },
        },
        { name: 'write', action: 'SCMP_ACT_ALLOW', args: [{ index: 0, value: 1, op: 'SCMP_CMP_EQ' }] },
      ],
    }
    expect(complete({ seccomp: profile }).seccomp).toMatchObject({ defaultAction: 'SCMP_ACT_ERRNO' })
  })

  it('names command or env when they are longer than execve takes', () => {
    const megabyte = 'x'.repeat(120_000)
    const many = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`V${index}`, megabyte]))
    expect(refusal({ env: { BIG: 'x'.repeat(131_072) } })).toMatchObject({
      code: 'ARGUMENTS_TOO_LONG',
      field: 'env.BIG',
    })
    expect(refusal({ command: ['true', 'é'.repeat(65_536)] })).toMatchObject({
      code: 'ARGUMENTS_TOO_LONG',
      field: 'command[1]',
    })
    expect(refusal({ env: many(84) })).toMatchObject({ code: 'ARGUMENTS_TOO_LONG', field: 'env' })
    expect(refusal({ command: ['true', ...Object.values(many(84))] })).toMatchObject({
      code: 'ARGUMENTS_TOO_LONG',
      field: 'command',
    })
    expect(refusal({ command: Array(40_000).fill('x') })).toMatchObject({
      code: 'ARGUMENTS_TOO_LONG',
      field: 'command',
    })
    expect(complete({ env: { FITS: 'x'.repeat(131_072 - 'FITS='.length - 1) } }).env).toHaveProperty('FITS')
  })

  it('never shows the value of a variable or of an argument', () => {
    const secret = 'hunter2'
    const wrong = [
      { env: { PASSWORD: `${secret}\0` } },
      { env: { [`PASSWORD=${secret}`]: 'x' } },
      { env: { PASSWORD: { secret } } },
      { env: { PASSWORD: secret.repeat(20_000) } },
      { command: ['psql', `${secret}\0`] },
      { command: ['psql', secret.repeat(20_000)] },
    ]
    for (const options of wrong) {
      const error = refusal(options)
      expect(`${error.message} ${error.stack} ${JSON.stringify(error)}`).not.toContain(secret)
    }
  })

  it('throws nothing but its own error, whatever it is given', () => {
    const fields = Object.keys(complete())
    fc.assert(
      fc.property(
        fc.dictionary(fc.constantFrom(...fields, 'tmpfs', 'x'), fc.anything({ withNullPrototype: true })),
        (more) => {
          try {
            validateContainer({ ...MINIMAL, ...more })
          } catch (error) {
            expect(error).toBeInstanceOf(MayflyError)
            expect((error as MayflyError).field).toBeTypeOf('string')
          }
        },
      ),
      { numRuns: 2000 },
    )
  })
})

describe('validateExec', () => {
  it('leaves user and working directory to the container', () => {
    expect(validateExec({ command: ['true'] })).toEqual({
      command: ['true'],
      env: {},
      groups: [],
      tty: false,
      stdin: false,
      privileged: false,
      user: undefined,
      workdir: undefined,
    })
  })

  it('refuses what only containers have', () => {
    expect(() => validateExec({ command: ['true'], rootfs: { directory: '/' } })).toThrow(
      'rootfs: there is no such option',
    )
  })
})
