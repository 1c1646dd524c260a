import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import {
  GenericContainer,
  type HealthCheck,
  MayflyError,
  Network,
  PullPolicy,
  startAll,
  substituteImages,
  TestContainers,
  Volume,
  Wait,
} from '../../src/index.js'
import { packTar } from '../../src/tar.js'
import { IMAGE, libraryWorld, obstacle } from './support/world.js'

const container = new GenericContainer(IMAGE)
const wrong = <T>(value: unknown) => value as T

function caught(work: () => unknown): MayflyError {
  try {
    work()
  } catch (error) {
    return error as MayflyError
  }
  throw new Error('nothing was thrown')
}

describe('bad input', () => {
  test.each<[string, () => unknown, { code?: string; field?: string; message?: RegExp }]>([
    ['no image', () => new GenericContainer(''), { code: 'INVALID_REFERENCE' }],
    ['an image that is no name', () => new GenericContainer('Not An Image'), { code: 'INVALID_REFERENCE' }],
    ['an image that is no string', () => new GenericContainer(wrong(7)), { field: 'image' }],
    ['a command as text', () => container.withCommand(wrong('sleep 60')), { message: /array of the program/ }],
    ['a port out of range', () => container.withExposedPorts(70_000), { field: 'exposedPorts[0]' }],
    ['an unparsable port', () => container.withExposedPorts(80, wrong('http')), { field: 'exposedPorts[1]' }],
    ['an unknown protocol', () => container.withExposedPorts(wrong('80/sctp')), { message: /'53\/udp'/ }],
    [
      'an unknown key of a port',
      () => container.withExposedPorts(wrong({ container: 80, hots: 81 })),
      { field: 'exposedPorts[0].hots', message: /did you mean host\?/ },
    ],
    [
      'a variable that is no string',
      () => container.withEnvironment(wrong({ PASSWORD: 12345 })),
      { message: /got number/ },
    ],
    ['labels that are no object', () => container.withLabels(wrong('a=b')), { field: 'labels' }],
    ['a name with a space', () => container.withName('a b'), { field: 'name' }],
    ['a relative working directory', () => container.withWorkingDir('work'), { field: 'workingDir' }],
    ['a mode of mounting', () => container.withBindMounts([wrong({ source: '/', target: '/x', mode: 'rx' })]), {}],
    [
      'a relative target',
      () => container.withCopyContentToContainer([{ content: '', target: 'x' }]),
      { message: /absolute/ },
    ],
    [
      'no content',
      () => container.withCopyContentToContainer([wrong({ content: 5, target: '/x' })]),
      { field: 'contents[0].content' },
    ],
    [
      'an unknown key of a copy',
      () => container.withCopyFilesToContainer([wrong({ source: 'a', targt: '/b' })]),
      { message: /did you mean target\?/ },
    ],
    [
      'a quota’s unknown key',
      () => container.withResourcesQuota(wrong({ memroy: 1 })),
      { message: /did you mean memory\?/ },
    ],
    ['no memory', () => container.withResourcesQuota({ memory: 0 }), { field: 'resourcesQuota.memory' }],
    ['a negative size', () => container.withSharedMemorySize(-1), { field: 'sharedMemorySize' }],
    [
      'a health check’s kind',
      () => container.withHealthCheck(wrong<HealthCheck>({ test: ['SHELL', 'x'] })),
      { field: 'healthCheck.test' },
    ],
    [
      'a health check’s unknown key',
      () => container.withHealthCheck(wrong({ test: ['CMD', 'x'], intervall: 5 })),
      { message: /did you mean interval\?/ },
    ],
    ['no wait strategy', () => container.withWaitStrategy(wrong('ports')), { field: 'waitStrategy' }],
    ['a timeout', () => container.withStartupTimeout(wrong('60s')), { field: 'startupTimeout' }],
    ['no attempt', () => container.withStartupAttempts(0), { field: 'startupAttempts' }],
    ['no policy', () => container.withPullPolicy(wrong('always')), { field: 'pullPolicy' }],
    ['a network that is none', () => container.withNetwork(wrong('backend')), { message: /started/ }],
    ['a security option', () => container.withSecurityOpt('apparmour=x'), { code: 'NOT_SUPPORTED' }],
    ['a profile that is no JSON', () => container.withSecurityOpt('seccomp=strict'), { field: 'securityOpt[0]' }],
    [
      'a hook’s name',
      () => container.withHooks(wrong({ begin: () => {}, startd: () => {} })),
      { field: 'hooks.begin' },
    ],
    ['a hook that is none', () => container.withHooks(wrong({ started: 'x' })), { field: 'hooks.started' }],
    ['a dependency that is none', () => container.dependsOn(wrong('db')), { field: 'dependsOn[0]' }],
    ['a network’s unknown key', () => new Network(wrong({ intern: true })), { message: /did you mean internal\?/ }],
    ['a volume’s unknown key', () => new Volume(wrong({ nam: 'x' })), { message: /did you mean name\?/ }],
    ['a path without a slash', () => Wait.forHttp('health', 80), { field: 'path' }],
    ['a port of a request', () => Wait.forHttp('/', 0), { field: 'port' }],
    ['no times', () => Wait.forLogMessage('x', 0), { field: 'times' }],
    ['a message that is no text', () => Wait.forLogMessage(wrong(5)), { field: 'message' }],
    ['a port to wait for', () => Wait.forListeningPorts(1.5), { field: 'ports' }],
    ['a file without a slash', () => Wait.forFile('x'), { field: 'path' }],
    ['no command', () => Wait.forSuccessfulCommand([]), { field: 'command' }],
    [
      'a path of this machine that is relative',
      () => container.withBindMounts([{ source: './data', target: '/data' }]),
      { field: 'bindMounts[0].source', message: /resolve\('\.\/data'\)/ },
    ],
    ['a platform', () => container.withPlatform('linux/amd64/v2/x'), { field: 'platform' }],
    ['no strategies', () => Wait.forAll(wrong(Wait.forListeningPorts())), { field: 'strategies' }],
    ['one of several strategies', () => Wait.forAny([wrong('ports')]), { field: 'strategies[0]' }],
    ['none of several strategies', () => Wait.forAny([]), { field: 'strategies' }],
    [
      'an unknown key of a context',
      () => GenericContainer.fromDockerfile(wrong({ dockerFile: 'FROM scratch' })),
      { message: /did you mean dockerfile\?/ },
    ],
    ['a builder’s policy', () => GenericContainer.fromDockerfile('.').withPullPolicy(wrong(true)), {}],
    ['a context', () => GenericContainer.fromDockerfile(wrong(5)), { field: 'context' }],
    ['a network as text', () => new Network(wrong('backend')), { field: 'network' }],
    ['no options of a network', () => new Network(wrong(null)), { field: 'network' }],
    ['no hooks', () => container.withHooks(wrong(null)), { field: 'hooks' }],
    ['a function for hooks', () => container.withHooks(wrong(() => {})), { field: 'hooks' }],
    [
      'a volume’s mount’s unknown key',
      () => container.withVolumes(wrong({ volume: 'data', target: '/data', readOnly: true })),
      { field: 'volumes[0].readOnly', message: /did you mean readonly\?/ },
    ],
    ['a volume’s mount as null', () => container.withVolumes(wrong(null)), { field: 'volumes[0]' }],
    [
      'an image’s mount’s unknown key',
      () => container.withImageMounts(wrong({ image: 'a', target: '/a', subPath: 'b' })),
      { field: 'imageMounts[0].subPath' },
    ],
    [
      'a request’s unknown key',
      () => Wait.forHttp('/', 80, wrong({ abortOnExit: true })),
      { field: 'http.abortOnExit' },
    ],
    ['a status as text', () => Wait.forHttp('/', 80).forStatusCode(wrong('200')), { field: 'statusCode' }],
    ['a method', () => Wait.forHttp('/', 80).withMethod(wrong(5)), { field: 'method' }],
    ['a method with a space', () => Wait.forHttp('/', 80).withMethod('GET /'), { field: 'method' }],
    ['a predicate', () => Wait.forHttp('/', 80).forResponsePredicate(wrong('ok')), { field: 'predicate' }],
    ['headers', () => Wait.forHttp('/', 80).withHeaders(wrong(null)), { field: 'headers' }],
    ['a read timeout', () => Wait.forHttp('/', 80).withReadTimeout(wrong('1s')), { field: 'readTimeout' }],
    ['a missing command', () => Wait.forSuccessfulCommand(wrong(undefined)), { field: 'command' }],
    ['no limits', () => container.withLimits(wrong(null)), { field: 'limits' }],
    [
      'a limit’s name',
      () => container.withLimits(wrong({ memory: 2 ** 30 })),
      { field: 'limits.memory', message: /did you mean memory/ },
    ],
    ['no name servers', () => container.withDns(wrong(null)), { field: 'dns' }],
    [
      'an unknown key of name servers',
      () => container.withDns(wrong({ server: ['10.0.0.1'] })),
      { field: 'dns.server', message: /did you mean servers\?/ },
    ],
    ['no place on a network', () => container.withNetwork(new Network(), wrong(null)), { field: 'network' }],
    [
      'an unknown key of a place on a network',
      () => container.withNetwork(new Network(), wrong({ alias: ['db'] })),
      { field: 'network.alias', message: /did you mean aliases\?/ },
    ],
    ['reuse', () => container.withReuse(), { code: 'NOT_SUPPORTED' }],
  ])('is told at once: %s', (_what, work, { code = 'INVALID_OPTION', field, message }) => {
    const error = caught(work)
    expect(error).toBeInstanceOf(MayflyError)
    expect(error.code).toBe(code)
    if (field) expect(error.field).toBe(field)
    if (message) expect(error.message).toMatch(message)
  })

  test.each<[string, () => Promise<unknown>, string, RegExp?]>([
    ['a signal', () => container.start(wrong({ signal: 'soon' })), 'start.signal', /AbortSignal\.timeout/],
    ['no options of a start', () => container.start(wrong(null)), 'start'],
    ['a name of a start', () => container.start(wrong({ sigal: 1 })), 'start.sigal', /did you mean signal\?/],
    [
      'a name of a build',
      () => GenericContainer.fromDockerfile('.').build('app:1', wrong({ deleteOnExt: false })),
      'build.deleteOnExt',
      /did you mean deleteOnExit\?/,
    ],
    ['one of several', () => startAll(wrong<GenericContainer[]>([container, 'web'])), 'containers[1]'],
    [
      'a name of a start of several',
      () => startAll([container], wrong({ sginal: 1 })),
      'startAll.sginal',
      /mean signal\?/,
    ],
    ['where several begin', () => startAll([container], wrong({ from: 1 })), 'startAll.from'],
    ['a name of a network’s start', () => new Network().start(wrong({ sginal: 1 })), 'start.sginal', /mean signal\?/],
    ['a name of a volume’s start', () => new Volume().start(wrong({ sginal: 1 })), 'start.sginal', /mean signal\?/],
    ['a signal of a volume’s start', () => new Volume().start(wrong({ signal: 'soon' })), 'start.signal'],
    ['no list', () => startAll(wrong<GenericContainer[]>(container)), 'containers'],
  ])('is told by a rejection: %s', async (_what, work, field, message = /expected|no such option/) => {
    await expect(work()).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      field,
      message: expect.stringMatching(message),
    })
  })

  test('does not show the value of a variable', () => {
    const error = caught(() => container.withEnvironment({ PASSWORD: 'hunter2\0' }))
    expect(error.message).toContain('PASSWORD')
    expect(`${error.message} ${JSON.stringify(error)}`).not.toContain('hunter2')
  })
})

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

describe.skipIf(why)('a start that cannot be', () => {
  libraryWorld()
  const sleeper = container.withCommand(['sleep', '600'])
  const failing = async (definition: GenericContainer) => {
    const begin = performance.now()
    const error: MayflyError = await definition.start().then(
      () => expect.unreachable('it started'),
      (reason) => reason,
    )
    expect(performance.now() - begin).toBeLessThan(10_000)
    return error
  }

  test('names the image that does not exist', async () => {
    expect(await failing(new GenericContainer('no-such-image:1').withPullPolicy(PullPolicy.neverPull()))).toMatchObject(
      {
        code: 'IMAGE_NOT_FOUND',
        message: expect.stringContaining('no-such-image:1'),
      },
    )
  })

  test('tells of a container that ends at once, exit code 0 included', async () => {
    const done = await failing(container.withName('brief').withCommand(['echo', 'that was all']))
    expect(done).toMatchObject({ code: 'CONTAINER_EXITED', container: 'brief', exitCode: 0, logTail: 'that was all' })
    expect(done.message).toContain('Wait.forOneShotStartup()')
    const failed = await failing(container.withCommand(['sh', '-c', 'echo oh no >&2; exit 9']))
    expect(failed).toMatchObject({ exitCode: 9, logTail: 'oh no' })
    const killed = await failing(container.withCommand(['sh', '-c', 'kill -9 $$']).withInit().withExposedPorts(80))
    expect(killed.message).toMatch(/exited with code 137|was killed by SIGKILL/)
  })

  test('names the program that is not in the image', async () => {
    const error = await failing(container.withName('absent').withCommand(['no-such-program']))
    expect(error).toMatchObject({ code: 'PROGRAM_NOT_FOUND', container: 'absent' })
    const line = await failing(container.withCommand(['sleep 60']))
    expect(line.message).toContain('["sleep","60"]')
  })

  test('names the image beside a name that was made up', async () => {
    const error = await failing(container.withCommand(['false']))
    expect(error.message).toContain(`"${error.container}" (${IMAGE}) exited with code 1`)
  })

  test('names it once where stacks are written at the first look', async () => {
    const { prepareStackTrace } = Error
    Error.prepareStackTrace = (error) => String(error)
    try {
      const ends = new GenericContainer(IMAGE).withCommand(['true'])
      const { stack } = (await ends.start().catch((error) => error)) as MayflyError
      expect(stack?.split(IMAGE)).toHaveLength(2)
    } finally {
      Error.prepareStackTrace = prepareStackTrace
    }
  })

  test('names the port that nothing listens on, and those that something does', async () => {
    const other = container.withCommand(['httpd', '-f', '-p', '8080']).withExposedPorts(80).withStartupTimeout(500)
    expect(await failing(other)).toMatchObject({
      code: 'TIMEOUT',
      hint: 'it listens on 8080, and not on 80',
      message: expect.stringContaining('still waiting for port 80 after 0.5 s'),
    })
  })

  test('of starting twice what can be read once says so, while the contents of a file are there again', async () => {
    const entry = {
      path: 'from-archive',
      type: 'file' as const,
      mode: 0o644,
      size: 3,
      content: () => [Buffer.from('one')],
    }
    const tar = Readable.from(packTar([entry]))
    const contents = sleeper.withCopyContentToContainer([{ content: Readable.from(['two']), target: '/from-stream' }])
    const once = contents.withCopyArchivesToContainer([{ tar, target: '/' }])
    await using first = await once.start()
    expect(String(await first.readFile('/from-archive'))).toBe('one')
    await expect(once.start()).rejects.toMatchObject({ code: 'INVALID_OPTION', field: 'archives' })
    await using second = await contents.start()
    expect(String(await second.readFile('/from-stream'))).toBe('two')
  })

  test('refuses a name that is taken, and frees it afterwards', async () => {
    const named = sleeper.withName('only-one')
    const first = await named.start()
    expect(await failing(named)).toMatchObject({ code: 'NAME_TAKEN', container: 'only-one' })
    await first.stop()
    await using second = await named.start()
    expect(second.getName()).toBe('only-one')
    await expect(startAll([sleeper.withName('twin'), sleeper.withName('twin')])).rejects.toMatchObject({
      code: 'NAME_TAKEN',
    })
  })

  test('refuses a port of the host that is taken', async () => {
    await using first = await sleeper.withExposedPorts({ container: 53, host: 41_953, protocol: 'udp' }).start()
    expect(first.getMappedPort('53/udp')).toBe(41_953)
    expect(await failing(sleeper.withExposedPorts({ container: 53, host: 41_953, protocol: 'udp' }))).toMatchObject({
      code: 'PORT_IN_USE',
    })
  })

  test('tells what is missing to copy, and leaves nothing behind', async () => {
    const missing = sleeper.withName('copying').withCopyFilesToContainer([{ source: '/no/such/file', target: '/x' }])
    expect(await failing(missing)).toMatchObject({
      code: 'PATH_NOT_FOUND',
      message: expect.stringContaining('/no/such/file'),
    })
    await using again = await sleeper.withName('copying').start()
    expect(again.getName()).toBe('copying')
  })

  test('tells what a modifier did wrong', async () => {
    const odd = sleeper.withCreateModifier((spec) => ({ ...spec, sysctls: { 'kernel.panic': '1' } }))
    expect(await failing(odd)).toMatchObject({ code: 'SYSCTL_REFUSED', field: 'sysctls.kernel.panic' })
    const unknown = sleeper.withCreateModifier((spec) => ({ ...spec, enviroment: {} }))
    expect(await failing(unknown)).toMatchObject({
      code: 'INVALID_OPTION',
      field: 'createModifier.enviroment',
      message: expect.stringContaining('there is no such option'),
    })
    const missing = sleeper.withCreateModifier(({ mounts: _mounts, ...spec }) => wrong(spec))
    expect(await failing(missing)).toMatchObject({ code: 'INVALID_OPTION', field: 'createModifier.mounts' })
  })

  test('asks a modifier that gives nothing for its spec', async () => {
    const empty = sleeper.withCreateModifier(() => wrong(undefined))
    expect(await failing(empty)).toMatchObject({
      code: 'INVALID_OPTION',
      field: 'createModifier',
      hint: expect.stringContaining('...spec'),
    })
  })

  test.each<[string, (work: () => never) => GenericContainer]>([
    ['beforeCreate', (beforeCreate) => sleeper.withHooks({ beforeCreate })],
    ['createModifier', (modifier) => sleeper.withCreateModifier(modifier)],
    ['imageSubstitution', (substitution) => sleeper.withImageSubstitution(substitution)],
    ['shouldPull', (shouldPull) => sleeper.withPullPolicy({ shouldPull })],
  ])('names what threw before there was a container, and whose it is: %s', async (value, define) => {
    const cause = new Error('not today')
    const definition = define(() => {
      throw cause
    })
    const named = await failing(definition.withName('early'))
    expect(named).toMatchObject({ code: 'HOOK_FAILED', container: 'early', value, cause })
    expect(named.message).toBe(`"early": its hook ${value} threw: not today`)
    const unnamed = await failing(definition)
    expect(unnamed.message).toContain(`"${IMAGE}"`)
    expect(unnamed).not.toHaveProperty('container')
  })

  test('names the substitution of the whole process when that throws', async () => {
    substituteImages(() => {
      throw new Error('no mirror')
    })
    try {
      expect(await failing(sleeper)).toMatchObject({ code: 'HOOK_FAILED', value: 'substituteImages' })
    } finally {
      substituteImages(undefined)
    }
  })

  test('tells of a user that nobody knows', async () => {
    expect(await failing(sleeper.withUser('nobody-knows'))).toMatchObject({ code: 'USER_NOT_FOUND' })
  })

  test('of a network that has been stopped says so', async () => {
    const network = await new Network().start()
    await network.stop()
    await network.stop()
    expect(await failing(sleeper.withNetwork(network))).toMatchObject({
      code: 'NO_SUCH_NETWORK',
      field: 'networks[0].network',
    })
  })

  test('is told for ports of the host that are none', async () => {
    await expect(TestContainers.exposeHostPorts(0)).rejects.toMatchObject({ code: 'INVALID_OPTION', field: 'ports[0]' })
  })

  test('is told for an archive that is no stream', async () => {
    await using started = await container.withCommand(['sleep', '60']).start()
    const refusal = { code: 'INVALID_OPTION', field: 'archives[0].tar' }
    await expect(started.copyArchiveToContainer(wrong('/tmp/archive.tar'))).rejects.toMatchObject(refusal)
    await expect(started.copyArchiveToContainer(Readable.from(['a text']), '/')).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      field: 'archive',
      value: 'string',
    })
  })

  test('is told for an input and a time that are none', async () => {
    await using started = await sleeper.start()
    await expect(started.exec(['cat'], { input: wrong(5) })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      field: 'exec.input',
      value: 5,
    })
    for (const since of ['yesterday', Number.NaN, 1e300, new Date('yesterday')]) {
      await expect(started.logs({ since: wrong(since) })).rejects.toMatchObject({
        code: 'INVALID_OPTION',
        field: 'logs.since',
        value: since,
        message: expect.stringContaining('seconds since the epoch'),
      })
    }
  })

  test('of options that are unknown names the nearest', async () => {
    await using started = await sleeper.start()
    await expect(started.stop({ timout: 5 } as object)).rejects.toMatchObject({
      message: expect.stringMatching(/timeout\?/),
    })
    await expect(started.commit({ repo: 'a', tags: 'b' } as never)).rejects.toMatchObject({
      message: expect.stringMatching(/tag\?/),
    })
    await expect(started.commit({} as never)).rejects.toMatchObject({ field: 'commit.repo' })
    for (const call of ['reset', 'wait', 'checkHealth'] as const) {
      await expect(started[call]({ signal: wrong(5) })).rejects.toMatchObject({ field: `${call}.signal` })
      await expect(started[call]({ singal: 5 } as object)).rejects.toMatchObject({
        message: expect.stringMatching(/signal\?/),
      })
    }
    await expect(started.exec('true', { workdir: '/' } as object)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    await expect(started.logs({ tial: 5 } as object)).rejects.toMatchObject({
      message: expect.stringMatching(/tail\?/),
    })
    expect(() => started.getMappedPort(80)).toThrow(/not exposed \(exposed: none\)/)
    expect(() => started.getMappedPort('web')).toThrow(/expected a port/)
    expect(() => started.getFirstMappedPort()).toThrow(MayflyError)
  })
})
