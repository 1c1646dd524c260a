/** Images and options that would have the start of a container, or an exec, do something to the host. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { wardenProgram } from '../../../src/engine/where.ts'
import { type Case, type EscapeWorld, refusal } from '../world.ts'

const corePattern = () => readFileSync('/proc/sys/kernel/core_pattern', 'utf8')

/** Starts it if it starts. What is refused has done no harm; what runs prints what `script` looks at. */
async function look(world: EscapeWorld, script: string, more: object): Promise<string | undefined> {
  let stdout: string | undefined
  await refusal(
    world.run(script, more).then((result) => {
      stdout = result.stdout
    }),
  )
  return stdout
}

export const starts: readonly Case[] = [
  {
    name: 'the engine’s program stays as it is while a container writes to every program that it can open (CVE-2019-5736)',
    run: async (world) => {
      const before = readFileSync(wardenProgram())
      await using container = await world.start('exec hunt 25', 'hunting', { init: true, remove: false })
      while (container.state === 'running') {
        await refusal(container.exec(['/proc/self/exe']))
        await refusal(container.exec(['true']))
      }
      assert.doesNotMatch(await container.logText(), /^written/m)
      assert.ok(readFileSync(wardenProgram()).equals(before))
    },
  },
  {
    name: 'an exec shows a container nothing that it holds before its program runs (CVE-2016-9962)',
    run: async (world) => {
      await using container = await world.start('exec hunt 25', 'hunting', { remove: false })
      while (container.state === 'running') await refusal(container.exec(['true']))
      const log = await container.logText()
      assert.match(log, /^hunting\nseen \d+\n$/)
      assert.ok(Number(/seen (\d+)/.exec(log)![1]) >= 25, log)
    },
  },
  {
    name: 'no working directory leads to a descriptor that was left open, also through a link of the image (CVE-2024-21626)',
    run: async (world) => {
      const linked = world.variant(
        'for n in $(seq 3 40); do ln -s /proc/self/fd/$n fd$n; done; ln -s /proc/self/cwd cwd; ln -s /proc/1/root root1',
      )
      await using container = await world.start('echo up; exec sleep 100', 'up', linked)
      const paths = Array.from({ length: 38 }, (_, n) => n + 3)
      const tries = [
        ...paths.flatMap((n) => [`/proc/self/fd/${n}`, `/fd${n}`, `/proc/self/fd/${n}/../../..`]),
        '/cwd',
        '/root1',
        '/proc/self/root',
        '/proc/thread-self/fd/8',
      ]
      for (const workdir of tries) assert.ok(await refusal(container.exec({ command: ['pwd'], workdir })), workdir)
      for (const workdir of tries.filter((_, index) => index % 12 === 0))
        assert.ok(await refusal(world.run('pwd', { ...linked, workdir })), workdir)
    },
  },
  {
    name: 'no control group can be mounted, entered or written, with or without a user namespace (CVE-2022-0492, CVE-2023-25809)',
    run: async (world) => {
      const { stdout } = await world.run(`exec 2>/dev/null
        mkdir /tmp/groups
        unshare -UrmC true && echo unshared
        unshare -UrmC mount -t cgroup -o rdma cgroup /tmp/groups && echo mounted
        mount -t cgroup -o memory cgroup /tmp/groups && echo mounted
        mount -t cgroup2 cgroup /tmp/groups && echo mounted
        mount -o remount,rw /sys/fs/cgroup && echo remounted
        for file in $(find /sys/fs/cgroup -name release_agent -o -name cgroup.procs -o -name notify_on_release); do
          (echo 1 > $file) && echo wrote $file
        done
        for group in $(find /sys/fs/cgroup -type d); do mkdir $group/made && echo made in $group; done; true`)
      assert.equal(stdout, '')
    },
  },
  {
    name: 'a /proc, /sys or /dev that is a link, a file or a volume is refused or covered (CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2026-41579, CVE-2026-47766)',
    run: async (world) => {
      for (const name of ['proc', 'sys', 'dev']) {
        for (const make of ['ln -s ../../../../../../../..$OUTSIDE', 'ln -s $OUTSIDE', 'ln -s /tmp', 'echo >']) {
          const error = await refusal(world.run('true', world.variant(`rm -rf ${name}; ${make} ${name}`)))
          assert.ok(error, `/${name}: ${make}`)
        }
        const mounts = [{ type: 'volume' as const, source: 'planted', target: `/${name}` }]
        const seen = await look(
          world,
          `stat -f -c %T /proc; stat -f -c %T /sys; (echo evil > /proc/sys/kernel/core_pattern) 2>/dev/null; stat -c %t:%T /dev/null`,
          { mounts },
        )
        if (seen !== undefined) assert.match(seen, /^proc\nsysfs\n1:3\n$/)
      }
    },
  },
  {
    name: 'what is masked is masked whatever /dev/null of the image or of a volume at /dev is (CVE-2025-31133)',
    run: async (world) => {
      const before = corePattern()
      const script =
        'cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | head -c 100; (echo evil > /proc/kcore) 2>/dev/null; (echo evil > /proc/keys) 2>/dev/null; stat -c %t:%T /dev/null'
      const image = world.variant('rm -rf dev/null; ln -s /proc/sys/kernel/core_pattern dev/null')
      assert.equal(await look(world, script, image), '1:3\n')
      const mounts = [{ type: 'volume' as const, source: 'devices', target: '/planted' }]
      await world.run('ln -s /proc/sys/kernel/core_pattern /planted/null; ln -s /proc/sysrq-trigger /planted/console', {
        mounts,
      })
      for (const tty of [{}, { tty: { columns: 80, rows: 24 } }])
        await look(world, script, { mounts: [{ ...mounts[0], target: '/dev' }], ...tty })
      assert.equal(corePattern(), before)
    },
  },
  {
    name: 'the console of a terminal is the terminal, whatever /dev/console and /dev/pts of the image are (CVE-2025-52565)',
    run: async (world) => {
      for (const make of [
        'ln -s /proc/sysrq-trigger dev/console',
        'ln -s $OUTSIDE dev/pts',
        'ln -s /proc/sys/kernel/core_pattern dev/console; ln -s /proc/self/fd dev/pts',
      ]) {
        const options = { ...world.variant(make), tty: { columns: 80, rows: 24 } }
        const seen = await look(
          world,
          'stat -c %F-%t /dev/console; readlink /proc/self/fd/0; cut -d" " -f6 /proc/self/stat',
          options,
        )
        assert.equal(seen?.replaceAll('\r', ''), 'character special file-88\n/dev/pts/0\n1\n')
      }
    },
  },
  {
    name: 'a user is who it was meant to be or is refused, and nobody becomes root by a number (CVE-2026-30892, CVE-2024-40635)',
    run: async (world) => {
      const users: Record<string, string | undefined> = {
        '1': '1:0',
        '1:2': '1:2',
        '1:': '1:0', // half said, as Docker has it
        alice: '1000:1000',
        'alice:2': '1000:2',
        '1000': '1000:1000',
        '65534': '65534:65534',
        root: '0:0',
        '0:1': '0:1',
      }
      for (const bad of [
        '0x1',
        ' 1',
        '1 ',
        '+1',
        '-1',
        '1:-1',
        '1:0x2',
        '1e3',
        '0.5',
        '1\n0',
        '2147483648',
        '4294967295',
        '4294967296',
        '4294967297:1',
        '18446744073709551616',
        `1${'0'.repeat(400)}`,
        'nobody-here',
        'alice:no-such-group',
      ])
        users[bad] = undefined
      await using container = await world.start('echo up; exec sleep 100', 'up')
      for (const [user, expected] of Object.entries(users)) {
        const command = ['sh', '-c', 'echo $(id -u):$(id -g)']
        for (const run of [() => container.exec({ command, user }), () => world.run(command[2]!, { user })]) {
          let ids: string | undefined
          await refusal(
            run().then(({ stdout }) => {
              ids = stdout.trim()
            }),
          )
          assert.equal(ids, expected, JSON.stringify(user))
        }
      }
    },
  },
  {
    name: 'a USER of an image that is too large is refused before anything runs (CVE-2024-40635)',
    run: async (world) => {
      for (const user of ['2147483648', '4294967295', '4294967296', '-1', '1:4294967295']) {
        await using container = await world.engine.create({ rootfs: world.rootfs, command: ['true'] })
        const image = await container.commit({ changes: [`USER ${user}`] }).catch((error: Error) => {
          assert.equal(error.name, 'MayflyError')
        })
        if (image) assert.ok(await refusal(world.engine.run({ image: image.id, command: ['id'] })), user)
      }
    },
  },
  {
    name: 'run and exec have no inheritable and no ambient capabilities, and another user has none (CVE-2022-24769, CVE-2022-27649, CVE-2022-27651, CVE-2022-29162)',
    run: async (world) => {
      const command = ['grep', '-E', '^Cap(Inh|Amb|Eff)', '/proc/self/status']
      await using container = await world.start('echo up; exec sleep 100', 'up')
      for (const user of ['root', 'alice']) {
        for (const { stdout } of [
          await container.exec({ command, user }),
          await world.run(command.slice(0, 1).concat("-E '^Cap(Inh|Amb|Eff)'", command.slice(3)).join(' '), { user }),
        ]) {
          assert.match(
            stdout,
            user === 'root'
              ? /Inh:\t0{16}\n.*Eff:\t00000000a80425fb\n.*Amb:\t0{16}\n/s
              : /Inh:\t0{16}\n.*Eff:\t0{16}\n.*Amb:\t0{16}\n/s,
          )
        }
      }
    },
  },
  {
    name: 'a passwd or group that never ends, or is of the host, is neither read nor waited for (CVE-2024-9676, CVE-2024-9341, CVE-2019-10152)',
    run: async (world) => {
      const begin = performance.now()
      for (const file of ['passwd', 'group']) {
        for (const make of [
          `mkfifo etc/${file}`,
          `ln -s /dev/zero etc/${file}`,
          `ln -s ../../../../../../../etc/${file} etc/${file}`,
          `ln -s /proc/self/environ etc/${file}`,
          `mkdir etc/${file}`,
          `truncate -s 8G etc/${file}`,
        ]) {
          const image = world.variant(`rm etc/${file}; ${make}`)
          const user = file === 'passwd' ? 'daemon' : '12:daemon'
          assert.ok(await refusal(world.run('id', { ...image, user })), make)
          assert.equal(
            (await world.run('grep ^Uid /proc/self/status', { ...image, user: '12:13' })).stdout,
            'Uid:\t12\t12\t12\t12\n',
          )
        }
      }
      await using container = await world.start(
        'rm /etc/passwd /etc/group; mkfifo /etc/passwd /etc/group; echo up; exec sleep 100',
        'up',
      )
      assert.ok(await refusal(container.exec({ command: ['id'], user: 'alice' })))
      assert.ok(performance.now() - begin < 20_000)
    },
  },
  {
    name: 'the kernel’s sharp corners are out of reach (CVE-2026-31431)',
    run: async (world) => {
      const { stdout } = await world.run('sharp')
      const names = ['AF_ALG', 'AF_VSOCK', 'io_uring_setup', 'userfaultfd', 'bpf', 'keyctl', 'unshare']
      assert.equal(stdout, names.map((name) => `${name}=EPERM\n`).join(''))
    },
  },
  {
    name: 'without a terminal there is none to push input into; with one it is the container’s own',
    run: async (world) => {
      assert.equal(
        (await world.run('(exec 3< /dev/tty) 2>/dev/null || echo none; cut -d" " -f7 /proc/self/stat')).stdout,
        'none\n0\n',
      )
      const { stdout } = await world.run('cut -d" " -f6 /proc/self/stat; ls /dev/pts', {
        tty: { columns: 80, rows: 24 },
      })
      assert.match(stdout.replaceAll('\r', ''), /^1\n0\s+ptmx\n$/)
    },
  },
  {
    name: 'router advertisements of a container change the routes of nobody (CVE-2020-13401)',
    run: async (world) => {
      const routes = readFileSync('/proc/net/ipv6_route', 'utf8')
      await using neighbour = await world.start('echo up; exec sleep 100', 'up')
      const { stdout } = await world.run('advertise; cd /proc/sys/net/ipv6/conf/eth0; grep -H . accept_ra disable_ipv6')
      assert.match(stdout, /accept_ra:0\n|disable_ipv6:1\n/)
      const theirs = await neighbour.exec(['sh', '-c', 'cat /proc/net/ipv6_route; ip -6 address'])
      assert.doesNotMatch(theirs.stdout, /20010db8|2001:db8/)
      assert.equal(
        readFileSync('/proc/net/ipv6_route', 'utf8').includes('20010db80bad'),
        routes.includes('20010db80bad'),
      )
    },
  },
]
