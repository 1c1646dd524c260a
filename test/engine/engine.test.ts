import { once } from 'node:events'
import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import { type Container, type ContainerOptions, type Engine, type EngineEvent, MayflyError } from '../../src/index.js'
import { useEngine } from './support/own-engine.js'
import { obstacle, type World } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

/** What containers have left in the session's directory. Empty pairs of directories are kept for the next container. */
const written = (engine: Engine) =>
  readdirSync(join(engine.info.session, 'c'), { recursive: true }).filter((name) => !/^\d+\.[uwm]$/.test(String(name)))

/** Nothing is read or written meanwhile. */
const beBusy = (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)

describe.skipIf(why)('an engine', () => {
  let world: World
  let engine: Engine

  useEngine((own) => {
    world = own.world
    engine = own.engine
  })

  const options = (command: readonly string[], more: Partial<ContainerOptions> = {}): ContainerOptions => ({
    rootfs: { directory: world.rootfs },
    command,
    ...more,
  })
  const run = (command: readonly string[], more: Partial<ContainerOptions> = {}) => engine.run(options(command, more))
  const sh = (script: string, more: Partial<ContainerOptions> = {}) => run(['sh', '-c', script], more)
  const code = (code: string, more: object = {}) => expect.objectContaining({ code, ...more })

  describe('run', () => {
    test('tells exit code, output and times', async () => {
      const before = Date.now()
      const result = await sh('echo out; echo err >&2; exit 3')
      expect(result).toMatchObject({
        exitCode: 3,
        signal: null,
        oomKilled: false,
        stdout: 'out\n',
        stderr: 'err\n',
        isTruncated: false,
      })
      expect(result.startedAt.getTime()).toBeGreaterThanOrEqual(before - 5)
      expect(result.finishedAt.getTime()).toBeLessThanOrEqual(Date.now() + 5)
      expect(result.durationMs).toBeGreaterThan(0)
      expect(engine.containers()).toEqual([])
    })

    test('leaves nothing in the session when it resolves', async () => {
      await sh('echo hello > /file')
      expect(written(engine)).toEqual([])
    })

    test('tells a signal', async () => {
      expect(await sh('kill -TERM $$', { init: true })).toMatchObject({ exitCode: 143 })
      const container = await engine.start(options(['sleep', '100']))
      await container.kill()
      expect(await container.wait()).toMatchObject({ exitCode: 137, signal: 'SIGKILL', oomKilled: false })
    })

    test('keeps all of a long output, in order, and cuts the result where it was told to', async () => {
      const result = await sh('seq 1 200000')
      expect(result.stdout).toBe(`${Array.from({ length: 200_000 }, (_, i) => i + 1).join('\n')}\n`)
      const cut = await engine.run(options(['seq', '1', '200000']), { maxBytes: 1000 })
      expect(cut).toMatchObject({ isTruncated: true, exitCode: 0 })
      expect(cut.stdout).toHaveLength(1000)
    })

    test('hands output over while it runs', async () => {
      const pieces: string[] = []
      let firstAt = 0
      const started = performance.now()
      const result = await engine.run(options(['sh', '-c', 'echo one; sleep 0.3; echo two >&2']), {
        onStdout: (piece) => {
          firstAt ||= performance.now() - started
          pieces.push(`out ${Buffer.from(piece)}`)
        },
        onStderr: (piece) => pieces.push(`err ${Buffer.from(piece)}`),
      })
      expect(pieces).toEqual(['out one\n', 'err two\n'])
      expect(firstAt).toBeLessThan(250)
      expect(result).toMatchObject({ stdout: 'one\n', stderr: 'two\n' })
    })

    test('stops at an abort and leaves nothing', async () => {
      const controller = new AbortController()
      const running = engine.run(options(['sleep', '100']), { signal: controller.signal })
      setTimeout(() => controller.abort(new Error('enough')), 50)
      await expect(running).rejects.toThrow('enough')
      expect(engine.containers()).toEqual([])
      expect(written(engine)).toEqual([])
      await expect(engine.run(options(['true']), { signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow(
        'before',
      )
    })

    test('ends with what a callback throws, and leaves nothing', async () => {
      const running = engine.run(options(['sh', '-c', 'echo hi; sleep 100']), {
        onStdout: () => {
          throw new Error('mine')
        },
      })
      await expect(running).rejects.toThrow('mine')
      expect(written(engine)).toEqual([])
    })

    test('ends with its program, whoever else holds its output open', async () => {
      const started = performance.now()
      expect(await sh('sleep 100 & echo hi')).toMatchObject({ stdout: 'hi\n' })
      expect(performance.now() - started).toBeLessThan(20_000)
    })

    test('runs many at once', async () => {
      const results = await Promise.all(Array.from({ length: 30 }, (_, i) => sh(`echo ${i}; exit ${i}`)))
      expect(results.map(({ exitCode, stdout }) => [exitCode, stdout])).toEqual(results.map((_, i) => [i, `${i}\n`]))
    })

    test('sees the environment, the user, the directory and the host name it was told', async ({ skip }) => {
      if (engine.info.ids === 'single') skip('an unprivileged user without ranges in /etc/subuid has one id only')
      const { stdout } = await sh('id -u; id -g; id -G; pwd; hostname; echo $HOME $COLOUR', {
        user: 'alice:staff',
        groups: ['bob'],
        workdir: '/tmp',
        hostname: 'box',
        env: { COLOUR: 'green' },
      })
      expect(stdout).toBe('1000\n50\n50 1001\n/tmp\nbox\n/home/alice green\n')
    })
  })

  describe('what is wrong', () => {
    const nothingLeft = () => {
      expect(engine.containers()).toEqual([])
      expect(written(engine)).toEqual([])
    }

    test.each<[string, () => Promise<unknown>, object]>([
      [
        'a program that is not there',
        () => run(['nope']),
        { code: 'PROGRAM_NOT_FOUND', field: 'command[0]', value: 'nope' },
      ],
      ['a path that is not there', () => run(['/no/such']), { code: 'PROGRAM_NOT_FOUND', field: 'command[0]' }],
      [
        'a file that is no program',
        () => run(['/etc/passwd']),
        { code: 'PROGRAM_NOT_EXECUTABLE', field: 'command[0]' },
      ],
      ['a directory', () => run(['/etc']), { code: 'PROGRAM_NOT_EXECUTABLE', field: 'command[0]' }],
      [
        'a user that is not there',
        () => run(['true'], { user: 'carol' }),
        { code: 'USER_NOT_FOUND', field: 'user', value: 'carol' },
      ],
      [
        'a group that is not there',
        () => run(['true'], { user: 'alice:nope' }),
        { code: 'GROUP_NOT_FOUND', field: 'user' },
      ],
      [
        'a further group that is not there',
        () => run(['true'], { groups: ['nope'] }),
        { code: 'GROUP_NOT_FOUND', field: 'groups[0]' },
      ],
      [
        'a working directory that is not there',
        () => run(['true'], { workdir: '/none' }),
        { code: 'WORKDIR_NOT_FOUND', field: 'workdir' },
      ],
      [
        'a root file system that is not there',
        () => run(['true'], { rootfs: { directory: '/no/rootfs' } }),
        { code: 'ROOTFS_NOT_FOUND', field: 'rootfs.directory' },
      ],
      [
        'a layer that is not there',
        () => run(['true'], { rootfs: { layers: [world.rootfs, '/no/layer'] } }),
        { code: 'ROOTFS_NOT_FOUND', field: 'rootfs.layers[1]' },
      ],
      [
        'a mount source that is not there',
        () => run(['true'], { mounts: [{ type: 'bind', source: '/no/source', target: '/mnt' }] }),
        { code: 'MOUNT_SOURCE_NOT_FOUND', field: 'mounts[0].source' },
      ],
      [
        'a device that is not there',
        () => run(['true'], { devices: [{ host: '/dev/nope' }] }),
        { code: 'DEVICE_NOT_FOUND', field: 'devices[0].host' },
      ],
      ['an unknown option', () => run(['true'], { memry: 1 } as object), { code: 'INVALID_OPTION' }],
      ['a NUL byte', () => run(['echo', 'a\0b']), { code: 'INVALID_OPTION' }],
      [
        'an environment of 10 MB',
        () => run(['true'], { env: { A: 'x'.repeat(10_000_000) } }),
        { code: 'ARGUMENTS_TOO_LONG' },
      ],
    ])('%s', async (_name, attempt, expected) => {
      const error = await attempt().catch((reason) => reason)
      expect(error).toBeInstanceOf(MayflyError)
      expect(error).toMatchObject(expected)
      nothingLeft()
    })

    test('a script whose interpreter is missing', async () => {
      writeFileSync(join(world.rootfs, 'script'), '#!/no/interpreter\n', { mode: 0o755 })
      await expect(run(['/script'])).rejects.toThrow(
        code('PROGRAM_NOT_FOUND', { message: expect.stringContaining('interpreter') }),
      )
      nothingLeft()
    })

    test('a rootfs with nothing in it, and one without /etc/passwd', async ({ skip }) => {
      if (engine.info.ids === 'single') skip('an unprivileged user without ranges in /etc/subuid has one id only')
      const empty = join(world.directory, 'empty')
      mkdirSync(empty)
      await expect(run(['true'], { rootfs: { directory: empty } })).rejects.toThrow(code('PROGRAM_NOT_FOUND'))
      const bare = join(world.directory, 'bare')
      mkdirSync(bare)
      symlinkSync('/x', join(bare, 'link'))
      const result = await run(['/bin/busybox', 'id', '-u'], {
        rootfs: { layers: [bare, join(world.rootfs)] },
        user: '77',
      })
      expect(result.stdout).toBe('77\n')
      nothingLeft()
    })

    test('a name that is taken, until it is free again', async () => {
      const first = await engine.start(options(['sleep', '100'], { name: 'one' }))
      await expect(run(['true'], { name: 'one' })).rejects.toThrow(code('NAME_TAKEN', { field: 'name', value: 'one' }))
      await first.remove({ force: true })
      expect((await run(['true'], { name: 'one' })).exitCode).toBe(0)
    })

    test('a port that is in use', async () => {
      const server = createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as { port: number }
      const error = await run(['true'], { ports: [{ container: 80, host: port }] }).catch((reason) => reason)
      expect(error).toMatchObject({ code: 'PORT_IN_USE', field: 'ports[0].host', value: port })
      server.close()
      nothingLeft()
    })

    test('a container to join that is not there, or does not run', async () => {
      await expect(run(['true'], { network: 'container:nope' })).rejects.toThrow(code('NO_SUCH_CONTAINER'))
      await using other = await engine.create(options(['true'], { name: 'other' }))
      const error = await run(['true'], { network: 'container:other' }).catch((reason) => reason)
      expect(error).toMatchObject({ code: 'CONTAINER_NOT_RUNNING', field: 'network', value: 'container:other' })
      expect(engine.containers()).toEqual([other])
    })

    test('a memory limit below what can start', async () => {
      const error = await run(['true'], { limits: { memoryBytes: 1 } }).catch((reason) => reason)
      expect(error).toMatchObject({ code: 'INVALID_OPTION', field: 'limits.memoryBytes' })
    })
  })

  describe('a container', () => {
    test('lives from create over start and stop to start again', async () => {
      const container = await engine.create(
        options(['sh', '-c', 'trap "exit 5" TERM; echo begun; sleep 100 & wait'], { remove: false, name: 'life' }),
      )
      expect([container.state, container.name, container.id]).toEqual([
        'created',
        'life',
        expect.stringMatching(/^[0-9a-f]{64}$/),
      ])
      await expect(container.wait()).rejects.toThrow(code('CONTAINER_NOT_RUNNING'))
      await container.start()
      expect(container.state).toBe('running')
      await container.waitForLog('begun')
      await expect(container.start()).rejects.toThrow(code('CONTAINER_RUNNING'))
      await expect(container.remove()).rejects.toThrow(code('CONTAINER_RUNNING'))
      expect(await container.stop()).toMatchObject({ exitCode: 5, signal: null })
      expect(container.state).toBe('exited')
      await container.start()
      expect(container.state).toBe('running')
      await container.waitForLog('begun', { times: 2 })
      await container.stop()
      await container.remove()
      await container.remove()
      expect(container.state).toBe('removed')
      expect(() => engine.get('life')).toThrow(code('NO_SUCH_CONTAINER'))
      await expect(container.start()).rejects.toThrow(code('NO_SUCH_CONTAINER'))
    })

    test('is removed at its exit, and its log can still be read', async () => {
      const container = await engine.start(options(['sh', '-c', 'echo last words; exit 2']))
      expect(await container.wait()).toMatchObject({ exitCode: 2 })
      await expect.poll(() => container.state).toBe('removed')
      expect(engine.containers()).toEqual([])
      expect(await container.logText()).toBe('last words\n')
    })

    test('is killed when it does not stop in time', async () => {
      const container = await engine.start(options(['sh', '-c', 'trap "" TERM; echo ready; while :; do sleep 1; done']))
      await container.waitForLog('ready')
      const started = performance.now()
      expect(await container.stop({ timeoutMs: 100 })).toMatchObject({ exitCode: 137, signal: 'SIGKILL' })
      // Ten seconds is what a stop waits when nobody says otherwise.
      expect(performance.now() - started).toBeLessThan(8_000)
      expect(container.state).toBe('removed')
    })

    test('keeps its files over a restart, and its id', async () => {
      await using container = await engine.start(
        options(['sh', '-c', 'echo run >> /runs; cat /runs; echo end; sleep 100']),
      )
      await container.waitForLog('end')
      await container.restart({ timeoutMs: 0 })
      expect(container.state).toBe('running')
      await container.waitForLog('run', { times: 3 })
    })

    test('is paused and goes on', async ({ skip }) => {
      if (engine.info.rootless) skip('control groups are not delegated to unprivileged users everywhere')
      await using container = await engine.start(options(['sh', '-c', 'while :; do echo tick; sleep 0.02; done']))
      await container.waitForLog('tick', { times: 3 })
      await container.pause()
      expect(container.state).toBe('paused')
      await expect(container.exec(['true'])).rejects.toThrow(code('CONTAINER_NOT_RUNNING'))
      const before = (await container.logText()).length
      await new Promise((resolve) => setTimeout(resolve, 150))
      expect((await container.logText()).length).toBe(before)
      await container.unpause()
      await container.waitForLog('tick', { times: before / 5 + 3 })
      await container.pause()
      expect(await container.stop({ timeoutMs: 100 })).toMatchObject({ exitCode: 137 })
    })

    test('gets signals by name and number', async () => {
      await using container = await engine.start(
        options([
          'sh',
          '-c',
          'trap "echo usr1" USR1; trap "echo hup; exit 9" HUP; echo ready; while :; do sleep 0.05; done',
        ]),
      )
      await container.waitForLog('ready')
      await container.kill('USR1')
      await container.waitForLog('usr1')
      await container.kill(1)
      expect(await container.waitForExit()).toMatchObject({ exitCode: 9 })
      await expect(container.kill('NOPE')).rejects.toThrow(code('INVALID_OPTION'))
    })

    test('is renamed', async () => {
      await using container = await engine.start(options(['sleep', '100'], { name: 'before' }))
      await container.rename('after')
      expect(engine.get('after').id).toBe(container.id)
      expect(() => engine.get('before')).toThrow(code('NO_SUCH_CONTAINER'))
      await expect(container.rename('a b')).rejects.toThrow(code('INVALID_OPTION'))
      await expect(container.rename('after')).rejects.toThrow(code('NAME_TAKEN'))
    })

    test('is found by name, id and start of the id', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      expect(container.name).toMatch(/^[a-z]+_[a-z]+$/)
      for (const reference of [container.name, container.id, container.id.slice(0, 12)])
        expect(engine.get(reference)).toBe(container)
      expect(() => engine.get('nope')).toThrow(code('NO_SUCH_CONTAINER'))
    })

    test('tells everything known about it', async () => {
      await using container = await engine.start(options(['sleep', '100'], { labels: { team: 'a' }, ports: [80] }))
      const { options: known, ...facts } = container.inspect()
      expect(facts).toMatchObject({
        id: container.id,
        state: 'running',
        exit: null,
        network: { address: container.address },
      })
      expect(facts.pid).toBeGreaterThan(0)
      expect(known).toMatchObject({ labels: { team: 'a' }, workdir: '/', stopTimeoutMs: 10_000 })
      expect(JSON.parse(JSON.stringify(facts)).network.ports).toHaveLength(1)
    })

    test('tells what it uses', async ({ skip }) => {
      if (engine.info.rootless) skip('control groups are not delegated to unprivileged users everywhere')
      await using container = await engine.start(options(['sh', '-c', 'while :; do :; done']))
      await new Promise((resolve) => setTimeout(resolve, 100))
      const stats = await container.stats()
      expect(stats.cpu.usageNs).toBeGreaterThan(10_000_000)
      expect(stats.memory.usageBytes).toBeGreaterThan(0)
      expect(stats.network).toMatchObject({ rxErrors: 0 })
      const seen: number[] = []
      for await (const { cpu } of container.statsStream({ intervalMs: 20 })) if (seen.push(cpu.usageNs!) === 3) break
      expect(seen[2]).toBeGreaterThan(seen[0]!)
      await container.kill()
      await container.waitForExit()
      await expect(container.stats()).rejects.toThrow(code('CONTAINER_NOT_RUNNING'))
    })

    test('ends the stream of what it uses when it exits, also while that is asked', async ({ skip }) => {
      if (engine.info.rootless) skip('control groups are not delegated to unprivileged users everywhere')
      for (let round = 0; round < 5; round++) {
        await using container = await engine.start(options(['sleep', '100'], { remove: false }))
        for await (const _stats of container.statsStream({ intervalMs: 1 })) {
          container.kill().catch(() => {}) // it may have ended, of the kill before
          // The interval is over then and the container gone, which is read only after the next request was sent.
          void setImmediate().then(() => beBusy(50))
        }
        expect(container.state).toBe('exited')
      }
    })

    test('is told as out of memory when it is', async ({ skip }) => {
      if (engine.info.rootless) skip('control groups are not delegated to unprivileged users everywhere')
      const container = await engine.start(
        options(['sh', '-c', 'tail /dev/zero'], { limits: { memoryBytes: 16 * 1024 * 1024 } }),
      )
      expect(await container.waitForExit()).toMatchObject({ oomKilled: true })
    })
  })

  describe('exec', () => {
    test('collects output and tells the exit code', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      expect(await container.exec(['sh', '-c', 'echo out; echo err >&2; exit 4'])).toEqual({
        exitCode: 4,
        signal: null,
        stdout: 'out\n',
        stderr: 'err\n',
        isTruncated: false,
      })
      expect(await container.exec(['sh', '-c', 'kill -9 $$'])).toMatchObject({ exitCode: 137, signal: 'SIGKILL' })
    })

    test('takes user, directory, environment and input', async ({ skip }) => {
      if (engine.info.ids === 'single') skip('an unprivileged user without ranges in /etc/subuid has one id only')
      await using container = await engine.start(options(['sleep', '100'], { env: { A: 'container', B: 'container' } }))
      const { stdout } = await container.exec(
        { command: ['sh', '-c', 'id -un; pwd; echo $A $B; cat'], user: 'alice', workdir: '/tmp', env: { B: 'exec' } },
        { input: 'typed' },
      )
      expect(stdout).toBe('alice\n/tmp\ncontainer exec\ntyped')
    })

    test('carries a long output, and cuts it where it was told to', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      const { stdout } = await container.exec(['seq', '1', '300000'])
      expect(stdout).toBe(`${Array.from({ length: 300_000 }, (_, i) => i + 1).join('\n')}\n`)
      expect(await container.exec(['seq', '1', '300000'], { maxBytes: 10 })).toMatchObject({
        stdout: '1\n2\n3\n4\n5\n',
        isTruncated: true,
      })
    })

    test('ends as the program does when it does not read its input', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      const input = 'x'.repeat(3_000_000)
      expect(await container.exec(['sh', '-c', 'echo out; exit 3'], { input })).toMatchObject({
        exitCode: 3,
        stdout: 'out\n',
      })
      expect((await container.exec(['wc', '-c'], { input })).stdout.trim()).toBe('3000000')
    })

    test('may run many at once', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      const results = await Promise.all(Array.from({ length: 50 }, (_, i) => container.exec(['echo', `${i}`])))
      expect(results.map(({ stdout }) => stdout)).toEqual(results.map((_, i) => `${i}\n`))
    })

    test('says what is wrong', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      await expect(container.exec(['nope'])).rejects.toThrow(
        code('PROGRAM_NOT_FOUND', { field: 'command[0]', value: 'nope' }),
      )
      await expect(container.exec(['/etc/passwd'])).rejects.toThrow(code('PROGRAM_NOT_EXECUTABLE'))
      await expect(container.exec({ command: ['true'], user: 'carol' })).rejects.toThrow(code('USER_NOT_FOUND'))
      await expect(container.exec({ command: ['true'], workdir: '/none' })).rejects.toThrow(code('WORKDIR_NOT_FOUND'))
      await container.kill()
      await container.waitForExit()
      await expect(container.exec(['true'])).rejects.toThrow(code('CONTAINER_NOT_RUNNING'))
    })

    test('is killed by an abort', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      const running = container.exec(['sleep', '77'], { signal: AbortSignal.timeout(50) })
      await expect(running).rejects.toThrow(expect.objectContaining({ name: 'TimeoutError' }))
      await expect.poll(async () => (await container.exec(['ps'])).stdout).not.toContain('sleep 77')
    })

    test('ends with what a callback throws, its program killed', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      let calls = 0
      const running = container.exec(['sh', '-c', 'echo out; echo err >&2; echo out; exec sleep 78'], {
        onOutput: () => {
          calls++
          throw new Error('mine')
        },
      })
      await expect(running).rejects.toThrow('mine')
      await expect.poll(async () => (await container.exec(['ps'])).stdout).not.toContain('sleep 78')
      expect(calls).toBe(1)
    })

    test('ends with its container', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      const running = container.exec(['sleep', '77'])
      setTimeout(() => void container.kill(), 50)
      const outcome = await running.catch((error) => error)
      // Which of the two is told first is the kernel's choice.
      if (outcome instanceof MayflyError) expect(outcome.code).toBe('CONTAINER_EXITED')
      else expect(outcome).toMatchObject({ exitCode: 137 })
    })

    test('streams both ways', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      const cat = await container.execStream({ command: ['cat'], stdin: true })
      const size = 5_000_000
      const writing = (async () => {
        for (let i = 0; i < size / 50_000; i++) {
          if (!cat.stdin.write(Buffer.alloc(50_000, i))) await once(cat.stdin, 'drain')
        }
        cat.stdin.end()
      })()
      let read = 0
      for await (const piece of cat.stdout) read += piece.length
      await writing
      expect(read).toBe(size)
      expect(await cat.wait()).toEqual({ exitCode: 0, signal: null })
    })

    test('holds a program back whose output nobody reads', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      await using yes = await container.execStream(['sh', '-c', 'yes | head -c 50000000; echo done >&2'])
      await expect(yes.wait({ timeoutMs: 300 })).rejects.toThrow(code('TIMEOUT'))
      let read = 0
      for await (const piece of yes.stdout) read += piece.length
      expect(read).toBe(50_000_000)
      expect(await yes.wait()).toMatchObject({ exitCode: 0 })
    })

    test('has a terminal that can be resized', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      await using shell = await container.execStream({
        command: ['sh', '-c', 'stty size; read line; stty size'],
        tty: { columns: 90, rows: 30 },
        stdin: true,
      })
      let output = ''
      for await (const piece of shell.stdout) {
        output += Buffer.from(piece)
        if (output.includes('30 90') && !output.includes('\n\n')) {
          await shell.resize(100, 40)
          shell.stdin.write('\n')
          output += '\n\n'
        }
      }
      expect(output).toContain('40 100')
    })

    test('is killed by name of the signal, and by its disposal', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      const sleeper = await container.execStream(['sleep', '66'])
      await sleeper.kill('SIGTERM')
      expect(await sleeper.wait()).toEqual({ exitCode: 143, signal: 'SIGTERM' })
      {
        await using _other = await container.execStream(['sleep', '65'])
      }
      await expect.poll(async () => (await container.exec(['ps'])).stdout).not.toContain('sleep 65')
    })
  })

  describe('logs', () => {
    test('are told apart by stream, with times in order', async () => {
      const container = await engine.start(options(['sh', '-c', 'echo a; sleep 0.02; echo b >&2; sleep 0.02; echo c']))
      const entries = []
      for await (const entry of container.logs({ follow: true })) entries.push(entry)
      expect(entries.map(({ stream, data }) => [stream, String(Buffer.from(data))])).toEqual([
        ['stdout', 'a\n'],
        ['stderr', 'b\n'],
        ['stdout', 'c\n'],
      ])
      expect(entries[2]!.time - entries[0]!.time).toBeGreaterThan(30_000_000n)
      expect(container.exit).toMatchObject({ exitCode: 0 })
    })

    test('can be had in part: stream, tail, since, until', async () => {
      await using container = await engine.start(
        options(['sh', '-c', 'echo a; echo b >&2; echo c; sleep 0.2; echo d; sleep 100']),
      )
      await container.waitForLog('d')
      expect(await container.logText({ stdout: false })).toBe('b\n')
      expect(await container.logText({ tail: 1 })).toBe('d\n')
      expect(await container.logText({ tail: 0 })).toBe('')
      const entries = []
      for await (const entry of container.logs()) entries.push(entry)
      const last = Number(entries.at(-1)!.time / 1_000_000n)
      expect(await container.logText({ since: last - 50 })).toBe('d\n')
      expect(await container.logText({ until: new Date(last - 50), stderr: false })).toBe('a\nc\n')
      expect(await container.logText({ timestamps: true, tail: 1 })).toMatch(
        /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z d\n$/,
      )
    })

    test('are capped, and say what was lost', async () => {
      await using container = await engine.start(
        options(['sh', '-c', 'seq 1 100000; echo end; sleep 100'], { logBytes: 65536 }),
      )
      await container.waitForLog('end')
      let lost = 0
      let kept = 0
      for await (const { lostBytes, data } of container.logs()) {
        lost += lostBytes
        kept += data.length
      }
      expect(kept).toBeLessThanOrEqual(65536)
      expect(lost).toBeGreaterThan(0)
      // What is lost is told with the warden's own bookkeeping in it.
      expect(kept + lost).toBeGreaterThanOrEqual(588_895 + 4)
    })

    test('stop following at an abort, or when the loop is left', async () => {
      await using container = await engine.start(options(['sh', '-c', 'echo a; sleep 100']))
      const following = (async () => {
        for await (const _ of container.logs({ follow: true, signal: AbortSignal.timeout(50) })) {
        }
      })()
      await expect(following).rejects.toThrow(expect.objectContaining({ name: 'TimeoutError' }))
      for await (const _ of container.logs({ follow: true })) break
    })
  })

  describe('waiting', () => {
    test('for a port ends when something listens, and for one that is open at once', async () => {
      await using container = await engine.start(
        options(['sh', '-c', 'sleep 0.1; echo opening; exec nc -l -p 8080'], { ports: [8080] }),
      )
      expect(await container.waitForPort(8080, { timeoutMs: 5_000 })).toMatchObject({ port: 8080 })
      expect(await container.waitForPort(8080, { timeoutMs: 100 })).toMatchObject({ port: 8080 })
    })

    test('ends at once, with the last output, when the container dies', async () => {
      const container = await engine.start(options(['sh', '-c', 'sleep 0.1; echo disk is full >&2; exit 3']))
      const waits = [container.waitForPort(80), container.waitForLog('never')]
      for (const outcome of await Promise.allSettled(waits)) {
        expect(outcome).toMatchObject({
          status: 'rejected',
          reason: {
            code: 'CONTAINER_EXITED',
            logTail: 'disk is full',
            message: expect.stringMatching(/exited with code 3/),
          },
        })
      }
    })

    test('ends at its timeout and says what is open instead', async () => {
      await using container = await engine.start(options(['sh', '-c', 'echo here; exec nc -l -p 81']))
      await container.waitForPort(81)
      const error = await container.waitForPort(80, { timeoutMs: 50 }).catch((reason) => reason)
      expect(error).toMatchObject({ code: 'TIMEOUT', hint: 'it listens on 81', logTail: 'here' })
    })

    test('does not take a port on the loopback of the container for one that is open', async () => {
      await using container = await engine.start(options(['httpd', '-f', '-p', '127.0.0.1:81']))
      const error = await container.waitForPort(81, { timeoutMs: 200 }).catch((reason) => reason)
      expect(error).toMatchObject({ code: 'TIMEOUT', hint: expect.stringContaining('127.0.0.1 only') })
    })

    test('for a line counts those from before, and those without a newline at the end', async () => {
      const container = await engine.start(options(['sh', '-c', 'echo ready 1; echo ready 2 >&2; printf "ready 3"']))
      expect(await container.waitForLog(/ready (\d)/g, { times: 3 })).toBe('ready 3')
      await expect(container.waitForLog('ready', { times: 4 })).rejects.toThrow(code('CONTAINER_EXITED'))
    })

    test('ends at an abort', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      const signal = AbortSignal.timeout(30)
      const timeout = expect.objectContaining({ name: 'TimeoutError' })
      await Promise.all(
        [container.waitForPort(80, { signal }), container.waitForLog('x', { signal }), container.wait({ signal })].map(
          (wait) => expect(wait).rejects.toThrow(timeout),
        ),
      )
      await expect(container.wait({ timeoutMs: 10 })).rejects.toThrow(code('TIMEOUT'))
    })
  })

  describe('attach', () => {
    test('replays, goes on, and types', async () => {
      const container = await engine.start(options(['sh', '-c', 'echo hello; cat; echo bye'], { stdin: true }))
      await container.waitForLog('hello')
      const attachment = await container.attach({ replay: true })
      attachment.stdin.end('typed\n')
      let output = ''
      for await (const piece of attachment.stdout) output += Buffer.from(piece)
      expect(output).toBe('hello\ntyped\nbye\n')
      expect(await container.wait()).toMatchObject({ exitCode: 0 })
    })

    test('is for containers that were started', async () => {
      await using container = await engine.create(options(['cat'], { stdin: true }))
      await expect(container.attach()).rejects.toThrow(code('CONTAINER_NOT_RUNNING'))
    })

    test('has a terminal', async () => {
      await using container = await engine.start(
        options(['sh', '-c', 'stty size; read line; stty size'], {
          stdin: true,
          tty: { columns: 90, rows: 30 },
          remove: false,
        }),
      )
      await container.waitForLog('30 90')
      await container.resize(100, 40)
      const attachment = await container.attach()
      attachment.stdin.write('\n')
      await container.waitForLog('40 100')
      await container.waitForExit()
    })
  })

  describe('ports', () => {
    const serve = async (more: Partial<ContainerOptions> = {}) => {
      const container = await engine.start(
        options(['sh', '-c', 'mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www'], {
          ports: [80],
          ...more,
        }),
      )
      await container.waitForPort(80)
      return container
    }

    test('are published under the same number on both loopback addresses', async () => {
      await using container = await serve()
      for (const host of ['127.0.0.1', '[::1]']) {
        const response = await fetch(`http://${host}:${container.port(80)}/`)
        expect(await response.text()).toBe('hello\n')
      }
      expect(() => container.port(81)).toThrow(RangeError)
    })

    test('can be reached at the address of the container, where the host can', async ({ skip }) => {
      if (!engine.info.isHostReachable) skip('the host does not reach containers here')
      await using container = await serve()
      expect(await (await fetch(`http://${container.address}/`)).text()).toBe('hello\n')
    })

    test('are free again after the removal', async () => {
      const first = await serve()
      const port = first.port(80)
      await first.remove({ force: true })
      await using second = await serve({ ports: [{ container: 80, host: port }] })
      expect(second.port(80)).toBe(port)
    })

    test('are not there without a network', async () => {
      expect((await run(['ls', '/sys/class/net'], { network: 'none' })).stdout).toBe('lo\n')
    })

    test('join two containers by name', async () => {
      await using _server = await serve({ name: 'server', networkAliases: ['alias'] })
      const { stdout } = await sh('wget -q -O - http://server/; wget -q -O - http://alias/')
      expect(stdout).toBe('hello\nhello\n')
    })
  })

  describe('copying', () => {
    const gather = async (pieces: AsyncIterable<Uint8Array>) => {
      const all: Uint8Array[] = []
      for await (const piece of pieces) all.push(piece)
      return Buffer.concat(all)
    }

    test('brings a tree out of one container and into another, running or not', async () => {
      await using source = await engine.start(
        options([
          'sh',
          '-c',
          'mkdir -p /data/deep; echo one > /data/deep/file; seq 1 100000 > /data/long; ln -s deep /data/link; echo made; sleep 100',
        ]),
      )
      await source.waitForLog('made')
      const tar = await gather(source.copyOut('/data'))
      await using target = await engine.create(
        options(['sh', '-c', 'cat /tmp/data/link/file; wc -l < /tmp/data/long'], { remove: false }),
      )
      await target.copyIn('/tmp', [tar.subarray(0, 700), tar.subarray(700)])
      expect((await gather(target.copyOut('/tmp/data/deep'))).includes('one\n')).toBe(true)
      await target.start()
      await target.waitForExit()
      expect(await target.logText()).toBe('one\n100000\n')
      await source.copyIn('/', target.copyOut('/tmp/data/long'))
      expect((await source.exec(['tail', '-n', '1', '/long'])).stdout).toBe('100000\n')
    })

    test('says what is wrong', async () => {
      await using container = await engine.start(options(['sleep', '100']))
      await expect(gather(container.copyOut('/none'))).rejects.toThrow(code('PATH_NOT_FOUND'))
      await expect(container.copyIn('/none', [new Uint8Array(1024)])).rejects.toThrow(code('PATH_NOT_FOUND'))
      await expect(container.copyIn('/tmp', [Buffer.alloc(2048, 'no tar')])).rejects.toThrow(code('ARCHIVE_INVALID'))
      const broken = (async function* () {
        yield new Uint8Array(10)
        throw new Error('source broke')
      })()
      await expect(container.copyIn('/tmp', broken)).rejects.toThrow('source broke')
      const stalled = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) }
      await expect(container.copyIn('/tmp', stalled, { signal: AbortSignal.timeout(50) })).rejects.toThrow(/timeout/)
      await expect(container.copyIn('/none', stalled)).rejects.toThrow(code('PATH_NOT_FOUND'))
    })
  })

  test('a copy that stalls does not hold up the removal', async () => {
    const container = await engine.start(options(['sleep', '100']))
    const stalled = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) }
    const copying = expect(container.copyIn('/tmp', stalled)).rejects.toThrow(code('NO_SUCH_CONTAINER'))
    const unread = container.copyOut('/bin')
    await unread.next()
    await container.remove({ force: true })
    await copying
  })

  test('faked time does not stop the clock of containers', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'setImmediate', 'Date', 'performance'] })
    try {
      await using container = await engine.start(options(['sh', '-c', 'sleep 0.05; echo ready; exec nc -l -p 81']))
      await container.waitForLog('ready')
      await container.waitForPort(81)
      await expect(container.waitForPort(80, { timeoutMs: 20 })).rejects.toThrow(code('TIMEOUT'))
      expect((await container.exec(['echo', 'hi'])).stdout).toBe('hi\n')
      expect((await sh('echo hi')).stdout).toBe('hi\n')
    } finally {
      vi.useRealTimers()
    }
  })

  describe('rootfs', () => {
    test('of several layers, the last one on top', async () => {
      const top = join(world.directory, 'top')
      mkdirSync(join(top, 'etc'), { recursive: true })
      writeFileSync(join(top, 'etc/motd'), 'top\n')
      const { stdout } = await run(['cat', '/etc/motd', '/etc/group'], { rootfs: { layers: [world.rootfs, top] } })
      expect(stdout).toMatch(/^top\nroot:/)
    })

    test('of as many layers as an image may have, in directories of any name', async () => {
      const layers = Array.from({ length: 126 }, (_, i) =>
        join(world.directory, 'many', `layer ${i}, with a: and a \\ in its name`),
      )
      for (const [i, layer] of layers.entries()) {
        mkdirSync(join(layer, 'many'), { recursive: true })
        writeFileSync(join(layer, 'many', String(i)), '')
        writeFileSync(join(layer, 'last'), `${i}\n`)
      }
      const script = 'ls /many | wc -l; cat /last; rm /many/7 && touch /many/new && ls /many | wc -l'
      const { stdout, stderr } = await sh(script, { rootfs: { layers: [world.rootfs, ...layers] } })
      expect([stdout, stderr]).toEqual(['126\n125\n126\n', ''])
    })

    test('is never written to', async () => {
      await sh('echo x > /written; rm /etc/group')
      expect(readdirSync(world.rootfs)).not.toContain('written')
      expect(readdirSync(join(world.rootfs, 'etc'))).toContain('group')
      rmSync(join(world.rootfs, 'script'), { force: true })
    })
  })

  test.each<[way: string, run: (container: Container) => Promise<unknown>]>([
    ['exec', (container) => container.exec(['true'])],
    ['execStream', async (container) => (await container.execStream(['true'])).wait()],
  ])('tells events in the order in which they happen, those of %s as well', async (_way, run) => {
    const types: string[] = []
    const events = engine.events()
    const container = await engine.start(options(['sleep', '100']))
    const running = run(container)
    await setImmediate()
    beBusy(200) // so that the program's start and its end are read at once
    await running
    await container.remove({ force: true })
    for await (const { type } of events) {
      types.push(type)
      if (type === 'remove') break
    }

    expect(types).toEqual(['create', 'start', 'exec-start', 'exec-die', 'die', 'remove'])
  })

  test('tells events as they come', async ({ skip }) => {
    if (engine.info.rootless) skip('control groups are not delegated to unprivileged users everywhere')
    const controller = new AbortController()
    const events: EngineEvent[] = []
    const listening = (async () => {
      for await (const event of engine.events({ signal: controller.signal })) events.push(event)
    })()
    const container = await engine.start(options(['sleep', '100'], { name: 'eventful' }))
    await container.exec(['true'])
    await container.pause()
    await container.unpause()
    await container.rename('renamed')
    await container.kill('TERM')
    await container.stop({ timeoutMs: 0 })
    await expect.poll(() => events.at(-1)?.type).toBe('remove')
    controller.abort(new Error('enough'))
    await expect(listening).rejects.toThrow('enough')
    expect(events.map(({ type }) => type)).toEqual(
      expect.arrayContaining([
        'create',
        'start',
        'exec-start',
        'exec-die',
        'pause',
        'unpause',
        'rename',
        'kill',
        'die',
        'remove',
        'stop',
      ]),
    )
    expect(events[0]).toMatchObject({
      type: 'create',
      container: container.id,
      name: 'eventful',
      time: expect.any(Date),
    })
  })
})
