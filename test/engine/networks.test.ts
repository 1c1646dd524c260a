/** Several networks: who reaches and finds whom, and what can be changed while a container runs. */

import { once } from 'node:events'
import { symlinkSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Container, type ContainerOptions, Engine } from '../../src/index.js'
import { ask, fault, startNamed, useEngine } from './support/own-engine.js'
import { obstacle, type World } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

describe.skipIf(why)('the networks of an engine', () => {
  let world: World
  let engine: Engine

  useEngine(
    (own) => {
      world = own.world
      engine = own.engine
    },
    (world) => {
      for (const applet of ['ip', 'nslookup']) symlinkSync('busybox', join(world.rootfs, 'bin', applet))
    },
  )

  const start = (more: Partial<ContainerOptions> = {}) =>
    engine.start({ rootfs: { directory: world.rootfs }, command: ['sleep', '1000'], ...more })
  const serve = (name: string, more: Partial<ContainerOptions> = {}) =>
    startNamed(engine, name, { rootfs: { directory: world.rootfs }, ...more })
  const run = async (container: Container, ...command: string[]) => (await container.exec(command)).stdout.trim()
  /** Addresses that a name has for a container, sorted. */
  const look = async (from: Container, name: string) => {
    const { stdout } = await from.exec(['nslookup', '-type=a', name])
    return [...stdout.matchAll(/^Address(?: \d+)?: ([\d.]+)$/gm)].map(([, address]) => address!).sort()
  }

  test('are made, listed, found and removed', async () => {
    const network = await engine.networks.create({ name: 'back', labels: { tier: 'data' } })
    expect(network.id).toMatch(/^[0-9a-f]{64}$/)
    expect(network.subnet).toMatch(/^\d+\.\d+\.\d+\.0\/24$/)
    expect(network.gateway).toBe(network.subnet.replace(/0\/24$/, '1'))
    expect(network).toMatchObject({ name: 'back', internal: false, labels: { tier: 'data' }, containers: [] })
    expect(engine.networks.list().map(({ name }) => name)).toEqual(['bridge', 'back'])
    expect(engine.networks.get(network.id.slice(0, 8))).toBe(network)
    await network.remove()
    await network.remove()
    expect(() => engine.networks.get('back')).toThrowError(/There is no network "back"/)
    expect(engine.networks.get('bridge')).toMatchObject({ subnet: engine.info.subnet, gateway: engine.info.gateway })
    expect(await fault(engine.networks.get('bridge').remove())).toMatchObject({ code: 'NOT_SUPPORTED' })
  })

  test('keep their containers apart, by address and by name', async () => {
    await engine.networks.create({ name: 'one' })
    await engine.networks.create({ name: 'two' })
    const a = await serve('a', { networks: ['one'] })
    const b = await serve('b', { networks: ['one'] })
    const c = await serve('c', { networks: ['two'] })
    const plain = await serve('plain')
    expect(await ask(a, 'b')).toBe('b')
    expect(await ask(b, a.address)).toBe('a')
    for (const [from, to] of [
      [a, c],
      [c, a],
      [a, plain],
      [plain, a],
      [c, plain],
    ] as const) {
      expect(await ask(from, to.address)).toBe('')
      expect(await look(from, to.name)).toEqual([])
    }
    expect(await ask(plain, 'plain')).toBe('plain')
    // From this machine each is reached, as on the default network.
    if (engine.info.isHostReachable) expect(await hear(a.address, 80)).toBe('a\n')
  })

  test('are joined by a container on both, under the address of each', async () => {
    const one = await engine.networks.create({ name: 'one' })
    const two = await engine.networks.create({ name: 'two' })
    const a = await serve('a', { networks: ['one'] })
    const c = await serve('c', { networks: ['two'] })
    const both = await serve('both', { networks: [{ network: 'one', aliases: ['front'] }, { network: two.id }] })
    const [inOne, inTwo] = [both.addressOn('one'), both.addressOn('two')]
    expect(both.address).toBe(inOne)
    expect(both.gateway).toBe(one.gateway)
    expect(both.inspect().network.networks).toEqual([
      { network: one.id, address: inOne, gateway: one.gateway },
      { network: two.id, address: inTwo, gateway: two.gateway },
    ])
    expect(one.containers).toEqual(expect.arrayContaining([a.id, both.id]))
    expect(await look(a, 'both')).toEqual([inOne])
    expect(await look(c, 'both')).toEqual([inTwo])
    expect(await look(a, 'front')).toEqual([inOne])
    expect(await look(c, 'front')).toEqual([])
    expect(await look(both, 'a')).toEqual([a.address])
    expect(await look(both, 'c')).toEqual([c.address])
    expect([await ask(both, 'a'), await ask(both, 'c')]).toEqual(['a', 'c'])
    expect(await ask(a, inTwo)).toBe('')
    const hosts = await run(both, 'cat', '/etc/hosts')
    for (const address of [inOne, inTwo]) expect(hosts).toContain(`${address}\t${both.id.slice(0, 12)}`)
    // It passes nothing on between the two.
    expect(await run(both, 'cat', '/proc/sys/net/ipv4/ip_forward')).toBe('0')
    const error = await fault(one.remove())
    expect(error).toMatchObject({ code: 'NETWORK_IN_USE', message: expect.stringContaining('both') })
  })

  test('answer an alias of many containers with all of them over TCP', async () => {
    await engine.networks.create({ name: 'crowd' })
    const place = { networks: [{ network: 'crowd', aliases: ['pool'] }] }
    const many = await Promise.all(Array.from({ length: 40 }, () => start(place)))
    const gateway = engine.networks.get('crowd').gateway
    const query = '\\0\\26\\0\\0\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\4pool\\0\\0\\1\\0\\1'
    const script = `(printf '${query}'; sleep 1) | busybox nc ${gateway} 53 | busybox hexdump -v -e '1/1 "%02x"'`
    const answer = await run(many[0]!, 'sh', '-c', script)
    const found = answer.match(/c00c00010001.{8}0004(.{8})/g)!.map((record) => record.slice(-8))
    const expected = many.map(({ address }) => Buffer.from(address.split('.').map(Number)).toString('hex'))
    expect(found.sort()).toEqual(expected.sort())
  })

  test('answer an alias of several containers with all of them, in turn', async () => {
    await engine.networks.create({ name: 'one' })
    const attached = { networks: [{ network: 'one', aliases: ['web'] }] }
    const [first, second] = [await serve('first', attached), await serve('second', attached)]
    const client = await start({ networks: ['one'] })
    expect(await look(client, 'web')).toEqual([first.address, second.address].sort())
    const heard = new Set<string>()
    for (let turn = 0; turn < 8; turn++) heard.add(await ask(client, 'web'))
    expect([...heard].sort()).toEqual(['first', 'second'])
    await first.remove({ force: true })
    expect(await look(client, 'web')).toEqual([second.address])
  })

  test('give the address that is asked for', async () => {
    await engine.networks.create({ name: 'fixed', subnet: '10.213.7.0/28' })
    const networks = [{ network: 'fixed', address: '10.213.7.5' }]
    const one = await start({ networks })
    expect(await run(one, 'ip', '-4', '-o', 'addr', 'show', 'eth0')).toContain('inet 10.213.7.5/28')
    expect(await fault(start({ networks }))).toMatchObject({ code: 'ADDRESS_IN_USE' })
    expect(await fault(start({ networks: [{ network: 'fixed', address: '10.9.9.9' }] }))).toMatchObject({
      code: 'INVALID_OPTION',
    })
    await one.remove({ force: true })
    expect((await start({ networks })).address).toBe('10.213.7.5')
    expect(await fault(engine.networks.create({ subnet: '10.213.7.0/24' }))).toMatchObject({ code: 'SUBNET_IN_USE' })
    expect(await fault(engine.networks.create({ subnet: '10.213.0.0/8' }))).toMatchObject({ code: 'INVALID_OPTION' })
  })

  test('have the gateway and the range that are asked for', async () => {
    const network = await engine.networks.create({
      name: 'ranged',
      subnet: '10.213.8.0/28',
      gateway: '10.213.8.14',
      ipRange: '10.213.8.4/31',
    })
    expect(network.gateway).toBe('10.213.8.14')
    const [one, two] = [await serve('one', { networks: ['ranged'] }), await start({ networks: ['ranged'] })]
    expect([one.address, two.address].sort()).toEqual(['10.213.8.4', '10.213.8.5'])
    expect(two.gateway).toBe('10.213.8.14')
    expect(await ask(two, 'one')).toBe('one')
    expect(await run(two, 'ip', 'route')).toContain('default via 10.213.8.14')
    expect(await fault(start({ networks: ['ranged'] }))).toMatchObject({
      code: 'ADDRESS_IN_USE',
      message: expect.stringContaining('all addresses of the network are taken'),
      field: 'networks[0].network',
      value: 'ranged',
    })
    const other = await start()
    expect(await fault(engine.networks.connect(other.id, 'ranged'))).toMatchObject({
      code: 'ADDRESS_IN_USE',
      message: expect.stringContaining('to network "ranged": all addresses of the network are taken'),
      field: 'network',
      value: 'ranged',
    })
    // Beside the range there is room for who asks.
    const own = await start({ networks: [{ network: 'ranged', address: '10.213.8.1' }] })
    expect(own.address).toBe('10.213.8.1')
    const taken = await fault(start({ networks: [{ network: 'ranged', address: '10.213.8.14' }] }))
    expect(taken).toMatchObject({ code: 'INVALID_OPTION', field: 'networks[0].address', value: '10.213.8.14' })
    await two.remove({ force: true })
    expect((await start({ networks: ['ranged'] })).address).toBe(two.address)
  })

  test('answer names only while their container runs', async () => {
    const client = await start()
    const container = await engine.create({
      rootfs: { directory: world.rootfs },
      command: ['sleep', '1000'],
      name: 'coming',
      remove: false,
    })
    expect(await look(client, 'coming')).toEqual([])
    await container.start()
    expect(await look(client, 'coming')).toEqual([container.address])
    await container.stop({ timeoutMs: 0 })
    expect(await look(client, 'coming')).toEqual([])
    await container.rename('going')
    await container.start()
    expect([await look(client, 'coming'), await look(client, 'going')]).toEqual([[], [container.address]])
  })

  test('are that of another container where it is joined', async () => {
    const server = await serve('server', { ports: [80] })
    const joined = await start({ network: 'container:server' })
    expect(await ask(joined, '127.0.0.1')).toBe('server')
    expect(await run(joined, 'cat', '/etc/hosts')).toContain(server.address)
    expect(await fault(start({ network: 'container:nobody' }))).toMatchObject({ code: 'NO_SUCH_CONTAINER' })
    const ports = await fault(start({ network: 'container:server', ports: [81] }))
    expect(ports).toMatchObject({ code: 'INVALID_OPTION', field: 'ports' })
  })

  test('are that of another container with its name server and its way to this machine', async () => {
    await engine.networks.create({ name: 'shut', internal: true })
    const server = await serve('within', { networks: ['shut'] })
    const owner = await start({ networks: ['shut'], extraHosts: { machine: ['host-gateway'] } })
    const joined = await start({ network: `container:${owner.name}` })
    for (const file of ['/etc/resolv.conf', '/etc/hosts'])
      expect(await run(joined, 'cat', file)).toBe(await run(owner, 'cat', file))
    expect(await look(joined, 'within')).toEqual([server.address])
  })

  test('have no way out when they are internal, but names and published ports', async () => {
    await using outside = await listen('0.0.0.0')
    const target = hostAddress()
    await engine.networks.create({ name: 'inner', internal: true })
    const server = await serve('server', { networks: ['inner'], ports: [80] })
    const client = await start({ networks: ['inner'] })
    expect(await ask(client, 'server')).toBe('server')
    expect(await hear('127.0.0.1', server.port(80))).toBe('server\n')
    expect(await run(client, 'ip', 'route')).not.toContain('default')
    if (target) {
      const plain = await start()
      expect(await ask(plain, target, outside.port)).toBe('host')
      expect(await ask(client, target, outside.port)).toBe('')
    }
    const { exitCode, stdout } = await client.exec(['nslookup', 'example.org'])
    expect([exitCode, stdout]).toEqual([1, expect.stringContaining('NXDOMAIN')])
    // With another network beside it there is a way out again, and the inner one is reached still.
    await engine.networks.connect(client.name, 'bridge')
    expect(await run(client, 'ip', 'route')).toContain(`default via ${engine.info.gateway}`)
    expect(await ask(client, 'server')).toBe('server')
    if (target) expect(await ask(client, target, outside.port)).toBe('host')
  })

  test('are connected and disconnected while a container runs', async () => {
    const one = await engine.networks.create({ name: 'one' })
    const server = await serve('server', { networks: ['one'] })
    const client = await serve('client', { ports: [80] })
    expect(await hear('127.0.0.1', client.port(80))).toBe('client\n')
    expect(await ask(client, server.address)).toBe('')
    await engine.networks.connect(client.id, 'one', { aliases: ['guest'] })
    expect(await ask(client, 'server')).toBe('server')
    expect(await look(server, 'guest')).toEqual([client.addressOn('one')])
    expect(await run(client, 'cat', '/etc/hosts')).toContain(`${client.addressOn('one')}\t`)
    expect(await fault(engine.networks.connect(client.id, 'one'))).toMatchObject({ code: 'NETWORK_CONNECTED' })
    // The default network goes: the way out, the name server and the published port move.
    await engine.networks.disconnect(client.id, 'bridge')
    expect([client.address, client.gateway]).toEqual([client.addressOn('one'), one.gateway])
    expect(client.addressOn('bridge')).toBe('')
    expect(await run(client, 'cat', '/etc/resolv.conf')).toContain(`nameserver ${one.gateway}`)
    expect(await run(client, 'ip', 'route')).toContain(`default via ${one.gateway}`)
    expect(await ask(client, 'server')).toBe('server')
    expect(await hear('127.0.0.1', client.port(80))).toBe('client\n')
    await engine.networks.disconnect(client.id, 'one')
    expect(await ask(client, server.address)).toBe('')
    expect(await look(server, 'guest')).toEqual([])
    expect(await fault(engine.networks.disconnect(client.id, 'one'))).toMatchObject({ code: 'NETWORK_NOT_CONNECTED' })
    expect(await fault(hear('127.0.0.1', client.port(80)))).toMatchObject({ code: 'ECONNRESET' })
    // And from nothing back to one.
    await engine.networks.connect(client.id, 'one')
    expect(await ask(client, 'server')).toBe('server')
    const alone = await start({ network: 'none' })
    expect(await fault(engine.networks.connect(alone.id, 'one'))).toMatchObject({ code: 'NOT_SUPPORTED' })
  })

  test('serve one container after the other', async () => {
    await engine.networks.create({ name: 'one' })
    for (let turn = 0; turn < 12; turn++) {
      const { stdout } = await engine.run({
        rootfs: { directory: world.rootfs },
        command: ['ip', '-4', '-o', 'addr'],
        networks: ['one'],
      })
      expect(stdout.split('\n').filter((line) => line.includes('eth'))).toHaveLength(1)
      expect(stdout).toContain(' eth0 ')
    }
  })

  test('say what is wrong', async () => {
    expect(await fault(start({ networks: ['nowhere'] }))).toMatchObject({ code: 'NO_SUCH_NETWORK' })
    await engine.networks.create({ name: 'here' })
    expect(await fault(engine.networks.create({ name: 'here' }))).toMatchObject({ code: 'NAME_TAKEN' })
    for (const name of ['host', 'bridge', '-a', '']) {
      expect(await fault(engine.networks.create({ name }))).toMatchObject({ code: 'INVALID_OPTION' })
    }
    expect(await fault(start({ networks: ['here', 'here'] }))).toMatchObject({ field: 'networks[1].network' })
    expect(await fault(start({ networks: ['here'], network: 'none' }))).toMatchObject({ field: 'networks' })
    expect(await fault(engine.networks.create({ subnet: 'x' }))).toMatchObject({ field: 'network.subnet' })
    const bad = [
      [{ gateway: '10.9.0.1' }, 'INVALID_OPTION', 'network.gateway'],
      [{ ipRange: '10.9.0.0/25' }, 'INVALID_OPTION', 'network.ipRange'],
      [{ subnet: '10.9.0.0/24', gateway: '10.8.0.1' }, 'INVALID_OPTION', 'network.gateway'],
      [{ subnet: '10.9.0.0/24', gateway: '10.9.0.255' }, 'INVALID_OPTION', 'network.gateway'],
      [{ subnet: '10.9.0.0/24', gateway: 'first' }, 'INVALID_OPTION', 'network.gateway'],
      [{ subnet: '10.9.0.0/24', ipRange: '10.9.1.0/25' }, 'INVALID_OPTION', 'network.ipRange'],
      [{ subnet: '10.9.0.0/24', ipRange: '10.9.0.0/16' }, 'INVALID_OPTION', 'network.ipRange'],
      [{ subnet: engine.info.subnet }, 'SUBNET_IN_USE', 'network.subnet'],
      [{ subnet: 'fd00::/64' }, 'INVALID_OPTION', 'network.subnet'],
      [{ subnet: '10.9.0.0/24', gateway: 'fd00::1' }, 'INVALID_OPTION', 'network.gateway'],
      [{ driver: 'overlay' }, 'NOT_SUPPORTED', 'network.driver'],
    ] as const
    for (const [options, code, field] of bad) {
      expect(await fault(engine.networks.create(options))).toMatchObject({ code, field })
    }
    expect(engine.networks.list().map(({ name }) => name)).toEqual(['bridge', 'here'])
    for (const alias of ['no host', '-a', 'a..b', '']) {
      const networks = [{ network: 'here', aliases: [alias] }]
      expect(await fault(start({ networks }))).toMatchObject({
        code: 'INVALID_OPTION',
        field: 'networks[0].aliases[0]',
      })
    }
    const controller = new AbortController()
    controller.abort(new Error('no more'))
    expect(await fault(engine.networks.create({ name: 'late' }, controller))).toMatchObject({ message: 'no more' })
    expect(engine.networks.list().some(({ name }) => name === 'late')).toBe(false)
  })

  describe('access to ports of this machine', () => {
    const NAMES = ['host.mayfly.internal', 'host.testcontainers.internal', 'host.docker.internal']

    test('is given to one container, for the ports it names', async () => {
      await using allowed = await listen('127.0.0.1')
      await using only6 = await listen('::1')
      await using other = await listen('127.0.0.1')
      const guest = await start({ hostAccess: { ports: [allowed.port, only6.port] } })
      const plain = await start()
      for (const name of NAMES) expect(await ask(guest, name, allowed.port)).toBe('host')
      expect(await ask(guest, guest.gateway, allowed.port)).toBe('host')
      expect(await ask(guest, 'host.mayfly.internal', only6.port)).toBe('host')
      expect(await ask(guest, 'host.mayfly.internal', other.port)).toBe('')
      expect(await ask(plain, plain.gateway, allowed.port)).toBe('')
      expect(await run(plain, 'cat', '/etc/hosts')).not.toContain('internal')
    })

    test('may be to all of them, on any network with a way out', async () => {
      await using service = await listen('127.0.0.1')
      await engine.networks.create({ name: 'one' })
      const guest = await start({ networks: ['one'], hostAccess: { ports: true } })
      expect(await ask(guest, 'host.docker.internal', service.port)).toBe('host')
      // Nobody listens there: it is told so, at once.
      const { exitCode, stderr } = await guest.exec(['nc', '-w', '5', 'host.docker.internal', '1'])
      expect([exitCode, stderr]).toEqual([1, expect.stringContaining('refused')])
      await engine.networks.create({ name: 'inner', internal: true })
      const error = await fault(start({ networks: ['inner'], hostAccess: { ports: true } }))
      expect(error).toMatchObject({ code: 'INVALID_OPTION', field: 'hostAccess' })
      const bad = [{ ports: [53] }, { ports: [0] }, { ports: 'all' }, {}] as unknown as { ports: number[] }[]
      for (const hostAccess of bad) expect(await fault(start({ hostAccess }))).toMatchObject({ code: 'INVALID_OPTION' })
    })

    test('is opened for the whole session, also for who runs already', async () => {
      await using own = await Engine.open({ home: world.home })
      await using service = await listen('127.0.0.1')
      const guest = await own.start({ rootfs: { directory: world.rootfs }, command: ['sleep', '1000'] })
      expect(await ask(guest, guest.gateway, service.port)).toBe('')
      await own.exposeHostPorts([service.port])
      expect(await ask(guest, guest.gateway, service.port)).toBe('host')
      for (const name of NAMES) expect(await ask(guest, name, service.port)).toBe('host')
      // At the gateway of every network that has a way out, made before or after, joined at the start or later.
      const networks = await Promise.all([own.networks.create(), own.networks.create({ internal: true })])
      const [open, inner] = networks
      const rootfs = { directory: world.rootfs }
      const other = await own.start({ rootfs, command: ['sleep', '1000'], networks: [open.id] })
      for (const host of [open.gateway, ...NAMES]) expect(await ask(other, host, service.port)).toBe('host')
      await own.networks.connect(guest.id, open.id)
      await own.networks.disconnect(guest.id, 'bridge')
      for (const host of [open.gateway, NAMES[0]!]) expect(await ask(guest, host, service.port)).toBe('host')
      const shut = await own.start({ rootfs, command: ['sleep', '1000'], networks: [inner.id] })
      expect(await ask(shut, inner.gateway, service.port)).toBe('')
      // Not for another session.
      expect(await ask(await start(), engine.info.gateway, service.port)).toBe('')
    })
  })
})

interface Service extends AsyncDisposable {
  readonly port: number
}

/** A server on this machine that says "host". */
async function listen(address: string): Promise<Service> {
  const server: Server = createServer((socket) => socket.end('host\n')).listen(0, address)
  await once(server, 'listening')
  return {
    port: (server.address() as { port: number }).port,
    [Symbol.asyncDispose]: async () => {
      server.close()
    },
  }
}

/** An address of this machine that is not its loopback's. */
function hostAddress(): string | undefined {
  const all = Object.values(networkInterfaces()).flat()
  return all.find((one) => one?.family === 'IPv4' && !one.internal && !one.mac.startsWith('02:'))?.address
}

function hear(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect({ host, port, timeout: 5000 })
    socket.setEncoding('utf8').on('data', (piece: string) => {
      text += piece
    })
    socket.on('timeout', () => socket.destroy(new Error(`${host}:${port} is silent`)))
    socket.on('error', reject).on('close', () => resolve(text))
  })
}
