import { expect, test } from 'vitest'
import { type Attempt, refusalError } from '../../src/engine/refusal.js'

const refuse = (step: string, subject: string, errno: string, attempt: Partial<Attempt> = {}, message = '') =>
  refusalError({ ok: false, step, subject, errno, message }, { verb: 'start', container: 'brisk_heron', ...attempt })

const options = (some: object) => ({
  options: { command: ['server'], ...some } as unknown as NonNullable<Attempt['options']>,
})

test.each([
  ['exec', 'nope', 'ENOENT', { command: ['nope'] }, 'PROGRAM_NOT_FOUND', 'command[0]', 'nope'],
  [
    'exec',
    '/etc/passwd',
    'EACCES',
    { command: ['/etc/passwd'] },
    'PROGRAM_NOT_EXECUTABLE',
    'command[0]',
    '/etc/passwd',
  ],
  ['exec', '/x', 'ENOEXEC', { command: ['/x'] }, 'PROGRAM_NOT_EXECUTABLE', 'command[0]', '/x'],
  ['user', 'nobody2', 'ENOENT', { user: 'nobody2:staff' }, 'USER_NOT_FOUND', 'user', 'nobody2:staff'],
  ['group', 'staff2', 'ENOENT', { groups: ['a', 'staff2'] }, 'GROUP_NOT_FOUND', 'groups[1]', 'staff2'],
  ['group', 'staff2', 'ENOENT', { user: 'x:staff2', groups: [] }, 'GROUP_NOT_FOUND', 'user', 'x:staff2'],
  ['workdir', '/none', 'ENOENT', { workdir: '/none' }, 'WORKDIR_NOT_FOUND', 'workdir', '/none'],
  ['workdir', '/out', 'EXDEV', { workdir: '/out' }, 'WORKDIR_ESCAPES', 'workdir', '/out'],
  ['layer', '/b', 'ENOENT', { rootfs: { layers: ['/a', '/b'] } }, 'ROOTFS_NOT_FOUND', 'rootfs.layers[1]', '/b'],
  ['layer', '/d', 'ENOTDIR', { rootfs: { directory: '/d' } }, 'ROOTFS_INVALID', 'rootfs.directory', '/d'],
  [
    'mount-source',
    '/src',
    'ENOENT',
    {
      mounts: [
        { type: 'tmpfs', target: '/t' },
        { type: 'bind', source: '/src', target: '/x' },
      ],
    },
    'MOUNT_SOURCE_NOT_FOUND',
    'mounts[1].source',
    '/src',
  ],
  [
    'mount-target',
    '/x',
    'ELOOP',
    { mounts: [{ type: 'tmpfs', target: '/x' }] },
    'MOUNT_TARGET_ESCAPES',
    'mounts[0].target',
    '/x',
  ],
  [
    'publish',
    '127.0.0.1:5432/tcp',
    'EADDRINUSE',
    { ports: [{ container: 5432, host: 5432, protocol: 'tcp', hostIp: '*' }] },
    'PORT_IN_USE',
    'ports[0].host',
    5432,
  ],
  [
    'publish',
    '127.0.0.1:80/udp',
    'EACCES',
    {
      ports: [
        { container: 80, host: 80, protocol: 'tcp' },
        { container: 80, host: 80, protocol: 'udp' },
      ],
    },
    'PORT_NOT_ALLOWED',
    'ports[1].host',
    80,
  ],
  [
    'cgroup',
    'memory',
    'ENOENT',
    { limits: { pids: 5, memoryBytes: 1e6 } },
    'LIMIT_UNAVAILABLE',
    'limits.memoryBytes',
    1e6,
  ],
  ['limit', 'cpuset-cpus=99', 'EINVAL', { limits: { cpusetCpus: '99' } }, 'LIMIT_REFUSED', 'limits.cpusetCpus', '99'],
  ['sysctl', 'net.x=1', 'ENOENT', { sysctls: { 'net.x': '1' } }, 'SYSCTL_REFUSED', 'sysctls.net.x', '1'],
  [
    'rlimit',
    'nofile',
    'EPERM',
    { ulimits: { nofile: { soft: 1, hard: 2 } } },
    'LIMIT_REFUSED',
    'ulimits.nofile',
    { soft: 1, hard: 2 },
  ],
  [
    'device',
    '/dev/none',
    'ENOENT',
    { devices: [{ host: '/dev/none' }] },
    'DEVICE_NOT_FOUND',
    'devices[0].host',
    '/dev/none',
  ],
] as const)('%s of %s failing with %s', (step, subject, errno, some, code, field, value) => {
  const error = refuse(step, subject, errno, options(some))
  expect(error).toMatchObject({ code, field, value, step, errno, container: 'brisk_heron' })
  expect(error.message).toContain('Cannot start "brisk_heron": ')
})

test('says that an interpreter may be what is missing', () => {
  const error = refuse('exec', '/run.sh', 'ENOENT', options({ command: ['/run.sh'] }))
  expect(error.message).toMatch(/no interpreter for it/)
  expect(error.hint).toMatch(/#!/)
})

test('tells states apart by what was tried', () => {
  expect(refuse('state', '', 'EINVAL', { verb: 'start' }).code).toBe('CONTAINER_RUNNING')
  expect(refuse('state', '', 'EINVAL', { verb: 'pause' }).code).toBe('CONTAINER_NOT_RUNNING')
})

test('keeps everything of a step that it knows nothing about', () => {
  const error = refuse('pivot', '/', 'EPERM', {}, 'pivot_root refused')
  expect(error).toMatchObject({ code: 'LAUNCH_FAILED', step: 'pivot', errno: 'EPERM' })
  expect(error.message).toBe('Cannot start "brisk_heron": pivot /: pivot_root refused (EPERM)')
})

test('tells a path that is not there from an archive that is broken', () => {
  expect(refuse('archive', '/none', 'ENOENT', { verb: 'copy /none from' }).code).toBe('PATH_NOT_FOUND')
  expect(refuse('archive', 'entry', 'EINVAL', { verb: 'copy to / of' }).code).toBe('ARCHIVE_INVALID')
  // What the machine lacks is no fault of the archive or of the program.
  expect(refuse('archive', 'entry', 'EAGAIN', { verb: 'copy to / of' }).code).toBe('LAUNCH_FAILED')
  expect(refuse('exec', 'sh', 'ENOMEM', { verb: 'start' }).code).toBe('LAUNCH_FAILED')
})
