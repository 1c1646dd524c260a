/**
 * Everything a caller can get wrong: a typed error at once, that names the option and what was wrong with it, and nothing
 * left of the attempt.
 */

import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ContainerOptions, Engine, MayflyError } from '../../src/index.js'
import { makeWorld, obstacle, type World } from '../engine/support/world.js'
import { expectNoMore, settledHoldings } from './holdings.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

/** A refusal that takes longer has tried too much first. */
const QUICK_MS = 5_000

describe.skipIf(why)('what is wrong is told and leaves nothing:', () => {
  let world: World
  let engine: Engine

  beforeAll(async () => {
    world = makeWorld()
    engine = await Engine.open({ home: world.home })
    mkdirSync(join(world.rootfs, 'data'))
    writeFileSync(join(world.rootfs, 'data/plain'), 'echo hi\n')
    writeFileSync(join(world.rootfs, 'data/script'), '#!/no/interpreter -x\n', { mode: 0o755 })
    writeFileSync(join(world.rootfs, 'data/nonsense'), 'nonsense', { mode: 0o755 })
    writeFileSync(join(world.rootfs, 'data/cut-off'), '\x7fELF', { mode: 0o755 })
    symlinkSync('/no/where', join(world.rootfs, 'data/dangling'))
    symlinkSync('loop', join(world.rootfs, 'data/loop'))
    // What is made once in a session and kept is made here: spare networks, groups of device rules.
    await engine.run(options(['true'], { ports: [80] }))
    await Promise.all(Array.from({ length: 4 }, () => engine.run(options(['true']))))
  })

  afterAll(async () => {
    await engine?.close()
    world?.remove()
  })

  const options = (command: readonly string[], more: Partial<ContainerOptions> = {}): ContainerOptions => ({
    rootfs: { directory: world.rootfs },
    command,
    ...more,
  })
  const start = (more: Partial<ContainerOptions> = {}, command: readonly string[] = ['sleep', '100']) =>
    engine.start(options(command, more))
  const wrong = (more: object) => () => start(more as Partial<ContainerOptions>)
  const program =
    (...command: string[]) =>
    () =>
      start({}, command)

  /** Does it, and looks at the error and at what is left. */
  async function refused(attempt: () => Promise<unknown>, expected: object, saying: RegExp): Promise<void> {
    const before = await settledHoldings(engine)
    const names = engine.containers().map(({ name }) => name)
    const started = performance.now()
    const error: MayflyError = await attempt().then(
      () => expect.unreachable('it was accepted'),
      (reason) => reason,
    )
    const elapsed = performance.now() - started
    expect(error).toBeInstanceOf(MayflyError)
    expect({ ...error, message: error.message }).toMatchObject(expected)
    expect(error.message).toMatch(saying)
    expect(error.message).not.toMatch(/\[object|\0/)
    expect(error.message.length).toBeLessThan(1_000)
    expect(elapsed).toBeLessThan(QUICK_MS)
    expect(engine.containers().map(({ name }) => name)).toEqual(names)
    await expectNoMore(engine, before)
  }

  describe('options', () => {
    test.each<[string, object, object, RegExp]>([
      ['unknown', { memroy: '1g' }, { code: 'INVALID_OPTION', field: 'memroy' }, /memroy/],
      [
        'unknown in limits',
        { limits: { memory: 1 } },
        { code: 'INVALID_OPTION', field: 'limits.memory' },
        /memoryBytes/,
      ],
      ['unknown in a port', { ports: [{ container: 80, hostPort: 1 }] }, { code: 'INVALID_OPTION' }, /hostPort/],
      [
        'unknown in a mount',
        { mounts: [{ type: 'bind', source: '/', target: '/m', ro: true }] },
        { code: 'INVALID_OPTION' },
        /\bro\b/,
      ],
      ['of another type', { env: ['A=1'] }, { code: 'INVALID_OPTION', field: 'env' }, /env/],
      [
        'a number as text',
        { limits: { pids: '10' } },
        { code: 'INVALID_OPTION', field: 'limits.pids', value: '10' },
        /10/,
      ],
      ['not a number', { stopTimeoutMs: Number.NaN }, { code: 'INVALID_OPTION', field: 'stopTimeoutMs' }, /NaN/],
      ['port 0', { ports: [0] }, { code: 'INVALID_OPTION', field: 'ports[0]', value: 0 }, /1.*65535/],
      [
        'port 65536',
        { ports: [{ container: 80, host: 65536 }] },
        { code: 'INVALID_OPTION', field: 'ports[0].host', value: 65536 },
        /65535/,
      ],
      [
        'port -1',
        { ports: [80, { container: -1 }] },
        { code: 'INVALID_OPTION', field: 'ports[1].container', value: -1 },
        /-1/,
      ],
      ['half a port', { ports: [80.5] }, { code: 'INVALID_OPTION', field: 'ports[0]', value: 80.5 }, /80\.5/],
      [
        'protocol',
        { ports: [{ container: 80, protocol: 'sctp' }] },
        { code: 'INVALID_OPTION', field: 'ports[0].protocol', value: 'sctp' },
        /tcp.*udp/,
      ],
      [
        'host address',
        { ports: [{ container: 80, hostIp: 'localhost' }] },
        { code: 'INVALID_OPTION', field: 'ports[0].hostIp' },
        /address/,
      ],
      [
        'an address of another host',
        { ports: [{ container: 80, hostIp: '192.0.2.1' }] },
        { code: 'INVALID_OPTION', field: 'ports[0].hostIp', value: '192.0.2.1' },
        /no address of this host/,
      ],
      ['ports without a network', { network: 'none', ports: [80] }, { code: 'INVALID_OPTION', field: 'ports' }, /none/],
      [
        'too little memory',
        { limits: { memoryBytes: 4096 } },
        { code: 'INVALID_OPTION', field: 'limits.memoryBytes', value: 4096 },
        /524288/,
      ],
      [
        'less swap than memory',
        { limits: { memoryBytes: 2 ** 30, memorySwapBytes: 2 ** 20 } },
        { code: 'INVALID_OPTION', field: 'limits.memorySwapBytes' },
        /1073741824/,
      ],
      ['no processors', { limits: { cpus: 0 } }, { code: 'INVALID_OPTION', field: 'limits.cpus', value: 0 }, /0/],
      [
        'capability',
        { capAdd: ['NET_ADMIM'] },
        { code: 'INVALID_OPTION', field: 'capAdd[0]', value: 'NET_ADMIM' },
        /NET_ADMI/,
      ],
      [
        'capability to drop',
        { capDrop: ['ALL', 'all of them'] },
        { code: 'INVALID_OPTION', field: 'capDrop[1]' },
        /all of them/,
      ],
      ['ulimit', { ulimits: { files: 10 } }, { code: 'INVALID_OPTION', field: 'ulimits.files' }, /files/],
      [
        'ulimit above its hard one',
        { ulimits: { nofile: { soft: 10, hard: 5 } } },
        { code: 'INVALID_OPTION', field: 'ulimits.nofile.soft' },
        /5/,
      ],
      [
        'sysctl of the host',
        { sysctls: { 'kernel.panic': '1' } },
        { code: 'SYSCTL_REFUSED', field: 'sysctls.kernel.panic' },
        /kernel\.panic/,
      ],
      [
        'sysctl that climbs',
        { sysctls: { 'net.ipv4/../../kernel/panic': '1' } },
        { code: 'SYSCTL_REFUSED' },
        /container/,
      ],
      ['sysctl that is none', { sysctls: { 'net.nope': '1' } }, { code: 'SYSCTL_REFUSED', value: '1' }, /net\.nope/],
      [
        'sysctl with a value that is none',
        { sysctls: { 'net.core.somaxconn': 'many' } },
        { code: 'SYSCTL_REFUSED', value: 'many' },
        /somaxconn/,
      ],
      ['signal', { stopSignal: 'SIGSTP' }, { code: 'INVALID_OPTION', field: 'stopSignal', value: 'SIGSTP' }, /SIGSTP/],
      ['signal number', { stopSignal: 65 }, { code: 'INVALID_OPTION', field: 'stopSignal', value: 65 }, /65/],
      [
        'device',
        { devices: [{ host: '/dev/no-such-device' }] },
        { code: 'DEVICE_NOT_FOUND', field: 'devices[0].host', value: '/dev/no-such-device' },
        /no-such-device/,
      ],
      [
        'a file as device',
        { devices: [{ host: '/etc/passwd' }] },
        { code: 'DEVICE_NOT_FOUND', field: 'devices[0].host' },
        /\/etc\/passwd/,
      ],
      [
        'device permissions',
        { devices: [{ host: '/dev/null', permissions: 'rx' }] },
        { code: 'INVALID_OPTION', field: 'devices[0].permissions' },
        /rx/,
      ],
      [
        'rate of a device that is none',
        { limits: { deviceReadBps: [{ path: '/dev/null', rate: 1 }] } },
        { code: 'DEVICE_NOT_FOUND', field: 'limits.deviceReadBps[0].path' },
        /block device/,
      ],
      ['no name', { name: '' }, { code: 'INVALID_OPTION', field: 'name', value: '' }, /name/],
      ['name with a slash', { name: '../x' }, { code: 'INVALID_OPTION', field: 'name', value: '../x' }, /name/],
      ['host name', { hostname: 'a b' }, { code: 'INVALID_OPTION', field: 'hostname', value: 'a b' }, /hostname/],
      ['host name too long', { hostname: 'a'.repeat(65) }, { code: 'INVALID_OPTION', field: 'hostname' }, /64/],
      ['host line', { extraHosts: { db: 'nowhere' } }, { code: 'INVALID_OPTION', field: 'extraHosts.db' }, /nowhere/],
      ['name server', { dns: ['example.com'] }, { code: 'INVALID_OPTION', field: 'dns[0]' }, /address/],
      ['network', { network: 'brigde' }, { code: 'INVALID_OPTION', field: 'network', value: 'brigde' }, /bridge/],
      [
        'container to share with: none named',
        { pid: 'container:' },
        { code: 'INVALID_OPTION', field: 'pid' },
        /container:/,
      ],
      ['container to share with: missing', { ipc: 'container:nope' }, { code: 'NO_SUCH_CONTAINER' }, /nope/],
      [
        'container to share with: itself',
        { name: 'self', network: 'container:self' },
        { code: 'NO_SUCH_CONTAINER' },
        /self/,
      ],
    ])('%s', async (_name, more, expected, saying) => {
      await refused(wrong(more), expected, saying)
    })

    test.each([undefined, null, 'alpine', [], 7, {}])('%j is no options', async (value) => {
      await refused(() => engine.start(value as never), { code: 'INVALID_OPTION' }, /./)
    })

    test.each([undefined, null, '', 'true', [], [''], ['true', 1], [null]])('%j is no command', async (value) => {
      await refused(() => engine.run(options(value as never)), { code: 'INVALID_OPTION' }, /command/)
    })
  })

  test.each<[string, object, string]>([
    ['command', { command: ['echo', 'a\0b'] }, 'command[1]'],
    ['env', { env: { A: '\0' } }, 'env.A'],
    ['env name', { env: { 'A\0B': 'x' } }, 'env'],
    ['workdir', { workdir: '/tmp\0' }, 'workdir'],
    ['user', { user: 'a\0' }, 'user'],
    ['groups', { groups: ['a\0'] }, 'groups[0]'],
    ['name', { name: 'a\0' }, 'name'],
    ['hostname', { hostname: 'a\0' }, 'hostname'],
    ['rootfs', { rootfs: { directory: '/\0' } }, 'rootfs.directory'],
    ['layer', { rootfs: { layers: ['/tmp', '/\0'] } }, 'rootfs.layers[1]'],
    ['mount source', { mounts: [{ type: 'bind', source: '/tmp\0', target: '/m' }] }, 'mounts[0].source'],
    ['mount target', { mounts: [{ type: 'bind', source: '/tmp', target: '/m\0' }] }, 'mounts[0].target'],
    ['tmpfs', { tmpfs: { '/t\0': '' } }, 'tmpfs'],
    ['tmpfs options', { tmpfs: { '/t': 'size=1\0' } }, 'tmpfs'],
    ['sysctl', { sysctls: { 'net.core.somaxconn': '1\0' } }, 'sysctls'],
    ['device', { devices: [{ host: '/dev/null\0' }] }, 'devices[0].host'],
    ['alias', { networkAliases: ['a\0'] }, 'networkAliases[0]'],
    ['search domain', { dnsSearch: ['a\0'] }, 'dnsSearch[0]'],
    ['resolver option', { dnsOptions: ['a\0'] }, 'dnsOptions[0]'],
    ['label', { labels: { a: '\0' } }, 'labels'],
    ['host line', { extraHosts: { 'a\0': '1.1.1.1' } }, 'extraHosts'],
  ])('a NUL byte in %s', async (_name, more, field) => {
    await refused(wrong(more), { code: 'INVALID_OPTION', field: expect.stringContaining(field) }, /./)
  })

  test('a line break where it would make another line of a file', async () => {
    for (const more of [
      { dnsOptions: ['a\nnameserver 1.1.1.1'] },
      { dnsSearch: ['a\nb'] },
      { extraHosts: { 'a\nb': '1.1.1.1' } },
    ])
      await refused(wrong(more), { code: 'INVALID_OPTION' }, /./)
  })

  test.each<[string, () => Promise<unknown>, object, RegExp]>([
    ['that is missing', program('nope'), { code: 'PROGRAM_NOT_FOUND', value: 'nope' }, /PATH/],
    [
      'that is missing, by path',
      program('/data/nope'),
      { code: 'PROGRAM_NOT_FOUND', value: '/data/nope' },
      /data\/nope/,
    ],
    ['that is a file below a file', program('/etc/passwd/nope'), { code: 'PROGRAM_NOT_FOUND' }, /passwd\/nope/],
    ['that is a dangling link', program('/data/dangling'), { code: 'PROGRAM_NOT_FOUND' }, /dangling/],
    ['that is a circle of links', program('/data/loop'), { code: expect.stringMatching(/^PROGRAM_NOT_/) }, /loop/],
    [
      'that is not executable',
      program('/data/plain'),
      { code: 'PROGRAM_NOT_EXECUTABLE', value: '/data/plain' },
      /not executable/,
    ],
    ['that is a directory', program('/data'), { code: 'PROGRAM_NOT_EXECUTABLE', value: '/data' }, /\/data/],
    [
      'that is a script without its interpreter',
      program('/data/script'),
      { code: 'PROGRAM_NOT_FOUND', value: '/data/script' },
      /interpreter/,
    ],
    ['that is nonsense', program('/data/nonsense'), { code: 'PROGRAM_NOT_EXECUTABLE' }, /no program for this machine/],
    ['that is cut off', program('/data/cut-off'), { code: 'PROGRAM_NOT_EXECUTABLE' }, /no program for this machine/],
    ['with a long name', program('x'.repeat(5000)), { code: expect.stringMatching(/^PROGRAM_NOT_/) }, /./],
    ['relative to the working directory', program('./nope'), { code: 'PROGRAM_NOT_FOUND', value: './nope' }, /nope/],
  ])('a program %s', async (_name, attempt, expected, saying) => {
    await refused(attempt, { field: 'command[0]', ...expected }, saying)
  })

  describe('users and directories', () => {
    test.each<[string, object, object, RegExp]>([
      ['user', { user: 'carol' }, { code: 'USER_NOT_FOUND', field: 'user', value: 'carol' }, /carol.*\/etc\/passwd/],
      [
        'group',
        { user: 'alice:nope' },
        { code: 'GROUP_NOT_FOUND', field: 'user', value: 'alice:nope' },
        /nope.*\/etc\/group/,
      ],
      ['group of a number', { user: '1000:nope' }, { code: 'GROUP_NOT_FOUND', field: 'user' }, /nope/],
      [
        'further group',
        { groups: ['staff', 'nope'] },
        { code: 'GROUP_NOT_FOUND', field: 'groups[1]', value: 'nope' },
        /nope/,
      ],
      [
        'user id beyond',
        { user: '4294967296' },
        { code: 'INVALID_OPTION', field: 'user', value: '4294967296' },
        /2147483647/,
      ],
      ['user id below', { user: '-1' }, { code: 'INVALID_OPTION', field: 'user', value: '-1' }, /user/],
      ['empty user', { user: '' }, { code: 'INVALID_OPTION', field: 'user', value: '' }, /user/],
      ['more than a user', { user: 'a:b:c' }, { code: 'INVALID_OPTION', field: 'user', value: 'a:b:c' }, /group/],
      [
        'working directory',
        { workdir: '/no/such' },
        { code: 'WORKDIR_NOT_FOUND', field: 'workdir', value: '/no/such' },
        /createWorkdir/,
      ],
      [
        'working directory that is a file',
        { workdir: '/etc/passwd' },
        { code: 'WORKDIR_NOT_FOUND', field: 'workdir' },
        /passwd/,
      ],
      [
        'working directory that is a file, to be made',
        { workdir: '/etc/passwd/x', createWorkdir: true },
        { code: 'WORKDIR_NOT_FOUND', field: 'workdir' },
        /passwd/,
      ],
      [
        'relative working directory',
        { workdir: 'tmp' },
        { code: 'INVALID_OPTION', field: 'workdir', value: 'tmp' },
        /absolute/,
      ],
      [
        'working directory through a descriptor',
        { workdir: '/proc/self/fd/7' },
        { code: expect.stringMatching(/^WORKDIR_/), field: 'workdir' },
        /fd/,
      ],
      [
        'working directory through a magic link',
        { workdir: '/proc/1/root' },
        { code: 'WORKDIR_ESCAPES', field: 'workdir', value: '/proc/1/root' },
        /leads out/,
      ],
    ])('%s', async (_name, more, expected, saying) => {
      await refused(wrong(more), expected, saying)
    })
  })

  describe('mounts', () => {
    test.each<[string, object, object, RegExp]>([
      [
        'source',
        { type: 'bind', source: '/no/source', target: '/m' },
        { code: 'MOUNT_SOURCE_NOT_FOUND', field: 'mounts[0].source', value: '/no/source' },
        /does not exist/,
      ],
      [
        'relative source',
        { type: 'bind', source: './x', target: '/m' },
        { code: 'INVALID_OPTION', field: 'mounts[0].source', value: './x' },
        /absolute/,
      ],
      [
        'file over a directory',
        { type: 'bind', source: '/etc/passwd', target: '/data' },
        { code: 'MOUNT_FAILED', value: '/data' },
        /directory/i,
      ],
      [
        'directory over a file',
        { type: 'bind', source: '/etc', target: '/etc/passwd' },
        { code: 'MOUNT_FAILED', value: '/etc/passwd' },
        /directory/i,
      ],
      [
        'below a file',
        { type: 'bind', source: '/etc', target: '/etc/passwd/x' },
        { code: 'MOUNT_FAILED' },
        /directory/i,
      ],
      [
        'over the root',
        { type: 'bind', source: '/etc', target: '/tmp/..' },
        { code: 'INVALID_OPTION', field: 'mounts[0].target' },
        /root/,
      ],
      [
        'in /proc',
        { type: 'bind', source: '/etc', target: '/proc/sys' },
        { code: 'INVALID_OPTION', field: 'mounts[0].target' },
        /\/proc/,
      ],
      [
        'through a circle',
        { type: 'bind', source: '/etc', target: '/data/loop/x' },
        { code: 'MOUNT_TARGET_ESCAPES', field: 'mounts[0].target' },
        /loop/,
      ],
      [
        'kind',
        { type: 'npipe', source: 'a', target: '/m' },
        { code: 'INVALID_OPTION', field: 'mounts[0].type', value: 'npipe' },
        /bind.*volume.*tmpfs/,
      ],
      [
        'tmpfs option',
        { type: 'tmpfs', target: '/t', options: ['sizes=1m'] },
        { code: 'INVALID_OPTION', value: 'sizes=1m' },
        /sizes=1m/,
      ],
      [
        'tmpfs over a file',
        { type: 'tmpfs', target: '/etc/passwd' },
        { code: 'MOUNT_FAILED', value: '/etc/passwd' },
        /directory/i,
      ],
    ])('%s', async (_name, mount, expected, saying) => {
      await refused(wrong({ mounts: [mount] }), expected, saying)
    })

    test('two at one target, however it is written', async () => {
      const mounts = [
        { type: 'tmpfs', target: '/data' },
        { type: 'bind', source: '/etc', target: '//data/x/../' },
      ]
      await refused(
        wrong({ mounts }),
        { code: 'INVALID_OPTION', field: 'mounts[1].target', value: '/data' },
        /one mount/,
      )
      await refused(wrong({ mounts: [mounts[0]], tmpfs: { '/data/': '' } }), { code: 'INVALID_OPTION' }, /\/data/)
    })

    test('a target that leads to the host through a link of another mount', async () => {
      const shared = join(world.directory, 'shared')
      mkdirSync(shared)
      symlinkSync(`../../../../../..${world.directory}/outside`, join(shared, 'up'))
      mkdirSync(join(world.directory, 'outside'))
      const mounts = [
        { type: 'bind', source: shared, target: '/shared' },
        { type: 'tmpfs', target: '/shared/up/in' },
      ]
      // It stays inside: either refused, or the path is made in the container. The host's directory is never touched.
      const before = await settledHoldings(engine)
      await start({ mounts } as never, ['true']).then(
        (container) => container.wait(),
        () => {},
      )
      expect(readdirSync(join(world.directory, 'outside'))).toEqual([])
      await expectNoMore(engine, before)
    })
  })

  describe('seccomp profiles', () => {
    test.each<[string, unknown, object, RegExp]>([
      [
        'action',
        { defaultAction: 'SCMP_ACT_NOPE' },
        { code: 'INVALID_OPTION', value: 'SCMP_ACT_NOPE' },
        /SCMP_ACT_NOPE/,
      ],
      ['without a default', { syscalls: [] }, { code: 'INVALID_OPTION' }, /defaultAction/],
      [
        'operator',
        {
          defaultAction: 'SCMP_ACT_ALLOW',
          syscalls: [{ names: ['read'], action: 'SCMP_ACT_ERRNO', args: [{ index: 0, value: 1, op: '==' }] }],
        },
        { code: 'INVALID_OPTION' },
        /==/,
      ],
      [
        'argument',
        {
          defaultAction: 'SCMP_ACT_ALLOW',
          syscalls: [{ names: ['read'], action: 'SCMP_ACT_ERRNO', args: [{ index: 9, value: 1, op: 'SCMP_CMP_EQ' }] }],
        },
        { code: 'INVALID_OPTION' },
        /9/,
      ],
      ['a path', '/etc/seccomp.json', { code: 'INVALID_OPTION', field: 'seccomp' }, /unconfined/],
      ['null', null, { code: 'INVALID_OPTION', field: 'seccomp' }, /null/],
      ['a list', [], { code: 'INVALID_OPTION', field: expect.stringContaining('seccomp') }, /./],
    ])('%s', async (_name, seccomp, expected, saying) => {
      await refused(wrong({ seccomp }), expected, saying)
    })

    test('that forbids the start itself ends the container, not the engine', async () => {
      const before = await settledHoldings(engine)
      const started = performance.now()
      const outcome = await engine
        .run(options(['true'], { seccomp: { defaultAction: 'SCMP_ACT_KILL_PROCESS' } }))
        .catch((error) => error)
      expect(performance.now() - started).toBeLessThan(QUICK_MS)
      if (outcome instanceof Error) expect(outcome).toBeInstanceOf(MayflyError)
      else expect(outcome).toMatchObject({ exitCode: 159, signal: 'SIGSYS' })
      await expectNoMore(engine, before)
    })
  })

  describe('size', () => {
    test.each<[string, () => object, string, RegExp]>([
      ['10 MB of environment in one variable', () => ({ A: 'x'.repeat(10_000_000) }), 'env.A', /131071/],
      [
        '10 MB of environment in many',
        () => Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`A${i}`, 'x'.repeat(100_000)])),
        'env',
        /bytes/,
      ],
      ['one variable of 200 KB', () => ({ LARGE: 'x'.repeat(200_000) }), 'env.LARGE', /131071/],
      [
        '50,000 variables',
        () => Object.fromEntries(Array.from({ length: 50_000 }, (_, i) => [`A${i}`, ''])),
        'env',
        /too many/,
      ],
    ])('%s', async (_name, env, field, saying) => {
      await refused(() => start({ env: env() as never }), { code: 'ARGUMENTS_TOO_LONG', field }, saying)
    })

    test('what the kernel takes is taken', async () => {
      const env = { LARGE: 'x'.repeat(131_071 - 'LARGE='.length) }
      const { stdout } = await engine.run(options(['sh', '-c', 'printf %s "$LARGE" | wc -c'], { env }))
      expect(stdout).toBe(`${env.LARGE.length}\n`)
    })

    test('secrets are never shown', async () => {
      for (const more of [
        { env: { A: 'hunter2\0' } },
        { env: { 'hunter2=': 'hunter2' } },
        { env: { A: ['hunter2'] } },
      ]) {
        const error = await wrong(more)().catch((reason) => reason)
        expect(`${error.message}${JSON.stringify({ ...error, field: '' })}`).not.toContain('hunter2\0')
        if (!JSON.stringify(error.field).includes('hunter2')) expect(error.message).not.toContain('hunter2')
      }
    })
  })

  describe('root file systems', () => {
    test.each<[string, () => object, object, RegExp]>([
      [
        'missing',
        () => ({ directory: '/no/rootfs' }),
        { code: 'ROOTFS_NOT_FOUND', field: 'rootfs.directory', value: '/no/rootfs' },
        /does not exist/,
      ],
      [
        'a file',
        () => ({ directory: join(world.rootfs, 'etc/passwd') }),
        { code: 'ROOTFS_INVALID', field: 'rootfs.directory' },
        /passwd/,
      ],
      [
        'a layer that is a file',
        () => ({ layers: [world.rootfs, '/etc/passwd'] }),
        { code: 'ROOTFS_INVALID', field: 'rootfs.layers[1]' },
        /passwd/,
      ],
      ['no layers', () => ({ layers: [] }), { code: 'INVALID_OPTION', field: 'rootfs.layers' }, /at least one/],
      [
        'a layer twice',
        () => ({ layers: [world.rootfs, world.rootfs] }),
        { code: expect.stringMatching(/^(ROOTFS_INVALID|INVALID_OPTION)$/), field: expect.stringContaining('rootfs') },
        /once/,
      ],
      ['relative', () => ({ directory: 'rootfs' }), { code: 'INVALID_OPTION', field: 'rootfs.directory' }, /absolute/],
      [
        'of two kinds',
        () => ({ directory: '/', tar: '/x' }),
        { code: 'INVALID_OPTION', field: 'rootfs' },
        /one of them/,
      ],
      [
        'a tar that is missing',
        () => ({ tar: '/no/such.tar' }),
        { code: 'ROOTFS_NOT_FOUND', field: 'rootfs.tar', value: '/no/such.tar' },
        /no\/such\.tar/,
      ],
      [
        'a tar that is a directory',
        () => ({ tar: world.rootfs }),
        { code: 'ROOTFS_INVALID', field: 'rootfs.tar' },
        /rootfs/,
      ],
      [
        'a tar that is text',
        () => ({ tar: written('text.tar', 'this is no tar\n'.repeat(1000)) }),
        { code: 'ROOTFS_INVALID', field: 'rootfs.tar' },
        /text\.tar/,
      ],
      ['a tar that is cut off', () => ({ tar: cutOff() }), { code: 'ROOTFS_INVALID', field: 'rootfs.tar' }, /cut\.tar/],
      [
        'a gzip that is broken',
        () => ({ tar: written('broken.tar.gz', '\x1f\x8b\x08nonsense') }),
        { code: 'ROOTFS_INVALID', field: 'rootfs.tar' },
        /broken\.tar\.gz/,
      ],
    ])('%s', async (_name, rootfs, expected, saying) => {
      const layers = () =>
        readdirSync(world.home, { recursive: true })
          .filter((name) => String(name).startsWith('layers/'))
          .sort()
      const before = layers()
      await refused(() => start({ rootfs: rootfs() as never }), expected, saying)
      expect(layers()).toEqual(before)
    })

    test('a tar that climbs out of its directory', async () => {
      const tar = join(world.directory, 'climb.tar')
      writeFileSync(join(world.directory, 'evil'), 'evil')
      execFileSync('tar', [
        '-cPf',
        tar,
        '--transform',
        's,.*/evil,../../../escaped-evil,',
        join(world.directory, 'evil'),
      ])
      const before = await settledHoldings(engine)
      await engine
        .run(options(['true'], { rootfs: { tar } }))
        .catch((error) => expect(error).toBeInstanceOf(MayflyError))
      const everything = readdirSync(world.directory, { recursive: true }).map(String)
      // Refused, or kept below the layer's root: never beside it.
      for (const path of everything.filter((one) => one.endsWith('escaped-evil')))
        expect(path).toMatch(/^home\/layers\/[^/]+\/(.*\/)?escaped-evil$/)
      await expectNoMore(engine, before)
    })

    test('nothing in it', async () => {
      const directory = join(world.directory, 'nothing')
      mkdirSync(directory)
      await refused(() => start({ rootfs: { directory } }), { code: 'PROGRAM_NOT_FOUND', value: 'sleep' }, /sleep/)
      await refused(() => start({ rootfs: { directory } }, ['/bin/x']), { code: 'PROGRAM_NOT_FOUND' }, /\/bin\/x/)
      // As tar(1) has it, a file without a byte is an archive without an entry.
      const tar = written('empty.tar', '')
      await refused(() => start({ rootfs: { tar } }), { code: 'PROGRAM_NOT_FOUND', value: 'sleep' }, /sleep/)
      expect(readdirSync(directory)).toEqual([])
    })

    test('no passwd: numbers work, names are told', async () => {
      const directory = join(world.directory, 'bare')
      mkdirSync(join(directory, 'bin'), { recursive: true })
      execFileSync('cp', ['/bin/busybox', join(directory, 'bin/busybox')])
      const rootfs = { directory }
      const { stdout } = await engine.run({ rootfs, command: ['/bin/busybox', 'id'], user: '12:34', groups: ['56'] })
      expect(stdout).toBe('uid=12 gid=34 groups=34,56\n')
      expect((await engine.run({ rootfs, command: ['/bin/busybox', 'id', '-u'] })).stdout).toBe('0\n')
      await refused(
        () => start({ rootfs, user: 'alice' }, ['/bin/busybox', 'id']),
        { code: 'USER_NOT_FOUND', value: 'alice' },
        /alice/,
      )
      await refused(
        () => start({ rootfs, user: '0:staff' }, ['/bin/busybox', 'id']),
        { code: 'GROUP_NOT_FOUND' },
        /staff/,
      )
    })

    const written = (name: string, content: string) => {
      const path = join(world.directory, name)
      writeFileSync(path, content, 'latin1')
      return path
    }
    const cutOff = () => {
      const path = join(world.directory, 'cut.tar')
      execFileSync('sh', ['-c', `tar -C '${world.rootfs}' -cf - . | head -c 500000 > '${path}'`])
      return path
    }
  })

  describe('ports in use', () => {
    const inUse = (port: number, ip: RegExp) =>
      [{ code: 'PORT_IN_USE', field: expect.stringMatching(/^ports\[\d\]\.host$/), value: port }, ip] as const

    test.each(['127.0.0.1', '::1', '::', '0.0.0.0'])('by another process on %s', async (host) => {
      const server = createServer().listen(0, host)
      await once(server, 'listening')
      const { port } = server.address() as { port: number }
      await refused(
        wrong({ ports: [81, { container: 80, host: port }] }),
        ...inUse(port, new RegExp(`${port}.*in use`)),
      )
      server.close()
      await once(server, 'close')
      // The refused attempt holds nothing: it works now.
      await using container = await start({ ports: [{ container: 80, host: port }] })
      expect(container.port(80)).toBe(port)
    })

    test('by another process, UDP', async () => {
      const socket = createSocket('udp6').bind(0, '::1')
      await once(socket, 'listening')
      const { port } = socket.address()
      await refused(wrong({ ports: [{ container: 53, host: port, protocol: 'udp' }] }), ...inUse(port, /in use/))
      socket.close()
    })

    test('by another container', async () => {
      await using first = await start({ ports: [80] })
      const port = first.port(80)
      await refused(wrong({ ports: [{ container: 8080, host: port }] }), ...inUse(port, /in use/))
      // The same number of the other protocol is free.
      await using second = await start({ ports: [{ container: 80, host: port, protocol: 'udp' }] })
      expect(second.port(80, 'udp')).toBe(port)
    })

    test('twice in one container', async () => {
      const server = createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as { port: number }
      server.close()
      await once(server, 'close')
      const ports = [
        { container: 80, host: port },
        { container: 81, host: port },
      ]
      await refused(
        wrong({ ports }),
        { code: expect.stringMatching(/^(PORT_IN_USE|INVALID_OPTION)$/), field: 'ports[1].host', value: port },
        new RegExp(String(port)),
      )
    })
  })

  describe('at the wrong time', () => {
    test('a name that is taken, by one running, one created and one exited', async () => {
      for (const prepare of [
        async () => start({ name: 'taken' }),
        async () => engine.create(options(['true'], { name: 'taken' })),
        async () => {
          const container = await start({ name: 'taken', remove: false }, ['true'])
          await container.wait()
          return container
        },
      ]) {
        await using _first = await prepare()
        await using other = await start({ name: 'other' })
        await refused(wrong({ name: 'taken' }), { code: 'NAME_TAKEN', field: 'name', value: 'taken' }, /taken/)
        await refused(() => engine.run(options(['true'], { name: 'taken' })), { code: 'NAME_TAKEN' }, /taken/)
        await refused(() => other.rename('taken'), { code: 'NAME_TAKEN', field: 'name', value: 'taken' }, /taken/)
        await refused(() => other.rename('a/b'), { code: 'INVALID_OPTION', field: 'name', value: 'a/b' }, /name/)
        expect(other.name).toBe('other')
      }
    })

    test('one of two that ask for a name at once gets it', async () => {
      const outcomes = await Promise.allSettled([start({ name: 'twin' }), start({ name: 'twin' })])
      expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
      await engine.get('twin').remove({ force: true })
    })

    test('a container that was not started', async () => {
      await using container = await engine.create(options(['true'], { name: 'fresh' }))
      const expected = { code: 'CONTAINER_NOT_RUNNING', container: 'fresh' }
      await refused(() => container.exec(['true']), expected, /fresh/)
      await refused(() => container.kill(), expected, /fresh/)
      await refused(() => container.pause(), expected, /fresh/)
      await refused(() => container.unpause(), expected, /fresh/)
      await refused(() => container.attach(), expected, /fresh/)
      await refused(() => container.waitForPort(80), expected, /fresh/)
      await refused(
        () => start({ pid: 'container:fresh' }),
        { code: 'CONTAINER_NOT_RUNNING', field: 'pid', value: 'container:fresh' },
        /not running/,
      )
    })

    test('a container that has ended', async () => {
      await using container = await start({ name: 'over', remove: false }, ['sh', '-c', 'exit 3'])
      await container.wait()
      const expected = { code: 'CONTAINER_NOT_RUNNING', container: 'over' }
      await refused(() => container.exec(['true']), expected, /over/)
      await refused(() => container.kill('TERM'), expected, /over/)
      await refused(() => container.pause(), expected, /over/)
      expect(await container.stop()).toMatchObject({ exitCode: 3 })
      expect(await container.stop()).toMatchObject({ exitCode: 3 })
    })

    test('a paused container', async () => {
      await using container = await start({ name: 'frozen' })
      await container.pause()
      await refused(() => container.exec(['true']), { code: 'CONTAINER_NOT_RUNNING', container: 'frozen' }, /paused/)
      await refused(() => container.pause(), { code: 'CONTAINER_NOT_RUNNING', container: 'frozen' }, /paused/)
      await refused(() => container.start(), { code: 'CONTAINER_RUNNING', container: 'frozen' }, /paused/)
      await container.unpause()
      await refused(
        () => container.unpause(),
        { code: expect.stringMatching(/^CONTAINER_/), container: 'frozen' },
        /paused/,
      )
      await refused(() => container.start(), { code: 'CONTAINER_RUNNING', container: 'frozen' }, /running/)
      expect((await container.exec(['true'])).exitCode).toBe(0)
    })

    test('exec', async () => {
      await using container = await start()
      await container.exec(['true'])
      const exec = (more: object) => () => container.exec({ command: ['true'], ...more } as never)
      await refused(exec({ command: ['nope'] }), { code: 'PROGRAM_NOT_FOUND', value: 'nope' }, /nope/)
      await refused(exec({ command: ['/data/script'] }), { code: 'PROGRAM_NOT_FOUND' }, /interpreter/)
      await refused(exec({ command: ['/data'] }), { code: 'PROGRAM_NOT_EXECUTABLE' }, /\/data/)
      await refused(exec({ user: 'carol' }), { code: 'USER_NOT_FOUND', field: 'user', value: 'carol' }, /carol/)
      await refused(exec({ workdir: '/none' }), { code: 'WORKDIR_NOT_FOUND', field: 'workdir', value: '/none' }, /none/)
      await refused(exec({ groups: ['nope'] }), { code: 'GROUP_NOT_FOUND', field: 'groups[0]' }, /nope/)
      await refused(exec({ comand: [] }), { code: 'INVALID_OPTION', field: 'comand' }, /command/)
      await refused(exec({ env: { A: 'x'.repeat(200_000) } }), { code: 'ARGUMENTS_TOO_LONG', field: 'env.A' }, /131071/)
      await refused(
        () => container.kill('SIGNOPE'),
        { code: 'INVALID_OPTION', field: 'signal', value: 'SIGNOPE' },
        /SIGNOPE/,
      )
      await refused(() => container.stop({ signal: 'SIGNOPE' }), { code: 'INVALID_OPTION', field: 'signal' }, /SIGNOPE/)
    })

    test('copies', async () => {
      await using container = await start()
      await refused(
        () => container.copyIn('/none', Buffer.alloc(1024)),
        { code: 'PATH_NOT_FOUND', value: '/none' },
        /none/,
      )
      await refused(() => container.copyIn('/etc/passwd', Buffer.alloc(1024)), { code: 'PATH_NOT_FOUND' }, /passwd/)
      await refused(
        () => container.copyIn('/tmp', Buffer.from('nonsense'.repeat(200))),
        { code: 'ARCHIVE_INVALID' },
        /tmp/,
      )
      await refused(
        () => container.copyIn('/tmp\0x', Buffer.alloc(1024)),
        { code: 'INVALID_OPTION', field: 'path' },
        /path.*NUL/,
      )
      await refused(() => container.copyOut('/none').next(), { code: 'PATH_NOT_FOUND', value: '/none' }, /none/)
      await refused(() => container.copyOut('/data\0').next(), { code: 'INVALID_OPTION', field: 'path' }, /path.*NUL/)
      expect((await container.exec(['ls', '/tmp'])).stdout).toBe('')
    })

    test('after the engine was closed', async () => {
      const closed = await Engine.open({ home: world.home })
      const container = await closed.start(options(['sleep', '100']))
      const waiting = container.wait().catch((error) => error)
      await Promise.all([closed.close(), closed.close()])
      expect(await waiting).toMatchObject({ code: 'ENGINE_CLOSED' })
      for (const attempt of [
        () => closed.run(options(['true'])),
        () => closed.start(options(['true'])),
        () => container.exec(['true']),
        () => container.stop(),
        () => container.remove(),
        () => container.wait(),
        () => container.stats(),
        () => container.logText(),
        () => container.copyOut('/etc').next(),
        () => container.copyIn('/tmp', Buffer.alloc(1024)),
      ]) {
        const error = await Promise.resolve()
          .then<unknown>(attempt)
          .catch((reason) => reason)
        expect(error, String(attempt)).toMatchObject({ code: 'ENGINE_CLOSED' })
      }
      await container[Symbol.asyncDispose]()
    })
  })
})
