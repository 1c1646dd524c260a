/** Containers that a worker starts in the process that shares a network: both ends in one process, with real containers. */

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MayflyError } from '../../src/engine/errors.js'
import { GenericContainer } from '../../src/generic-container.js'
import { TestContainers } from '../../src/host-ports.js'
import { Network, type StartedNetwork } from '../../src/network.js'
import { sharedMembersOf } from '../../src/runner/members.js'
import type { RemoteBackend } from '../../src/runner/remote.js'
import { rebuild, type SharedSet, startShared } from '../../src/runner/share.js'
import type { StartedTestContainer } from '../../src/started-container.js'
import { Volume } from '../../src/volume.js'
import { Wait } from '../../src/wait/wait.js'
import { IMAGE, libraryWorld, obstacle } from '../library/support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers beside shared ones: ${why}`)

const FOREVER = ['sh', '-c', 'trap exit TERM; touch /tmp/up; sleep 600 & wait']
/** From then on it ends when it is asked to. */
const isUp = () => Wait.forSuccessfulCommand('test -e /tmp/up')
const serves = (text: string) =>
  new GenericContainer(IMAGE)
    .withCommand(['sh', '-c', `mkdir -p /www && echo ${text} > /www/index.html && exec httpd -f -p 80 -h /www`])
    .withExposedPorts(80)

describe.skipIf(why)('a container beside shared ones', () => {
  const opened = libraryWorld()
  const definition = new Network()
  const set = {
    network: definition,
    db: serves('data').withNetwork(definition, { aliases: ['db'] }),
    lonely: new GenericContainer(IMAGE).withCommand(FOREVER),
  }
  let shared: SharedSet
  let network: StartedNetwork
  let db: StartedTestContainer
  let lonely: StartedTestContainer
  let worker: RemoteBackend

  beforeAll(async () => {
    const members = sharedMembersOf(set)
    shared = await startShared(members, new AbortController().signal)
    const injected = rebuild(members, shared.told) as unknown as {
      network: StartedNetwork
      db: StartedTestContainer
      lonely: StartedTestContainer
    }
    ;({ network, db, lonely } = injected)
    worker = (db as unknown as { running: { backend: RemoteBackend } }).running.backend
  })
  afterAll(() => shared?.stop())

  const running = () => opened.engine.containers().map(({ name }) => name)
  const beside = (name: string) =>
    new GenericContainer(IMAGE).withName(name).withCommand(FOREVER).withNetwork(network).withWaitStrategy(isUp())
  /** Within a second. */
  const reaches = async (container: StartedTestContainer) =>
    (await container.exec(['busybox', 'timeout', '1', 'wget', '-qO-', 'http://db/'])).stdout === 'data\n'
  const fetchIn = async (container: StartedTestContainer, host: string) =>
    (await container.exec(['wget', '-qO-', `http://${host}/`])).output

  test('reaches the shared ones by name, and they reach it by its', async () => {
    await using app = await serves('app')
      .withNetwork(network, { aliases: ['app'] })
      .start()
    expect(await fetchIn(app, 'db')).toBe('data\n')
    expect(await fetchIn(db, 'app')).toBe('app\n')
    expect(await (await fetch(`http://${app.getHost()}:${app.getFirstMappedPort()}/`)).text()).toBe('app\n')
    expect(app.getIpAddress(network.getName())).toMatch(/^\d+\.\d+\.\d+\.\d+$/)
    expect(app.getNetworkNames()).toEqual([network.getName()])
    await app.stop()
    expect(running()).not.toContain(app.getName())
    expect((await db.exec(['busybox', 'nslookup', 'app'])).exitCode).not.toBe(0)
  })

  test('can be told the network by its definition or by its name', async () => {
    await using one = await serves('one')
      .withNetwork(definition, { aliases: ['one'] })
      .start()
    await using two = await new GenericContainer(IMAGE).withCommand(FOREVER).withNetworkMode(network.getName()).start()
    expect(await fetchIn(two, 'one')).toBe('one\n')
    expect(one.getNetworkId(network.getName())).toBe(network.getId())
  })

  test('can be in the network, and have the mounts, of a shared container', async () => {
    await using inside = await new GenericContainer(IMAGE)
      .withCommand(FOREVER)
      .withNetworkMode(`container:${db.getId()}`)
      .start()
    expect(await fetchIn(inside, '127.0.0.1')).toBe('data\n')
  })

  test('runs hooks, waits, migrations of a prepared state and log consumers here', async () => {
    const turns: string[] = []
    let log = ''
    const definition = new GenericContainer(IMAGE)
      .withCommand(['sh', '-c', 'trap exit TERM; echo ready; cat /copied /prepared; touch /tmp/up; sleep 600 & wait'])
      .withNetwork(network)
      .withWaitStrategy(isUp())
      .withCopyContentToContainer([{ content: 'copied\n', target: '/copied' }])
      .withCreateModifier((spec) => ({ ...spec, hostname: 'modified' }))
      .withLogConsumer((stream) => stream.on('data', (text) => (log += text)))
      .withMigrations(
        async (started) => {
          turns.push('migrated')
          await started.exec(['sh', '-c', 'echo prepared > /prepared'])
        },
        { key: 'one' },
      )
      .withHooks({
        beforeCreate: () => void turns.push('beforeCreate'),
        started: () => void turns.push('started'),
        stopping: () => void turns.push('stopping'),
        stopped: () => void turns.push('stopped'),
      })
    for (const _time of [1, 2]) {
      await using container = await definition.start()
      expect(container.getHostname()).toBe('modified')
      expect(await container.readFile('/prepared')).toEqual(Buffer.from('prepared\n'))
      await expect.poll(() => log).toContain('ready\ncopied\nprepared\n')
    }
    expect(turns.filter((turn) => turn === 'migrated')).toHaveLength(1)
    expect(turns.filter((turn) => turn !== 'migrated').slice(-4)).toEqual([
      'beforeCreate',
      'started',
      'stopping',
      'stopped',
    ])
    expect(running()).toHaveLength(2)
  })

  test('waits for lines of its log, commands and healthy checks, and says why one never came', async () => {
    await using both = await serves('both')
      .withNetwork(network)
      .withWaitStrategy(Wait.forAll([Wait.forHttp('/', 80), Wait.forSuccessfulCommand('test -e /www')]))
      .start()
    expect(await both.state()).toBe('running')
    await using prints = await new GenericContainer(IMAGE)
      .withCommand(['sh', '-c', 'echo now; sleep 600'])
      .withNetwork(network)
      .withWaitStrategy(Wait.forLogMessage('now'))
      .start()
    expect(await prints.stdout()).toBe('now\n')
    const ends = new GenericContainer(IMAGE)
      .withCommand(['sh', '-c', 'echo no luck; exit 3'])
      .withNetwork(network)
      .withExposedPorts(80)
    await expect(ends.start()).rejects.toMatchObject({ code: 'CONTAINER_EXITED', exitCode: 3, logTail: 'no luck' })
    const other = serves('other').withNetwork(network).withExposedPorts(81).withStartupTimeout(1_000)
    await expect(other.start()).rejects.toThrow(/it listens on 80, and not on 81/)
    expect(running()).toHaveLength(4)
  })

  test('can be paused, killed, impaired, copied from, restarted, reset and kept as a snapshot', async () => {
    await using app = await beside('whole')
      .withDiskQuota?.(16 * 1024 * 1024)
      .start()
    await using pause = await app.pause()
    expect(await app.state()).toBe('paused')
    await pause.undo()
    await app.copyContentToContainer([{ content: 'x'.repeat(3_000_000), target: '/tmp/big' }])
    expect(await app.readFile('/tmp/big')).toHaveLength(3_000_000)
    expect((await app.stats()).memoryBytes === undefined).toBe(false)
    await using cut = await app.cutOff({ from: db })
    expect(await reaches(app)).toBe(false)
    await cut.undo()
    expect(await fetchIn(app, 'db')).toBe('data\n')
    await app.restart()
    await app.kill()
    expect(await app.wait()).toMatchObject({ signal: 'SIGKILL' })
  })

  test('goes back to a snapshot of its own, and others begin with it', async () => {
    await using app = await beside('kept').start()
    await app.exec(['sh', '-c', 'echo one > /file'])
    await using snapshot = await app.snapshot()
    await app.exec(['sh', '-c', 'echo two > /file'])
    await app.reset()
    expect(await app.readFile('/file')).toEqual(Buffer.from('one\n'))
    await using other = await beside('other').start({ from: snapshot })
    expect(await other.readFile('/file')).toEqual(Buffer.from('one\n'))
    await using image = await new GenericContainer(IMAGE)
      .withCommand(FOREVER)
      .withNetwork(network)
      .withCopyContentToContainer([{ content: 'copied', target: '/file' }])
      .start()
    await image.exec(['rm', '/file'])
    await image.reset()
    expect(await image.readFile('/file')).toEqual(Buffer.from('copied'))
  })

  test("follows its log to the end, and a shared container's", async () => {
    await using app = await new GenericContainer(IMAGE)
      .withCommand(['sh', '-c', 'for i in 1 2 3; do echo $i; done; sleep 600'])
      .withNetwork(network)
      .start()
    const log = await app.logs()
    let text = ''
    const ended = once(log, 'end')
    log.on('data', (piece) => (text += piece))
    await expect.poll(() => text).toBe('1\n2\n3\n')
    await app.stop()
    await ended
    const other = await lonely.logs()
    other.destroy()
  })

  test('is gone when its process has let go of it, its networks and snapshots with it', async () => {
    const own = await new Network().start({ beside: network })
    const app = await beside('forgotten').withNetwork(own).start()
    await app.snapshot()
    await own.connect(db)
    expect(opened.engine.networks.list().map(({ id }) => id)).toContain(own.getId())
    await worker.close()
    await expect.poll(running, { timeout: 5_000 }).not.toContain('forgotten')
    await expect
      .poll(() => opened.engine.networks.list().map(({ id }) => id), { timeout: 5_000 })
      .not.toContain(own.getId())
    expect((await db.exec(['echo', 'still there'])).output).toBe('still there\n')
    await expect(app.exec(['true'])).rejects.toMatchObject({ code: 'NO_SUCH_CONTAINER' })
    await app.stop()
  })

  test('is gone when its start is given up', async () => {
    const controller = new AbortController()
    const starting = beside('late')
      .withExposedPorts(80)
      .withWaitStrategy(Wait.forListeningPorts())
      .start({ signal: controller.signal })
    await expect.poll(running).toContain('late')
    controller.abort(new Error('enough'))
    await expect(starting).rejects.toThrow('enough')
    await expect.poll(running, { timeout: 5_000 }).not.toContain('late')
  })

  test('can be on a second network that is made beside the shared one', async () => {
    await using second = await new Network().start({ beside: network })
    await using inner = await serves('inner')
      .withNetwork(second, { aliases: ['inner'] })
      .start()
    await using both = await beside('both').withNetwork(second).start()
    expect([await fetchIn(both, 'db'), await fetchIn(both, 'inner')]).toEqual(['data\n', 'inner\n'])
    expect((await db.exec(['busybox', 'nslookup', 'inner'])).exitCode).not.toBe(0)
    await second.connect(db, { aliases: ['store'] })
    expect(await fetchIn(inner, 'store')).toBe('data\n')
    await second.disconnect(db)
    await both.stop()
    await inner.stop()
  })

  test('mounts volumes of the store', async () => {
    await using volume = await new Volume().start()
    await using writer = await beside('writer').withVolumes({ volume, target: '/data' }).start()
    await writer.exec(['sh', '-c', 'echo kept > /data/file'])
    await expect(volume.stop()).rejects.toMatchObject({ code: 'VOLUME_IN_USE' })
    await using reader = await new GenericContainer(IMAGE)
      .withCommand(FOREVER)
      .withVolumes({ volume, target: '/data' })
      .start()
    expect(await reader.readFile('/data/file')).toEqual(Buffer.from('kept\n'))
    await writer.stop()
    await reader.stop()
  })

  test('reaches ports of this process that were opened for containers', async () => {
    const server = createServer((_request, answer) => answer.end('the host')).listen(0, '127.0.0.1')
    try {
      await new Promise((resolve) => server.once('listening', resolve))
      const { port } = server.address() as AddressInfo
      await TestContainers.exposeHostPorts(port)
      await using app = await beside('reaching').start()
      expect(await fetchIn(app, `host.mayfly.internal:${port}`)).toBe('the host')
    } finally {
      server.close()
    }
  })

  test('has errors of the engine as they are', async () => {
    await using _first = await beside('twice').start()
    await expect(beside('twice').start()).rejects.toMatchObject({ code: 'NAME_TAKEN' })
    await expect(
      new GenericContainer('no-such.invalid/image:1')
        .withPullPolicy({ shouldPull: () => 'never' } as never)
        .withNetwork(network)
        .start(),
    ).rejects.toBeInstanceOf(MayflyError)
    const address = { ipAddress: '203.0.113.9' }
    await expect(
      new GenericContainer(IMAGE).withCommand(FOREVER).withNetwork(network, address).start(),
    ).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    await expect(
      beside('odd')
        .withCreateModifier((spec) => ({ ...spec, domainname: (() => 'no') as never }))
        .start(),
    ).rejects.toMatchObject({ code: 'NOT_SUPPORTED', field: 'domainname' })
    expect(running()).toHaveLength(3)
  })

  test('leaves shared things to the global setup', async () => {
    await expect(network.stop()).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
    await expect(db.stop()).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
    await expect(db.snapshot()).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
    expect(await fetchIn(db, 'db')).toBe('data\n')
  })

  test('eight at once with one alias are answered in turn', async () => {
    const numbers = [...Array(8).keys()]
    const started = await Promise.all(
      numbers.map((number) =>
        serves(`number ${number}`)
          .withNetwork(network, { aliases: ['many'] })
          .start(),
      ),
    )
    const answers = new Set<string>()
    for (let tries = 0; answers.size < 8 && tries < 200; tries++) answers.add(await fetchIn(db, 'many'))
    expect([...answers].sort()).toEqual(numbers.map((number) => `number ${number}\n`))
    await Promise.all(started.map((one) => one.stop()))
    expect(running()).toHaveLength(2)
  })

  test('keeps to its process what is of another', async () => {
    await using own = await new Network().start()
    await using local = await new GenericContainer(IMAGE).withCommand(FOREVER).withNetwork(own).start()
    const both = new GenericContainer(IMAGE).withNetwork(own).withNetwork(network)
    await expect(both.start()).rejects.toMatchObject({ code: 'NOT_SUPPORTED', value: own.getId() })
    await expect(network.connect(local)).rejects.toMatchObject({ code: 'NOT_SUPPORTED', container: local.getName() })
    await expect(own.connect(db)).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
    await expect(new GenericContainer(IMAGE).withNetwork(new Network()).start()).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      field: 'network',
    })
    await local.stop()
  })

  test('reaches a shared one again when the last of the workers that cut it off has undone that', async () => {
    await using app = await beside('asker').start()
    // From here on what is started on the network is started by this one.
    const { db: dbOfAnother } = rebuild(sharedMembersOf(set), shared.told) as unknown as { db: StartedTestContainer }
    const first = await db.cutOff()
    const second = await dbOfAnother.cutOff()
    await first.undo()
    expect(await reaches(app)).toBe(false)
    await second.undo()
    await second.undo()
    expect(await reaches(app)).toBe(true)
    await db.pause()
    expect(await dbOfAnother.state()).toBe('paused')
    await db.heal()
    expect(await dbOfAnother.state()).toBe('running')
  })
})
