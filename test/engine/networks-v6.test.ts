/** Networks with IPv6: addresses of both families, names, and who reaches whom. */

import { execFileSync } from 'node:child_process'
import { symlinkSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Container, type ContainerOptions, Engine, type MayflyError } from '../../src/index.js'
import { makeWorld, obstacle, type World } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

const fault = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: MayflyError) => error,
  )

describe.skipIf(why)('a network with IPv6', () => {
  let world: World
  let engine: Engine

  beforeAll(async () => {
    world = makeWorld()
    for (const applet of ['ip', 'nslookup']) symlinkSync('busybox', join(world.rootfs, 'bin', applet))
    const source = fileURLToPath(new URL('../escapes/advertise.c', import.meta.url))
    execFileSync('gcc', ['-static', '-O1', '-o', join(world.rootfs, 'bin/advertise'), source])
    engine = await Engine.open({ home: world.home })
  })

  afterAll(async () => {
    await engine?.close()
    world?.remove()
  })

  afterEach(async () => {
    await Promise.all(engine.containers().map((container) => container.remove({ force: true })))
    await Promise.all(engine.networks.list().map((one) => (one.id === 'bridge' ? undefined : one.remove())))
  })

  const start = (more: Partial<ContainerOptions> = {}) =>
    engine.start({ rootfs: { directory: world.rootfs }, command: ['sleep', '1000'], ...more })
  /** A container that says its name to whoever connects to port 80. */
  const serve = async (name: string, more: Partial<ContainerOptions> = {}) => {
    const command = ['nc', '-ll', '-p', '80', '-e', 'echo', name]
    const container = await start({ name, command, ...more })
    await container.waitForPort(80)
    return container
  }
  const run = async (container: Container, ...command: string[]) => (await container.exec(command)).stdout.trim()
  /** What a server says, or '' when it is not reached: a first packet may get lost, and the next one comes a second later. */
  const ask = (from: Container, host: string, port = 80) => run(from, 'nc', '-w', '3', host, String(port))
  const look = async (from: Container, type: string, name: string) => {
    const { stdout } = await from.exec(['nslookup', `-type=${type}`, name])
    return [...stdout.matchAll(/^Address: ([\da-f.:]+)$/gm)].map(([, address]) => address!)
  }
  /** Its addresses but those of the link, and its routes. */
  const addresses = async (container: Container) => [
    ...(await run(container, 'ip', '-6', '-o', 'addr')).matchAll(/eth\d+\s+inet6 (\S+) scope global/g),
  ]
  const defaults = (container: Container) => run(container, 'sh', '-c', 'ip -6 route | grep ^default')

  test('has a subnet of its own below fd00::/8, unlike those without', async () => {
    const six = await engine.networks.create({ name: 'six', ipv6: true })
    const more = await engine.networks.create({ name: 'more', ipv6: {} })
    const plain = await engine.networks.create({ name: 'plain', ipv6: false })
    const [, prefix] = /^(fd[\da-f]{2}:[\da-f:]+)::\/64$/.exec(six.ipv6!.subnet)!
    expect(six.ipv6).toEqual({ subnet: `${prefix}::/64`, gateway: `${prefix}::1` })
    expect(more.ipv6!.subnet).not.toBe(six.ipv6!.subnet)
    expect(plain.ipv6).toBeNull()
    expect(engine.networks.get('bridge').ipv6).toBeNull()
  })

  test('gives its containers an address of each family and the way out', async () => {
    const six = await engine.networks.create({ name: 'six', ipv6: true })
    const a = await start({ networks: ['six'] })
    const address = a.ipv6AddressOn('six')
    expect(address.startsWith(six.ipv6!.subnet.replace('/64', ''))).toBe(true)
    expect(a.inspect().network.networks).toEqual([
      {
        network: six.id,
        address: a.address,
        gateway: six.gateway,
        ipv6: { address, gateway: six.ipv6!.gateway, prefixLength: 64 },
      },
    ])
    expect((await addresses(a)).map(([, found]) => found)).toEqual([`${address}/64`])
    expect(await run(a, 'ip', '-6', '-o', 'addr')).not.toContain('tentative')
    expect(await defaults(a)).toContain(`via ${six.ipv6!.gateway} dev eth0`)
    const hosts = await run(a, 'cat', '/etc/hosts')
    expect(hosts).toContain(`${a.address}\t${a.inspect().id.slice(0, 12)}`)
    expect(hosts).toContain(`${address}\t${a.inspect().id.slice(0, 12)}`)
  })

  test('leaves those on other networks without any, beside it too', async () => {
    await engine.networks.create({ name: 'six', ipv6: true })
    const [plain, both] = [await start(), await start({ networks: ['bridge', 'six'] })]
    expect(await addresses(plain)).toEqual([])
    expect(await run(plain, 'cat', '/proc/sys/net/ipv6/conf/eth0/disable_ipv6')).toBe('1')
    expect((await addresses(both)).map(([, found]) => found)).toEqual([`${both.ipv6AddressOn('six')}/64`])
    expect(await run(both, 'cat', '/proc/sys/net/ipv6/conf/eth0/disable_ipv6')).toBe('1')
    expect(both.ipv6AddressOn('bridge')).toBe('')
    expect(await defaults(both)).toContain('dev eth1')
  })

  test('carries its containers’ connections, and nobody else’s', async () => {
    await engine.networks.create({ name: 'one', ipv6: true })
    await engine.networks.create({ name: 'two', ipv6: { subnet: 'fd00:7:7::/64' } })
    await engine.networks.create({ name: 'inner', ipv6: true, internal: true })
    const [a, b] = [await serve('a', { networks: ['one'] }), await serve('b', { networks: ['one'] })]
    const c = await serve('c', { networks: ['two'] })
    const [d, e] = [await serve('d', { networks: ['inner'] }), await serve('e', { networks: ['inner'] })]
    const at = {
      a: a.ipv6AddressOn('one'),
      b: b.ipv6AddressOn('one'),
      c: c.ipv6AddressOn('two'),
      d: d.ipv6AddressOn('inner'),
    }
    expect(await ask(a, at.b)).toBe('b')
    expect(await ask(e, at.d)).toBe('d')
    expect(await defaults(d)).toBe('')
    for (const [from, to] of [
      [a, at.c],
      [c, at.a],
      [a, at.d],
      [d, at.a],
    ] as const) {
      expect(await ask(from, to)).toBe('')
    }
    if (engine.info.isHostReachable) {
      expect(await hear(at.a)).toBe('a\n')
      expect(await hear(at.d)).toBe('')
    }
  })

  test('gives the address that is asked for, once', async () => {
    const { ipv6 } = await engine.networks.create({
      name: 'six',
      ipv6: { subnet: 'fd00:5::/64', gateway: 'fd00:5::9', ipRange: 'fd00:5::a:0/112' },
    })
    expect(ipv6).toEqual({ subnet: 'fd00:5::/64', gateway: 'fd00:5::9' })
    const db = await serve('db', { networks: [{ network: 'six', ipv6Address: 'fd00:5:0:0::77' }] })
    const client = await start({ networks: ['six'] })
    expect(db.ipv6AddressOn('six')).toBe('fd00:5::77')
    expect(client.ipv6AddressOn('six')).toMatch(/^fd00:5::a:[\da-f]+$/)
    expect(await ask(client, 'fd00:5::77')).toBe('db')
    const twice = start({ networks: ['bridge', { network: 'six', ipv6Address: 'fd00:5:0::77' }] })
    expect(await fault(twice)).toMatchObject({
      code: 'ADDRESS_IN_USE',
      field: 'networks[1].ipv6Address',
      value: 'fd00:5::77',
    })
    expect(await fault(engine.networks.connect('db', 'bridge', { ipv6Address: 'fd00:5::78' }))).toMatchObject({
      code: 'INVALID_OPTION',
      field: 'ipv6Address',
    })
    for (const bad of ['fd00:5::', 'fd00:5::9', 'fd00:6::1', '10.5.0.7', 'fe80::1%eth0', 'x', '']) {
      const networks = [{ network: 'six', ipv6Address: bad }]
      expect(await fault(start({ networks }))).toMatchObject({
        code: 'INVALID_OPTION',
        field: 'networks[0].ipv6Address',
      })
    }
    await db.remove({ force: true })
    // The next one has another hardware address, which who knew the one before is told of.
    const heir = await serve('heir', { networks: [{ network: 'six', ipv6Address: 'fd00:5::77' }] })
    expect(await ask(client, heir.ipv6AddressOn('six'))).toBe('heir')
  })

  test('is joined and left while a container runs', async () => {
    await engine.networks.create({ name: 'one', ipv6: true })
    const two = await engine.networks.create({ name: 'two', ipv6: { subnet: 'fd00:7:7::/64' } })
    const server = await serve('server', { networks: ['two'] })
    const a = await serve('a', { networks: ['one'] })
    await engine.networks.connect('a', 'two', { ipv6Address: 'fd00:7:7::5', aliases: ['guest'] })
    expect(a.ipv6AddressOn('two')).toBe('fd00:7:7::5')
    expect(await ask(a, server.ipv6AddressOn('two'))).toBe('server')
    expect(await look(server, 'aaaa', 'guest')).toEqual(['fd00:7:7::5'])
    expect(await run(a, 'cat', '/etc/hosts')).toContain('fd00:7:7::5\t')
    expect(await defaults(a)).toContain('dev eth0')
    await engine.networks.disconnect('a', 'one')
    expect(await defaults(a)).toContain(`via ${two.ipv6!.gateway} dev eth1`)
    expect(a.ipv6AddressOn('one')).toBe('')
    await engine.networks.disconnect('a', 'two')
    expect(await look(server, 'aaaa', 'guest')).toEqual([])
    expect(await run(a, 'cat', '/etc/hosts')).not.toContain('fd00:7:7')
    expect(await addresses(a)).toEqual([])
  })

  test('answers AAAA and PTR for its names, those of one name in turn, and forgets them at once', async () => {
    await engine.networks.create({ name: 'six', ipv6: true })
    await engine.networks.create({ name: 'four' })
    const networks = [{ network: 'six', aliases: ['db'] }]
    const [one, two] = [await start({ name: 'one', networks }), await start({ name: 'two', networks })]
    const client = await start({ networks: ['six', 'four'] })
    await start({ name: 'old', networks: ['four'] })
    const [first, second] = [one.ipv6AddressOn('six'), two.ipv6AddressOn('six')]
    const answers = [await look(client, 'aaaa', 'db'), await look(client, 'aaaa', 'db')]
    expect(answers.map((answer) => [...answer].sort())).toEqual([[first, second].sort(), [first, second].sort()])
    expect(answers[0]).not.toEqual(answers[1])
    expect(await look(client, 'a', 'one')).toEqual([one.address])
    expect(await run(client, 'nslookup', first)).toContain('name = one')
    expect(await run(client, 'nslookup', one.address)).toContain('name = one')
    // A name without such an address exists: "no such name" would be believed for the other family as well.
    const none = await client.exec(['nslookup', '-type=aaaa', 'old'])
    expect(none.stdout + none.stderr).not.toContain('NXDOMAIN')
    expect(await look(client, 'a', 'old')).toHaveLength(1)
    await one.stop({ timeoutMs: 0 })
    expect(await look(client, 'aaaa', 'db')).toEqual([second])
    expect((await client.exec(['nslookup', first])).stdout).toContain('NXDOMAIN')
  })

  test('is reached by published ports, and does not lead to the services of this machine', async () => {
    const six = await engine.networks.create({ name: 'six', ipv6: true })
    const server = await serve('server', { networks: ['six'], ports: [80] })
    for (const host of ['127.0.0.1', '::1']) expect(await hear(host, server.port(80))).toBe('server\n')
    for (const port of [server.port(80), 53, 22]) expect(await ask(server, six.ipv6!.gateway, port)).toBe('')
  })

  test('is disturbed by faults as IPv4 is', async () => {
    await engine.networks.create({ name: 'six', ipv6: true })
    const server = await serve('server', { networks: ['six'] })
    const [near, other] = [await start({ name: 'near', networks: ['six'] }), await start({ networks: ['six'] })]
    const address = server.ipv6AddressOn('six')
    await using cut = await server.cutOff({ from: 'near' })
    expect(await ask(near, address)).toBe('')
    expect(await ask(other, address)).toBe('server')
    await cut.undo()
    expect(await ask(near, address)).toBe('server')
    await using _away = await server.cutOff()
    expect(await ask(other, address)).toBe('')
  })

  test('takes no router’s word from a container', async () => {
    await engine.networks.create({ name: 'six', ipv6: true })
    const [liar, neighbour] = [await start({ networks: ['six'] }), await start({ networks: ['six'] })]
    expect(await run(liar, 'advertise')).toBe('sent')
    for (const container of [liar, neighbour]) {
      expect(await run(container, 'cat', '/proc/net/ipv6_route')).not.toContain('20010db80bad')
      expect(await run(container, 'cat', '/proc/net/if_inet6')).not.toContain('20010db80bad')
    }
  })

  test('says what is wrong with it, and leaves nothing', async () => {
    await engine.networks.create({ name: 'six', ipv6: { subnet: 'fd00:5::/64' } })
    const subnet = 'fd00:9::/64'
    const bad = [
      ['yes', 'INVALID_OPTION', 'network.ipv6'],
      [{ subnets: [] }, 'INVALID_OPTION', 'network.ipv6.subnets'],
      [{ subnet: '10.9.0.0/24' }, 'INVALID_OPTION', 'network.ipv6.subnet'],
      [{ subnet: 'fd00:9::1/64' }, 'INVALID_OPTION', 'network.ipv6.subnet'],
      [{ subnet: 'fd00:9::' }, 'INVALID_OPTION', 'network.ipv6.subnet'],
      [{ subnet: 'fd00:9::/8' }, 'INVALID_OPTION', 'network.ipv6.subnet'],
      [{ subnet: 'fe80::/64' }, 'INVALID_OPTION', 'network.ipv6.subnet'],
      [{ subnet: 'fd00:5::/64' }, 'SUBNET_IN_USE', 'network.ipv6.subnet'],
      [{ subnet: 'fd00:5:0:0:8000::/66' }, 'SUBNET_IN_USE', 'network.ipv6.subnet'],
      [{ gateway: 'fd00:9::1' }, 'INVALID_OPTION', 'network.ipv6.gateway'],
      [{ ipRange: 'fd00:9::/80' }, 'INVALID_OPTION', 'network.ipv6.ipRange'],
      [{ subnet, gateway: 'fd00:8::1' }, 'INVALID_OPTION', 'network.ipv6.gateway'],
      [{ subnet, gateway: '10.9.0.1' }, 'INVALID_OPTION', 'network.ipv6.gateway'],
      [{ subnet, ipRange: 'fd00:8::/80' }, 'INVALID_OPTION', 'network.ipv6.ipRange'],
      [{ subnet, ipRange: 'fd00:9::/48' }, 'INVALID_OPTION', 'network.ipv6.ipRange'],
    ] as const
    for (const [ipv6, code, field] of bad) {
      expect(await fault(engine.networks.create({ ipv6: ipv6 as never })), String(field)).toMatchObject({ code, field })
    }
    expect(engine.networks.list().map(({ name }) => name)).toEqual(['bridge', 'six'])
    expect((await engine.networks.create({ ipv6: { subnet } })).ipv6).toEqual({ subnet, gateway: 'fd00:9::1' })
  })

  test('is of one session alone where the host has a route to it, and of the next when that has ended', async () => {
    if (!engine.info.isHostReachable) return
    const ipv6 = { subnet: 'fd00:5::/64' }
    {
      await using other = await Engine.open({ home: world.home })
      await other.networks.create({ name: 'six', ipv6 })
      expect(await fault(engine.networks.create({ ipv6 }))).toMatchObject({ code: 'SUBNET_IN_USE' })
    }
    // The kernel removes the other one's link, and with it the route, a little later.
    await expect.poll(() => fault(engine.networks.create({ ipv6 })), { timeout: 5000 }).toBeUndefined()
  })

  test('is full when it is full', async () => {
    await engine.networks.create({ name: 'small', ipv6: { subnet: 'fd00:5::/126' } })
    await start({ networks: ['small'] })
    const last = await start({ networks: ['small'] })
    expect(await fault(start({ networks: ['small'] }))).toMatchObject({
      code: 'ADDRESS_IN_USE',
      field: 'networks[0].network',
      value: 'small',
    })
    await last.remove({ force: true })
    await start({ networks: ['small'] })
  })
})

/** What a server says to this machine, '' if it is not reached. */
async function hear(host: string, port = 80): Promise<string> {
  const socket = connect({ host, port, timeout: 4000 }).setEncoding('utf8')
  socket.on('timeout', () => socket.destroy())
  try {
    let text = ''
    for await (const chunk of socket) text += chunk
    return text
  } catch {
    return ''
  }
}
