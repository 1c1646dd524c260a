import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { afterAll, describe, expect, test } from 'vitest'
import { withoutBooleanValues } from '../../src/cli/boolean-flags.js'
import { containerOptions, declareRunFlags, type RunFlags } from '../../src/cli/run-flags.js'
import type { ContainerOptions } from '../../src/engine/options.js'
import { temporaryDirectory } from '../support/temporary.js'

const directory = temporaryDirectory('flags')
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** The options that a command line asks for. */
function parse(...argv: string[]): ContainerOptions {
  let options: ContainerOptions | undefined
  declareRunFlags(new Command('run'))
    .argument('[command...]')
    .passThroughOptions()
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .action((words: string[], flags: RunFlags) => {
      options = containerOptions(flags, words)
    })
    .parse(argv, { from: 'user' })
  return options!
}

const withRoot = (...argv: string[]) => parse('--rootfs', directory, ...argv)

describe('the command line of run', () => {
  test('asks for nothing but the command when no flag is given', () => {
    expect(withRoot('true')).toEqual({ rootfs: { directory }, command: ['true'], env: {}, mounts: [] })
  })

  test('leaves everything after the command to the command', () => {
    expect(withRoot('-i', 'ls', '-l', '--help', '-h').command).toEqual(['ls', '-l', '--help', '-h'])
    expect(withRoot('--', '-x').command).toEqual(['-x'])
  })

  test('takes short flags together and values attached', () => {
    const options = withRoot('-it', '-p8080:80', '-eA=1', '-e', 'B=2', '-m64m', '-hbox', 'sh')
    expect(options).toMatchObject({
      stdin: true,
      tty: { columns: expect.any(Number), rows: expect.any(Number) },
      ports: [{ container: 80, host: 8080, protocol: 'tcp' }],
      env: { A: '1', B: '2' },
      limits: { memoryBytes: 64 * 1024 ** 2 },
      hostname: 'box',
    })
  })

  test('knows the limits', () => {
    const { limits } = withRoot(
      ...'--memory 1g --memory-swap -1 --memory-reservation 512m --cpus 1.5 -c 512 --cpuset-cpus 0-1 --pids-limit 64'.split(
        ' ',
      ),
      ...'--blkio-weight 300 --device-read-bps /dev/vda:1mb --device-write-iops /dev/vda:100 true'.split(' '),
    )
    expect(limits).toEqual({
      memoryBytes: 1024 ** 3,
      memorySwapBytes: -1,
      memoryReservationBytes: 512 * 1024 ** 2,
      cpus: 1.5,
      cpuShares: 512,
      cpusetCpus: '0-1',
      pids: 64,
      blkioWeight: 300,
      deviceReadBps: [{ path: '/dev/vda', rate: 1024 ** 2 }],
      deviceWriteIops: [{ path: '/dev/vda', rate: 100 }],
    })
  })

  test('knows what concerns security', () => {
    const profile = join(directory, 'profile.json')
    writeFileSync(profile, '{"defaultAction":"SCMP_ACT_ALLOW"}')
    expect(
      withRoot(
        '--cap-add',
        'NET_ADMIN',
        '--cap-drop',
        'ALL',
        '--privileged',
        '--read-only',
        '--init',
        '--security-opt',
        'no-new-privileges',
        'true',
      ),
    ).toMatchObject({
      capAdd: ['NET_ADMIN'],
      capDrop: ['ALL'],
      privileged: true,
      readonlyRootfs: true,
      init: true,
      noNewPrivileges: true,
    })
    expect(withRoot('--security-opt', 'seccomp=unconfined', 'true').seccomp).toBe('unconfined')
    expect(withRoot('--security-opt', `seccomp=${profile}`, 'true').seccomp).toEqual({
      defaultAction: 'SCMP_ACT_ALLOW',
    })
    expect(withRoot('--security-opt', 'apparmor=unconfined', 'true')).not.toHaveProperty('seccomp')
  })

  test('knows namespaces, network and names', () => {
    expect(
      withRoot(
        ...'--network none --pid host --ipc container:a --uts host --dns 1.1.1.1 --dns-search example.org'.split(' '),
        ...'--add-host db:10.0.0.1 --add-host db:10.0.0.2 --add-host v6=[::1] --network-alias x --name n -l a=b -l c --group-add 5 true'.split(
          ' ',
        ),
      ),
    ).toMatchObject({
      network: 'none',
      pid: 'host',
      ipc: 'container:a',
      uts: 'host',
      dns: ['1.1.1.1'],
      dnsSearch: ['example.org'],
      extraHosts: { db: ['10.0.0.1', '10.0.0.2'], v6: ['::1'] },
      networkAliases: ['x'],
      name: 'n',
      labels: { a: 'b', c: '' },
      groups: ['5'],
    })
    expect(withRoot('--net', 'host', 'true').network).toBe('host')
    expect(withRoot('--network', 'default', 'true').network).toBe('bridge')
  })

  test('knows devices, ulimits, sysctls, tmpfs, shm and the stop', () => {
    expect(
      withRoot(
        ...'--device /dev/fuse --device /dev/a:/dev/b:r --device /dev/c:rw --ulimit nofile=64:128 --ulimit core=0'.split(
          ' ',
        ),
        ...'--sysctl net.core.somaxconn=9 --tmpfs /t:size=1m --shm-size 1m --stop-signal INT --stop-timeout 3'.split(
          ' ',
        ),
        ...'--oom-score-adj 500 --workdir /w -u 1:2 true'.split(' '),
      ),
    ).toMatchObject({
      devices: [
        { host: '/dev/fuse' },
        { host: '/dev/a', container: '/dev/b', permissions: 'r' },
        { host: '/dev/c', permissions: 'rw' },
      ],
      ulimits: { nofile: { soft: 64, hard: 128 }, core: { soft: 0 } },
      sysctls: { 'net.core.somaxconn': '9' },
      tmpfs: { '/t': 'size=1m' },
      shmSizeBytes: 1024 ** 2,
      stopSignal: 'INT',
      stopTimeoutMs: 3000,
      oomScoreAdj: 500,
      workdir: '/w',
      createWorkdir: true,
      user: '1:2',
    })
  })

  test('takes what is empty, or a limit of 0, for what was not given', () => {
    const empty = '--hostname= --domainname= --name= --user= --workdir= --network= --ipc= --pid= --uts= --cpuset-cpus='
    const zero =
      '-m 0 --memory-swap 0 --memory-reservation 0 --cpus 0 -c 0 --pids-limit 0 --shm-size 0 --blkio-weight 0'
    expect(withRoot(...empty.split(' '), ...zero.split(' '), 'true')).toEqual(withRoot('true'))
  })

  test('takes no-new-privileges with a word for true or false', () => {
    const of = (value: string) => withRoot('--security-opt', `no-new-privileges${value}`, 'true').noNewPrivileges
    expect([of(''), of(':true'), of('=1'), of(':false'), of('=F')]).toEqual([true, true, true, false, false])
    expect(() => of(':maybe')).toThrow('--security-opt "no-new-privileges:maybe" is not known')
  })

  test('the entry point comes before the words', () => {
    expect(withRoot('--entrypoint', 'sh', '/script').command).toEqual(['sh', '/script'])
    expect(withRoot('--entrypoint', 'sh', '--', '-c', 'id').command).toEqual(['sh', '-c', 'id'])
  })

  test('variables on the command line win over those of files', () => {
    const file = join(directory, 'env')
    writeFileSync(file, 'A=file\nB=file\n')
    expect(withRoot('--env-file', file, '-e', 'A=flag', 'true').env).toEqual({ A: 'flag', B: 'file' })
  })

  test('a file is a tar, anything else a directory', () => {
    const tar = join(directory, 'root.tar')
    writeFileSync(tar, '')
    expect(parse('--rootfs', tar, 'true').rootfs).toEqual({ tar })
    expect(parse('--rootfs', '/no/such', 'true').rootfs).toEqual({ directory: '/no/such' })
  })

  test.each([
    [[], 'Nothing to run'],
    [['--rootfs', '/'], 'The command is missing'],
    [['-d', '--rootfs', '/', 'true'], '--detach is not available'],
    [['--rootfs', '/', '--ulimit', 'nofile', 'true'], '--ulimit must be name=value, not "nofile"'],
    [['--rootfs', '/', '--device', '/dev/a:/dev/b:x', 'true'], '--device must be host[:container[:rwm]]'],
    [['--rootfs', '/', '--add-host', 'db', 'true'], '--add-host must be name:address, not "db"'],
    [['--rootfs', '/', '--security-opt', 'seccomp=/no/such', 'true'], '--security-opt seccomp=/no/such: ENOENT'],
    [['--rootfs', '/', '--security-opt', 'magic', 'true'], '--security-opt "magic" is not known'],
    [['--rootfs', '/', '--device-read-bps', '1mb', 'true'], '--device-read-bps must be device:rate'],
    [['--rootfs', '/', '--env-file', '/no/such', 'true'], '--env-file /no/such: ENOENT'],
  ])('refuses %j', (argv, message) => {
    expect(() => parse(...argv)).toThrow(message)
  })

  test('a flag without a value takes true or false attached, and the command keeps its own', () => {
    const command = declareRunFlags(new Command('run'))
    const of = (...words: string[]) => withoutBooleanValues(command, words)
    expect(of('--rm=true', '--init=1', '--tty=false', '-it', '--read-only=F', 'image', '--init=true')).toEqual([
      ...['--rm', '--init', '-it', 'image', '--init=true'],
    ])
    for (const words of [
      ['--name', '--init=true', 'image'],
      ['-itp', '--init=true', 'image', '--rm=true'],
      ['-eAp', 'image', '--rm=true'],
      ['--env=true', '--init=maybe', '--', '--rm=true'],
    ])
      expect(of(...words)).toEqual(words)
    const history = new Command('history').option('-H, --human', '', true).option('--no-human').option('-q, --quiet')
    expect(withoutBooleanValues(history, ['--human=false', '-H=0', '-q=true', '-q=f', 'image'])).toEqual([
      ...['--no-human', '--no-human', '-q', 'image'],
    ])
  })

  test('an unknown flag is refused', () => {
    expect(() => parse('--no-such-flag')).toThrow("unknown option '--no-such-flag'")
  })
})
