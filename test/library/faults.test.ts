/** Faults of started containers, and what the library gives of networks and volumes. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { GenericContainer, type MayflyError, Network, type StartedTestContainer, Volume } from '../../src/index.js'
import { IMAGE, libraryWorld, obstacle } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

const MIB = 1024 * 1024
const sleeper = new GenericContainer(IMAGE).withCommand(['sleep', '600'])
const greeter = new GenericContainer(IMAGE)
  .withCommand(['nc', '-ll', '-p', '80', '-e', 'echo', 'hello'])
  .withExposedPorts(80)
const ask = async (from: StartedTestContainer, host: string) =>
  (await from.exec(['nc', '-w', '1', host, '80'])).stdout.trim()
const failing = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: MayflyError) => error,
  )

describe.skipIf(why)('a started container', () => {
  const opened = libraryWorld()

  test('is cut off and healed', async () => {
    await using network = await new Network().start()
    await using server = await greeter.withNetwork(network).withNetworkAliases('server').start()
    await using client = await sleeper.withNetwork(network).start()
    await using other = await sleeper.withNetwork(network).start()
    const cut = await server.cutOff({ from: client })
    expect([await ask(client, 'server'), await ask(other, 'server')]).toEqual(['', 'hello'])
    await cut.undo()
    expect(await ask(client, 'server')).toBe('hello')
    await server.cutOff()
    await server.impair({ latency: 10, peer: other })
    expect(await ask(client, 'server')).toBe('')
    expect(await ask(other, 'server')).toBe('hello')
    await server.heal()
    expect(await ask(client, 'server')).toBe('hello')
  })

  test('has faults in one another, undone in any order', async () => {
    await using server = await greeter
      .withNetworkAliases('server')
      .withDiskQuota(2 * MIB)
      .start()
    await using client = await sleeper.start()
    await using outer = await server.cutOff()
    {
      await using _inner = await server.impair({ latency: 1 })
      expect(await ask(client, 'server')).toBe('hello')
    }
    expect(await ask(client, 'server')).toBe('')
    const [, latest] = await Promise.all([server.impair({ latency: 1 }), server.cutOff()])
    await outer.undo()
    expect(await ask(client, 'server')).toBe('')
    await latest.undo()
    expect(await ask(client, 'server')).toBe('hello')
    const write = async () => (await server.exec(['dd', 'if=/dev/zero', 'of=/file', `bs=${MIB}`, 'count=1'])).exitCode
    const [one, other] = [await server.fillDisk(), await server.fillDisk()]
    await one.undo()
    expect(await write()).not.toBe(0)
    await other.undo()
    expect(await write()).toBe(0)
  })

  test('is undone all that was done to it, in one call', async () => {
    await using server = await greeter.withDiskQuota(2 * MIB).start()
    const write = () => server.exec(['dd', 'if=/dev/zero', 'of=/file', `bs=${MIB}`, 'count=1'])
    const full = await server.fillDisk()
    expect((await write()).stderr).toMatch(/No space left/)
    await server.pause()
    expect(await server.state()).toBe('paused')
    await server.heal()
    expect(await server.state()).toBe('running')
    expect((await write()).exitCode).toBe(0)
    await full.undo()
    await server.heal()
    const cut = await server.cutOff()
    await server.stop()
    await cut.undo()
  })

  test('says what is no fault', async () => {
    await using server = await sleeper.start()
    expect(await failing(server.impair({}))).toMatchObject({ code: 'INVALID_OPTION', field: 'fault' })
    expect(await failing(server.impair({ loss: 3 }))).toMatchObject({ field: 'fault.loss' })
    expect(await failing(server.fillDisk())).toMatchObject({ code: 'NOT_SUPPORTED' })
    expect(await failing(server.cutOff({ from: server }))).toMatchObject({ code: 'INVALID_OPTION' })
    const wrong = async (work: Promise<unknown>) => {
      const { code, field } = (await failing(work))!
      expect(code).toBe('INVALID_OPTION')
      return field
    }
    // What comes from JavaScript, or from somebody who is in a hurry.
    expect(await wrong(server.impair(null as never))).toBe('fault')
    expect(await wrong(server.impair({ loss: 1, peer: 'db' as never }))).toBe('fault.peer')
    expect(await wrong(server.cutOff({ from: 'db' as never }))).toBe('options.from')
    expect(await wrong(server.cutOff({ form: server } as never))).toBe('options.form')
  })

  test('has the clock that it was given', async () => {
    await using ahead = await sleeper.withClockOffset(86_400_000).start()
    await using plain = await sleeper.start()
    const uptime = async (container: StartedTestContainer) =>
      Number((await container.exec(['cat', '/proc/uptime'])).stdout.split(' ')[0])
    expect((await uptime(ahead)) - (await uptime(plain))).toBeCloseTo(86_400, -1)
  })

  test('is found by its aliases without a network of its own, too', async () => {
    await using _server = await greeter.withNetworkAliases('db').start()
    await using client = await sleeper.start()
    expect(await ask(client, 'db')).toBe('hello')
  })

  test('has networks with IPv6, and its addresses there', async () => {
    await using network = await new Network({ ipv6: { subnet: 'fd00:214:3::/64', gateway: 'fd00:214:3::fe' } }).start()
    await using other = await new Network({ ipv6: true }).start()
    await using plain = await new Network().start()
    await using server = await greeter.withNetwork(network, { ipv6Address: 'fd00:214:3::7' }).start()
    await using client = await sleeper.withNetwork(network).withNetwork(plain).start()
    expect([network.getIpv6Subnet(), plain.getIpv6Subnet()]).toEqual(['fd00:214:3::/64', ''])
    expect(other.getIpv6Subnet()).toMatch(/^fd[\da-f:]+::\/64$/)
    expect(server.getIpv6Address(network.getName())).toBe('fd00:214:3::7')
    expect(client.getIpv6Address(plain.getName())).toBe('')
    expect((await server.inspect()).networks[0]).toMatchObject({ ipv6Gateway: 'fd00:214:3::fe' })
    expect(await ask(client, 'fd00:214:3::7')).toBe(await ask(client, server.getIpAddress(network.getName())))
    await other.connect(client, { ipv6Address: `${other.getIpv6Subnet().replace('/64', '')}77` })
    expect((await client.exec(['cat', '/etc/hosts'])).output).toContain('::77\t')
  })

  test('has networks of the shape that was asked for', async () => {
    await using network = await new Network({
      subnet: '10.214.3.0/24',
      gateway: '10.214.3.254',
      ipRange: '10.214.3.64/26',
      labels: { a: 'b' },
    }).start()
    await using container = await sleeper.withNetwork(network).start()
    const address = container.getIpAddress(network.getName())
    expect(Number(address.split('.')[3])).toBeGreaterThanOrEqual(64)
    expect(Number(address.split('.')[3])).toBeLessThan(128)
    expect((await container.inspect()).networks[0]).toMatchObject({ gateway: '10.214.3.254' })
    await using fixed = await sleeper.withNetwork(network, { ipAddress: '10.214.3.7' }).start()
    expect(fixed.getIpAddress(network.getName())).toBe('10.214.3.7')
    expect((await fixed.exec(['ping', '-c', '1', address])).exitCode).toBe(0)
  })

  test('shares volumes, images and the mounts of another one', async () => {
    await using data = await new Volume().start()
    const source = join(opened.world.directory, 'made', 'here')
    await using writer = await sleeper
      .withVolumes({ volume: data, target: '/data' })
      .withImageMounts({ image: IMAGE, target: '/image', subpath: 'etc' })
      .withBindMounts([{ source, target: '/bound', createSource: true }])
      .start()
    await writer.exec(['sh', '-c', 'mkdir /data/sub; echo kept >/data/sub/a'])
    expect(existsSync(source)).toBe(true)
    await using reader = await sleeper.withVolumesFrom(writer, { readonly: true }).start()
    expect((await reader.exec(['cat', '/data/sub/a'])).stdout).toBe('kept\n')
    expect((await reader.exec(['grep', 'alice', '/image/passwd'])).exitCode).toBe(0)
    expect((await reader.exec(['touch', '/data/b'])).exitCode).toBe(1)
    await using part = await sleeper.withVolumes({ volume: data, target: '/p', subpath: 'sub' }).start()
    expect((await part.exec(['cat', '/p/a'])).stdout).toBe('kept\n')
    expect(await failing(data.stop())).toMatchObject({ code: 'VOLUME_IN_USE' })
    await Promise.all([writer, reader, part].map((one) => one.stop()))
  })
})
