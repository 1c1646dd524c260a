/** Faults on demand: that they happen, to whom they happen, and that they end. */

import { connect } from 'node:net'
import { describe, expect, test } from 'vitest'
import type { Container, ContainerOptions, Engine, MayflyError } from '../../src/index.js'
import { ask, startNamed, useEngine } from './support/own-engine.js'
import { obstacle, type World } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

const MIB = 1024 * 1024

describe.skipIf(why)('a container at fault', () => {
  let world: World
  let engine: Engine

  useEngine((own) => {
    world = own.world
    engine = own.engine
  })

  const start = (more: Partial<ContainerOptions> = {}) =>
    engine.start({ rootfs: { directory: world.rootfs }, command: ['sleep', '1000'], ...more })
  const serve = (name: string, more: Partial<ContainerOptions> = {}) =>
    startNamed(engine, name, { rootfs: { directory: world.rootfs }, ...more })
  const took = async (work: () => Promise<unknown>) => {
    const begin = performance.now()
    await work()
    return performance.now() - begin
  }

  test('is cut off from all, and healed', async () => {
    const [server, client] = [await serve('server', { ports: [80] }), await serve('client')]
    expect(await ask(client, 'server')).toBe('server')
    const cut = await server.cutOff()
    expect(await ask(client, 'server')).toBe('')
    expect(await ask(server, 'client')).toBe('')
    expect(await hear(server.port(80), 300)).toBe('')
    await cut.undo()
    await cut.undo()
    expect(await ask(client, 'server')).toBe('server')
    expect(await ask(server, 'client')).toBe('client')
    expect(await hear(server.port(80))).toBe('server\n')
  })

  test('is cut off from one other container, and reached by the rest', async () => {
    const [server, one, two] = [await serve('server'), await start(), await start()]
    {
      await using _cut = await server.cutOff({ from: one.name })
      expect(await ask(one, 'server')).toBe('')
      expect(await ask(two, 'server')).toBe('server')
    }
    expect(await ask(one, 'server')).toBe('server')
  })

  test('has the fault before again when the latest is undone, and the latest when the one before is', async () => {
    const [server, client] = [await serve('server'), await start()]
    const first = await server.impair({ latencyMs: 1 })
    const cut = await server.cutOff()
    await first.undo()
    expect(await ask(client, 'server')).toBe('')
    const late = await server.impair({ latencyMs: 1 })
    expect(await ask(client, 'server')).toBe('server')
    await late.undo()
    expect(await ask(client, 'server')).toBe('')
    await server.heal()
    const again = await server.cutOff()
    await cut.undo()
    expect(await ask(client, 'server')).toBe('')
    await again.undo()
    expect(await ask(client, 'server')).toBe('server')
  })

  test('keeps a connection over a cut that is healed soon', async () => {
    const server = await start({ name: 'server', command: ['nc', '-ll', '-p', '80', '-e', 'sh', '-c', 'cat >>/got'] })
    await server.waitForPort(80)
    const got = async () => (await server.exec(['cat', '/got'])).stdout
    const client = await start({
      command: ['sh', '-c', '(echo first; sleep 2; echo second; sleep 100) | nc server 80'],
    })
    await expect.poll(got).toContain('first')
    const cut = await client.cutOff()
    await new Promise((resolve) => setTimeout(resolve, 2500))
    expect(await got()).not.toContain('second')
    await cut.undo()
    await expect.poll(got, { timeout: 10_000 }).toContain('second')
  })

  test('is late by what was asked for', async () => {
    const [server, client] = [await serve('server'), await start()]
    expect(await took(() => ask(client, server.address))).toBeLessThan(100)
    await server.impair({ latencyMs: 100 })
    // The handshake alone takes a round trip.
    expect(await took(() => ask(client, server.address))).toBeGreaterThan(200)
    await server.impair({ latencyMs: 20, jitterMs: 10 })
    const time = await took(() => ask(client, server.address))
    expect(time).toBeGreaterThan(40)
    await server.heal()
    expect(await took(() => ask(client, server.address))).toBeLessThan(100)
  })

  test('sends no faster than it may', async () => {
    const server = await start({
      name: 'server',
      command: ['nc', '-ll', '-p', '80', '-e', 'dd', 'if=/dev/zero', 'bs=1024', 'count=1024'],
    })
    await server.waitForPort(80)
    const client = await start()
    await server.impair({ bytesPerSecond: MIB })
    let bytes = ''
    const time = await took(async () => {
      bytes = (await client.exec(['sh', '-c', 'nc server 80 | wc -c'])).stdout.trim()
    })
    expect(bytes).toBe(String(MIB))
    expect(time).toBeGreaterThan(900)
    expect(time).toBeLessThan(4000)
  })

  test('loses as many packets as was asked for', async () => {
    const [one, other] = [await start(), await start()]
    await one.impair({ loss: 0.5, peer: other.id })
    const { stdout } = await other.exec(['ping', '-c', '40', '-i', '0.01', '-W', '1', one.address])
    const received = Number(/(\d+) packets received|(\d+) received/.exec(stdout)?.[1])
    // Both ways: a quarter of the echoes comes back. 40 tries miss these bounds once in a million.
    expect(received).toBeGreaterThan(0)
    expect(received).toBeLessThan(25)
  })

  test('has its faults on networks that it joins later, and none of another’s', async () => {
    const network = await engine.networks.create({ name: 'late' })
    const server = await serve('server')
    const [client, other] = [await start({ networks: ['late'] }), await serve('other', { networks: ['late'] })]
    await server.cutOff()
    await engine.networks.connect(server.id, 'late')
    expect(await ask(client, 'server')).toBe('')
    expect(await ask(client, 'other')).toBe('other')
    await server.heal()
    expect(await ask(client, 'server')).toBe('server')
    await other.cutOff()
    await other.remove({ force: true })
    await engine.networks.disconnect(server.id, 'late')
    await client.remove({ force: true })
    await network.remove()
  })

  test('cannot undo what was done to it', async () => {
    const server = await serve('server', { capAdd: ['NET_ADMIN'] })
    const client = await start()
    await using _cut = await server.cutOff()
    const address = server.address
    const script = `/bin/busybox ip link set eth0 down; /bin/busybox ip link set eth0 up; /bin/busybox ip address`
    expect((await server.exec(['sh', '-c', script])).stdout).toContain(address)
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(await ask(client, 'server')).toBe('')
  })

  test('leaves none of its faults to the next one', async () => {
    for (let turn = 0; turn < 8; turn++) {
      const server = await serve('server')
      expect(await ask(await start(), 'server')).toBe('server')
      await server.cutOff()
      await Promise.all(engine.containers().map((container) => container.remove({ force: true })))
    }
  })

  test('has a disk of its own size, that can be filled', async () => {
    const container = await start({ limits: { diskBytes: 4 * MIB } })
    const write = async (mib: number) =>
      (await container.exec(['dd', 'if=/dev/zero', 'of=/file', `bs=${MIB}`, `count=${mib}`])).stderr
    expect(await write(3)).not.toMatch(/No space/)
    expect(await write(5)).toMatch(/No space left on device/)
    expect((await container.exec(['rm', '/file'])).exitCode).toBe(0)
    const full = await container.fillDisk()
    expect(await write(1)).toMatch(/No space left on device/)
    await full.undo()
    expect(await write(3)).not.toMatch(/No space/)
    await container.copyIn('/', tarOf('copied', 'in'))
    expect((await container.exec(['cat', '/copied'])).stdout).toBe('in')
    // What it has written stays over a stop, and can be copied out of.
    await container.exec(['rm', '/file'])
    const error = await (await start()).fillDisk().catch((thrown: MayflyError) => thrown)
    expect(error).toMatchObject({ code: 'NOT_SUPPORTED', field: 'limits.diskBytes' })
  })

  test('has a full disk also where nothing was written, and while much is', async () => {
    const empty = await start({ limits: { diskBytes: 4 * MIB } })
    const write = () => empty.exec(['sh', '-c', 'echo one >/one'])
    for (let turn = 0; turn < 2; turn++) {
      const full = await empty.fillDisk()
      expect((await write()).stderr).toContain('No space left on device')
      await full.undo()
      expect((await write()).exitCode).toBe(0)
      await empty.exec(['rm', '/one'])
    }
    const busy = await start({
      limits: { diskBytes: 64 * MIB },
      command: ['sh', '-c', 'while true; do dd if=/dev/zero of=/file bs=64k count=900 2>/dev/null; done'],
    })
    for (let turn = 0; turn < 20; turn++) await (await busy.fillDisk()).undo()
  })

  test('keeps what it has written on its limited disk when it is started again', async () => {
    const container = await start({ limits: { diskBytes: MIB }, remove: false })
    await container.exec(['sh', '-c', 'echo kept >/kept'])
    await container.stop({ timeoutMs: 0 })
    const chunks: Uint8Array[] = []
    for await (const chunk of container.copyOut('/kept')) chunks.push(chunk)
    expect(Buffer.concat(chunks).toString()).toContain('kept\n')
    await container.start()
    expect((await container.exec(['cat', '/kept'])).stdout).toBe('kept\n')
    await container.reset()
    expect((await container.exec(['ls', '/kept'])).exitCode).toBe(1)
  })

  test('has clocks of its own that tell no time of day', async () => {
    const uptime = async (container: Container) =>
      Number((await container.exec(['cat', '/proc/uptime'])).stdout.split(' ')[0])
    const plain = await start()
    const ahead = await start({ clockOffsetMs: 7 * 86_400_000 })
    expect((await uptime(ahead)) - (await uptime(plain))).toBeCloseTo(7 * 86_400, -1)
    const behind = await start({ clockOffsetMs: -60_000 })
    expect((await uptime(plain)) - (await uptime(behind))).toBeCloseTo(60, -1)
    const seconds = Number((await ahead.exec(['date', '+%s'])).stdout)
    expect(Math.abs(seconds - Date.now() / 1000)).toBeLessThan(5)
    const error = await start({ clockOffsetMs: -70 * 365 * 86_400_000 }).catch((thrown: MayflyError) => thrown)
    expect(error).toMatchObject({ code: 'INVALID_OPTION', field: 'clockOffsetMs' })
  })

  test('is told what is no fault', async () => {
    const container = await start()
    const failing = (work: Promise<unknown>) =>
      work.then(
        () => undefined,
        (error: MayflyError) => error,
      )
    expect(await failing(container.impair({}))).toMatchObject({ code: 'INVALID_OPTION', field: 'fault' })
    expect(await failing(container.impair({ loss: 2 }))).toMatchObject({ field: 'fault.loss' })
    expect(await failing(container.impair({ latencyMs: -1 }))).toMatchObject({ field: 'fault.latencyMs' })
    expect(await failing(container.cutOff({ from: 'nobody' }))).toMatchObject({ code: 'NO_SUCH_CONTAINER' })
    expect(await failing(container.cutOff({ from: container.name }))).toMatchObject({ field: 'fault.peer' })
    const alone = await start({ network: 'none' })
    expect(await failing(alone.cutOff())).toMatchObject({ code: 'NOT_SUPPORTED' })
    expect(await failing(container.cutOff({ from: alone.name }))).toMatchObject({ code: 'NOT_SUPPORTED' })
  })
})

/** What is sent to who connects; '' after the time without anything. */
function hear(port: number, timeout = 5000): Promise<string> {
  return new Promise((resolve) => {
    let text = ''
    const socket = connect({ host: '127.0.0.1', port, timeout })
    socket.setEncoding('utf8').on('data', (piece: string) => {
      text += piece
    })
    socket.on('timeout', () => socket.destroy())
    socket.on('error', () => {})
    socket.on('close', () => resolve(text))
  })
}

/** An archive with one file. */
function tarOf(name: string, content: string): Uint8Array[] {
  const header = Buffer.alloc(512)
  const body = Buffer.alloc(512)
  body.write(content)
  header.write(name)
  header.write('0000644\0', 100)
  header.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124)
  header.write('        0ustar\x0000', 148)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return [header, body, Buffer.alloc(1024)]
}
