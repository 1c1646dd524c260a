/** A container's whole life under strain: floods, storms, races, big copies, many at once and many in a row. */

import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { Container, ContainerOptions, Engine, EngineEvent } from '../../src/index.js'
import { useEngine } from '../engine/support/own-engine.js'
import { obstacle, type World } from '../engine/support/world.js'
import { expectNoMore, residentKiB, settledHoldings, wardenOf } from './holdings.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

const MIB = 1024 * 1024

describe.skipIf(why)('a container', () => {
  let world: World
  let engine: Engine

  useEngine(
    (own) => {
      world = own.world
      engine = own.engine
    },
    (world) => {
      for (const applet of ['sha256sum', 'mkfifo', 'find', 'md5sum', 'sync'])
        symlinkSync('busybox', join(world.rootfs, 'bin', applet))
    },
  )

  const options = (command: readonly string[], more: Partial<ContainerOptions> = {}): ContainerOptions => ({
    rootfs: { directory: world.rootfs },
    command,
    ...more,
  })
  const start = (command: readonly string[] = ['sleep', '1000'], more: Partial<ContainerOptions> = {}) =>
    engine.start(options(command, more))
  const sh = (script: string, more: Partial<ContainerOptions> = {}) => start(['sh', '-c', script], more)
  const sha256 = (...data: Uint8Array[]) => {
    const hash = createHash('sha256')
    for (const piece of data) hash.update(piece)
    return hash.digest('hex')
  }

  describe('that floods its output', () => {
    test('fills no disk and slows nobody', async () => {
      await using other = await start()
      await using flood = await sh('yes a line of output | head -c 300000000; echo the end', {
        logBytes: 4 * MIB,
        remove: false,
      })
      let slowest = 0
      let sizes = 0
      let runs = 0
      const exited = flood.wait()
      let isOver = false
      void exited.then(() => {
        isOver = true
      })
      while (!isOver && runs < 400) {
        const before = performance.now()
        expect((await other.exec(['true'])).exitCode).toBe(0)
        slowest = Math.max(slowest, performance.now() - before)
        sizes = Math.max(sizes, diskUsage(engine.info.session))
        runs++
      }
      expect(runs).toBeGreaterThan(5)
      // Milliseconds when the machine is quiet; a warden that reads the flood to its end first takes seconds.
      expect(slowest).toBeLessThan(1_000)
      expect(sizes).toBeLessThan(8 * MIB)
      expect(await exited).toMatchObject({ exitCode: 0 })
      const tail = await flood.logText({ tail: 2 })
      expect(tail).toMatch(/the end\n$/)
      expect((await flood.logText()).length).toBeLessThanOrEqual(4 * MIB)
    })

    test('is read by followers that come late, go early, and never read', async () => {
      const lines = 60_000
      await using container = await sh(`i=0; seq 1 ${lines / 2}; sleep 0.3; seq ${lines / 2 + 1} ${lines}`)
      const whole = async () => {
        const hash = createHash('sha256')
        for await (const { data } of container.logs({ follow: true })) hash.update(data)
        return hash.digest('hex')
      }
      const early = async () => {
        for await (const _entry of container.logs({ follow: true })) break
      }
      const idle = Array.from({ length: 5 }, () => container.logs({ follow: true }))
      const readers = [
        ...Array.from({ length: 10 }, whole),
        ...Array.from({ length: 5 }, () => early().then(() => 'early')),
      ]
      await sleep(100)
      readers.push(whole(), whole())
      const expected = sha256(Buffer.from(`${Array.from({ length: lines }, (_, i) => i + 1).join('\n')}\n`))
      const results = await Promise.all(readers)
      expect(new Set(results)).toEqual(new Set([expected, 'early']))
      expect(await container.wait()).toMatchObject({ exitCode: 0 })
      await Promise.all(idle.map((reader) => reader.return?.()))
    })

    test('of bytes that are no text comes out as they are', async () => {
      const data = randomBytes(300_000)
      writeFileSync(join(world.rootfs, 'binary'), data)
      await using container = await sh('cat /binary; cat /binary >&2', { remove: false })
      await container.wait()
      const pieces = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] }
      for await (const { stream, data } of container.logs()) pieces[stream].push(data)
      expect([sha256(...pieces.stdout), sha256(...pieces.stderr)]).toEqual([sha256(data), sha256(data)])
    })
  })

  describe('stdin', () => {
    const input = randomBytes(50 * MIB)
    const digest = () => createHash('sha256').update(input).digest('hex')

    test('of 50 MB goes through attach and comes back', async () => {
      await using container = await start(['sh', '-c', 'cat'], { stdin: true, logBytes: 128 * MIB })
      await using attachment = await container.attach()
      const hash = createHash('sha256')
      const reading = (async () => {
        for await (const piece of attachment.stdout) hash.update(piece)
      })()
      await new Promise<void>((resolve, reject) => {
        attachment.stdin.on('error', reject)
        attachment.stdin.end(input, resolve)
      })
      await reading
      expect(hash.digest('hex')).toBe(digest())
      expect(await container.wait()).toMatchObject({ exitCode: 0 })
    })

    test('of 50 MB goes through exec and comes back', async () => {
      await using container = await start()
      const checked = await container.exec(['sha256sum'], { input })
      expect(checked.stdout.split(' ')[0]).toBe(digest())
      await using cat = await container.execStream({ command: ['cat'], stdin: true })
      const hash = createHash('sha256')
      const reading = (async () => {
        for await (const piece of cat.stdout) hash.update(piece)
      })()
      cat.stdin.end(input)
      await reading
      expect(await cat.wait()).toMatchObject({ exitCode: 0 })
      expect(hash.digest('hex')).toBe(digest())
    })

    test('that ends lets the program write on', async () => {
      await using container = await start(
        ['sh', '-c', 'cat > /dev/null; echo the input has ended; sleep 0.2; echo and this'],
        { stdin: true },
      )
      await using attachment = await container.attach({ replay: true })
      attachment.stdin.end('x')
      let text = ''
      for await (const piece of attachment.stdout) text += Buffer.from(piece)
      expect(text).toBe('the input has ended\nand this\n')
    })

    test('that one client closes is closed', async () => {
      await using container = await start(['sh', '-c', 'echo up; cat; echo closed'], { stdin: true })
      await using one = await container.attach({ replay: true })
      await using other = await container.attach({ replay: true })
      one.stdin.write('from one\n')
      await container.waitForLog('from one')
      other.stdin.end('from other\n')
      await container.waitForLog('closed')
      expect(await container.wait()).toMatchObject({ exitCode: 0 })
    })
  })

  describe('exec', () => {
    test('in storms of 100', async () => {
      await using container = await start()
      const results = await Promise.all(
        Array.from({ length: 100 }, (_, i) =>
          container.exec(['sh', '-c', `cat; echo err ${i} >&2; exit ${i}`], { input: `in ${i}` }),
        ),
      )
      expect(results).toEqual(
        results.map((_, i) => ({
          exitCode: i,
          signal: null,
          stdout: `in ${i}`,
          stderr: `err ${i}\n`,
          isTruncated: false,
        })),
      )
      // Nothing of it is left in the container, not even a zombie.
      expect(
        (await container.exec(['ps', '-o', 'args'])).stdout.split('\n').filter((line) => /sleep|sh/.test(line)),
      ).toEqual(['sleep 1000'])
    })

    test('ends with its program although a child keeps its output open', async () => {
      await using container = await start()
      const before = performance.now()
      expect(await container.exec(['sh', '-c', 'sleep 500 & echo started'])).toMatchObject({
        exitCode: 0,
        stdout: 'started\n',
      })
      expect(performance.now() - before).toBeLessThan(5_000)
      // The child belongs to the container and goes on, as with docker exec.
      expect((await container.exec(['ps', '-o', 'args'])).stdout).toContain('sleep 500')
    })

    test.each([1, 2, 64, 139 - 128])('tells what ended it: signal or code %i', async (number) => {
      await using container = await start()
      expect(await container.exec(['sh', '-c', `exit ${number}`])).toMatchObject({ exitCode: number, signal: null })
      if (number < 64)
        expect(await container.exec(['sh', '-c', `kill -${number} $$`])).toMatchObject({ exitCode: 128 + number })
    })

    test('that is under way when the container ends is told so', async () => {
      const container = await start()
      const execs = Array.from({ length: 5 }, () => container.exec(['sleep', '1000']).catch((error) => error))
      const logs = (async () => {
        for await (const _ of container.logs({ follow: true }));
        return 'ended'
      })()
      await sleep(50)
      await container.kill()
      // The kernel kills them with the container's first process: which of the two news comes first is chance.
      for (const outcome of await Promise.all(execs))
        expect(outcome).toMatchObject(
          outcome instanceof Error ? { code: 'CONTAINER_EXITED' } : { exitCode: 137, signal: 'SIGKILL' },
        )
      expect(await logs).toBe('ended')
    })

    test('races with the exit and never hangs', async () => {
      await Promise.all(
        Array.from({ length: 20 }, async (_, i) => {
          const container = await sh(`sleep 0.0${i % 10}`)
          const outcome = await container.exec(['echo', 'in time']).catch((error) => error)
          if (outcome instanceof Error)
            expect(outcome).toMatchObject({
              code: expect.stringMatching(/^(CONTAINER_EXITED|CONTAINER_NOT_RUNNING|NO_SUCH_CONTAINER)$/),
            })
          // The container's end kills what runs in it: an exec may be told as killed.
          else expect([0, 137]).toContain(outcome.exitCode)
          await container.wait()
        }),
      )
    })
  })

  describe('ends', () => {
    test('after the grace of a program that ignores the request, not before', async () => {
      await using container = await sh('trap "" TERM; echo up; while :; do sleep 0.1; done')
      await container.waitForLog('up')
      const before = performance.now()
      const exit = await container.stop({ timeoutMs: 600 })
      expect(exit).toMatchObject({ exitCode: 137, signal: 'SIGKILL', oomKilled: false })
      expect(performance.now() - before).toBeGreaterThan(550)
    })

    test('by its own stop signal', async () => {
      await using container = await sh('trap "echo bye; exit 4" USR2; echo up; while :; do sleep 0.05; done', {
        stopSignal: 'SIGUSR2',
      })
      await container.waitForLog('up')
      expect(await container.stop()).toMatchObject({ exitCode: 4, signal: null })
    })

    test('when paused: by kill at once, by stop after the grace', async () => {
      for (const end of [(one: Container) => one.kill(), (one: Container) => one.stop({ timeoutMs: 200 })]) {
        const container = await start()
        await container.pause()
        const before = performance.now()
        await end(container)
        expect(await container.wait()).toMatchObject({ exitCode: 137, signal: 'SIGKILL' })
        expect(performance.now() - before).toBeLessThan(5_000)
      }
    })

    test('for everybody who waits, before and after', async () => {
      const container = await sh('sleep 0.2; exit 6', { remove: false })
      const before = Array.from({ length: 50 }, () => container.wait())
      expect(new Set((await Promise.all(before)).map(({ exitCode }) => exitCode))).toEqual(new Set([6]))
      expect(await container.wait()).toMatchObject({ exitCode: 6 })
      expect(await container.waitForExit()).toMatchObject({ exitCode: 6 })
      await container.remove()
      expect(await container.wait()).toMatchObject({ exitCode: 6 })
    })

    test('once, however many ask for it', async () => {
      const container = await start(['sleep', '1000'], { init: true })
      const outcomes = await Promise.allSettled([
        container.stop(),
        container.stop({ timeoutMs: 0 }),
        container.kill(),
        container.remove({ force: true }),
        container.remove({ force: true }),
        container.stop(),
        container[Symbol.asyncDispose](),
      ])
      for (const outcome of outcomes)
        if (outcome.status === 'rejected')
          expect(outcome.reason).toMatchObject({
            code: expect.stringMatching(/^(CONTAINER_NOT_RUNNING|NO_SUCH_CONTAINER)$/),
          })
      expect(container.state).toBe('removed')
    })
  })

  test('keeps files, address and published port over a restart', async () => {
    const script = 'echo once more >> /count; while :; do echo hello | nc -l -p 80; done'
    await using container = await sh(script, { ports: [80] })
    await container.waitForPort(80)
    const { id, address } = container
    const port = container.port(80)
    expect(await firstBytes(port)).toBe('hello\n')
    for (let round = 2; round <= 4; round++) {
      await container.restart({ timeoutMs: 0 })
      await container.waitForPort(80)
      expect([container.id, container.address, container.port(80), container.state]).toEqual([
        id,
        address,
        port,
        'running',
      ])
      await expect.poll(() => firstBytes(port), { timeout: 5_000 }).toBe('hello\n')
      expect((await container.exec(['cat', '/count'])).stdout).toBe('once more\n'.repeat(round))
    }
  })

  test('stands still while paused, with everything it holds', async () => {
    await using container = await sh('i=0; while :; do i=$((i+1)); echo $i > /n; done')
    await sleep(100)
    await container.pause()
    const archive = () => gather(container.copyOut('/n'))
    const first = await archive()
    await sleep(100)
    expect(Buffer.compare(first, await archive())).toBe(0)
    expect((await container.stats()).pids.current).toBeGreaterThan(0)
    await container.unpause()
    await expect.poll(async () => Buffer.compare(first, await archive())).not.toBe(0)
  })

  test('is found by its new name only, also by its neighbours', async () => {
    await using container = await sh('while :; do echo hello | nc -l -p 80; done', { name: 'before' })
    await container.waitForPort(80)
    await using client = await start()
    const ask = (name: string) => client.exec(['nc', '-w', '2', name, '80'])
    expect((await ask('before')).stdout).toBe('hello\n')
    await container.rename('after')
    expect(engine.get('after')).toBe(container)
    expect(() => engine.get('before')).toThrow(expect.objectContaining({ code: 'NO_SUCH_CONTAINER' }))
    await container.waitForPort(80)
    await expect.poll(async () => (await ask('after')).stdout).toBe('hello\n')
    expect((await ask('before')).exitCode).not.toBe(0)
    await using namesake = await start(undefined, { name: 'before' })
    expect(engine.get('before')).toBe(namesake)
  })

  test('tells its events in the order of its life', async () => {
    const controller = new AbortController()
    const seen: EngineEvent[] = []
    const reading = (async () => {
      for await (const event of engine.events({ signal: controller.signal })) seen.push(event)
    })().catch(() => {})
    const container = await engine.create(options(['sh', '-c', 'nc -l -p 7000; sleep 1000'], { remove: false }))
    await container.start()
    await container.waitForPort(7000)
    await container.pause()
    await container.unpause()
    await container.kill()
    await container.wait()
    await container.start()
    await container.stop({ timeoutMs: 0 })
    await container.remove()
    controller.abort()
    await reading
    const types = seen
      .filter((event) => 'container' in event && event.container === container.id)
      .map(({ type }) => type)
    expect(types.filter((type) => type !== 'listen')).toEqual([
      'create',
      'start',
      'pause',
      'unpause',
      'kill',
      'die',
      'start',
      'die',
      'stop',
      'remove',
    ])
    expect(types.indexOf('listen')).toBeGreaterThan(types.indexOf('start'))
    const times = seen.map(({ time }) => time.getTime())
    expect(times).toEqual([...times].sort((a, b) => a - b))
  })

  describe('copies', () => {
    const names = [
      'plain',
      'with space',
      'tab\there',
      'line\nbreak',
      'ünï-\u{1f985}',
      '-dash',
      `${'x'.repeat(255)}`,
      '*',
      '"quoted"',
      'back\\slash',
      '.hidden',
      '..double',
    ]

    /** A tree with everything that a tar has a hard time with. */
    function makeTree(directory: string): void {
      mkdirSync(directory)
      for (const name of names) writeFileSync(join(directory, name), `content of ${name}`)
      const deep = join(directory, ...Array.from({ length: 20 }, (_, i) => `directory-number-${i}`))
      mkdirSync(deep, { recursive: true })
      writeFileSync(join(deep, 'bottom'), 'bottom')
      for (let i = 0; i < 500; i++) writeFileSync(join(directory, `file-${i}`), String(i))
      writeFileSync(join(directory, 'large'), randomBytes(20 * MIB))
      writeFileSync(join(directory, 'empty'), '')
      for (const [name, mode] of [
        ['setuid', 0o4755],
        ['none', 0o000],
        ['all', 0o777],
      ] as const) {
        writeFileSync(join(directory, name), name)
        chmodSync(join(directory, name), mode)
      }
      symlinkSync('large', join(directory, 'link'))
      symlinkSync('/no/where', join(directory, 'dangling'))
      symlinkSync('../../../../../etc/passwd', join(directory, 'climbing'))
      mkdirSync(join(directory, 'sticky'))
      chmodSync(join(directory, 'sticky'), 0o1777)
      execFileSync('ln', [join(directory, 'plain'), join(directory, 'hard')])
      execFileSync('chown', ['1234:5678', join(directory, 'file-0')])
      execFileSync('touch', ['-d', '2001-02-03 04:05:06 UTC', join(directory, 'file-1')])
    }

    /** Names, kinds, permissions, owners, sizes, link targets and contents. */
    const describeTree = (directory: string) =>
      execFileSync(
        'sh',
        [
          '-c',
          `find . -printf '%P %y %m %U:%G %l\\0' | sort -z; find . -type f -print0 | sort -z | xargs -0 sha256sum; stat -c %Y file-1`,
        ],
        {
          cwd: directory,
          maxBuffer: 64 * MIB,
        },
      ).toString('latin1')

    test('of a big tree with odd names come out as they went in: created, running, paused, exited', async () => {
      const tree = join(world.directory, 'tree')
      makeTree(tree)
      const archive = execFileSync('tar', ['-C', tree, '--format=pax', '-cf', '-', '.'], { maxBuffer: 256 * MIB })
      const expected = describeTree(tree)
      await using container = await engine.create(
        options(['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.05; done'], { remove: false }),
      )
      const round = async (name: string) => {
        await container.copyIn('/tmp', tarOfDirectory(name))
        await container.copyIn(`/tmp/${name}`, pieces(archive, 100_003))
        const out = join(world.directory, name)
        mkdirSync(out)
        execFileSync('tar', ['-C', out, '-xpf', '-', '--strip-components=1'], {
          input: await gather(container.copyOut(`/tmp/${name}`)),
        })
        expect(describeTree(out)).toBe(expected)
      }
      await round('created')
      await container.start()
      await round('running')
      await container.pause()
      await round('paused')
      await container.unpause()
      expect((await container.exec(['cat', '/tmp/running/line\nbreak'])).stdout).toBe('content of line\nbreak')
      await container.stop()
      await round('exited')
    })

    test('end when the container does, or go on, but never hang', async () => {
      const container = await sh('head -c 200000000 /dev/zero > /big; echo made; sleep 1000', { remove: false })
      await container.waitForLog('made', { timeoutMs: 20_000 })
      const reader = container.copyOut('/big')
      await reader.next()
      await container.kill()
      await container.wait()
      let bytes = 0
      const outcome = await (async () => {
        for await (const piece of reader) bytes += piece.length
        return 'complete'
      })().catch((error) => error)
      if (outcome instanceof Error) expect(outcome).toMatchObject({ code: expect.stringMatching(/^[A-Z_]+$/) })
      else expect(bytes).toBeGreaterThan(199_000_000)
      await container.remove()
    })

    test('that are broken off leave nothing open', async () => {
      await using container = await start()
      await container.exec(['sh', '-c', 'head -c 30000000 /dev/zero > /big'])
      const before = await settledHoldings(engine)
      for (let i = 0; i < 20; i++) for await (const _ of container.copyOut('/big')) break
      const endless = (async function* () {
        yield execFileSync('tar', ['-C', '/etc', '-cf', '-', 'passwd']).subarray(0, 100)
        throw new Error('the source broke')
      })()
      await expect(container.copyIn('/tmp', endless)).rejects.toThrow('the source broke')
      const stalled = (async function* () {
        await new Promise(() => {})
        yield Buffer.alloc(0)
      })()
      await expect(container.copyIn('/tmp', stalled, { signal: AbortSignal.timeout(50) })).rejects.toThrow(/timeout/)
      await expectNoMore(engine, before)
    })
  })

  test('is one of 200 at once, and all go without a trace', { timeout: 60_000 }, async () => {
    await engine.run(options(['true']))
    const before = await settledHoldings(engine)
    const containers = await Promise.all(
      Array.from({ length: 200 }, (_, i) => start(['sleep', '1000'], { name: `n${i}` })),
    )
    expect(engine.containers()).toHaveLength(200)
    expect(new Set(containers.map(({ address }) => address)).size).toBe(200)
    const outputs = await Promise.all(containers.slice(0, 50).map((one) => one.exec(['hostname', '-i'])))
    expect(outputs.map(({ stdout }) => stdout.trim())).toEqual(containers.slice(0, 50).map(({ address }) => address))
    await Promise.all(containers.map((one) => one.remove({ force: true })))
    expect(engine.containers()).toEqual([])
    await expectNoMore(engine, before)
  })

  test('is one of 1,000 after another, and the warden stays as it is', { timeout: 120_000 }, async () => {
    const warden = wardenOf(engine)
    const hundred = async () => {
      for (let i = 0; i < 100; i++) expect((await engine.run(options(['echo', 'x']))).stdout).toBe('x\n')
    }
    await hundred()
    const before = await settledHoldings(engine)
    const memory = residentKiB(warden)
    for (let round = 0; round < 9; round++) await hundred()
    await expectNoMore(engine, before)
    expect(residentKiB(warden) - memory).toBeLessThan(512)
  })

  test('talks, logs and answers names while node is busy', async () => {
    await using server = await sh('while :; do echo hello | nc -l -p 80; done', { name: 'server' })
    await server.waitForPort(80)
    await using client = await sh(
      'i=0; while [ $i -lt 2000000 ]; do nc -w 1 server 80 > /dev/null 2>&1 && i=$((i+1)) && echo $i; done',
    )
    await client.waitForLog('1')
    const count = async () => Number((await client.logText({ tail: 1 })).trim())
    const before = await count()
    const end = performance.now() + 2_000
    while (performance.now() < end);
    // What was written meanwhile is there at once, so nobody waited for us.
    const at = new Date()
    await sleep(200)
    const written = (await client.logText({ until: at })).trim().split('\n').length
    expect(written - before).toBeGreaterThan(10)
  })
})

/** The bytes that the session's files take on the disk. */
function diskUsage(directory: string): number {
  let sum = 0
  for (const name of readdirSync(directory, { recursive: true })) {
    try {
      const stat = statSync(join(directory, String(name)))
      if (stat.isFile()) sum += stat.blocks * 512
    } catch {
      // gone meanwhile
    }
  }
  return sum
}

async function gather(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for await (const piece of source) pieces.push(piece)
  return Buffer.concat(pieces)
}

function* pieces(data: Uint8Array, size: number): Generator<Uint8Array> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size)
}

/** An archive with one empty directory. */
function tarOfDirectory(name: string): Buffer {
  const header = Buffer.alloc(512)
  header.write(`${name}/`)
  header.write('0000755\0', 100)
  header.write('0000000\0', 108)
  header.write('0000000\0', 116)
  header.write('00000000000\0', 124)
  header.write('00000000000\0', 136)
  header.write('        5', 148)
  header.write('ustar\x0000', 257)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return Buffer.concat([header, Buffer.alloc(1024)])
}

function firstBytes(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: '127.0.0.1', port })
    socket.once('data', (piece) => {
      resolve(String(piece))
      socket.destroy()
    })
    socket.once('error', () => resolve(''))
    socket.once('close', () => resolve(''))
  })
}
