/**
 * The uses that testcontainers-node's documentation shows (features/containers, networking, images, wait strategies), with
 * the import changed and our image's name in place of theirs. What stands there without its result used is written with it.
 */

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import {
  AbstractStartedContainer,
  type ExecOptions,
  type ExecResult,
  GenericContainer,
  ImageName,
  type InspectResult,
  Network,
  PullPolicy,
  type StartedTestContainer,
  StartupCheckStrategy,
  type StartupStatus,
  TestContainers,
  Wait,
} from '../../src/index.js'
import { IMAGE, libraryWorld, obstacle } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

/** As their image `cristianrgreco/testcontainer`: answers hello on 8080 after it has said so. */
const app = () =>
  new GenericContainer(IMAGE).withCommand([
    'sh',
    '-c',
    'mkdir -p /www && echo hello > /www/hello-world; echo "Listening on port 8080"; exec httpd -f -p 8080 -h /www',
  ])

describe.skipIf(why)('testcontainers’ documentation', () => {
  const opened = libraryWorld()

  describe('containers', () => {
    test('starting a container, and using it', async () => {
      const container = await new GenericContainer(IMAGE).withCommand(['sleep', 'infinity']).start()
      await container.stop()
    })

    test('with an entrypoint, environment, platform, user, working directory', async () => {
      const container = await new GenericContainer(IMAGE)
        .withEntrypoint(['sh'])
        .withCommand(['-c', 'exec sleep infinity'])
        .withEnvironment({ ENV: 'VALUE' })
        .withEnvironment({ ENVIRONMENT_KEY: 'ENVIRONMENT_VALUE' })
        .withPlatform('linux/amd64')
        .withUser('bob')
        .withWorkingDir('/opt')
        .start()
      expect((await container.exec(['sh', '-c', 'id -un; pwd; echo $ENV $ENVIRONMENT_KEY'])).output).toBe(
        'bob\n/opt\nVALUE ENVIRONMENT_VALUE\n',
      )
      await container.stop()
    })

    test('with bind mounts', async () => {
      const local = join(opened.world.directory, 'file.txt')
      writeFileSync(local, 'local')
      const container = await new GenericContainer(IMAGE)
        .withCommand(['sleep', 'infinity'])
        .withBindMounts([
          { source: local, target: '/remote/file.txt' },
          { source: opened.world.directory, target: '/remote/dir', mode: 'ro' },
        ])
        .start()
      expect((await container.exec(['cat', '/remote/file.txt', '/remote/dir/file.txt'])).output).toBe('locallocal')
      expect((await container.exec(['touch', '/remote/dir/new'])).exitCode).toBe(1)
      await container.stop()
    })

    test('with labels, a name, a host name, tmpfs, extra hosts, IPC mode', async () => {
      const container = await new GenericContainer(IMAGE)
        .withCommand(['sleep', 'infinity'])
        .withLabels({ label: 'value' })
        .withName('custom-container-name')
        .withHostname('my-hostname')
        .withTmpFs({ '/temp_area': 'rw,noexec,nosuid,size=65536k' })
        .withExtraHosts([
          { host: 'foo', ipAddress: '10.0.0.1' },
          { host: 'bar', ipAddress: '11.0.0.1' },
        ])
        .withIpcMode('host')
        .start()
      expect(container.getName()).toBe('custom-container-name')
      expect(container.getHostname()).toBe('my-hostname')
      expect(container.getLabels().label).toBe('value')
      expect((await container.exec('grep -cE foo|bar /etc/hosts')).output.trim()).toBe('2')
      await container.stop()
    })

    test('with files, directories, contents and archives copied in', async () => {
      const local = join(opened.world.directory, 'copied')
      mkdirSync(join(local, 'localdir'), { recursive: true })
      writeFileSync(join(local, 'file.txt'), 'file')
      writeFileSync(join(local, 'localdir/some-nested-file.txt'), 'nested')
      const container = await new GenericContainer(IMAGE)
        .withCommand(['sleep', 'infinity'])
        .withCopyFilesToContainer([{ source: join(local, 'file.txt'), target: '/remote/file1.txt' }])
        .withCopyDirectoriesToContainer([{ source: join(local, 'localdir'), target: '/some/nested/remotedir' }])
        .withCopyContentToContainer([{ content: 'hello world', target: '/remote/file2.txt' }])
        .start()
      await container.copyFilesToContainer([
        { source: join(local, 'file.txt'), target: '/remote/file3.txt', mode: 0o644 },
      ])
      await container.copyDirectoriesToContainer([{ source: join(local, 'localdir'), target: '/elsewhere' }])
      await container.copyContentToContainer([{ content: 'hello world', target: '/remote/file4.txt' }])
      await container.copyArchiveToContainer(await container.copyArchiveFromContainer('/remote'), '/tmp')
      const { output } = await container.exec(
        'cat /tmp/remote/file1.txt /elsewhere/some-nested-file.txt /remote/file4.txt',
      )
      expect(output).toBe('filenestedhello world')
      await container.stop()
    })

    test('with privileges, capabilities, ulimits, resources, shared memory, security options', async () => {
      const container = await new GenericContainer(IMAGE)
        .withCommand(['sleep', 'infinity'])
        .withPrivilegedMode()
        .withAddedCapabilities('NET_ADMIN', 'IPC_LOCK')
        .withDroppedCapabilities('NET_ADMIN', 'IPC_LOCK')
        .withUlimits({ nofile: { hard: 1024, soft: 512 } })
        .withSharedMemorySize(512 * 1024 * 1024)
        .withSecurityOpt('seccomp=unconfined', 'apparmor=unconfined')
        .withDefaultLogDriver()
        .start()
      expect((await container.exec(['sh', '-c', 'ulimit -n'])).output).toBe('512\n')
      expect((await container.exec('grep /dev/shm /proc/mounts')).output).toContain('size=524288k')
      await container.stop()
    })

    test('with a share of memory and processors', async () => {
      const container = await new GenericContainer(IMAGE)
        .withCommand(['sleep', 'infinity'])
        .withResourcesQuota({ memory: 0.5, cpu: 1 })
        .start()
      expect((await container.stats()).memoryLimitBytes).toBe(512 * 1024 * 1024)
      await container.stop()
    })

    test('with an archive that is there before it starts, and options for copies', async () => {
      const local = join(opened.world.directory, 'archived')
      mkdirSync(local, { recursive: true })
      writeFileSync(join(local, 'aa.txt'), 'hello world')
      const archive = execFileSync('tar', ['-C', local, '--owner=1000', '--group=1000', '-cf', '-', 'aa.txt'])
      const tar = Readable.from([archive])
      const container = await new GenericContainer(IMAGE)
        .withCommand(['sh', '-c', 'cat /tmp/aa.txt; exec sleep infinity'])
        .withCopyArchivesToContainer([{ tar, target: '/tmp' }])
        .withCopyToContainerOptions({ noOverwriteDirNonDir: true })
        .withWaitStrategy(Wait.forLogMessage('hello world'))
        .start()
      expect((await container.exec('stat -c %u:%g /tmp/aa.txt')).output).toBe('1000:1000\n')
      await container.stop()
    })

    test('with files that belong to its user', async () => {
      const container = await new GenericContainer(IMAGE)
        .withCommand(['sleep', 'infinity'])
        .withUser('1000:1000')
        .withCopyToContainerOptions({ copyUIDGID: true, noOverwriteDirNonDir: true })
        .withCopyContentToContainer([{ content: 'mine', target: '/tmp/mine' }])
        .start()
      expect((await container.exec('stat -c %u:%g /tmp/mine')).output).toBe('1000:1000\n')
      await container.stop()
    })

    test('committing it to an image, which is used again', async () => {
      const container = await new GenericContainer(IMAGE).withCommand(['sleep', 'infinity']).start()
      await container.exec(['sh', '-c', 'echo written > /note'])
      const id = await container.commit({
        repo: 'my-repo',
        tag: 'my-tag',
        author: 'Somebody',
        comment: 'with a note',
        changes: ['ENV COMMITTED=yes'],
        deleteOnExit: false,
      })
      expect(id).toMatch(/^sha256:[0-9a-f]{64}$/)
      await container.stop()
      const again = await new GenericContainer('my-repo:my-tag').withCommand(['sleep', 'infinity']).start()
      expect((await again.exec(['sh', '-c', 'cat /note; echo $COMMITTED'])).output).toBe('written\nyes\n')
      await again.stop()
    })

    test('stopping and restarting', async () => {
      const container = await app().withExposedPorts(8080).start()
      await container.restart({ timeout: 200 })
      await container.stop({ timeout: 200 })
      const kept = await app().withAutoRemove(false).start()
      const stopped = await kept.stop()
      expect(stopped.getId()).toBe(kept.getId())
      await expect(stopped.copyArchiveFromContainer('/www')).resolves.toBeDefined()
      const also = await app().start()
      const left = await also.stop({ timeout: 1_000, remove: false, removeVolumes: false })
      await expect(left.copyArchiveFromContainer('/www')).resolves.toBeDefined()
    })

    test('await using', async () => {
      let id = ''
      {
        await using container = await app().start()
        id = container.getId()
      }
      expect(id).toMatch(/^[0-9a-f]{64}$/)
    })

    test('a module of one’s own', async () => {
      class CustomContainer extends GenericContainer {
        public withCustomMethod(): this {
          return this.withEnvironment({ CUSTOM: 'yes' })
        }

        public override async start(): Promise<CustomStartedContainer> {
          return new CustomStartedContainer(await super.start())
        }

        protected override async containerStarted(container: StartedTestContainer): Promise<void> {
          await container.exec('touch /started')
        }
      }
      class CustomStartedContainer extends AbstractStartedContainer {
        public async greet(): Promise<string> {
          return (await this.exec(['sh', '-c', 'echo hello $CUSTOM; ls /started'])).output
        }
      }
      await using started = await new CustomContainer(IMAGE).withCommand(['sleep', '60']).withCustomMethod().start()
      expect(await started.greet()).toBe('hello yes\n/started\n')
    })

    test('a module whose life is followed', async () => {
      const turns: string[] = []
      class FollowedContainer extends GenericContainer {
        protected override async beforeContainerCreated(): Promise<void> {
          turns.push('before')
          this.withEnvironment({ LATE: 'yes' })
        }

        protected override async containerCreated(containerId: string): Promise<void> {
          turns.push(`created ${containerId.length}`)
        }

        protected override async containerStarting(inspectResult: InspectResult, reused: boolean): Promise<void> {
          turns.push(`starting ${inspectResult.name} ${reused}`)
        }

        protected override async containerStarted(
          container: StartedTestContainer,
          inspectResult: InspectResult,
          reused: boolean,
        ): Promise<void> {
          turns.push(`started ${container.getName() === inspectResult.name} ${reused}`)
        }

        public override async start(): Promise<FollowedStartedContainer> {
          return new FollowedStartedContainer(await super.start())
        }
      }
      class FollowedStartedContainer extends AbstractStartedContainer {
        protected override async containerStopping(): Promise<void> {
          turns.push('stopping')
        }

        protected override async containerStopped(): Promise<void> {
          turns.push('stopped')
        }
      }
      const container = await new FollowedContainer(IMAGE).withName('followed').withCommand(['sleep', '60']).start()
      expect((await container.exec(['sh', '-c', 'echo $LATE'])).stdout).toBe('yes\n')
      await container.stop()
      expect(turns).toEqual([
        'before',
        'created 64',
        'starting followed false',
        'started true false',
        'stopping',
        'stopped',
      ])
    })

    test('exposing ports', async () => {
      const container = await app().withExposedPorts(8080, '53/udp').start()
      const httpPort = container.getMappedPort(8080)
      expect(container.getFirstMappedPort()).toBe(httpPort)
      expect(container.getMappedPort('8080/tcp')).toBe(httpPort)
      expect(container.getMappedPort(53, 'udp')).toBe(container.getMappedPort('53/udp'))
      expect((await fetch(`http://${container.getHost()}:${httpPort}/hello-world`)).status).toBe(200)
      await container.stop()
    })

    test('exposing a port as one of the host’s', async () => {
      const container = await app().withExposedPorts({ container: 8080, host: 18_080 }).start()
      expect(container.getMappedPort(8080)).toBe(18_080)
      expect((await fetch('http://localhost:18080/hello-world')).status).toBe(200)
      await container.stop()
    })

    test('running commands, and the log', async () => {
      const container = await new GenericContainer(IMAGE)
        .withCommand(['sh', '-c', 'echo started; exec sleep infinity'])
        .withLogConsumer((stream) => {
          stream.on('data', (line) => console.assert(line.length > 0))
          stream.on('err', (line) => console.error(line))
          stream.on('end', () => {})
        })
        .start()
      const { output, stdout, stderr, exitCode } = await container.exec(['echo', 'hello', 'world'])
      expect([output, stdout, stderr, exitCode]).toEqual(['hello world\n', 'hello world\n', '', 0])
      const opts: ExecOptions = {
        workingDir: '/tmp',
        user: '1000:1000',
        env: { VAR1: 'enabled', VAR2: '/debug.ini' },
      }
      const inTmp: ExecResult = await container.exec(['sh', '-c', 'pwd; id -u; echo $VAR1 $VAR2'], opts)
      expect(inTmp.output).toBe('/tmp\n1000\nenabled /debug.ini\n')
      const lines: string[] = []
      ;(await container.logs()).on('data', (line) => lines.push(String(line))).on('end', () => lines.push('end'))
      await expect.poll(() => lines.join('')).toBe('started\n')
      await container.stop()
      await expect.poll(() => lines.at(-1)).toBe('end')
    })

    test('the log from a moment on, and its last lines', async () => {
      const container = await new GenericContainer(IMAGE)
        .withCommand(['sh', '-c', 'echo one; echo two; echo three; exec sleep infinity'])
        .withWaitStrategy(Wait.forLogMessage('three'))
        .start()
      const read = async (options: { since?: number; tail?: number }) => {
        const lines: string[] = []
        ;(await container.logs(options)).on('data', (line) => lines.push(String(line)))
        return lines
      }
      const last = await read({ tail: 1 })
      const all = await read({ since: Date.now() / 1000 - 3600 })
      const none = await read({ since: Date.now() / 1000 + 3600 })
      await expect.poll(() => [last.join(''), all.join('')]).toEqual(['three\n', 'one\ntwo\nthree\n'])
      expect(none).toEqual([])
      await container.stop()
    })
  })

  describe('networking', () => {
    test('a network with aliases', async () => {
      const network = await new Network().start()
      const first = await app().withNetwork(network).withNetworkAliases('foo').start()
      const second = await new GenericContainer(IMAGE).withCommand(['sleep', '60']).withNetwork(network).start()
      expect((await second.exec(['wget', '-qO-', 'http://foo:8080/hello-world'])).output).toBe('hello\n')
      expect(first.getIpAddress(network.getName())).toMatch(/\./)
      await first.stop()
      await second.stop()
      await network.stop()
    })

    test('a network with a name of one’s own, and what containers know of it', async () => {
      const network = await new Network({ nextUuid: () => 'custom-network' }).start()
      expect(network.getName()).toBe('custom-network')
      const container = await new GenericContainer(IMAGE).withCommand(['sleep', '60']).withNetwork(network).start()
      expect(container.getNetworkNames()).toEqual(['custom-network'])
      expect(container.getNetworkId('custom-network')).toBe(network.getId())
      expect(container.getIpAddress('custom-network')).toMatch(/^\d+\.\d+\.\d+\.\d+$/)
      await container.stop()
      await network.stop()
    })

    test('await using, of a network too', async () => {
      await using network = await new Network().start()
      await using container = await new GenericContainer(IMAGE)
        .withCommand(['sleep', '60'])
        .withNetworkMode(network.getName())
        .start()
      expect(container.getNetworkNames()).toEqual([network.getName()])
    })

    test('network modes', async () => {
      const container = await new GenericContainer(IMAGE).withCommand(['sleep', '60']).withNetworkMode('none').start()
      expect((await container.exec('grep -c eth0 /proc/net/dev')).output.trim()).toBe('0')
      await container.stop()
    })

    test('exposing ports of the host', async () => {
      const server = createServer((_request, response) => {
        response.writeHead(200)
        response.end('hello world')
      })
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      const { port } = server.address() as { port: number }
      try {
        await TestContainers.exposeHostPorts(port)
        const container = await new GenericContainer(IMAGE).withCommand(['sleep', '60']).start()
        for (const name of ['host.testcontainers.internal', 'host.mayfly.internal']) {
          const { output } = await container.exec(['wget', '-qO-', `http://${name}:${port}`])
          expect(output).toBe('hello world')
        }
        await container.stop()
      } finally {
        server.close()
      }
    })
  })

  describe('wait strategies', () => {
    const waiting = () => app().withExposedPorts(8080)

    test.each([
      ['listening ports', Wait.forListeningPorts()],
      ['log output', Wait.forLogMessage('Listening on port 8080')],
      ['log output by a pattern', Wait.forLogMessage(/Listening on port [0-9]+/)],
      ['log output, so often', Wait.forLogMessage('Listening on port 8080', 1)],
      ['HTTP', Wait.forHttp('/hello-world', 8080)],
      ['HTTP status', Wait.forHttp('/hello-world', 8080).forStatusCode(200)],
      [
        'HTTP status that matches',
        Wait.forHttp('/hello-world', 8080).forStatusCodeMatching((status) => status === 200),
      ],
      ['HTTP body', Wait.forHttp('/hello-world', 8080).forResponsePredicate((response) => response === 'hello\n')],
      ['HTTP with credentials', Wait.forHttp('/hello-world', 8080).withBasicCredentials('username', 'password')],
      ['HTTP with a timeout', Wait.forHttp('/hello-world', 8080).withMethod('GET').withReadTimeout(10_000)],
      ['HTTP until the exit', Wait.forHttp('/hello-world', 8080, { abortOnContainerExit: true })],
      ['a shell command', Wait.forSuccessfulCommand('stat /www/hello-world')],
      ['all of several', Wait.forAll([Wait.forListeningPorts(), Wait.forLogMessage(/Listening/)]).withDeadline(60_000)],
    ])('%s', async (_name, strategy) => {
      const container = await waiting().withWaitStrategy(strategy.withStartupTimeout(20_000)).start()
      expect(container.getFirstMappedPort()).toBeGreaterThan(0)
      await container.stop()
    })

    test('a health check', async () => {
      const container = await waiting()
        .withHealthCheck({
          test: ['CMD-SHELL', 'wget -qO- http://localhost:8080/hello-world || exit 1'],
          interval: 1000,
          timeout: 3000,
          retries: 5,
          startPeriod: 1000,
        })
        .withWaitStrategy(Wait.forHealthCheck())
        .start()
      await container.stop()
    })

    test('a timeout of the container, for whatever it waits', async () => {
      const container = await waiting()
        .withWaitStrategy(Wait.forLogMessage('Listening'))
        .withStartupTimeout(20_000)
        .start()
      await container.stop()
      const never = waiting().withWaitStrategy(Wait.forLogMessage('no such line')).withStartupTimeout(200)
      await expect(never.start()).rejects.toMatchObject({ code: 'TIMEOUT' })
    })

    test('a one-shot container', async () => {
      const container = await new GenericContainer(IMAGE)
        .withCommand(['echo', 'hello from docker'])
        .withWaitStrategy(Wait.forOneShotStartup())
        .start()
      expect(await container.stdout()).toBe('hello from docker\n')
    })

    test('a startup check of one’s own', async () => {
      class ReadyAfterDelayWaitStrategy extends StartupCheckStrategy {
        public override async checkStartupState(_client: unknown, _containerId: string): Promise<StartupStatus> {
          return new Promise((resolve) => setTimeout(() => resolve('SUCCESS'), 50))
        }
      }
      const container = await waiting().withWaitStrategy(new ReadyAfterDelayWaitStrategy()).start()
      await container.stop()
    })
  })

  describe('images', () => {
    const contextOf = (name: string, files: Readonly<Record<string, string>>) => {
      const directory = join(opened.world.directory, name)
      mkdirSync(directory, { recursive: true })
      for (const [file, text] of Object.entries(files)) writeFileSync(join(directory, file), text)
      return directory
    }

    test('building an image and starting it', async () => {
      const context = contextOf('build', { Dockerfile: `FROM ${IMAGE}\nCMD ["sleep", "infinity"]` })
      const container = await GenericContainer.fromDockerfile(context).build()
      const started = await container.start()
      await started.stop()
    })

    test('building with another Dockerfile, under a name that stays', async () => {
      const context = contextOf('named', { 'my-custom-dockerfile': `FROM ${IMAGE}\nCMD ["sleep", "infinity"]` })
      await GenericContainer.fromDockerfile(context, 'my-custom-dockerfile').build('my-custom-image', {
        deleteOnExit: false,
      })
      const started = await new GenericContainer('my-custom-image').start()
      await started.stop()
    })

    test('building with arguments, a target, a platform, a policy, without the cache, with BuildKit', async () => {
      const Dockerfile = `ARG BASE\nFROM \${BASE} AS my-stage\nARG ARG\nENV SAID=$ARG\nFROM scratch`
      const container = await GenericContainer.fromDockerfile(contextOf('options', { Dockerfile }))
        .withBuildArgs({ BASE: IMAGE, ARG: 'VALUE' })
        .withPullPolicy(PullPolicy.defaultPolicy())
        .withTarget('my-stage')
        .withPlatform('linux/amd64')
        .withCache(false)
        .withBuildkit()
        .build()
      const started = await container.withCommand(['sleep', 'infinity']).start()
      expect((await started.exec(['sh', '-c', 'echo $SAID'])).output).toBe('VALUE\n')
      await started.stop()
    })

    test('building leaves out what .dockerignore names', async () => {
      const context = contextOf('ignored', {
        Dockerfile: `FROM ${IMAGE}\nCOPY . /app\nCMD ["sleep", "infinity"]`,
        '.dockerignore': 'example1.txt',
        'example1.txt': '1',
        'example2.txt': '2',
      })
      const started = await (await GenericContainer.fromDockerfile(context).build()).start()
      expect((await started.exec('ls /app')).output).toBe('Dockerfile\nexample2.txt\n')
      await started.stop()
    })

    test('pull policies', async () => {
      const container = await app().withPullPolicy(PullPolicy.defaultPolicy()).start()
      await container.stop()
      class CustomPullPolicy {
        public shouldPull(): boolean {
          return false
        }
      }
      const other = await app().withPullPolicy(new CustomPullPolicy()).start()
      await other.stop()
    })

    test.each([
      ['postgres', undefined, 'postgres', 'latest', 'postgres:latest'],
      ['registry.io/team/app:1.2', 'registry.io', 'team/app', '1.2', 'registry.io/team/app:1.2'],
      ['localhost:5000/app', 'localhost:5000', 'app', 'latest', 'localhost:5000/app:latest'],
      ['a'.repeat(64), undefined, 'a'.repeat(64), 'latest', 'a'.repeat(64)],
      ['app@sha256:1234abcd', undefined, 'app', 'sha256:1234abcd', 'app@sha256:1234abcd'],
      [`app@sha256:${'a'.repeat(64)}`, undefined, 'app', `sha256:${'a'.repeat(64)}`, `app@sha256:${'a'.repeat(64)}`],
    ])('the name %s in parts', (text, registry, image, tag, whole) => {
      const name = ImageName.fromString(text)
      expect([name.registry, name.image, name.tag, name.string]).toEqual([registry, image, tag, whole])
      expect(name.equals(new ImageName(registry, image, tag))).toBe(true)
    })
  })
})
