/**
 * Clients that send garbage, stop half-way, do not read, or leave at the worst moment. The warden must neither crash, nor spin, nor
 * lose descriptors. Run with the sanitized warden (`npm run test:sanitized`), which sees what a plain one survives by luck.
 */

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { encodeRequest } from '../../src/engine/wire.js'
import { newId, RawWarden, until } from './support/raw-warden.js'
import { makeWorld, obstacle, type World } from './support/world.js'

const why = obstacle()

describe.skipIf(why)('the warden and a bad client', () => {
  let world: World
  let warden: RawWarden

  beforeAll(() => {
    world = makeWorld()
  })
  afterAll(() => world?.remove())
  beforeEach(async () => {
    warden = await RawWarden.open(world)
  })
  afterEach(() => warden?.close())

  /** Words of a container that needs nothing but busybox. */
  const plan = (id: string, command: readonly string[], ...more: string[]) => [
    ...['id', id, 'layer', world.rootfs, 'net', 'none', 'env', 'PATH=/bin', ...more],
    ...[
      'mount',
      'tmpfs',
      'target',
      '/dev',
      'mount',
      'devpts',
      'target',
      '/dev/pts',
      'data',
      'newinstance,ptmxmode=0666',
    ],
    ...command.flatMap((word) => ['arg', word]),
  ]
  const run = async (command: readonly string[], ...more: string[]) => {
    const id = newId()
    expect(await warden.request('run', plan(id, command, ...more))).toMatchObject({ ok: true })
    return id
  }
  const exec = (id: string, command: readonly string[], ...more: string[]) =>
    warden.bulk('exec', [
      'id',
      id,
      'exec',
      newId(),
      'env',
      'PATH=/bin',
      ...more,
      ...command.flatMap((word) => ['arg', word]),
    ])
  const expectWell = async () => {
    const id = await run(['sh', '-c', 'sleep 100'])
    let said = ''
    const socket = exec(id, ['echo', 'well']).on('data', (bytes) => {
      said += bytes
    })
    await once(socket, 'close')
    expect(said).toContain('well\n')
    await warden.removeAll([id])
  }
  /** What the warden may have more of than before, for it keeps namespaces and overlays in stock. Tests lose more if they lose any. */
  const STOCK = 48
  /** Warm: what is opened once and kept is open. */
  const baseline = async () => {
    await expectWell()
    return warden.descriptors()
  }
  const expectDescriptors = (count: number) =>
    expect.poll(() => warden.descriptors(), { timeout: 10_000 }).toBeLessThanOrEqual(count + STOCK)

  test('refuses requests that make no sense, and goes on', async () => {
    const id = newId()
    const refused: [string, string[]][] = [
      ['nonsense', []],
      ['', []],
      ['start', []],
      ['start', ['id', '']],
      ['run', []],
      ['run', ['id', id]],
      ['run', ['id', 'short', 'layer', '/', 'arg', 'sh']],
      ['run', ['id', id, 'layer', world.rootfs, 'arg', 'sh']], // the bridge, in a session that has no network
      ['run', plan(id, ['sh'], 'caps', 'zz')],
      ['run', plan(id, ['sh'], 'rlimit', 'nofile')],
      ['run', plan(id, ['sh'], 'publish', ':::')],
      ['run', plan(id, ['sh'], 'publish', 'tcp:*:0:80')],
      ['run', plan(id, ['sh'], 'limit', 'memory')],
      ['run', plan(id, ['sh'], 'device', ':')],
      ['run', plan(id, ['sh'], 'link', ':relative')],
      ['run', plan(id, ['sh'], 'seccomp', 'unknown')],
      ['run', plan(id, ['sh'], 'pid', 'container:none')],
      ['run', plan(id, ['sh'], 'log-bytes', '1')],
      ['run', plan(id, ['nothing there'])],
      ['seccomp', ['name', 'x', 'program', '????']],
      ['seccomp', ['name', 'x', 'program', 'AAAA']],
      ['signal', ['id', id, 'signal', '9']],
      ['signal', ['exec', id, 'signal', '999999999999']],
      ['resize', ['exec', id, 'cols', '-1', 'rows', '65536']],
      ['stop', ['id', id, 'grace', '9223372036854775807']],
    ]
    for (const [verb, pairs] of refused) expect(await warden.request(verb, pairs), verb).toMatchObject({ ok: false })
    warden.control.write('5\0abcde')
    warden.control.write('2\0a\0')
    warden.control.write('6\0a\x00-1\0\0')
    const malformed = () => warden.lines.filter((line) => line.seq === 0 && line.ok === false)
    await until(() => malformed().length === 3, 'three replies')
    await expectWell()
  })

  test.each([
    ['a length that is none', 'GET / HTTP/1.1\r\n\r\n'],
    ['no length', '\0'],
    ['a length without end', '9'.repeat(64)],
    ['a request above the limit', `${9 * 1024 * 1024}\0`],
    ['random bytes', randomBytes(4096)],
  ])('ends, and everything with it, at %s on control', async (_, bytes) => {
    await run(['sleep', '100'])
    warden.control.write(bytes)
    await warden.ended
  })

  test('takes a duplicate id and a sequence number of any size', async () => {
    const id = await run(['sleep', '100'])
    expect(await warden.request('run', plan(id, ['sh']))).toMatchObject({ ok: false, step: 'id', errno: 'EEXIST' })
    const close = `${id.slice(0, 12)}${newId().slice(12)}`
    expect(await warden.request('run', plan(close, ['sh']))).toMatchObject({ ok: false })
    warden.control.write(`25\0ping\0${'9223372036854775807'}\0`)
    warden.control.write(`26\0ping\0${'92233720368547758070'}\0`)
    await until(() => warden.lines.length >= 2, 'two replies')
    expect(warden.lines).toMatchObject([{ ok: true }, { seq: 0, ok: false }])
    await warden.removeAll([id])
    await expectWell()
  })

  test('fills in a host name that looks like what it is filled in for', async () => {
    const id = await run(
      ['cat', '/file'],
      'hostname',
      '@HOSTNAME@',
      'file',
      '/file',
      'content',
      'a @HOSTNAME@ b @HOSTNAME@ c',
    )
    let said = ''
    const socket = warden.bulk('logs', ['id', id, 'follow', '1']).on('data', (bytes) => {
      said += bytes
    })
    await once(socket, 'close')
    expect(said).toContain('a @HOSTNAME@ b @HOSTNAME@ c')
  })

  test('lets go of connections that say nothing, half of it, or garbage', async () => {
    const before = await baseline()
    const request = encodeRequest('logs', 1, ['id', newId()])
    const texts = [
      '',
      '1',
      '12345678901234',
      'x',
      '\0',
      '0\0',
      '9999999999\0',
      '10\0abcdefghij',
      request,
      request.slice(0, 9),
    ]
    const silent = Array.from({ length: 100 }, (_, i) => {
      const socket = warden.connect()
      socket.write(texts[i % texts.length]!)
      return socket
    })
    await expectWell()
    for (const socket of silent) socket.destroy()
    await expectDescriptors(before)
  })

  test('a client that does not read what it attached to may stay longer than the container', async () => {
    const before = await baseline()
    const id = await run(['sh', '-c', 'yes | head -c 3000000; cat'], 'stdin', '1')
    const socket = warden.bulk('attach', ['id', id, 'logs', '1', 'stdin', '1'])
    socket.pause()
    await sleep(300)
    await warden.removeAll([id])
    const other = await run(['sleep', '100'], 'stdin', '1') // takes the memory that was the first one's
    socket.destroy()
    await expectWell()
    await warden.removeAll([other])
    await expectDescriptors(before)
  })

  test('a copy into a container that fails to start ends with it', async () => {
    const before = await baseline()
    for (let i = 0; i < 30; i++) {
      const id = newId()
      const failing = warden.request('run', plan(id, ['nothing there']))
      const sockets = Array.from({ length: 4 }, () => warden.bulk('copy-in', ['id', id, 'path', '/tmp']))
      expect(await failing).toMatchObject({ ok: false, step: 'exec' })
      await sleep(2)
      for (const socket of sockets) socket.destroy()
    }
    await expectWell()
    await expectDescriptors(before)
  })

  test('a copy that stands still holds up nothing else', async () => {
    const id = await run(['sleep', '100'])
    const following = warden.bulk('logs', ['id', id, 'follow', '1'])
    const reading = await run(['cat'], 'stdin', '1')
    const attached = warden.bulk('attach', ['id', reading, 'stdin', '1'])
    await sleep(50)
    const stalled = warden.bulk('copy-in', ['id', id, 'path', '/tmp'])
    await sleep(100)
    await once(exec(id, ['true']), 'close')
    attached.end() // the end of cat's input
    await until(
      () => warden.lines.some((line) => line.event === 'exit' && line.container === reading),
      'the end of cat',
    )
    await warden.request('signal', ['id', id, 'signal', '9'])
    await once(following, 'close')
    stalled.destroy()
    await warden.removeAll([id, reading])
  })

  test('output that others keep writing after the end of a program does not hold up the warden', async () => {
    const id = await run(['sleep', '100'])
    await once(exec(id, ['sh', '-c', 'yes & exit 0']), 'close')
    await warden.removeAll([id])
    await expectWell()
  })

  test('does not spin for a client that left before its terminal was there', async () => {
    const id = await run(['sleep', '100'])
    for (let i = 0; i < 20; i++) {
      const socket = exec(id, ['sh', '-c', 'yes'], 'tty', '1', 'stdin', '1')
      await once(socket, 'connect')
      await sleep(i / 4)
      socket.destroy()
    }
    await sleep(300)
    const before = warden.ticks()
    await sleep(500)
    expect(warden.ticks() - before).toBeLessThan(25)
    await warden.removeAll([id])
    await expectWell()
  })

  test('bounds what it keeps for a client that does not read, and a program that listens without end', async () => {
    warden.control.pause()
    const script = 'for i in $(seq 300); do timeout 0.01 nc -l -p 8080 >/dev/null 2>&1; done; sleep 100'
    const running = run(['sh', '-c', script])
    await sleep(500)
    warden.control.resume()
    await warden.removeAll([await running])
    await expectWell()
  })

  test('survives five seconds of everything at once', async () => {
    const before = await baseline()
    const ids = await Promise.all([
      run(['sh', '-c', 'while :; do seq 1 20000; sleep 0.01; done'], 'log-bytes', '65536'),
      run(['sh', '-c', 'exec >&- 2>&- <&-; exec sleep 100'], 'stdin', '1'),
      run(['sh', '-c', 'while :; do cat; done'], 'tty', '1', 'stdin', '1', 'cols', '80', 'rows', '25'),
    ])
    const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)]!
    const one = async () => {
      const id = pick(ids)
      const command = pick([['yes'], ['cat'], ['true'], ['nothing there'], ['sh', '-c', 'sleep 0.05 & seq 9999']])
      const [verb, pairs] = pick<[string, string[]]>([
        ['logs', ['id', id, 'follow', pick(['0', '1']), 'tail', pick(['-1', '0', '10'])]],
        ['attach', ['id', id, 'logs', '1', 'stdin', '1']],
        [
          'exec',
          ['id', id, 'exec', newId(), 'env', 'PATH=/bin', 'stdin', '1', ...command.flatMap((word) => ['arg', word])],
        ],
        [
          'exec',
          ['id', id, 'exec', newId(), 'env', 'PATH=/bin', 'tty', '1', ...command.flatMap((word) => ['arg', word])],
        ],
        ['copy-in', ['id', id, 'path', '/tmp']],
        ['copy-out', ['id', id, 'path', '/bin']],
        ['nonsense', []],
      ])
      const bytes = Buffer.from(encodeRequest(verb, 1, pairs))
      const socket = warden.connect()
      if (Math.random() < 0.3) socket.pause()
      const cut = Math.floor(Math.random() * bytes.length * 1.5)
      socket.write(bytes.subarray(0, cut))
      if (Math.random() < 0.5) await sleep(Math.random() * 20)
      if (cut < bytes.length && Math.random() < 0.8) socket.write(bytes.subarray(cut))
      if (Math.random() < 0.5) socket.write(randomBytes(Math.floor(Math.random() * 100_000)))
      if (Math.random() < 0.2) socket.end()
      await sleep(Math.random() * 40)
      socket.destroy()
    }
    const churn = async () => {
      const id = newId()
      const running = warden.request(
        'run',
        plan(id, pick([['true'], ['sleep', '100'], ['nothing there']]), 'rm', pick(['0', '1'])),
      )
      if (Math.random() < 0.5) await running
      const socket = warden.bulk('attach', ['id', id, 'logs', '1'])
      const removing = warden.request('remove', ['id', id, 'force', '1'])
      await running
      await removing
      await warden.request('forget', ['id', id])
      socket.destroy()
    }
    const until5s = async (job: () => Promise<void>) => {
      for (const end = Date.now() + 5_000; Date.now() < end; ) await job()
    }
    await Promise.all([one, one, one, one, one, one, churn, churn].map(until5s))
    await warden.removeAll(ids)
    await expectWell()
    await expectDescriptors(before)
  })
})
