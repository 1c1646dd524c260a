/** The same engine as an ordinary user: what works, and what says in one sentence that it cannot. */

import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, copyFileSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { wardenProgram } from '../../src/engine/where.ts'
import { expectNothingLeft, type Leftovers, snapshotHost } from '../support/leftovers.ts'
import { makeRootfs, missingBusybox } from '../support/rootfs.ts'
import { bundleScenario, type Scenario, startScenario } from '../support/scenario.ts'
import { OUTSIDE } from '../support/territory.ts'
import { openUnprivileged, type UnprivilegedTerritory } from '../support/unprivileged.ts'
import type { Failure, Verbs } from './rootless.scenario.ts'

const reason = process.getuid?.() !== 0 ? 'needs root, to become somebody else' : missingBusybox()
const noRange = ['newuidmap', 'newgidmap'].some((name) => !existsSync(`/usr/bin/${name}`))
  ? 'needs newuidmap: apt-get install uidmap'
  : undefined

const modes = [
  { ids: 'single', range: false, skip: reason },
  { ids: 'range', range: true, skip: reason ?? noRange },
] as const

for (const { ids, skip } of modes) if (skip) console.warn(`skipped: rootless, ids "${ids}": ${skip}`)

type Asked = { [V in keyof Verbs]: (argument: Parameters<Verbs[V]>[0]) => Promise<ReturnType<Verbs[V]>> }

describe.each(modes)('as an ordinary user with ids "$ids"', ({ ids, range, skip }) => {
  describe.skipIf(skip)(`(${skip ?? 'here'})`, () => {
    let territory: UnprivilegedTerritory
    let rootfs: { directory: string }
    let before: Leftovers
    let scenario: Scenario
    let engine: Asked
    let info: ReturnType<Verbs['open']>

    beforeAll(async () => {
      territory = await openUnprivileged({ range })
      const { directory, uid } = territory
      rootfs = { directory: join(directory, 'user', 'rootfs') }
      makeRootfs(rootfs.directory)
      execFileSync('gcc', ['-O1', '-static', '-o', join(rootfs.directory, 'bin/udp-echo'), udpEcho])
      execFileSync('chown', ['-hR', `${uid}:${uid}`, rootfs.directory])
      // A checkout may lie where others cannot read.
      copyFileSync(wardenProgram(), join(directory, 'mayfly-warden'))
      chmodSync(join(directory, 'mayfly-warden'), 0o755)
      await bundleScenario(source, join(directory, 'scenario.mjs'))
      execFileSync('tar', ['-C', rootfs.directory, '-cf', join(territory.home, 'rootfs.tar'), '.'])
    })

    afterAll(() => territory?.[Symbol.dispose]())

    beforeEach(async () => {
      before = snapshotHost(territory)
      await begin()
    })

    // Each test with a session of its own, and each ends with the proof that it has left nothing.
    afterEach(async () => {
      scenario.process.kill('SIGKILL')
      await scenario.ended
      try {
        await expectNothingLeft(territory, before)
      } finally {
        await territory.clear()
      }
    })

    const begin = async () => {
      const node = [process.execPath, join(territory.directory, 'scenario.mjs')]
      scenario = startScenario([...territory.enterAsUser, ...node], {
        MAYFLY_WARDEN: join(territory.directory, 'mayfly-warden'),
      })
      const ask = async (verb: string, argument: unknown) => {
        scenario.tell(JSON.stringify([verb, argument]))
        const answer = await scenario.fact<{ value: unknown } | Failure>()
        if ('error' in answer) throw Object.assign(new Error(answer.error.message), answer.error)
        return answer.value
      }
      engine = new Proxy({} as Asked, { get: (_, verb: string) => (argument: unknown) => ask(verb, argument) })
      info = await engine.open({})
    }

    const sh = (script: string, more: object = {}) => engine.run({ rootfs, command: ['sh', '-c', script], ...more })
    const code = (expected: string, more: object = {}) => expect.objectContaining({ code: expected, ...more })
    const ownId = () => String(territory.uid)

    test('tells what it is', () => {
      expect(info).toMatchObject({ rootless: true, ids, home: join(territory.home, '.local/share/mayfly') })
    })

    test('runs a program as root of its own, which is the user outside', async () => {
      const result = await sh('id -u; echo out; echo err >&2; cat /proc/self/uid_map; exit 3')
      expect(result).toMatchObject({ exitCode: 3, stderr: 'err\n' })
      const [uid, out, map] = result.stdout.split('\n')
      expect([uid, out]).toEqual(['0', 'out'])
      expect(map!.trim().split(/\s+/)).toEqual(['0', ownId(), '1'])
    })

    test('changes, deletes and replaces what is in the image, and the image stays as it was', async () => {
      const listing = () => execFileSync('ls', ['-lR', rootfs.directory], { encoding: 'utf8' })
      const image = listing()
      const script =
        'echo more >> /etc/passwd; tail -n 1 /etc/passwd; rm -r /home /etc/group; mkdir /home; ls -A /home; ls /etc; mv /root /gone; mv /home /tmp/home'
      expect(await sh(script)).toMatchObject({ exitCode: 0, stderr: '', stdout: expect.stringMatching(/^more\n/) })
      expect((await sh(script)).stdout).not.toMatch(/alice|group/)
      expect(listing()).toBe(image)
    })

    test('keeps what is deleted deleted when the container starts again', async () => {
      const script = '[ -e /tmp/once ] || { touch /tmp/once; rm -r /home; mkdir -p /home/new; }; sleep 1000'
      await engine.start({ rootfs, name: 'again', remove: false, command: ['sh', '-c', script] })
      const home = () => engine.exec({ name: 'again', command: ['ls', '/home'] })
      await expect.poll(home).toMatchObject({ stdout: 'new\n' })
      await engine.restart({ name: 'again' })
      expect(await home()).toMatchObject({ stdout: 'new\n' })
    })

    test('takes a tar as root file system', async () => {
      const result = await engine.run({
        rootfs: { tar: join(territory.home, 'rootfs.tar') },
        command: ['cat', '/etc/group'],
      })
      expect(result).toMatchObject({ exitCode: 0, stdout: readFileSync(join(rootfs.directory, 'etc/group'), 'utf8') })
    })

    test('runs programs in a container, and keeps its log', async () => {
      await engine.start({ rootfs, name: 'logger', command: ['sh', '-c', 'echo one; echo two >&2; sleep 1000'] })
      expect(await engine.exec({ name: 'logger', command: ['sh', '-c', 'hostname; exit 4'] })).toMatchObject({
        exitCode: 4,
      })
      await expect.poll(() => engine.logs({ name: 'logger' })).toBe('one\ntwo\n')
    })

    test('stops a container', async () => {
      await engine.start({
        rootfs,
        name: 'stopped',
        command: ['sh', '-c', 'trap "exit 5" TERM; echo up; while :; do sleep 0.1; done'],
      })
      await expect.poll(() => engine.logs({ name: 'stopped' })).toBe('up\n')
      expect(await engine.stop({ name: 'stopped' })).toMatchObject({ exitCode: 5 })
    })

    test('mounts tmpfs and directories of the user', async () => {
      const mounts = [
        { type: 'tmpfs', target: '/var' },
        { type: 'bind', source: territory.home, target: '/mnt/bound', readonly: true },
      ] as const
      const result = await sh('grep -c " /var tmpfs " /proc/mounts; ls /mnt/bound; touch /mnt/bound/no 2>&1', {
        mounts,
        scratch: 'memory',
      })
      expect(result.stdout).toMatch(/^1\nrootfs\nrootfs.tar\ntouch: .*Read-only file system\n$/)
    })

    test('publishes TCP and UDP ports', async () => {
      const command = ['sh', '-c', 'udp-echo 53 & exec nc -ll -p 80 -e cat']
      const { ports } = await engine.start({
        rootfs,
        name: 'echo',
        command,
        ports: [80, { container: 53, protocol: 'udp' }],
      })
      await engine.waitForPort({ name: 'echo', port: 80 })
      expect(await engine.talk({ port: ports['80/tcp']!, protocol: 'tcp', word: 'hello' })).toBe('hello')
      expect(await engine.talk({ port: ports['80/tcp']!, protocol: 'tcp', word: 'hello', host: '::1' })).toBe('hello')
      expect(await engine.talk({ port: ports['53/udp']!, protocol: 'udp', word: 'hello' })).toBe('hello')
    })

    test('has networks that are apart, and a way into them', async () => {
      const command = ['nc', '-ll', '-p', '80', '-e', 'echo', 'here']
      const sleeper = ['sleep', '1000']
      await engine.network({ name: 'one' })
      await engine.network({ name: 'inner', internal: true })
      const server = await engine.start({ rootfs, name: 'server', command, networks: ['one'], ports: [80] })
      const hidden = await engine.start({ rootfs, name: 'hidden', command, networks: ['inner'], ports: [80] })
      await engine.start({ rootfs, name: 'client', command: sleeper, networks: ['one'] })
      await engine.waitForPort({ name: 'hidden', port: 80 })
      await engine.waitForPort({ name: 'server', port: 80 })
      const ask = async (name: string, host: string) =>
        (await engine.exec({ name, command: ['nc', '-w', '1', host, '80'] })).stdout
      expect(await ask('client', 'server')).toBe('here\n')
      expect(await ask('client', 'hidden')).toBe('')
      expect(await ask('client', hidden.address)).toBe('')
      expect(await engine.talk({ port: hidden.ports['80/tcp']!, protocol: 'tcp', word: '' })).toBe('here\n')
      expect(await engine.connect({ name: 'client', network: 'inner' })).toMatch(/^\d+\.\d+\.\d+\.\d+$/)
      expect(await ask('client', 'hidden')).toBe('here\n')
      expect(await ask('client', server.address)).toBe('here\n')
    })

    test('has networks with IPv6, apart as well', async () => {
      const command = ['nc', '-ll', '-p', '80', '-e', 'echo', 'here']
      const sleeper = ['sleep', '1000']
      const { ipv6 } = await engine.network({ name: 'six', ipv6: true })
      await engine.network({ name: 'other6', ipv6: true })
      const server = await engine.start({ rootfs, name: 'server6', command, networks: ['six'], ports: [80] })
      const stranger = await engine.start({ rootfs, name: 'stranger6', command, networks: ['other6'] })
      await engine.start({ rootfs, name: 'client6', command: sleeper, networks: ['six'] })
      await engine.waitForPort({ name: 'server6', port: 80 })
      await engine.waitForPort({ name: 'stranger6', port: 80 })
      const ask = async (host: string, port = 80) =>
        (await engine.exec({ name: 'client6', command: ['nc', '-w', '3', host, String(port)] })).stdout
      expect(server.ipv6Address.startsWith(ipv6!.subnet.replace('/64', ''))).toBe(true)
      expect(await ask(server.ipv6Address)).toBe('here\n')
      expect(await ask(stranger.ipv6Address)).toBe('')
      expect(await ask(ipv6!.gateway)).toBe('')
      expect(await engine.talk({ port: server.ports['80/tcp']!, protocol: 'tcp', word: '' })).toBe('here\n')
    })

    test('reaches the ports of this machine that it is allowed', async () => {
      const port = await engine.serve({ address: '127.0.0.1' })
      const ask = (ports: number[]) =>
        sh(`nc -w 1 host.docker.internal ${port}`, ports.length > 0 ? { hostAccess: { ports } } : {})
      expect(await ask([port])).toMatchObject({ stdout: 'outside\n' })
      expect(await ask([port === 1024 ? 1025 : 1024])).toMatchObject({ stdout: '' })
      expect(await sh(`nc -w 1 ${info.gateway} ${port}`)).toMatchObject({ stdout: '' })
    })

    test('keeps volumes, and fills them with what is in the image', async () => {
      const mounts = [{ type: 'volume', source: 'kept', target: '/home' }] as const
      expect((await sh('ls /home; echo mine >/home/own', { mounts })).stdout).toBe('alice\n')
      expect((await sh('ls /home; cat /home/own', { mounts })).stdout).toBe('alice\nown\nmine\n')
      const untilTold = ['sh', '-c', 'trap exit TERM; while :; do sleep 0.1; done']
      await engine.start({ rootfs, name: 'user', command: untilTold, mounts })
      await expect(engine.removeVolume({ name: 'kept' })).rejects.toEqual(code('VOLUME_IN_USE'))
      await engine.stop({ name: 'user' })
      await engine.removeVolume({ name: 'kept' })
    })

    test('finds containers by their names', async () => {
      await engine.start({
        rootfs,
        name: 'web',
        command: ['sh', '-c', 'echo page > /tmp/index.html; exec httpd -f -p 80 -h /tmp'],
      })
      await engine.waitForPort({ name: 'web', port: 80 })
      expect(await sh('wget -q -O - http://web/')).toMatchObject({ exitCode: 0, stdout: 'page\n' })
    })

    test('reaches the outside, or says why not', async () => {
      const port = await engine.serve({ address: OUTSIDE })
      const result = await sh(`nc -w 5 ${OUTSIDE} ${port}`)
      if (info.hasEgress) expect(result).toMatchObject({ exitCode: 0, stdout: 'outside\n' })
      else {
        expect(result.exitCode).not.toBe(0)
        expect(info.warnings.join()).toMatch(/outside|egress|internet/i)
      }
    })

    test('runs where there is no network of its own', async () => {
      expect(await sh('ls /sys/class/net; echo fine', { network: 'none' })).toMatchObject({
        exitCode: 0,
        stdout: 'lo\nfine\n',
      })
      const message = expect.stringMatching(/host's network cannot be shared without root; publish ports instead/)
      await expect(sh('true', { network: 'host' })).rejects.toEqual(expect.objectContaining({ message }))
    })

    test.each([
      ['memory', { memoryBytes: 64 * 1024 * 1024 }],
      ['pids', { pids: 20 }],
      ['cpu', { cpus: 1 }],
    ])('says that a limit on %s needs a delegated control group, and runs without', async (controller, limits) => {
      const message = expect.stringMatching(new RegExp(`${controller}.*delegated`))
      await expect(sh('true', { limits })).rejects.toEqual(code('LIMIT_UNAVAILABLE', { message }))
      expect(await sh('true')).toMatchObject({ exitCode: 0 })
    })

    if (ids === 'single') {
      test('says in one sentence that there are no other users', async () => {
        const refused = sh('true', { user: 'nobody' })
        await expect(refused).rejects.toEqual(
          expect.objectContaining({ field: 'user', message: expect.stringMatching(/not mapped.*\/etc\/subuid/) }),
        )
        await expect(refused).rejects.toEqual(expect.objectContaining({ message: expect.not.stringContaining('\n') }))
        await engine.start({ rootfs, name: 'one', command: ['sleep', '1000'] })
        expect((await sh('touch /tmp/file; chown alice /tmp/file')).stderr).toMatch(/Invalid argument/)
      })
    } else {
      test('has other users, and files of theirs go with the container', async () => {
        const result = await sh('id -u; id -g; echo mine > /tmp/file; stat -c %u:%g /tmp/file', { user: 'nobody' })
        expect(result).toMatchObject({ exitCode: 0, stdout: '65534\n65534\n65534:65534\n' })
        const script =
          'mkdir -m 700 /tmp/his && touch /tmp/his/file && chown -R alice:alice /tmp/his && su alice -c "ls /tmp/his"'
        expect(await sh(script)).toMatchObject({ exitCode: 0, stdout: 'file\n' })
      })
    }

    describe('ends without a trace', () => {
      const command = [
        'sh',
        '-c',
        'mkdir -m 700 /tmp/d; touch /tmp/d/f; chown -R nobody /tmp/d; trap "" TERM; while :; do sleep 1; done',
      ]
      const startSome = async () => {
        await engine.start({ rootfs, name: 'a', command, ports: [80] })
        await engine.start({ rootfs, name: 'b', command, scratch: 'memory', tmpfs: { '/var': '' } })
        if (range) await engine.start({ rootfs, name: 'c', command: ['sleep', '1000'], user: 'nobody' })
        const now = snapshotHost(territory)
        expect(now.process.filter((line) => line.includes('sleep')).length).toBeGreaterThan(1)
        expect(now.session).toEqual([info.session])
      }
      const pidsOf = (name: string) =>
        snapshotHost(territory)
          .process.filter((line) => line.includes(`(${name})`))
          .map((line) => Number.parseInt(line, 10))
      const kill = (pids: number[]) => {
        expect(pids.length).toBeGreaterThan(0)
        for (const pid of pids) process.kill(pid, 'SIGKILL')
      }

      test('when it is closed', async () => {
        await startSome()
        await engine.close({})
        const node = snapshotHost(territory).process.filter((line) => line.startsWith(`${scenario.pid} `))
        await expectNothingLeft(territory, { ...before, process: [...before.process, ...node] }, { withinMs: 0 })
      })

      test('when node is killed', async () => {
        await startSome()
        kill([scenario.pid])
        await expectNothingLeft(territory, before)
      })

      test('when the warden is killed', async () => {
        await startSome()
        kill(pidsOf('mayfly-warden'))
        const node = snapshotHost(territory).process.filter((line) => line.startsWith(`${scenario.pid} `))
        await expectNothingLeft(territory, { ...before, process: [...before.process, ...node] })
      })

      test('when all are killed: directories go at the next start', async () => {
        await startSome()
        kill([...pidsOf('mayfly-launcher'), ...pidsOf('mayfly-warden'), scenario.pid])
        await scenario.ended
        await expectNothingLeft(territory, before, { untilNextStart: true })
        const left = info.session
        await begin()
        for (const deadline = Date.now() + 10_000; existsSync(left) && Date.now() < deadline; ) await sleep(10)
        expect(readdirSync(join(info.home, 'sessions'))).toEqual([info.session.slice(-12)])
      })
    })

    test('limits containers where control groups are delegated', async () => {
      for (const group of territory.groups)
        for (const file of ['', ...readdirSync(group)]) chownSync(join(group, file), territory.uid, territory.uid)
      scenario.process.kill('SIGKILL')
      await scenario.ended
      await begin()
      const script = 'for i in $(seq 30); do sleep 1 & done; wait'
      expect((await sh(script, { limits: { pids: 10 } })).stderr).toMatch(/can't fork/)
      const hungry = await sh('tail /dev/zero', { limits: { memoryBytes: 16 * 1024 * 1024 } })
      expect(hungry).toMatchObject({ oomKilled: true, signal: 'SIGKILL' })
      await engine.start({ rootfs, name: 'frozen', command: ['sleep', '1000'] })
      expect(await engine.pause({ name: 'frozen' })).toBe('paused')
    })
  })
})

const source = fileURLToPath(new URL('./rootless.scenario.ts', import.meta.url))
const udpEcho = fileURLToPath(new URL('../support/udp-echo.c', import.meta.url))
