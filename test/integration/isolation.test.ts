/** What a container sees and may do, looked at from inside. The expectations are Docker's defaults (moby 29). */

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ContainerOptions, Engine } from '../../src/index.js'
import { makeWorld, obstacle, type World } from '../engine/support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

/** Docker's 14, as a mask. */
const DEFAULT_CAPABILITIES = '00000000a80425fb'

/** Puts a program into the root file system: `calls.c` or `int80.c`. */
function compile(world: World, name: string): void {
  const source = fileURLToPath(new URL(`${name}.c`, import.meta.url))
  execFileSync('gcc', ['-static', '-O1', '-o', join(world.rootfs, 'bin', name), source])
}

describe.skipIf(why)('a container', () => {
  let world: World
  let engine: Engine

  beforeAll(async () => {
    world = makeWorld()
    compile(world, 'calls')
    compile(world, 'int80')
    engine = await Engine.open({ home: world.home })
  })

  afterAll(async () => {
    await engine?.close()
    world?.remove()
  })

  const run = (command: readonly string[], more: Partial<ContainerOptions> = {}) =>
    engine.run({ rootfs: { directory: world.rootfs }, command, ...more })
  const sh = async (script: string, more: Partial<ContainerOptions> = {}) => {
    const { stdout, stderr, exitCode } = await run(['sh', '-c', script], more)
    expect(stderr).toBe('')
    expect(exitCode).toBe(0)
    return stdout
  }
  const status = async (field: string, more: Partial<ContainerOptions> = {}) =>
    (await sh(`grep ^${field}: /proc/self/status | cut -f2`, more)).trim()
  const calls = async (more: Partial<ContainerOptions> = {}) =>
    Object.fromEntries(
      (await run(['calls'], more)).stdout
        .trim()
        .split('\n')
        .map((line) => line.split('=')),
    )

  describe('has its own', () => {
    test.each(['pid', 'mnt', 'net', 'ipc', 'uts', 'cgroup', 'time'])('%s namespace', async (name) => {
      expect((await sh(`readlink /proc/self/ns/${name}`)).trim()).not.toBe(readlinkSync(`/proc/self/ns/${name}`))
    })

    test('process tree: it is PID 1 and sees nobody else', async () => {
      expect(await sh('echo $$; ls -d /proc/[0-9]*; true')).toMatch(/^1\n\/proc\/1\n(\/proc\/\d+\n)?$/)
    })

    test('session', async () => {
      expect((await sh('cut -d" " -f1,5,6 /proc/1/stat')).trim()).toBe('1 1 1')
    })

    test('host name, in the kernel and in the files', async () => {
      const out = await sh('hostname; cat /etc/hostname; grep -c box /etc/hosts; grep -c localhost /etc/hosts', {
        hostname: 'box',
      })
      expect(out.split('\n').slice(0, 3)).toEqual(['box', 'box', '1'])
    })

    test('root, which cannot be left', async () => {
      expect(await sh('cd /../../..; pwd; ls -d /../bin')).toBe('/\n/../bin\n')
    })
  })

  describe('has of privileges', () => {
    test('the 14 capabilities; inheritable and ambient none', async () => {
      expect(await status('CapBnd')).toBe(DEFAULT_CAPABILITIES)
      expect(await status('CapEff')).toBe(DEFAULT_CAPABILITIES)
      expect(await status('CapPrm')).toBe(DEFAULT_CAPABILITIES)
      expect(await status('CapInh')).toBe('0000000000000000')
      expect(await status('CapAmb')).toBe('0000000000000000')
    })

    test('no effective ones as another user', async () => {
      expect(await status('CapEff', { user: 'alice' })).toBe('0000000000000000')
      expect(await status('CapBnd', { user: 'alice' })).toBe(DEFAULT_CAPABILITIES)
    })

    test('what capAdd and capDrop make of them', async () => {
      expect(await status('CapEff', { capDrop: ['ALL'], capAdd: ['NET_BIND_SERVICE'] })).toBe('0000000000000400')
      expect(await status('CapEff', { capAdd: ['NET_ADMIN'] })).toBe('00000000a80435fb')
      expect(await status('CapEff', { capDrop: ['CAP_CHOWN'] })).toBe('00000000a80425fa')
    })

    test('all that the host has when privileged', async () => {
      const own = readFileSync('/proc/self/status', 'utf8').match(/CapBnd:\s(\w+)/)![1]
      expect(await status('CapEff', { privileged: true })).toBe(own)
      expect(await status('Seccomp', { privileged: true })).not.toBe('')
    })

    test('a seccomp filter, and no_new_privs only when asked', async () => {
      expect(await status('Seccomp')).toBe('2')
      expect(await status('NoNewPrivs')).toBe('0')
      expect(await status('NoNewPrivs', { noNewPrivileges: true })).toBe('1')
    })

    test('umask 022, no pending or blocked signals', async () => {
      expect(await status('Umask')).toBe('0022')
      expect(await status('SigBlk')).toBe('0000000000000000')
      // The shell itself ignores none when it is not interactive.
      expect(await status('SigIgn')).toBe('0000000000000000')
    })

    test('no descriptor but 0, 1 and 2', async () => {
      // 3 is the directory that ls itself reads.
      expect((await run(['ls', '/proc/self/fd'])).stdout).toBe('0\n1\n2\n3\n')
      await using container = await engine.start({ rootfs: { directory: world.rootfs }, command: ['sleep', '100'] })
      expect((await container.exec(['ls', '/proc/1/fd'])).stdout).toBe('0\n1\n2\n')
      expect((await container.exec(['ls', '/proc/self/fd'])).stdout).toBe('0\n1\n2\n3\n')
    })
  })

  describe('may call', () => {
    test('what the default profile allows, and nothing that it forbids', async () => {
      const result = await calls()
      const allowed = ['socket_inet', 'socket_raw', 'personality_0', 'chroot', 'mknod']
      for (const name of allowed) expect([name, result[name]]).toEqual([name, '0'])
      expect(result.clone3).toBe('ENOSYS')
      const others = Object.keys(result).filter((name) => ![...allowed, 'clone3'].includes(name))
      expect(others).toHaveLength(25)
      for (const name of others) expect([name, result[name]]).toEqual([name, 'EPERM'])
    })

    test('nothing through the 32-bit entry', async () => {
      const { stdout, signal } = await run(['int80'])
      if (!signal) expect(Number(stdout)).toBeLessThan(0)
    })

    test('more without the profile: the capabilities decide', async () => {
      const result = await calls({ seccomp: 'unconfined' })
      expect(result.unshare).toBe('0')
      expect(result.mount).toBe('EPERM')
    })

    test('what a profile of its own says', async () => {
      const profile = {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: ['chroot'], action: 'SCMP_ACT_ERRNO', errnoRet: 95 }],
      }
      const result = await calls({ seccomp: profile })
      expect(result.chroot).toBe('EOPNOTSUPP')
      expect(result.socket_inet).toBe('0')
    })

    test('mount with CAP_SYS_ADMIN, as the profile has it', async () => {
      expect((await calls({ capAdd: ['SYS_ADMIN'] })).mount).toBe('0')
    })

    test('the same in exec', async () => {
      await using container = await engine.start({ rootfs: { directory: world.rootfs }, command: ['sleep', '100'] })
      const { stdout } = await container.exec(['calls'])
      expect(stdout).toContain('mount=EPERM')
      expect(stdout).toContain('socket_alg=EPERM')
      expect((await container.exec(['grep', '^Cap', '/proc/self/status'])).stdout).toBe(
        `CapInh:\t0000000000000000\nCapPrm:\t${DEFAULT_CAPABILITIES}\nCapEff:\t${DEFAULT_CAPABILITIES}\nCapBnd:\t${DEFAULT_CAPABILITIES}\nCapAmb:\t0000000000000000\n`,
      )
      const privileged = await container.exec({ command: ['calls'], privileged: true })
      expect(privileged.stdout).toContain('mount=0')
    })
  })

  describe('sees of the kernel', () => {
    test('the mounts of a Docker container', async () => {
      const mounts = (await sh('cat /proc/mounts'))
        .trim()
        .split('\n')
        .map((line) => line.split(' '))
      const at = (target: string) => mounts.find(([, where]) => where === target)!
      expect(at('/')[2]).toBe('overlay')
      expect(at('/proc').slice(2, 4)).toEqual(['proc', 'rw,nosuid,nodev,noexec,relatime'])
      expect(at('/dev').slice(2, 4)).toEqual(['tmpfs', expect.stringMatching(/^rw,nosuid,size=65536k,mode=755/)])
      expect(at('/dev/pts').slice(2, 4)).toEqual([
        'devpts',
        expect.stringMatching(/^rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666/),
      ])
      expect(at('/dev/shm').slice(2, 4)).toEqual([
        'tmpfs',
        expect.stringMatching(/^rw,nosuid,nodev,noexec,relatime,size=65536k/),
      ])
      expect(at('/dev/mqueue').slice(2, 4)).toEqual(['mqueue', 'rw,nosuid,nodev,noexec,relatime'])
      expect(at('/sys').slice(2, 4)).toEqual(['sysfs', 'ro,nosuid,nodev,noexec,relatime'])
      const readonly = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']
      for (const path of readonly.filter(existsSync)) {
        expect([path, at(path)?.[3]]).toEqual([path, 'ro,nosuid,nodev,noexec,relatime'])
      }
    })

    test('nothing of what is masked', async () => {
      const masked = ['/proc/kcore', '/proc/keys', '/proc/timer_list', '/proc/interrupts']
      for (const path of masked) expect([path, await sh(`[ ! -e ${path} ] || cat ${path}`)]).toEqual([path, ''])
      expect(await sh('ls /sys/firmware /proc/scsi 2>/dev/null | grep -v : || true')).toBe('')
    })

    test('no writable part of /proc/sys, /sys or the control groups', async () => {
      const { stderr } = await run([
        'sh',
        '-c',
        'echo 1 > /proc/sys/vm/drop_caches; echo b > /proc/sysrq-trigger; mkdir /sys/fs/cgroup/x; mkdir /sys/fs/cgroup/unified/x',
      ])
      expect(stderr.trim().split('\n')).toHaveLength(4)
      expect(stderr).not.toContain('Permission denied')
      expect(stderr.match(/Read-only file system/g)!.length).toBeGreaterThanOrEqual(3)
    })

    test('the usual devices', async () => {
      const listed = await sh(
        'cd /dev; for d in null zero full random urandom tty; do stat -c "%n %t:%T %a" $d; done; for l in fd stdin stdout stderr ptmx core; do echo $l $(readlink $l); done',
      )
      expect(listed.trim().split('\n')).toEqual([
        'null 1:3 666',
        'zero 1:5 666',
        'full 1:7 666',
        'random 1:8 666',
        'urandom 1:9 666',
        'tty 5:0 666',
        'fd /proc/self/fd',
        'stdin /proc/self/fd/0',
        'stdout /proc/self/fd/1',
        'stderr /proc/self/fd/2',
        'ptmx pts/ptmx',
        'core /proc/kcore',
      ])
    })

    test('no other device, even if it makes the node', async () => {
      const { stderr } = await run(['sh', '-c', 'busybox mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg'])
      expect(stderr).toMatch(/Operation not permitted|Permission denied/)
      expect(await sh('busybox mknod /tmp/zero c 1 5 && head -c 3 /tmp/zero | wc -c')).toBe('3\n')
    })

    test('a device that was given, at its place and with its rights', async () => {
      const out = await sh('head -c 2 /dev/gift | wc -c', {
        devices: [{ host: '/dev/zero', container: '/dev/gift', permissions: 'r' }],
      })
      expect(out).toBe('2\n')
    })
  })

  describe('takes its options', () => {
    test('sysctls, ulimits, shm size, tmpfs', async () => {
      expect(await sh('cat /proc/sys/net/core/somaxconn', { sysctls: { 'net.core.somaxconn': '77' } })).toBe('77\n')
      expect(await sh('ulimit -Sn; ulimit -Hn', { ulimits: { nofile: { soft: 300, hard: 400 } } })).toBe('300\n400\n')
      expect(await sh('grep /dev/shm /proc/mounts', { shmSizeBytes: 1 << 20 })).toContain('size=1024k')
      expect(await sh('grep " /scratch " /proc/mounts', { tmpfs: { '/scratch': 'size=1m,noexec' } })).toMatch(
        /noexec.*size=1024k/,
      )
    })

    test('unprivileged ports and ping, as Docker', async () => {
      expect(await sh('cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range')).toBe(
        '0\n0\t2147483647\n',
      )
    })

    test('a read-only root, with tmpfs still writable', async () => {
      expect(
        await sh('touch /x 2>/dev/null || touch /tmp/y && echo ok', { readonlyRootfs: true, tmpfs: { '/tmp': '' } }),
      ).toBe('ok\n')
      expect((await run(['touch', '/x'], { readonlyRootfs: true })).stderr).toContain('Read-only file system')
    })

    test('user, groups, home and working directory', async () => {
      expect(await sh('id; echo $HOME', { user: 'alice' })).toBe(
        'uid=1000(alice) gid=1000(alice) groups=50(staff),1000(alice)\n/home/alice\n',
      )
      expect(await sh('id -u; id -g', { user: '1234:50' })).toBe('1234\n50\n')
      expect(await sh('id -G', { user: 'bob', groups: ['staff', '77'] })).toContain('50 77')
      expect(await sh('pwd', { workdir: '/home/alice' })).toBe('/home/alice\n')
      expect(await sh('pwd', { workdir: '/new/place', createWorkdir: true })).toBe('/new/place\n')
    })

    test('the environment: PATH, HOSTNAME, HOME, and what is given', async () => {
      const env = (await sh('env', { hostname: 'box', env: { GIVEN: 'yes = true' } })).trim().split('\n')
      expect(env).toEqual(expect.arrayContaining(['HOSTNAME=box', 'HOME=/root', 'GIVEN=yes = true']))
      expect(env.find((line) => line.startsWith('PATH='))).toBe(
        'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      )
    })

    test('a terminal of its own', async () => {
      const { stdout } = await run(
        ['sh', '-c', 'tty() { readlink /proc/self/fd/0; }; tty; stty size; echo $TERM; ls -l /dev/console | cut -c1'],
        {
          tty: { columns: 123, rows: 45 },
        },
      )
      expect(stdout.replaceAll('\r', '')).toBe('/dev/pts/0\n45 123\nxterm\nc\n')
    })

    test('an init that reaps and passes on', async () => {
      await using container = await engine.start({
        rootfs: { directory: world.rootfs },
        command: [
          'sh',
          '-c',
          'trap "echo got it; exit 5" TERM; (sleep 0.05 &) ; echo ready; while :; do sleep 0.02; done',
        ],
        init: true,
        remove: false,
      })
      await container.waitForLog('ready')
      await new Promise((resolve) => setTimeout(resolve, 150))
      const orphans =
        'for f in /proc/[0-9]*/status; do grep -q "^State:.Z" $f && grep -q "^PPid:.1$" $f && echo zombie; done; cat /proc/1/cmdline'
      expect((await container.exec(['sh', '-c', orphans])).stdout).toMatch(/^mayfly-init\0/)
      await container.stop()
      expect(await container.logText()).toContain('got it')
      expect(await container.wait()).toMatchObject({ exitCode: 5 })
    })

    test('the namespaces of the host and of another container', async () => {
      expect((await sh('readlink /proc/self/ns/ipc', { ipc: 'host' })).trim()).toBe(readlinkSync('/proc/self/ns/ipc'))
      expect((await sh('readlink /proc/self/ns/uts', { uts: 'host' })).trim()).toBe(readlinkSync('/proc/self/ns/uts'))
      expect((await sh('readlink /proc/self/ns/net', { network: 'host' })).trim()).toBe(
        readlinkSync('/proc/self/ns/net'),
      )
      expect((await sh('readlink /proc/self/ns/pid; readlink /proc/self', { pid: 'host' })).split('\n')[0]).toBe(
        readlinkSync('/proc/self/ns/pid'),
      )
      await using other = await engine.start({
        rootfs: { directory: world.rootfs },
        command: ['sh', '-c', 'exec sleep 101'],
        name: 'other',
      })
      const of = async (name: string) => (await other.exec(['readlink', `/proc/1/ns/${name}`])).stdout
      expect(await sh('readlink /proc/self/ns/net', { network: 'container:other' })).toBe(await of('net'))
      expect(await sh('readlink /proc/self/ns/ipc', { ipc: 'container:other' })).toBe(await of('ipc'))
      await other.exec(['sh', '-c', 'echo shared > /dev/shm/note'])
      expect(await sh('cat /dev/shm/note', { ipc: 'container:other' })).toBe('shared\n')
      expect(await sh('ps | grep -c "[s]leep 101"', { pid: 'container:other' })).toBe('1\n')
    })

    test('no network but loopback with none', async () => {
      expect(await sh('ls /sys/class/net', { network: 'none' })).toBe('lo\n')
      expect(await sh('ping -c 1 127.0.0.1 > /dev/null && echo up', { network: 'none' })).toBe('up\n')
    })
  })

  describe('is bounded', () => {
    test('in memory, and the kill is told as what it was', async () => {
      const result = await run(['sh', '-c', 'tail /dev/zero'], {
        limits: { memoryBytes: 16 << 20, memorySwapBytes: 16 << 20 },
      })
      expect(result).toMatchObject({ oomKilled: true, exitCode: 137 })
    })

    test('in processes', async () => {
      const { stderr } = await run(['sh', '-c', 'for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait'], {
        limits: { pids: 5 },
      })
      expect(stderr).toMatch(/[Rr]esource temporarily unavailable|can't fork/)
    })

    test('in processor time', async () => {
      await using container = await engine.start({
        rootfs: { directory: world.rootfs },
        command: ['sh', '-c', 'while :; do :; done'],
        limits: { cpus: 0.2 },
      })
      await new Promise((resolve) => setTimeout(resolve, 1000))
      const { cpu } = await container.stats()
      expect(cpu.throttledPeriods).toBeGreaterThan(0)
      expect(cpu.usageNs).toBeLessThan(0.6e9)
    })

    test('and sees its limit where programs look for it', async () => {
      const out = await sh(
        'cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max',
        { limits: { memoryBytes: 64 << 20 } },
      )
      expect(out).toBe(`${64 << 20}\n`)
    })

    test('while paused', async () => {
      await using container = await engine.start({
        rootfs: { directory: world.rootfs },
        command: ['sh', '-c', 'while :; do echo tick; sleep 0.01; done'],
      })
      await container.waitForLog('tick')
      await container.pause()
      const before = (await container.logText()).length
      await new Promise((resolve) => setTimeout(resolve, 200))
      expect((await container.logText()).length).toBe(before)
      await container.unpause()
      await container.waitForLog('tick', { times: before / 5 + 3, timeoutMs: 5000 })
    })
  })

  describe('cannot get out through', () => {
    const hostile = (name: string, make: (root: string) => void) => {
      const root = join(world.directory, name)
      execFileSync('cp', ['-a', world.rootfs, root])
      make(root)
      return { rootfs: { directory: root } }
    }

    test('a mount target that climbs over a symbolic link', async () => {
      const canary = join(world.directory, 'canary')
      mkdirSync(canary)
      const image = hostile('climbing', (root) => {
        execFileSync('ln', ['-s', `../../../../..${canary}`, join(root, 'up')])
        execFileSync('ln', ['-s', canary, join(root, 'away')])
      })
      for (const target of ['/up/x', '/away/x', '/up', '/away']) {
        const mounts = [{ type: 'bind' as const, source: world.rootfs, target }]
        await expect(run(['true'], { ...image, mounts })).rejects.toMatchObject({
          code: 'MOUNT_TARGET_ESCAPES',
          value: expect.anything(),
        })
      }
      expect(execFileSync('ls', ['-A', canary]).toString()).toBe('')
    })

    test.each(['proc', 'sys', 'dev'])('a /%s that is a symbolic link', async (name) => {
      const outside = join(world.directory, `outside-${name}`)
      mkdirSync(outside)
      const image = hostile(`linked-${name}`, (root) => {
        execFileSync('rm', ['-rf', join(root, name)])
        execFileSync('ln', ['-s', `../../../../../../..${outside}`, join(root, name)])
      })
      await expect(run(['true'], image)).rejects.toMatchObject({ name: 'MayflyError' })
      expect(execFileSync('ls', ['-A', outside]).toString()).toBe('')
    })

    test('a /dev/null of the image that is something else (CVE-2025-31133)', async () => {
      const image = hostile('null', (root) =>
        execFileSync('ln', ['-s', '/proc/sys/kernel/core_pattern', join(root, 'dev/null')]),
      )
      expect(await sh('stat -c %t:%T /dev/null', image)).toBe('1:3\n')
    })

    test('a working directory in /proc/self/fd (CVE-2024-21626)', async () => {
      for (const fd of [3, 5, 7, 9, 11, 17]) {
        await expect(run(['pwd'], { workdir: `/proc/self/fd/${fd}` })).rejects.toMatchObject({ field: 'workdir' })
      }
      await using container = await engine.start({ rootfs: { directory: world.rootfs }, command: ['sleep', '100'] })
      await expect(container.exec({ command: ['pwd'], workdir: '/proc/self/fd/5' })).rejects.toMatchObject({
        field: 'workdir',
      })
    })

    test('/proc/self/exe as the program (CVE-2019-5736)', async () => {
      const before = readFileSync(join(process.cwd(), 'native/build/mayfly-warden'))
      await run(['/proc/self/exe']).catch(() => undefined)
      await run(['sh', '-c', 'exec 9>/proc/1/exe'], { init: true }).catch(() => undefined)
      const { stderr } = await run(['sh', '-c', 'echo x > /proc/1/exe'], { init: true })
      expect(stderr).not.toBe('')
      expect(readFileSync(join(process.cwd(), 'native/build/mayfly-warden')).equals(before)).toBe(true)
    })

    test('a passwd file that never ends (CVE-2024-9676)', async () => {
      const image = hostile('passwd', (root) => {
        execFileSync('rm', [join(root, 'etc/passwd')])
        execFileSync('mkfifo', [join(root, 'etc/passwd')])
      })
      await expect(run(['true'], { ...image, user: 'alice' })).rejects.toMatchObject({
        code: 'USER_NOT_FOUND',
        field: 'user',
        value: 'alice',
      })
      expect(await sh('grep ^Uid /proc/self/status', { ...image, user: '12' })).toBe('Uid:\t12\t12\t12\t12\n')
    })

    test('an /etc/resolv.conf that points into an empty /run', async () => {
      const image = hostile('resolv', (root) =>
        execFileSync('ln', ['-s', '../run/systemd/resolve/stub-resolv.conf', join(root, 'etc/resolv.conf')]),
      )
      expect(await sh('grep -c ^nameserver /etc/resolv.conf', image)).toBe('1\n')
    })

    test('a mount inside /proc', async () => {
      const mounts = [{ type: 'tmpfs' as const, target: '/proc/sys' }]
      await expect(run(['true'], { mounts })).rejects.toMatchObject({
        code: 'INVALID_OPTION',
        field: 'mounts[0].target',
        value: '/proc/sys',
      })
    })

    test('a user id that wraps (CVE-2024-40635)', async () => {
      for (const user of ['4294967296', '2147483648', '-1', '0x1', ' 1']) {
        await expect(run(['id'], { user })).rejects.toMatchObject({ name: 'MayflyError', field: 'user' })
      }
    })
  })
})
