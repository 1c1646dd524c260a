import { createServer } from 'node:https'
import { describe, expect, test, vi } from 'vitest'
import {
  GenericContainer,
  MayflyError,
  StartupCheckStrategy,
  type StartupStatus,
  Wait,
  type WaitTarget,
} from '../../src/index.js'
import { newMatcher } from '../../src/wait/log-message.js'
import { toHostPorts } from '../../src/wait/resource.js'
import { IMAGE, libraryWorld, obstacle } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

const sh = (script: string) => new GenericContainer(IMAGE).withCommand(['sh', '-c', script])
const sleeper = sh('exec sleep 600')
const code = (code: string, more: object = {}) => expect.objectContaining({ code, ...more })

/** Serves `body` on a port, as soon as it is told to. */
const serving = (body: string, port = 80, before = '') =>
  sh(
    `mkdir -p /www/sub && echo '${body}' > /www/index.html; ${before} exec httpd -f -p ${port} -h /www`,
  ).withExposedPorts(port)

describe.skipIf(why)('waiting for', () => {
  libraryWorld()

  /** Fails soon, at its death and not at the timeout. */
  async function failsAtDeath(container: GenericContainer, more: object = {}): Promise<void> {
    const begin = performance.now()
    await expect(container.start()).rejects.toEqual(code('CONTAINER_EXITED', { logTail: 'last words', ...more }))
    expect(performance.now() - begin).toBeLessThan(10_000)
  }
  const dying = sh('sleep 0.1; echo last words; exit 5').withExposedPorts(80)

  describe('ports', () => {
    test('takes all that are exposed', async () => {
      await using container = await sh('httpd -p 81; sleep 0.2; exec httpd -f -p 80')
        .withExposedPorts(80, 81, '82/udp')
        .start()
      expect(container.getMappedPort(81)).toBeGreaterThan(0)
    })

    test('takes those that are named, exposed or not', async () => {
      await using container = await sh('sleep 0.1; exec httpd -f -p 8080')
        .withExposedPorts(80)
        .withWaitStrategy(Wait.forListeningPorts(8080))
        .start()
      expect((await container.exec('wget -qO- http://127.0.0.1:8080/none')).exitCode).not.toBe(0)
    })

    test('tells what listens instead when the time is over', async () => {
      const wrong = sh('exec httpd -f -p 127.0.0.1:80').withExposedPorts(80)
      await expect(wrong.withStartupTimeout(300).start()).rejects.toEqual(
        code('TIMEOUT', { hint: expect.stringContaining('127.0.0.1:80 only') }),
      )
      await expect(sleeper.withExposedPorts(80).withStartupTimeout(100).start()).rejects.toEqual(
        code('TIMEOUT', { hint: expect.stringContaining('it listens on no port at all') }),
      )
    })

    test('ends when the container dies, exit code 0 included', async () => {
      await failsAtDeath(dying, { exitCode: 5 })
      await failsAtDeath(sh('echo last words').withExposedPorts(80), { exitCode: 0 })
    })
  })

  describe('output', () => {
    test('counts what was printed before, on both streams', async () => {
      await using container = await sh('echo one; echo one >&2; sleep 0.1; echo one; exec sleep 600')
        .withWaitStrategy(Wait.forLogMessage(/^on/, 3))
        .start()
      expect(await container.state()).toBe('running')
    })

    test('needs no line to end, and no container to go on', async () => {
      await using prompt = await sh('printf "ready> "; exec sleep 600')
        .withWaitStrategy(Wait.forLogMessage('ready>'))
        .start()
      expect(await prompt.state()).toBe('running')
      await using quick = await sh('echo done').withWaitStrategy(Wait.forLogMessage('done')).start()
      expect(await quick.wait()).toMatchObject({ exitCode: 0 })
    })

    test('fails at the timeout, telling how far it came, and at the death', async () => {
      const once = sh('echo tick; exec sleep 600').withWaitStrategy(
        Wait.forLogMessage('tick', 2).withStartupTimeout(200),
      )
      await expect(once.start()).rejects.toEqual(code('TIMEOUT', { hint: 'it came 1 of 2 times', logTail: 'tick' }))
      await failsAtDeath(dying.withWaitStrategy(Wait.forLogMessage('never')))
    })

    test.each<[string | RegExp, string[], number]>([
      ['ready', ['rea', 'dy\n'], 1],
      ['ready', ['ready', ' steady\n', 'ready\n'], 2],
      [/ready$/, ['ready', ' not\n'], 0],
      [/ready$/, ['ready', '\r\n'], 1],
      [/^b/g, ['b\nb\n', 'a\nb'], 3],
      ['a\nb', ['a\n', 'b\na\nb'], 2],
      [/start.*end/s, ['start\nmiddle', '\nend'], 1],
      ['ü', ['\u00fc'], 1],
    ])('%s in %j comes %i times', (message, pieces, times) => {
      const match = newMatcher(message)
      // A character may come in two pieces.
      const bytes = pieces.flatMap((piece) => {
        const all = Buffer.from(piece)
        return piece === '\u00fc' ? [all.subarray(0, 1), all.subarray(1)] : [all]
      })
      expect(bytes.reduce((sum, piece) => sum + match(piece), 0)).toBe(times)
    })
  })

  describe('the health check', () => {
    const check = { test: ['CMD-SHELL', 'test -f /well'] as const, interval: 50, retries: 3 }

    test('is the default where there is one, and is tried at once', async () => {
      const begin = performance.now()
      await using container = await sh('touch /well; exec sleep 600')
        .withHealthCheck({ ...check, interval: 30_000 })
        .start()
      expect(performance.now() - begin).toBeLessThan(5_000)
      expect(container.getHealth()).toBe('healthy')
      await container.exec('rm /well')
      expect(await container.checkHealth()).toBe('unhealthy')
    })

    test('becomes unhealthy after its retries, and says why', async () => {
      const ill = sleeper.withHealthCheck({ ...check, test: ['CMD', 'sh', '-c', 'echo not well; false'] })
      await expect(ill.start()).rejects.toEqual(code('WAIT_FAILED', { message: expect.stringContaining('not well') }))
    })

    test('does not count failures of its start period', async () => {
      await using container = await sh('sleep 0.4; touch /well; exec sleep 600')
        .withHealthCheck({ ...check, retries: 1, startPeriod: 5_000 })
        .start()
      expect(container.getHealth()).toBe('healthy')
    })

    test('is cut off at its timeout', async () => {
      const hanging = sleeper.withHealthCheck({ test: ['CMD', 'sleep', '60'], timeout: 50, interval: 50, retries: 1 })
      await expect(hanging.start()).rejects.toEqual(
        code('WAIT_FAILED', { message: expect.stringContaining('no answer within 50 ms') }),
      )
    })

    test('fails at once where there is none, or where it cannot run, and at the death', async () => {
      await expect(sleeper.withWaitStrategy(Wait.forHealthCheck()).start()).rejects.toEqual(code('WAIT_IMPOSSIBLE'))
      await expect(sleeper.withHealthCheck({ test: ['CMD', 'no-such-program'] }).start()).rejects.toEqual(
        code('WAIT_IMPOSSIBLE', { message: expect.stringContaining('no-such-program') }),
      )
      await failsAtDeath(dying.withHealthCheck({ ...check, interval: 30_000 }))
    })
  })

  describe('HTTP', () => {
    test('takes status, body, JSON and headers', async () => {
      const web = serving('{"status":"up"}', 8080, 'sleep 0.1;')
      const ready = Wait.forHttp('/', 8080)
        .forStatusCode(200)
        .forStatusCodeMatching((status) => status < 300)
        .forResponsePredicate((body) => body.includes('up'))
        .forJson((body) => (body as { status: string }).status === 'up')
        .forHeader('content-type', /html/)
        .withHeaders({ 'x-test': '1' })
        .withBasicCredentials('user', 'password')
      await using container = await web.withWaitStrategy(ready).start()
      expect(container.getMappedPort(8080)).toBeGreaterThan(0)
    })

    test('follows redirections', async () => {
      await using container = await serving('x', 80, 'echo there > /www/sub/index.html;')
        .withWaitStrategy(Wait.forHttp('/sub', 80).forResponsePredicate((body) => body === 'there\n'))
        .start()
      expect(await container.state()).toBe('running')
    })

    test('tells the last answer when the time is over', async () => {
      const web = serving('x').withStartupTimeout(200)
      await expect(web.withWaitStrategy(Wait.forHttp('/none', 80)).start()).rejects.toEqual(
        code('TIMEOUT', { hint: expect.stringContaining('404') }),
      )
      await expect(web.withWaitStrategy(Wait.forHttp('/', 80).forStatusCode(500)).start()).rejects.toEqual(
        code('TIMEOUT', { hint: 'the last answer was 200, without status 500' }),
      )
    })

    test('speaks TLS, and trusts whom it is told to', async () => {
      const { key, cert } = certificate()
      const server = createServer({ key, cert }, (_request, response) => response.end('safe'))
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      const { port } = server.address() as { port: number }
      const target = (timeout: number) => ({
        strategy: Wait.forHttp('/', 443).withStartupTimeout(timeout),
        target: fakeTarget(port),
      })
      const signal = new AbortController().signal
      try {
        const { strategy, target: container } = target(2_000)
        await strategy.allowInsecure().waitUntilReady(container, { signal })
        await strategy.usingTls({ ca: cert }).waitUntilReady(container, { signal })
        await expect(strategy.usingTls().withStartupTimeout(200).waitUntilReady(container, { signal })).rejects.toEqual(
          code('TIMEOUT', { hint: expect.stringMatching(/certificate/) }),
        )
      } finally {
        server.close()
        server.closeAllConnections()
      }
    })

    test('fails at once for a port that is not exposed, and at the death', async () => {
      await expect(serving('x').withWaitStrategy(Wait.forHttp('/', 8080)).start()).rejects.toEqual(
        code('WAIT_IMPOSSIBLE', { hint: 'expose it with withExposedPorts(8080)' }),
      )
      await failsAtDeath(dying.withWaitStrategy(Wait.forHttp('/', 80)))
      await failsAtDeath(
        serving('x', 80, 'httpd -p 80 -h /www; sleep 0.2; echo last words; exit 1;').withWaitStrategy(
          Wait.forHttp('/none', 80),
        ),
      )
    })
  })

  describe('a command', () => {
    test('tries until it succeeds', async () => {
      await using container = await sh('sleep 0.2; touch /ready; exec sleep 600')
        .withWaitStrategy(Wait.forSuccessfulCommand('test -f /ready'))
        .start()
      expect((await container.exec('test -f /ready')).exitCode).toBe(0)
    })

    test('tells what it said when the time is over', async () => {
      const failing = Wait.forSuccessfulCommand('echo not yet; exit 3').withStartupTimeout(150)
      await expect(sleeper.withWaitStrategy(failing).start()).rejects.toEqual(
        code('TIMEOUT', { hint: 'it ended with code 3 the last time: not yet' }),
      )
    })

    test('fails at once for a program that is not there, and at the death', async () => {
      await expect(sleeper.withWaitStrategy(Wait.forSuccessfulCommand(['nonesuch'])).start()).rejects.toEqual(
        code('WAIT_IMPOSSIBLE'),
      )
      await failsAtDeath(dying.withWaitStrategy(Wait.forSuccessfulCommand('false')))
    })
  })

  test('the exit takes code 0, or the one that is asked for', async () => {
    await using fine = await sh('sleep 0.1; echo worked').withWaitStrategy(Wait.forOneShotStartup()).start()
    expect(await fine.stdout()).toBe('worked\n')
    await using three = await sh('exit 3')
      .withWaitStrategy(Wait.forExit({ exitCode: 3 }))
      .start()
    expect(await three.exitCode()).toBe(3)
    await expect(sh('echo no; exit 2').withWaitStrategy(Wait.forOneShotStartup()).start()).rejects.toEqual(
      code('WAIT_FAILED', { exitCode: 2, logTail: 'no' }),
    )
    await expect(sleeper.withWaitStrategy(Wait.forExit().withStartupTimeout(100)).start()).rejects.toEqual(
      code('TIMEOUT'),
    )
  })

  test('a file takes its being there, and its contents', async () => {
    const writing = sh('sleep 0.1; echo step 1 > /state; sleep 0.1; echo step 2 > /state; exec sleep 600')
    await using there = await writing.withWaitStrategy(Wait.forFile('/state')).start()
    expect(await there.state()).toBe('running')
    await using second = await writing.withWaitStrategy(Wait.forFile('/state', { content: /step 2/ })).start()
    expect(String(await second.readFile('/state'))).toBe('step 2\n')
    await expect(sleeper.withWaitStrategy(Wait.forFile('/none').withStartupTimeout(100)).start()).rejects.toEqual(
      code('TIMEOUT', { hint: 'it does not exist' }),
    )
    await failsAtDeath(dying.withWaitStrategy(Wait.forFile('/none')))
  })

  test('a query tries until it succeeds, once something listens', async () => {
    let attempts = 0
    const query = Wait.forSql(async (target) => {
      expect(target.getMappedPort(80)).toBe(target.getFirstMappedPort())
      if (++attempts < 3) throw new Error('the database system is starting up')
    })
    await using container = await serving('x').withWaitStrategy(query).start()
    expect([attempts, await container.state()]).toEqual([3, 'running'])
    const never = Wait.forSql(() => {
      throw new Error('no such table')
    }).withStartupTimeout(200)
    await expect(serving('x').withWaitStrategy(never).start()).rejects.toEqual(
      code('TIMEOUT', { hint: 'the last attempt said: no such table' }),
    )
  })

  describe('several', () => {
    const out = (text: string) => Wait.forLogMessage(text)

    test('takes all of them', async () => {
      await using container = await sh('echo a; sleep 0.1; echo b; exec sleep 600')
        .withWaitStrategy(Wait.forAll([out('a'), out('b')]))
        .start()
      expect(await container.stdout()).toBe('a\nb\n')
      const half = sh('echo a; exec sleep 600').withWaitStrategy(Wait.forAll([out('a'), out('b')]).withDeadline(150))
      await expect(half.start()).rejects.toEqual(code('TIMEOUT', { message: expect.stringContaining('all of its') }))
      await expect(half.start()).rejects.toEqual(code('TIMEOUT', { hint: 'not yet: output that matches "b"' }))
    })

    test('takes any of them, and fails when all have failed', async () => {
      await using container = await sh('echo b; exec sleep 600')
        .withWaitStrategy(Wait.forAny([out('a'), out('b')]))
        .start()
      expect(await container.state()).toBe('running')
      const none = Wait.forAny([out('a').withStartupTimeout(50), out('b').withStartupTimeout(100)])
      await expect(sleeper.withWaitStrategy(none).start()).rejects.toEqual(code('TIMEOUT'))
    })

    test('gives the timeout to those that have none', async () => {
      const mixed = Wait.forAll([out('a'), out('b').withStartupTimeout(60_000)]).withStartupTimeout(100)
      await expect(sleeper.withWaitStrategy(mixed).start()).rejects.toEqual(
        code('TIMEOUT', { message: expect.stringMatching(/"a" after 0\.1 s/) }),
      )
    })

    test('ends when the container dies', async () => {
      await failsAtDeath(dying.withWaitStrategy(Wait.forAll([out('xyz'), Wait.forListeningPorts()])))
      await failsAtDeath(dying.withWaitStrategy(Wait.forAny([out('xyz'), Wait.forListeningPorts()])))
    })
  })

  test('something of one’s own has its timeout and the container’s death seen to', async () => {
    const never = { waitUntilReady: () => new Promise<void>(() => {}), getStartupTimeout: () => 100 }
    await expect(sleeper.withWaitStrategy(never).start()).rejects.toEqual(code('TIMEOUT'))
    await failsAtDeath(dying.withWaitStrategy({ waitUntilReady: never.waitUntilReady }))
    const failing = { waitUntilReady: async () => Promise.reject(new Error('no luck')) }
    await expect(sleeper.withName('unlucky').withWaitStrategy(failing).start()).rejects.toEqual(
      code('WAIT_FAILED', { container: 'unlucky', message: expect.stringContaining('no luck') }),
    )
  })

  test('a startup check asks until it knows', async () => {
    class Marked extends StartupCheckStrategy {
      override async checkStartupState(target: WaitTarget): Promise<StartupStatus> {
        const { exitCode } = await target.container.exec({ command: ['cat', '/mark'] })
        return exitCode === 0 ? 'SUCCESS' : 'PENDING'
      }
    }
    await using container = await sh('sleep 0.1; touch /mark; exec sleep 600').withWaitStrategy(new Marked()).start()
    expect(await container.state()).toBe('running')
    class Failed extends StartupCheckStrategy {
      override async checkStartupState(): Promise<StartupStatus> {
        return 'FAIL'
      }
    }
    await expect(sleeper.withWaitStrategy(new Failed()).start()).rejects.toEqual(code('WAIT_FAILED'))
  })

  test('a startup check finds what it has noted down, and tells who made it', async () => {
    class Third extends StartupCheckStrategy {
      #asked = 0
      override async checkStartupState(): Promise<StartupStatus> {
        this.#asked++
        return this.#asked < 3 ? 'PENDING' : 'SUCCESS'
      }
      get asked(): number {
        return this.#asked
      }
    }
    const check = new Third()
    await using container = await sleeper.withWaitStrategy(check).withStartupTimeout(20_000).start()
    expect(await container.state()).toBe('running')
    expect(check.asked).toBe(3)
  })

  test('goes on while a test fakes time', async () => {
    vi.useFakeTimers()
    try {
      await expect(
        sleeper.withExposedPorts(80).withWaitStrategy(Wait.forListeningPorts().withStartupTimeout(100)).start(),
      ).rejects.toEqual(code('TIMEOUT'))
      await using container = await sh('sleep 0.1; touch /x; exec sleep 600')
        .withWaitStrategy(Wait.forSuccessfulCommand('test -f /x'))
        .start()
      expect(await container.state()).toBe('running')
      const ill = sleeper.withHealthCheck({ test: ['CMD', 'false'], interval: 50, retries: 2, startPeriod: 50 })
      await expect(ill.start()).rejects.toEqual(code('WAIT_FAILED'))
    } finally {
      vi.useRealTimers()
    }
  })

  test('a resource takes the container’s ports for the host’s', () => {
    const target = fakeTarget(45_678)
    expect(toHostPorts('tcp:443', target)).toBe('tcp:127.0.0.1:45678')
    expect(toHostPorts('tcp:localhost:443', target)).toBe('tcp:127.0.0.1:45678')
    expect(toHostPorts('http-get://localhost:443/health?x=1', target)).toBe('http-get://127.0.0.1:45678/health?x=1')
    expect(toHostPorts('http://elsewhere:443/', target)).toBe('http://elsewhere:443/')
    expect(toHostPorts('tcp:80', target)).toBe('tcp:80')
    expect(() => Wait.on('ftp:21' as 'tcp:21')).toThrow(code('INVALID_OPTION'))
  })

  test('a resource works with wait-on, or says that it is missing', async () => {
    const web = serving('x').withWaitStrategy(Wait.on('tcp:80'))
    const outcome = await web.start().catch((error: MayflyError) => error)
    if (outcome instanceof MayflyError) {
      expect(outcome).toMatchObject({ code: 'WAIT_IMPOSSIBLE', hint: 'npm install --save-dev wait-on' })
    } else {
      expect(await outcome.state()).toBe('running')
      await outcome.stop()
    }
  })
})

/** A target whose port 443 is at this port of ours. */
function fakeTarget(port: number): WaitTarget {
  const container = { waitForPort: async () => {}, wait: () => new Promise(() => {}), logs: async function* () {} }
  return {
    getId: () => 'id',
    getName: () => 'fake',
    getHost: () => '127.0.0.1',
    getMappedPort: () => port,
    getFirstMappedPort: () => port,
    exposedPorts: [{ container: 443, protocol: 'tcp' }],
    healthCheck: undefined,
    startedAt: new Date(0),
    container: container as unknown as WaitTarget['container'],
    reportHealth: () => {},
  }
}

function certificate(): { key: string; cert: string } {
  const { execFileSync } = process.getBuiltinModule('node:child_process')
  const words = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', '-', '-out', '-']
  const pem = execFileSync('openssl', [...words, ...subject], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  return { key: pem.slice(0, pem.indexOf('-----BEGIN CERT')), cert: pem.slice(pem.indexOf('-----BEGIN CERT')) }
}
