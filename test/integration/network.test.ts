/** The network as its users have it: real clients on published ports, names, the outside, and who must not reach whom. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { release } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Container, type ContainerOptions, Engine } from '../../src/index.js'
import { useEngine } from '../engine/support/own-engine.js'
import { makeWorld, obstacle, type World } from '../engine/support/world.js'
import { bundleScenario, type Scenario, startScenario } from '../support/scenario.js'
import { openTerritory, type Territory } from '../support/territory.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

const MIB = 1024 * 1024
const LOOPBACKS = ['127.0.0.1', '::1']

/** Puts test/integration/peer.c into the root file system. */
function addPeer(world: World): void {
  const source = fileURLToPath(new URL('peer.c', import.meta.url))
  execFileSync('gcc', ['-static', '-O1', '-o', join(world.rootfs, 'bin/peer'), source])
  for (const applet of ['ip', 'nslookup', 'netstat']) symlinkSync('busybox', join(world.rootfs, 'bin', applet))
}

describe.skipIf(why)('on the network of a session', () => {
  let world: World
  let engine: Engine

  useEngine((own) => {
    world = own.world
    engine = own.engine
  }, addPeer)

  const start = (command: readonly string[] = ['sleep', '1000'], more: Partial<ContainerOptions> = {}) =>
    engine.start({ rootfs: { directory: world.rootfs }, command, ...more })
  const echo = async (more: Partial<ContainerOptions> = {}) => {
    const container = await start(['peer', 'serve', '80'], { ports: [80, { container: 80, protocol: 'udp' }], ...more })
    await container.waitForPort(80)
    return container
  }
  const say = async (container: Container, ...words: string[]) =>
    (await container.exec(['peer', ...words])).stdout.trim()

  describe('a published port', () => {
    test.each(LOOPBACKS)('carries 40 MB both ways at %s, and the half-close', async (host) => {
      await using server = await echo()
      const input = randomBytes(20 * MIB)
      expect(await exchange(host, server.port(80), input)).toBe(digest(input))
    })

    test('answers at the address of the container too', async ({ skip }) => {
      await using server = await echo()
      if (!engine.info.isHostReachable) return skip('the host does not reach containers here')
      const input = randomBytes(4 * MIB)
      expect(await exchange(server.address, 80, input)).toBe(digest(input))
    })

    test('holds 500 connections at once, and forgets them', { timeout: 60_000 }, async () => {
      await using server = await echo()
      const sockets = await Promise.all(
        Array.from({ length: 500 }, async (_, i) => {
          const socket = connect({ host: LOOPBACKS[i % 2]!, port: server.port(80) })
          await once(socket, 'connect')
          return socket
        }),
      )
      const answers = await Promise.all(
        sockets.map(async (socket, i) => {
          socket.write(`I am ${i}`)
          const [piece] = await once(socket, 'data')
          return String(piece)
        }),
      )
      expect(answers).toEqual(sockets.map((_, i) => `I am ${i}`))
      for (const socket of sockets) socket.destroy()
      const established = async () =>
        (await server.exec(['netstat', '-tn'])).stdout.split('\n').filter((line) => line.includes('ESTABLISHED')).length
      await expect.poll(established, { timeout: 5_000 }).toBe(0)
      expect(await exchange('127.0.0.1', server.port(80), Buffer.from('still there'))).toBe(
        digest(Buffer.from('still there')),
      )
    })

    test('waits for a slow reader, and for nobody else', async () => {
      await using source = await start(['peer', 'source', '80', String(64 * MIB)], { ports: [80] })
      await source.waitForPort(80)
      await using other = await echo()
      const socket = connect({ host: '127.0.0.1', port: source.port(80) })
      await once(socket, 'connect')
      socket.pause()
      await sleep(300)
      expect(await source.logText()).toBe('')
      const input = randomBytes(MIB)
      expect(await exchange('127.0.0.1', other.port(80), input)).toBe(digest(input))
      let bytes = 0
      socket.on('data', (piece) => {
        bytes += piece.length
      })
      socket.resume()
      await once(socket, 'close')
      expect(bytes).toBe(64 * MIB)
      await source.waitForLog('sent')
    })

    test('passes on the last words of a container that ends with them', async () => {
      const words = randomBytes(60_000)
      writeFileSync(join(world.rootfs, 'words'), words)
      const rounds = Array.from({ length: 30 }, async (_, i) => {
        const container = await start(['nc', '-l', '-p', '80', '-e', 'cat', '/words'], { ports: [80] })
        await container.waitForPort(80)
        expect(await exchange(LOOPBACKS[i % 2]!, container.port(80), Buffer.alloc(0))).toBe(digest(words))
      })
      await Promise.all(rounds)
    })

    test('passes on the last words of a server that refuses and closes, with something unread', async () => {
      const serve = ['nc', '-ll', '-p', '80', '-e', 'sh', '-c', 'read line; echo refused']
      await using server = await start(serve, { ports: [80] })
      await server.waitForPort(80)
      for (let round = 0; round < 60; round++) {
        const socket = connect(server.port(80), LOOPBACKS[round % 2])
        let said = ''
        socket.on('data', (bytes) => {
          said += bytes
        })
        socket.on('error', () => {}) // it is reset afterwards, as without us
        socket.write('user\n')
        setImmediate(() => socket.write('more\n'))
        await new Promise((resolve) => socket.once('close', resolve))
        expect(said, `round ${round}`).toBe('refused\n')
      }
    })

    test('passes a reset on, in both directions', async () => {
      await using server = await start(['peer', 'reset', '80'], { ports: [80] })
      await server.waitForPort(80)
      const first = connect({ host: '127.0.0.1', port: server.port(80) })
      first.write('x')
      const error = await new Promise<Error | undefined>((resolve) => {
        first.once('error', resolve)
        first.once('close', () => resolve(undefined))
        first.resume()
      })
      expect(error).toMatchObject({ code: 'ECONNRESET' })
      const second = connect({ host: '::1', port: server.port(80) })
      await once(second, 'data')
      second.resetAndDestroy()
      expect(await server.waitForLog('ended')).toBe('ended: ECONNRESET')
    })

    test('without a listener behind it ends the connection at once', async () => {
      await using container = await start(undefined, { ports: [80] })
      const before = performance.now()
      const socket = connect({ host: '127.0.0.1', port: container.port(80) })
      socket.on('error', () => {})
      socket.resume()
      await new Promise((resolve) => socket.once('close', resolve))
      expect(performance.now() - before).toBeLessThan(10_000)
    })

    test('carries datagrams, each to who asked', async () => {
      await using server = await echo()
      const port = server.port(80, 'udp')
      for (const [family, host] of [
        ['udp4', '127.0.0.1'],
        ['udp6', '::1'],
      ] as const) {
        const clients = await Promise.all(
          Array.from({ length: 20 }, async (_, i) => {
            const socket = createSocket(family)
            const message = Buffer.alloc([1, 500, 1400, 9000][i % 4]!, i + 1)
            // A datagram may be lost where the machine is short of everything: then it is asked again.
            for (let attempt = 0; ; attempt++) {
              socket.send(message, port, host)
              const answer = await Promise.race([once(socket, 'message'), sleep(1_000)])
              if (!answer && attempt < 5) continue
              socket.close()
              return Buffer.compare(message, (answer as [Buffer])[0])
            }
          }),
        )
        expect(new Set(clients)).toEqual(new Set([0]))
      }
    })

    test('is the number that was asked for, or a free one', async () => {
      const free = createServer().listen(0, '127.0.0.1')
      await once(free, 'listening')
      const { port } = free.address() as { port: number }
      free.close()
      await once(free, 'close')
      await using fixed = await echo({ ports: [{ container: 80, host: port }] })
      expect(fixed.port(80)).toBe(port)
      await using several = await echo({
        ports: [80, 81, { container: 80, protocol: 'udp' }, { container: 82, hostIp: '127.0.0.1' }],
      })
      const numbers = [several.port(80), several.port(81), several.port(82)]
      expect(new Set(numbers).size).toBe(3)
      for (const number of numbers) expect(number).toBeGreaterThan(1023)
      expect(await reach('127.0.0.1', several.port(82))).toBe(true)
      expect(await reach('::1', several.port(82))).toBe(false)
      expect(() => several.port(83)).toThrow(/80\/tcp/)
    })

    test('is taken without a race by two engines that start much at once', async () => {
      await using other = await Engine.open({ home: world.home })
      const both = await Promise.all(
        [engine, other].flatMap((one) =>
          Array.from({ length: 20 }, () =>
            one.start({
              rootfs: { directory: world.rootfs },
              command: ['sleep', '1000'],
              ports: [80, { container: 80, protocol: 'udp' }],
            }),
          ),
        ),
      )
      const numbers = both.map((container) => container.port(80))
      expect(new Set(numbers).size).toBe(40)
    })
  })

  describe('containers', () => {
    test('find each other by name, alias and host name, and by nothing else', async () => {
      await using server = await echo({ name: 'database', networkAliases: ['db', 'db.internal'], hostname: 'pg-host' })
      await using client = await start()
      for (const name of ['database', 'db', 'db.internal', 'pg-host', 'DB']) {
        const { stdout, exitCode } = await client.exec(['ping', '-c', '1', '-W', '2', name])
        expect([name, exitCode, stdout]).toEqual([name, 0, expect.stringContaining(`(${server.address})`)])
      }
      expect(await say(client, 'dns', 'udp', 'database', '1')).toMatch(/^code=0 cut=0 answers=1/)
      expect(await say(client, 'dns', 'tcp', 'database', '1')).toMatch(/^code=0 cut=0 answers=1/)
      // A name of ours has no IPv6 address: none, not "no such name", or resolvers give up on the other as well.
      expect(await say(client, 'dns', 'udp', 'database', '28')).toMatch(/^code=0 cut=0 answers=0/)
    })

    test('forget a name when its container is gone, and share one that two have', async () => {
      await using client = await start()
      await using one = await echo({ networkAliases: ['shared'] })
      await using two = await echo({ networkAliases: ['shared'] })
      expect(await say(client, 'dns', 'udp', 'shared', '1')).toContain('answers=2')
      await one.remove({ force: true })
      expect(await say(client, 'dns', 'udp', 'shared', '1')).toContain('answers=1')
      await two.remove({ force: true })
      expect(await say(client, 'dns', 'udp', 'shared', '1')).not.toContain('answers=1')
    })

    test('do not reach published ports over the gateway, nor services of the host there', async () => {
      await using server = await echo()
      const host = createServer((socket) => socket.end('host')).listen(0, '127.0.0.1')
      await once(host, 'listening')
      const { port } = host.address() as { port: number }
      await using client = await start()
      for (const number of [server.port(80), port])
        expect(await say(client, 'connect', client.gateway, String(number))).toMatch(/^connect: E/)
      host.close()
    })

    test('with network none have loopback alone, with host the host, with container: that one', async () => {
      const links = (script: string) => script.split('\n').filter((line) => /^\d+:/.test(line)).length
      await using none = await start(undefined, { network: 'none' })
      expect(links((await none.exec(['ip', 'link'])).stdout)).toBe(1)
      expect(none.address).toBe('')
      const listener = createServer((socket) => socket.end('hello from the host')).listen(0, '127.0.0.1')
      await once(listener, 'listening')
      await using host = await start(undefined, { network: 'host' })
      expect(await say(host, 'connect', '127.0.0.1', String((listener.address() as { port: number }).port))).toBe(
        'hello from the host',
      )
      listener.close()
      await using server = await echo({ name: 'joined' })
      await using guest = await start(undefined, { network: 'container:joined' })
      const { stdout } = await guest.exec(['sh', '-c', 'echo hi | nc -w 1 127.0.0.1 80; ip -4 address show eth0'])
      expect(stdout).toContain('hi\n')
      expect(stdout).toContain(server.address)
      // A port that the guest opens is reached at the other's address.
      await using second = await start(['peer', 'serve', '81'], { network: `container:${server.id}` })
      await using client = await start()
      await expect.poll(() => say(client, 'udp', server.address, '81', 'x')).toBe('x')
      expect(second.ports).toEqual([])
    })

    test('of two engines do not know each other’s names, nor share addresses', async () => {
      await using other = await Engine.open({ home: world.home })
      expect(other.info.subnet).not.toBe(engine.info.subnet)
      await using server = await other.start({
        rootfs: { directory: world.rootfs },
        command: ['peer', 'serve', '80'],
        name: 'theirs',
      })
      await server.waitForPort(80)
      await using client = await start(undefined, { name: 'theirs' })
      await using ours = await start()
      expect(client.address).not.toBe(server.address)
      const { stdout } = await ours.exec(['ping', '-c', '1', '-W', '2', 'theirs'])
      expect(stdout).toContain(`(${client.address})`)
      await client.remove({ force: true })
      expect(await say(ours, 'dns', 'udp', 'theirs', '1')).not.toContain('answers=1')
    })
  })

  test('of networks just made have an answer to the first packet that they send', { timeout: 60_000 }, async ({
    skip,
  }) => {
    const [major = 0, minor = 0] = release().split('.').map(Number)
    if (major < 6 || (major === 6 && minor < 8)) return skip('before Linux 6.8 nobody can be told that a link is up')
    for (let i = 0; i < 40; i++) {
      await using network = await engine.networks.create()
      const more = { name: 'self', networks: [network.name] }
      await using container = await start(['peer', 'dns', 'udp', 'self', '1'], more)
      await container.wait()
      expect(await container.logText()).toMatch(/^code=0 cut=0 answers=1 /)
    }
  })
})

const RESOLVER = '127.0.0.53'
const OUTSIDE_HOST = '198.51.100.1'
const OUTSIDE = '198.51.100.2'
const OUTSIDE_HOST_V6 = '2001:db8:5::1'
const OUTSIDE_V6 = '2001:db8:5::2'

/** Answers A for plain.test, 20 KB of TXT for big.test (over UDP: cut), and nothing else. */
const NAME_SERVER = `
const answer = (query, isTcp) => {
  let at = 12, name = []
  while (query[at]) { name.push(query.subarray(at + 1, at + 1 + query[at]).toString()); at += 1 + query[at] }
  const question = query.subarray(12, at + 5)
  const header = Buffer.from(query.subarray(0, 12))
  header[2] = 0x81; header[3] = 0x80; header.fill(0, 6)
  const record = (type, data) => Buffer.concat([Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 60, data.length >> 8, data.length & 255]), data])
  let records = []
  switch (name.join('.')) {
    case 'plain.test': records = [record(1, Buffer.from([192, 0, 2, 7]))]; break
    case 'big.test':
      if (isTcp) records = Array.from({ length: 80 }, () => record(16, Buffer.concat([Buffer.from([250]), Buffer.alloc(250, 120)])))
      else header[2] |= 2
      break
    default: header[3] |= 3
  }
  header[7] = records.length
  return Buffer.concat([header, question, ...records])
}
const udp = require('node:dgram').createSocket('udp4')
udp.on('message', (query, from) => udp.send(answer(query, false), from.port, from.address))
udp.bind(53, '${RESOLVER}', () => require('node:net').createServer((socket) => {
  let all = Buffer.alloc(0)
  socket.on('error', () => {})
  socket.on('data', (piece) => {
    all = Buffer.concat([all, piece])
    while (all.length > 2 && all.length >= 2 + all.readUInt16BE()) {
      const reply = answer(all.subarray(2, 2 + all.readUInt16BE()), true)
      all = all.subarray(2 + all.readUInt16BE())
      socket.write(Buffer.concat([Buffer.from([reply.length >> 8, reply.length & 255]), reply]))
    }
  })
}).listen(53, '${RESOLVER}', () => console.log('ready')))
`

const OUTSIDE_SERVER = `
const udp = require('node:dgram').createSocket('udp4')
udp.on('message', (text, from) => udp.send('udp from ' + from.address, from.port, from.address))
udp.bind(80, () => require('node:net').createServer((socket) => { socket.on('error', () => {}); socket.end('tcp from ' + socket.remoteAddress) })
  .listen(80, '0.0.0.0', () => udp6.bind(80, () => tcp6.listen({ port: 80, host: '::', ipv6Only: true }, () => console.log('ready')))))
const udp6 = require('node:dgram').createSocket({ type: 'udp6', ipv6Only: true })
udp6.on('message', (text, from) => udp6.send('udp from ' + from.address, from.port, from.address))
const tcp6 = require('node:net').createServer((socket) => { socket.on('error', () => {}); socket.end('tcp from ' + socket.remoteAddress) })
`

/** Sends datagrams to port 90 of an address, and tells whether any comes back from wherever. */
const KNOCK = `
const [, family, address] = process.argv
const socket = require('node:dgram').createSocket(family)
const knock = setInterval(() => socket.send('x', 90, address), 100)
const end = (text) => { clearInterval(knock); socket.close(); clearTimeout(late); console.log(text) }
const late = setTimeout(end, 1500, 'nothing')
socket.on('message', () => end('reached'))
`

describe.skipIf(why)('on a host of its own, a container', () => {
  let world: World
  let territory: Territory
  let scenario: Scenario
  let outside: ChildProcess
  const helpers: ChildProcess[] = []
  let nameServer: ChildProcess
  let info: { address: string; addressV6: string; hasEgress: boolean; warnings: string[] }

  const helper = async (words: readonly string[]) => {
    const child = spawn(words[0]!, words.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] })
    helpers.push(child)
    await Promise.race([
      once(child.stdout!, 'data'),
      once(child, 'exit').then(() => Promise.reject(new Error(`${words[0]} ended`))),
    ])
    return child
  }
  const startNameServer = async () => {
    nameServer = await helper([...territory.enter, process.execPath, '-e', NAME_SERVER])
  }

  beforeAll(async () => {
    world = makeWorld()
    addPeer(world)
    territory = await openTerritory({
      replace: (directory) => {
        writeFileSync(join(directory, 'resolv.conf'), `nameserver ${RESOLVER}\nsearch corp.test\noptions ndots:1\n`)
        return { '/etc/resolv.conf': join(directory, 'resolv.conf') }
      },
    })
    outside = await helper(['unshare', '--net', 'sh', '-c', 'ip link set lo up; echo ready; exec cat'])
    const inOutside = ['nsenter', `--net=/proc/${outside.pid}/ns/net`]
    const host = (...words: string[]) => execFileSync('nsenter', [`--net=/proc/${territory.keeper}/ns/net`, ...words])
    host('ip', 'link', 'add', 'outside0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(outside.pid))
    host('ip', 'address', 'add', `${OUTSIDE_HOST}/24`, 'dev', 'outside0')
    host('ip', 'link', 'set', 'outside0', 'up')
    execFileSync('nsenter', [...inOutside.slice(1), 'ip', 'address', 'add', `${OUTSIDE}/24`, 'dev', 'eth0'])
    execFileSync('nsenter', [...inOutside.slice(1), 'ip', 'link', 'set', 'eth0', 'up'])
    host('ip', 'address', 'add', `${OUTSIDE_HOST_V6}/64`, 'dev', 'outside0', 'nodad')
    execFileSync('nsenter', [...inOutside.slice(1), 'ip', 'address', 'add', `${OUTSIDE_V6}/64`, 'dev', 'eth0', 'nodad'])
    await helper([...inOutside, process.execPath, '-e', OUTSIDE_SERVER])
    await startNameServer()
    const bundle = join(territory.directory, 'scenario.mjs')
    await bundleScenario(fileURLToPath(new URL('network.scenario.ts', import.meta.url)), bundle)
    mkdirSync(join(territory.directory, 'home'))
    const settings = JSON.stringify({ home: join(territory.directory, 'home'), rootfs: world.rootfs })
    const { wardenProgram } = await import('../../src/engine/where.js')
    scenario = startScenario([...territory.enter, process.execPath, bundle, settings], {
      MAYFLY_WARDEN: wardenProgram(),
    })
    info = await scenario.fact()
  })

  afterAll(async () => {
    scenario?.process.stdin?.end()
    await scenario?.ended
    for (const child of helpers) child.kill('SIGKILL')
    territory?.[Symbol.dispose]()
    world?.remove()
  })

  const run = async (...command: string[]) => {
    scenario.tell(JSON.stringify(command))
    const { stdout, stderr } = await scenario.fact<{ stdout: string; stderr: string }>()
    return stdout + stderr
  }

  test('has the search domains of the host, and the session as its name server', async () => {
    const text = await run('cat', '/etc/resolv.conf')
    expect(text).not.toContain(RESOLVER)
    expect(text).toContain('search corp.test')
    expect(text).toContain('options ndots:0')
  })

  test('asks the resolver on the loopback of the host', async () => {
    expect(await run('peer', 'dns', 'udp', 'plain.test', '1')).toMatch(/^code=0 cut=0 answers=1 /)
    expect(await run('peer', 'dns', 'tcp', 'plain.test', '1')).toMatch(/^code=0 cut=0 answers=1 /)
    expect(await run('peer', 'dns', 'udp', 'missing.test', '1')).toMatch(/^code=3 cut=0 answers=0 /)
    expect(await run('peer', 'dns', 'tcp', 'missing.test', '1')).toMatch(/^code=3 cut=0 answers=0 /)
  })

  test('is told that an answer was cut, and has all of it over TCP', async () => {
    expect(await run('peer', 'dns', 'udp', 'big.test', '16')).toMatch(/^code=0 cut=1 answers=0 /)
    const [, bytes] = /^code=0 cut=0 answers=80 bytes=(\d+)/.exec(await run('peer', 'dns', 'tcp', 'big.test', '16'))!
    expect(Number(bytes)).toBeGreaterThan(20_000)
  })

  test('is told soon that the resolver is down, and finds it again', async () => {
    nameServer.kill('SIGKILL')
    await once(nameServer, 'exit')
    const before = performance.now()
    expect(await run('peer', 'dns', 'udp', 'plain.test', '1')).toMatch(/^code=2 /)
    expect(await run('peer', 'dns', 'tcp', 'plain.test', '1')).toMatch(
      /^code=2 |^answer: E|^code=0 cut=0 answers=0 bytes=-2/,
    )
    expect(performance.now() - before).toBeLessThan(5_000)
    // Names of containers do not depend on it.
    expect(await run('peer', 'dns', 'udp', 'client', '1')).toMatch(/^code=0 cut=0 answers=1 /)
    await startNameServer()
    expect(await run('peer', 'dns', 'udp', 'plain.test', '1')).toMatch(/^code=0 cut=0 answers=1 /)
  })

  test('reaches the outside with the address of the host: TCP, UDP, ping', async () => {
    expect([info.hasEgress, info.warnings]).toEqual([true, []])
    expect(await run('peer', 'connect', OUTSIDE, '80')).toBe(`tcp from ${OUTSIDE_HOST}`)
    expect(await run('peer', 'udp', OUTSIDE, '80', 'x')).toBe(`udp from ${OUTSIDE_HOST}`)
    expect(await run('ping', '-c', '1', '-W', '3', OUTSIDE)).toContain('1 packets received')
  })

  test('is told what cannot be reached', async () => {
    expect(await run('peer', 'connect', OUTSIDE, '81')).toBe('connect: ECONNREFUSED\n')
    expect(await run('peer', 'udp', OUTSIDE, '81', 'x')).toBe('read: ECONNREFUSED\n')
    // The host has no route there.
    expect(await run('peer', 'connect', '192.0.2.99', '80')).toMatch(/^connect: E(NET|HOST)UNREACH\n$/)
    // It has one here, and nobody answers.
    expect(await run('peer', 'connect', '198.51.100.77', '80')).toMatch(
      /^connect: (EHOSTUNREACH|EINPROGRESS|ETIMEDOUT)\n$/,
    )
  })

  test('reaches the outside over IPv6 where its network has it, with the address of the host: TCP, UDP, ping', async () => {
    expect(await run('@six', 'peer', 'connect', OUTSIDE_V6, '80')).toBe(`tcp from ${OUTSIDE_HOST_V6}`)
    expect(await run('@six', 'peer', 'udp', OUTSIDE_V6, '80', 'x')).toBe(`udp from ${OUTSIDE_HOST_V6}`)
    expect(await run('@six', 'ping', '-c', '1', '-W', '3', OUTSIDE_V6)).toContain('1 packets received')
    expect(await run('@six', 'peer', 'connect', OUTSIDE_V6, '81')).toBe('connect: ECONNREFUSED\n')
    expect(await run('@six', 'peer', 'udp', OUTSIDE_V6, '81', 'x')).toBe('read: ECONNREFUSED\n')
    expect(await run('@six', 'peer', 'connect', OUTSIDE, '80')).toBe(`tcp from ${OUTSIDE_HOST}`)
    expect(await run('peer', 'connect', OUTSIDE_V6, '80')).toBe('connect: ENETUNREACH\n')
  })

  test('is told at once that the host has no IPv6 to a place, so that it can try the other family', async () => {
    const before = performance.now()
    for (const place of ['2001:db8:9::1', 'fd00:9::1', 'fe80::1', '100::1']) {
      expect(await run('@six', 'peer', 'connect', place, '80')).toMatch(/^connect: E(NETUNREACH|HOSTUNREACH|INVAL)\n$/)
    }
    // Far below the second after which a connection is tried again.
    expect(performance.now() - before).toBeLessThan(900)
  })

  test('is not reached from the outside', () => {
    const dial = `require('node:net').connect({ host: '${info.address}', port: 80 }).on('connect', () => console.log('reached')).on('error', (e) => console.log(e.code))`
    const inOutside = [`--net=/proc/${outside.pid}/ns/net`]
    execFileSync('nsenter', [...inOutside, 'ip', 'route', 'replace', 'default', 'via', OUTSIDE_HOST])
    const script = 'timeout 2 "$0" -e "$1" || echo "gave up"'
    const words = [...inOutside, 'sh', '-c', script, process.execPath, dial]
    expect(execFileSync('nsenter', words).toString()).toMatch(/^(E[A-Z]+|gave up)\n$/)
  })

  test('is not reached from the outside either where the host forwards, with either family', async () => {
    const inHost = [`--net=/proc/${territory.keeper}/ns/net`]
    const inOutside = [`--net=/proc/${outside.pid}/ns/net`]
    const forward = ['sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']
    execFileSync('nsenter', [...inHost, ...forward])
    execFileSync('nsenter', [...inOutside, 'ip', 'route', 'replace', 'default', 'via', OUTSIDE_HOST])
    execFileSync('nsenter', [...inOutside, 'ip', 'route', 'replace', 'fd00::/8', 'via', OUTSIDE_HOST_V6])
    await run('sh', '-c', 'peer serve 90 >/dev/null 2>&1 &')
    await run('@six', 'sh', '-c', 'peer serve6 90 >/dev/null 2>&1 &')
    for (const [address, family] of [
      [info.address, 'udp4'],
      [info.addressV6, 'udp6'],
    ]) {
      const words = [...inOutside, process.execPath, '-e', KNOCK, family!, address!]
      expect(execFileSync('nsenter', words).toString()).toBe('nothing\n')
    }
  })
})

function digest(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}

/** Sends everything, closes its half, reads to the end: the digest of what came back. */
async function exchange(host: string, port: number, input: Buffer): Promise<string> {
  const socket: Socket = connect({ host, port })
  const hash = createHash('sha256')
  socket.on('data', (piece) => hash.update(piece))
  socket.end(input)
  await once(socket, 'close')
  return hash.digest('hex')
}

/** Whether somebody accepts there. */
function reach(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    // A listener that leads to nobody accepts and resets, and the reset may be seen first.
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNRESET'))
  })
}
