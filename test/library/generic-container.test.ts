import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createGzip } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import {
  AbstractStartedContainer,
  type ContainerSpec,
  GenericContainer,
  MayflyError,
  Network,
  PullPolicy,
  type StartedTestContainer,
  type StartOptions,
  startAll,
  substituteImages,
  Wait,
  type WaitStrategy,
} from '../../src/index.js'
import { IMAGE, libraryWorld, obstacle } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

const sleeper = new GenericContainer(IMAGE).withCommand(['sleep', '600'])
const sh = (script: string) => new GenericContainer(IMAGE).withCommand(['sh', '-c', script])
const httpd = sh('mkdir -p /www && echo hello > /www/index.html && exec httpd -f -p 80 -h /www').withExposedPorts(80)
const code = (code: string, more: object = {}) => expect.objectContaining({ code, ...more })

describe.skipIf(why)('a definition', () => {
  const opened = libraryWorld()

  test('is not changed by its with… methods', async () => {
    const base = sleeper.withEnvironment({ A: '1' })
    const varied = base.withEnvironment({ A: '2', B: '3' }).withName('varied')
    await using first = await base.start()
    await using second = await varied.start()
    expect((await first.exec(['sh', '-c', 'echo $A$B'])).output).toBe('1\n')
    expect((await second.exec(['sh', '-c', 'echo $A$B'])).output).toBe('23\n')
    expect(first.getName()).not.toBe('varied')
  })

  test('takes a port that is given again with its new binding', async () => {
    await using container = await sleeper
      .withExposedPorts('7/udp')
      .withExposedPorts({ container: 7, host: 41_907, protocol: 'udp' })
      .start()
    expect(container.getMappedPort('7/udp')).toBe(41_907)
  })

  test('starts a container of its own each time', async () => {
    await using first = await httpd.start()
    await using second = await httpd.start()
    expect(first.getId()).not.toBe(second.getId())
    expect(first.getFirstMappedPort()).not.toBe(second.getFirstMappedPort())
  })

  test('says everything that a container is', async () => {
    await using container = await sleeper
      .withHostname('box')
      .withUser('alice')
      .withWorkingDir('/tmp')
      .withEnvironment({ COLOUR: 'green' })
      .withLabels({ a: '1' })
      .withLabels({ b: '2' })
      .withTmpFs({ '/scratch': 'rw,size=1m' })
      .withUlimits({ nofile: { soft: 256, hard: 512 } })
      .withExtraHosts([{ host: 'elsewhere', ipAddress: '10.0.0.8' }])
      .withExtraHosts([{ host: 'elsewhere', ipAddress: '10.0.0.7' }])
      .withSysctls({ 'net.core.somaxconn': '300' })
      .withSharedMemorySize(1024 * 1024)
      .withDroppedCapabilities('ALL')
      .withSecurityOpt('no-new-privileges')
      .withDns({ servers: ['10.0.0.9'] })
      .withInit()
      .start()
    const shell = async (script: string) => (await container.exec(['sh', '-c', script])).output.trim()
    expect(await shell('hostname; id -un; pwd; echo $COLOUR; ulimit -n')).toBe('box\nalice\n/tmp\ngreen\n256')
    expect(await shell('grep elsewhere /etc/hosts; grep 10.0.0.9 /etc/resolv.conf')).toMatch(
      /10\.0\.0\.8.*\n10\.0\.0\.7.*\nnameserver/,
    )
    expect(await shell('cat /proc/sys/net/core/somaxconn; grep -c " /scratch " /proc/mounts')).toBe('300\n1')
    expect(await shell('grep NoNewPrivs /proc/self/status')).toMatch(/1$/)
    expect(container.getLabels()).toMatchObject({ a: '1', b: '2' })
    expect(container.getHostname()).toBe('box')
  })

  test('has its root file system read-only when told so', async () => {
    await using container = await sleeper.withReadonlyRootfs().start()
    expect((await container.exec(['touch', '/new'])).exitCode).not.toBe(0)
  })

  test('gives its last word to a modifier, which sees the whole spec', async () => {
    const specs: ContainerSpec[] = []
    await using container = await sleeper
      .withEnvironment({ A: '1' })
      .withCreateModifier((spec) => {
        specs.push(spec)
        return { ...spec, env: { ...spec.env, B: '2' } }
      })
      .start()
    expect(specs).toMatchObject([{ image: IMAGE, env: { A: '1' }, command: ['sleep', '600'] }])
    expect((await container.exec(['sh', '-c', 'echo $A$B'])).output).toBe('12\n')
  })

  test('copies files, directories, contents and archives in before the start', async () => {
    const { directory } = opened.world
    mkdirSync(join(directory, 'tree/deep'), { recursive: true })
    writeFileSync(join(directory, 'one.txt'), 'one', { mode: 0o640 })
    writeFileSync(join(directory, 'tree/deep/two.txt'), 'two')
    const long = `/long/${'d'.repeat(90)}/${'e'.repeat(90)}/ümlaut.txt`
    await using source = await sleeper
      .withCopyContentToContainer([{ content: 'tarred', target: '/data/four.txt' }])
      .start()
    const tar = await source.copyArchiveFromContainer('/data')
    await using container = await sh(
      'cat /in/one.txt /in/tree/deep/two.txt /in/three.txt /in/data/four.txt; exec sleep 600',
    )
      .withCopyFilesToContainer([{ source: join(directory, 'one.txt'), target: '/in/one.txt' }])
      .withCopyDirectoriesToContainer([{ source: join(directory, 'tree'), target: '/in/tree' }])
      .withCopyContentToContainer([
        { content: 'three', target: '/in/three.txt', mode: 0o755 },
        { content: 'far', target: long },
      ])
      .withCopyArchivesToContainer([{ tar, target: '/in' }])
      .withWaitStrategy(Wait.forLogMessage('onetwothreetarred'))
      .start()
    const modes = await container.exec(['stat', '-c', '%a %U', '/in/one.txt', '/in/three.txt'])
    expect(modes.output).toBe('640 root\n755 root\n')
    expect(String(await container.readFile(long))).toBe('far')
  })

  test('takes pull policies at their word', async () => {
    await using never = await sleeper.withPullPolicy(PullPolicy.neverPull()).start()
    expect(await never.state()).toBe('running')
    const old = PullPolicy.olderThan({ minutes: 5 })
    expect(old.shouldPull({ arrivedAt: new Date(Date.now() - 400_000) })).toBe(true)
    expect(old.shouldPull({ arrivedAt: new Date() })).toBe(false)
    expect(() => PullPolicy.olderThan({ days: -1 })).toThrow(code('INVALID_OPTION'))
  })

  test('substitutes images by the container’s function, else by everybody’s', async () => {
    substituteImages((reference) => (reference === 'everybody:1' ? IMAGE : reference))
    try {
      await using global = await new GenericContainer('everybody:1').withCommand(['sleep', '60']).start()
      await using own = await new GenericContainer('own:1')
        .withCommand(['sleep', '60'])
        .withImageSubstitution(() => IMAGE)
        .start()
      expect([await global.state(), await own.state()]).toEqual(['running', 'running'])
    } finally {
      substituteImages(undefined)
    }
    await expect(new GenericContainer('everybody:1').withPullPolicy(PullPolicy.neverPull()).start()).rejects.toEqual(
      code('IMAGE_NOT_FOUND'),
    )
  })
})

describe.skipIf(why)('a subclass', () => {
  libraryWorld()

  class StartedWeb extends AbstractStartedContainer {
    get url(): string {
      return `http://${this.getHost()}:${this.getMappedPort(80)}/`
    }
    readonly ended: string[] = []
    protected override async containerStopping(): Promise<void> {
      this.ended.push('stopping')
    }
    protected override async containerStopped(): Promise<void> {
      this.ended.push('stopped')
    }
  }

  class Web extends GenericContainer {
    readonly calls: string[] = []
    private greeting = 'hello'

    constructor() {
      super(IMAGE)
      this.configure((container) => container.withExposedPorts(80).withEnvironment({ KIND: 'web' }))
    }

    withGreeting(greeting: string): this {
      const copy = this.withLabels({ greeting })
      copy.greeting = greeting
      return copy
    }

    protected override async beforeContainerCreated(): Promise<void> {
      this.calls.push('before')
      this.withCommand([
        'sh',
        '-c',
        `mkdir -p /www && echo ${this.greeting} $KIND > /www/index.html && exec httpd -f -h /www`,
      ])
    }
    protected override async containerCreated(id: string): Promise<void> {
      this.calls.push(`created ${id.length}`)
    }
    protected override async containerStarting(): Promise<void> {
      this.calls.push('starting')
    }
    protected override async containerStarted(container: StartedTestContainer): Promise<void> {
      this.calls.push(`started ${(await container.exec(['true'])).exitCode}`)
    }

    override async start(): Promise<StartedWeb> {
      return new StartedWeb(await super.start())
    }
  }

  test('stays itself, and has its hooks called', async () => {
    const base = new Web()
    const web = base.withGreeting('servus').withEnvironment({ MORE: '1' })
    expect(web).toBeInstanceOf(Web)
    const started = await web.start()
    expect(await (await fetch(started.url)).text()).toBe('servus web\n')
    expect(web.calls).toEqual(['before', 'created 64', 'starting', 'started 0'])
    await started.stop()
    expect(started.ended).toEqual(['stopping', 'stopped'])
    await using other = await base.start()
    expect(await (await fetch(other.url)).text()).toBe('hello web\n')
  })

  test('hooks can be functions', async () => {
    const calls: string[] = []
    const started = await sleeper
      .withHooks({
        beforeCreate: (spec) => calls.push(`before ${spec.image}`),
        created: (id) => calls.push(`created ${id.length}`),
        starting: ({ status }) => calls.push(`starting ${status}`),
        started: async (container) => calls.push(`started ${await container.state()}`),
        stopping: async (container) => calls.push(`stopping ${(await container.exec('echo running')).stdout.trim()}`),
        stopped: () => calls.push('stopped'),
      })
      .start()
    await started.stop()
    expect(calls).toEqual([
      `before ${IMAGE}`,
      'created 64',
      'starting running',
      'started running',
      'stopping running',
      'stopped',
    ])
  })

  test('a hook that throws fails the start, and nothing stays', async () => {
    const failing = sleeper.withName('hooked').withHooks({
      started: () => {
        throw new Error('not today')
      },
    })
    await expect(failing.start()).rejects.toMatchObject({
      code: 'HOOK_FAILED',
      container: 'hooked',
      value: 'started',
      message: '"hooked": its hook started threw: not today',
    })
    await using again = await sleeper.withName('hooked').start()
    expect(again.getName()).toBe('hooked')
  })
})

describe.skipIf(why)('a started container', () => {
  libraryWorld()

  test('runs programs, given as text or as words', async () => {
    await using container = await sleeper.start()
    expect(await container.exec('echo hello world')).toEqual({
      output: 'hello world\n',
      stdout: 'hello world\n',
      stderr: '',
      exitCode: 0,
    })
    const both = await container.exec(['sh', '-c', 'echo a; sleep 0.05; echo b >&2; sleep 0.05; echo c; exit 3'])
    expect(both).toEqual({ output: 'a\nb\nc\n', stdout: 'a\nc\n', stderr: 'b\n', exitCode: 3 })
    const options = { workingDir: '/tmp', user: 'alice', env: { X: 'y' }, input: 'given' }
    expect((await container.exec(['sh', '-c', 'pwd; id -un; echo $X; cat'], options)).output).toBe(
      '/tmp\nalice\ny\ngiven',
    )
    expect(await container.exec(['no-such-program'])).toMatchObject({ exitCode: 127 })
  })

  test('gives all of a long output', async () => {
    await using container = await sleeper.start()
    const { stdout, output } = await container.exec(['sh', '-c', 'head -c 20000000 /dev/zero | tr "\\0" x'])
    expect([stdout.length, output.length]).toEqual([20_000_000, 20_000_000])
  })

  test('gives its log as text, with no character torn', async () => {
    await using container = await sh(String.raw`printf 'gr\303'; sleep 0.1; printf '\274n\n'; exec sleep 600`)
      .withWaitStrategy(Wait.forLogMessage('grün'))
      .start()
    const pieces: unknown[] = []
    for await (const piece of await container.logs({ follow: false })) pieces.push(piece)
    expect(pieces.every((piece) => typeof piece === 'string')).toBe(true)
    expect(pieces.join('')).toBe('grün\n')
  })

  test('reads a file through symbolic links, and nothing that is none', async () => {
    const far = `/tmp/${'d'.repeat(60)}`
    const script = `mkdir -p ${far}/${'e'.repeat(60)} /real/deep && cd /real && echo text > text && ln -s ../text deep/up &&
      ln -s /real/deep /door && echo far > ${far}/${'e'.repeat(60)}/file && ln -s ${far}/${'e'.repeat(60)}/file /long &&
      ln -s round /round && ln -s nothing /dangling && mkfifo /pipe`
    await using container = await sleeper.start()
    expect(await container.exec(['sh', '-c', script])).toMatchObject({ exitCode: 0 })
    expect(String(await container.readFile('/real/deep/up'))).toBe('text\n')
    expect(String(await container.readFile('/door/up'))).toBe('text\n')
    expect(String(await container.readFile('/long'))).toBe('far\n')
    await expect(container.readFile('/dangling')).rejects.toEqual(code('PATH_NOT_FOUND'))
    const refused = (why: string) => code('INVALID_OPTION', { message: expect.stringContaining(why) })
    await expect(container.readFile('/real')).rejects.toEqual(refused('it is a directory'))
    await expect(container.readFile('/pipe')).rejects.toEqual(refused('it is no file'))
    await expect(container.readFile('/round')).rejects.toEqual(refused('round in a circle'))
  })

  test('unpacks an archive that is compressed', async () => {
    await using container = await sleeper.start()
    await container.copyContentToContainer([{ content: 'squeezed', target: '/new/file' }])
    const tar = await container.copyArchiveFromContainer('/new')
    await container.copyArchiveToContainer(tar.pipe(createGzip()), '/tmp')
    expect(String(await container.readFile('/tmp/new/file'))).toBe('squeezed')
  })

  test('gives its log as a stream and as text, stdout and stderr apart', async () => {
    await using container = await sh('echo out; echo err >&2; exec sleep 600')
      .withWaitStrategy(Wait.forAll([Wait.forLogMessage('out'), Wait.forLogMessage('err')]))
      .start()
    expect([await container.stdout(), await container.stderr()]).toEqual(['out\n', 'err\n'])
    const log = await container.logs({ stderr: false })
    const [first] = await once(log, 'data')
    expect(String(first)).toBe('out\n')
    log.destroy()
    const pieces: string[] = []
    for await (const piece of await container.logs({ follow: false, tail: 1 })) pieces.push(String(piece))
    expect(pieces.join('')).toMatch(/^(out|err)\n$/)
  })

  test('sends all output to its consumers, from the first byte on', async () => {
    const lines: string[] = []
    await using container = await sh('echo early; sleep 0.05; echo late; exec sleep 600')
      .withLogConsumer((stream) => stream.on('data', (line) => lines.push(String(line))))
      .withWaitStrategy(Wait.forLogMessage('late'))
      .start()
    await expect.poll(() => lines.join('')).toBe('early\nlate\n')
    expect(await container.state()).toBe('running')
  })

  test('copies to and from it while it runs', async () => {
    await using container = await sleeper.start()
    await container.copyContentToContainer([{ content: Buffer.from('bytes'), target: '/new/file' }])
    expect((await container.exec('cat /new/file')).output).toBe('bytes')
    await container.copyArchiveToContainer(await container.copyArchiveFromContainer('/new'), '/tmp')
    expect(String(await container.readFile('/tmp/new/file'))).toBe('bytes')
    await expect(
      container.copyContentToContainer([{ content: 'x', target: '/x' }], {
        signal: AbortSignal.abort(new Error('no')),
      }),
    ).rejects.toThrow('no')
    await expect(container.copyArchiveFromContainer('/nowhere')).rejects.toEqual(code('PATH_NOT_FOUND'))
  })

  test('keeps no prepared state where a migration has killed it, and says so each time', async () => {
    let calls = 0
    const kill = async (container: StartedTestContainer) => {
      calls++
      await container.kill()
    }
    // In memory, and so not in the files that it begins with: those are kept of one that was up without a migration.
    const definition = sh('trap "exit 0" TERM; echo up; touch /dev/shm/up; while true; do sleep 0.02; done')
      .withWaitStrategy(Wait.forFile('/dev/shm/up'))
      .withMigrations(kill)

    for (const call of [1, 2]) {
      await expect(definition.start()).rejects.toEqual(
        code('CONTAINER_EXITED', { exitCode: 137, logTail: expect.stringContaining('up') }),
      )
      expect(calls).toBe(call)
    }
  })

  test('is neither restarted nor reset where the signal came before', async () => {
    await using container = await sleeper.start()
    const { startedAt } = await container.inspect()
    const reason = new Error('given up')
    const signal = AbortSignal.abort(reason)

    await expect(container.restart({ signal })).rejects.toBe(reason)
    await expect(container.reset({ signal })).rejects.toBe(reason)

    await container.exec('true')
    expect((await container.inspect()).startedAt).toEqual(startedAt)
  })

  test('restarts under the same port, and is ready again', async () => {
    await using container = await httpd.start()
    const port = container.getMappedPort(80)
    await container.exec(['sh', '-c', 'echo changed > /kept'])
    await container.restart()
    expect(container.getMappedPort(80)).toBe(port)
    expect((await fetch(`http://localhost:${port}/`)).status).toBe(200)
    expect((await container.exec('cat /kept')).output).toBe('changed\n')
  })

  test('pauses, goes on, tells what it uses, and takes signals', async () => {
    await using container = await sh('trap "exit 7" USR1; while true; do sleep 0.02; done').start()
    await container.pause()
    expect(await container.state()).toBe('paused')
    await container.unpause()
    expect(await container.state()).toBe('running')
    expect((await container.stats()).processes).toBeGreaterThanOrEqual(1)
    expect(await container.exitCode()).toBeUndefined()
    await container.kill('SIGUSR1')
    expect(await container.wait()).toMatchObject({ exitCode: 7, signal: null })
    expect(await container.exitCode()).toBe(7)
    expect((await container.inspect()).status).toBe('exited')
  })

  test('stops once, however often it is told to, and is gone', async () => {
    const container = await sleeper.withName('stopped').start()
    const [first, second] = await Promise.all([container.stop(), container.stop()])
    expect(first.getId()).toBe(second.getId())
    for (const use of [() => container.exec('true'), () => container.restart(), () => container.stats()]) {
      await expect(use()).rejects.toEqual(code('CONTAINER_NOT_RUNNING', { container: 'stopped' }))
    }
    await using again = await sleeper.withName('stopped').start()
    expect(again.getId()).not.toBe(container.getId())
  })

  test('keeps its files when it is stopped without being removed', async () => {
    const container = await sleeper.start()
    await container.copyContentToContainer([{ content: 'left', target: '/left' }])
    const stopped = await container.stop({ remove: false })
    const tar: Buffer[] = []
    for await (const piece of await stopped.copyArchiveFromContainer('/left')) tar.push(piece)
    expect(Buffer.concat(tar).includes('left')).toBe(true)
  })

  test('gets time to end when stop is given some', async () => {
    const slow = sh('trap "echo bye; exit 0" TERM; while true; do sleep 0.01; done')
    const patient = await slow.start()
    await patient.stop({ timeout: 5_000, remove: false })
    expect(await patient.exitCode()).toBe(0)
    const hurried = await slow.start()
    await hurried.stop({ remove: false })
    expect(await hurried.exitCode()).toBe(137)
  })

  test('is killed at once when the signal of stop says so, and is gone all the same', async () => {
    const stubborn = await sh("trap '' TERM; while :; do sleep 0.1; done").start()
    const begin = performance.now()
    await stubborn.stop({ timeout: 60_000, signal: AbortSignal.timeout(100) })
    expect(performance.now() - begin).toBeLessThan(10_000)
    await expect(stubborn.exec('true')).rejects.toMatchObject({ code: 'CONTAINER_NOT_RUNNING' })
  })

  test('is found by others under its aliases, and tells its networks', async () => {
    await using network = await new Network().start()
    await using other = await new Network().start()
    await using web = await httpd.withNetwork(network).withNetwork(other).withNetworkAliases('web').start()
    await using client = await sleeper.withNetwork(network).start()
    expect((await client.exec('wget -qO- http://web/')).output).toBe('hello\n')
    expect(web.getNetworkNames()).toEqual([network.getName(), other.getName()])
    expect(web.getNetworkId(network.getName())).toBe(network.getId())
    expect(web.getIpAddress(network.getName())).toMatch(/^\d+\.\d+\.\d+\.\d+$/)
    expect(() => web.getIpAddress('elsewhere')).toThrow(code('INVALID_OPTION'))
  })

  test('maps UDP ports under their own name', async () => {
    // Nobody can tell whether something answers over UDP, so there is nothing to wait for.
    await using container = await sleeper.withExposedPorts('53/udp').start()
    expect(container.getMappedPort('53/udp')).toBe(container.getMappedPort(53, 'udp'))
    expect(() => container.getMappedPort(53)).toThrow(
      code('PORT_NOT_EXPOSED', { value: '53/tcp', hint: "did you mean '53/udp'?" }),
    )
  })
})

describe.skipIf(why)('starting', () => {
  libraryWorld()

  test('ends with the reason of its signal, and leaves nothing', async () => {
    const controller = new AbortController()
    const starting = sleeper
      .withName('given-up')
      .withExposedPorts(80)
      .withHooks({ starting: () => setTimeout(() => controller.abort(new Error('enough')), 20) })
      .start({ signal: controller.signal })
    await expect(starting).rejects.toThrow('enough')
    await using again = await sleeper.withName('given-up').start()
    expect(await again.state()).toBe('running')
    await expect(sleeper.start({ signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow('before')
  })

  test('is tried as often as told, each time with a new container', async () => {
    let attempts = 0
    const ids: string[] = []
    const flaky = sleeper.withStartupAttempts(3).withHooks({
      created: (id) => ids.push(id),
      starting: () => {
        if (++attempts < 3) throw new Error(`attempt ${attempts}`)
      },
    })
    await using container = await flaky.start()
    expect([attempts, new Set(ids).size]).toEqual([3, 3])
    expect(container.getId()).toBe(ids.at(-1))
    attempts = -10
    await expect(flaky.start()).rejects.toThrow('attempt -7')
  })

  test('begins with what a container depends on, and ends with it', async () => {
    const order: string[] = []
    const named = (name: string) =>
      sleeper.withHooks({ started: () => order.push(name), stopped: () => order.push(`-${name}`) })
    const db = named('db')
    const cache = named('cache')
    const web = named('web').dependsOn(db, cache)
    const started = await web.start()
    expect(order.slice(0, 2).sort()).toEqual(['cache', 'db'])
    expect(order[2]).toBe('web')
    await started.stop()
    expect(order[3]).toBe('-web')
    expect(order.slice(4).sort()).toEqual(['-cache', '-db'])
  })

  test('calls a subclass’s start once, with dependencies too', async () => {
    let starts = 0
    class Counted extends GenericContainer {
      override async start(options?: StartOptions): Promise<AbstractStartedContainer> {
        starts++
        return new AbstractStartedContainer(await super.start(options))
      }
    }
    const counted = new Counted(IMAGE).withCommand(['sleep', '600'])
    await using _one = await counted.dependsOn(sleeper).start()
    expect(starts).toBe(1)
    const all = await startAll([counted.dependsOn(sleeper)])
    expect(all[0]).toBeInstanceOf(AbstractStartedContainer)
    expect(starts).toBe(2)
    await all[0].stop()
  })

  test('gives up on a hook that hangs', async () => {
    const controller = new AbortController()
    const hanging = sleeper.withName('hanging').withHooks({
      created: () => {
        controller.abort(new Error('no more'))
        return new Promise(() => {})
      },
    })
    await expect(hanging.start({ signal: controller.signal })).rejects.toThrow('no more')
    await using again = await sleeper.withName('hanging').start()
    expect(again.getName()).toBe('hanging')
  })

  test('many together starts a shared dependency once, the others side by side', async () => {
    const times: Record<string, [number, number]> = {}
    const named = (name: string) =>
      sh('sleep 0.2; echo ready; exec sleep 600')
        .withWaitStrategy(Wait.forLogMessage('ready'))
        .withHooks({
          beforeCreate: () => {
            times[name] = [performance.now(), 0]
          },
          started: () => {
            times[name]![1] = performance.now()
          },
        })
    const db = named('db')
    const [one, two, startedDb] = await startAll([named('one').dependsOn(db), named('two').dependsOn(db), db])
    expect(times.one![0]).toBeGreaterThanOrEqual(times.db![1])
    expect(times.two![0]).toBeLessThan(times.one![1])
    await Promise.all([one.stop(), two.stop()])
    expect(await startedDb.state()).toBe('running')
    await startedDb.stop()
  })

  test('many together stops all of them when one fails, and throws its error', async () => {
    const seen: StartedTestContainer[] = []
    const fine = sleeper.withHooks({ started: (container) => seen.push(container) })
    const broken = sh('echo broken; exit 4').withExposedPorts(80).dependsOn(fine)
    await expect(startAll([fine, broken, sleeper.withExposedPorts(81)])).rejects.toEqual(
      code('CONTAINER_EXITED', { exitCode: 4, logTail: 'broken' }),
    )
    await expect(seen[0]!.exec('true')).rejects.toBeInstanceOf(MayflyError)
  })

  test('resolves within milliseconds of the port being listened on', async () => {
    const delays: number[] = []
    for (let round = 0; round < 7; round++) {
      let listening = 0
      const told: WaitStrategy = {
        waitUntilReady: async (target, { signal }) => {
          await target.container.waitForPort(80, { signal })
          listening = performance.now()
        },
      }
      await using _container = await httpd.withWaitStrategy(told).start()
      delays.push(performance.now() - listening)
    }
    // 2 ms is the goal; a busy neighbour may disturb some of the rounds.
    expect(Math.min(...delays)).toBeLessThan(2)
  })
})
