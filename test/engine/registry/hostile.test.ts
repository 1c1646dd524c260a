/** What a registry can do wrong: each ends in an error that says so, in time, and leaves nothing behind. */

import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createProxy } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer, type Server } from 'node:net'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { type PullOptions, pull } from '../../../src/engine/registry/pull.js'
import {
  digestOf,
  type HostileRegistry,
  OCI_INDEX,
  OCI_LAYER,
  sendBytes,
  sendJson,
  startHostileRegistry,
} from '../../support/hostile-registry.js'
import { makeCertificates } from '../../support/registry.js'
import { temporaryDirectory } from '../../support/temporary.js'
import { leftovers, makeTar, obstacle, openPlace, type Place } from './support.js'

const why = obstacle()
const SECRET = 'correct-horse-battery'
const LAYER = makeTar({ file: randomBytes(3_000_000) })
const SMALL = makeTar({ file: 'hello' })

describe.skipIf(why)(`a hostile registry (${why || 'all there'})`, () => {
  let place: Place
  let registry: HostileRegistry
  let certificates: string

  beforeAll(async () => {
    certificates = temporaryDirectory('ca')
    await makeCertificates(certificates)
  })
  afterAll(() => rmSync(certificates, { recursive: true }))
  beforeEach(async () => {
    vi.stubEnv('DOCKER_CONFIG', '/nonexistent')
    vi.stubEnv('HOME', '/nonexistent')
    place = await openPlace()
    registry = await startHostileRegistry()
  })
  afterEach(async () => {
    // Whatever happened: nothing half-written, nothing that a next run would take for whole.
    await vi.waitFor(() => expect(leftovers(place.store.home)).toEqual([]))
    for (const { digest } of await place.store.blobs.list()) await place.store.blobs.verify(digest)
    await registry[Symbol.asyncDispose]()
    await place[Symbol.asyncDispose]()
    vi.unstubAllEnvs()
  })

  const FAST = { attempts: 3, timeouts: { retryMs: 5, answerMs: 1_500, stallMs: 1_500, connectMs: 1_500 } }
  const attempt = (options: PullOptions = {}, name = `${registry.host}/app:1`) =>
    pull(place.context, name, { registry: FAST, ...options })
  const failure = async (options?: PullOptions, name?: string) => {
    const error = await attempt(options, name).then(
      () => expect.fail('the pull succeeded'),
      (caught) => caught,
    )
    expect(`${error.stack}${JSON.stringify(error)}`).not.toMatch(new RegExp(`${SECRET}|secret-token|signature=`))
    return error
  }
  const layersHere = () => place.store.layers.list()

  describe('that cannot be reached', () => {
    test('refuses connections', async () => {
      await registry[Symbol.asyncDispose]()
      const error = await failure()
      expect(error).toMatchObject({ code: 'REGISTRY_UNREACHABLE', errno: 'ECONNREFUSED' })
      expect(error.message).toBe(
        `Cannot pull ${registry.host}/app:1: ${registry.host} refuses connections (ECONNREFUSED)\n` +
          '  Hint: is the registry running, and is the port right?',
      )
      registry = await startHostileRegistry()
    })

    test('has a name that nobody knows', async () => {
      const error = await failure({}, 'registry.invalid/app:1')
      expect(error.code).toBe('REGISTRY_UNREACHABLE')
      expect(error.message).toMatch(/registry\.invalid (is not a known host name|cannot be looked up)/)
    })

    test.each(['answers nothing', 'closes at once'])('%s', async (how) => {
      const server: Server = createTcpServer((socket) => {
        socket.on('error', () => {})
        if (how === 'closes at once') socket.destroy()
      }).listen(0, '127.0.0.1')
      await once(server, 'listening')
      const host = `localhost:${(server.address() as AddressInfo).port}`
      const error = await failure({}, `${host}/app:1`)
      expect(error.code).toBe('REGISTRY_UNREACHABLE')
      server.close()
    })
  })

  describe('whose TLS is wrong', () => {
    const tls = () => ({
      key: readFileSync(join(certificates, 'host.key'), 'utf8'),
      cert: readFileSync(join(certificates, 'host.crt'), 'utf8'),
    })

    test('has a certificate of an unknown authority, and is not asked without TLS instead', async () => {
      await using secure = await startHostileRegistry(tls())
      const error = await failure({}, `${secure.host}/app:1`)
      expect(error.code).toBe('REGISTRY_CERTIFICATE')
      expect(error.message).toMatch(/the certificate of localhost:\d+ is not to be trusted/)
      expect(secure.requests).toEqual([])
    })

    test('has a certificate for another host', async () => {
      await using secure = await startHostileRegistry(tls())
      const ca = readFileSync(join(certificates, 'ca.crt'), 'utf8')
      const name = `127.0.0.2:${secure.port}`
      const server = createTcpServer((socket) => {
        const through = connect(secure.port, '127.0.0.1')
        for (const end of [socket, through]) end.on('error', () => {})
        socket.pipe(through).pipe(socket)
      }).listen(secure.port, '127.0.0.2')
      await once(server, 'listening')
      const error = await failure({ registry: { ...FAST, ca } }, `${name}/app:1`)
      expect(error.code).toBe('REGISTRY_CERTIFICATE')
      server.close()
    })
  })

  describe('that answers with a status', () => {
    test.each([
      [
        401,
        'REGISTRY_DENIED',
        /denies access to app without credentials \(status 401\).*\n {2}Hint: log in with `mayfly login localhost/,
      ],
      [403, 'REGISTRY_DENIED', /denies access to app without credentials \(status 403\)/],
      [
        404,
        'REGISTRY_NOT_FOUND',
        /localhost:\d+ has no tag "1" in app: CODE, text\n {2}Hint: check name and tag; .*mayfly bootstrap/,
      ],
      [429, 'REGISTRY_RATE_LIMIT', /allows no more requests now/],
      [500, 'REGISTRY_FAILED', /answers again and again with status 500 when asked for 1/],
      [418, 'REGISTRY_FAILED', /answers with status 418/],
    ])('%s: %s', async (status, code, message) => {
      registry.on(/manifests/, (_request, response) =>
        sendJson(response, status, { errors: [{ code: 'CODE', message: 'text' }] }),
      )
      const error = await failure()
      expect(error.message).toMatch(message)
      expect(error.code).toBe(code)
      const asked = registry.requests.filter((request) => /manifests/.test(request)).length
      expect(asked).toBe(status === 429 || status === 500 ? FAST.attempts : 1)
    })

    test('429 and 503 for a while: waits as long as Retry-After says, and succeeds', async () => {
      registry.image('1', [SMALL])
      const answers = [429, 503]
      const times: number[] = []
      const [pattern] = [/manifests\/1$/]
      registry.on(pattern, (request, response) => {
        times.push(performance.now())
        const status = answers.shift()
        if (status) return sendJson(response, status, {}, { 'retry-after': status === 429 ? '1' : '0' })
        registry.image('2', [SMALL])
        return void response.writeHead(307, { location: request.url!.replace(/1$/, '2') }).end()
      })
      await attempt()
      expect(times[1]! - times[0]!).toBeGreaterThan(990)
      expect(times[2]! - times[1]!).toBeLessThan(500)
    })

    test('says where credentials were from when they are denied', async () => {
      registry.on(/manifests/, (_request, response) =>
        sendJson(
          response,
          401,
          { errors: [{ code: 'UNAUTHORIZED', message: `no ${SECRET} here` }] },
          { 'www-authenticate': 'Basic realm="x"' },
        ),
      )
      const error = await failure({ credentials: { [registry.host]: { username: 'bob', password: SECRET } } })
      expect(error.code).toBe('REGISTRY_DENIED')
      expect(error.message).toMatch(
        /with the credentials from the options \(status 401\): UNAUTHORIZED, no \*\*\* here/,
      )
    })
  })

  describe('that redirects', () => {
    test('without end', async () => {
      registry.on(
        /manifests/,
        (request, response) => void response.writeHead(307, { location: `${request.url}` }).end(),
      )
      const error = await failure()
      expect(error).toMatchObject({ code: 'REGISTRY_FAILED' })
      expect(error.message).toMatch(/redirects without end \(10 times\)/)
      expect(registry.requests.length).toBeLessThan(15)
    })

    test('blobs to another host, which sees no credentials and can ask for none', async () => {
      await using elsewhere = await startHostileRegistry()
      const { layers } = registry.image('1', [SMALL])
      const authorization = `Basic ${Buffer.from(`bob:${SECRET}`).toString('base64')}`
      for (const kind of ['manifests', 'blobs']) {
        registry.on(new RegExp(`${kind}/`), (request, response) => {
          if (request.headers.authorization !== authorization)
            return sendJson(response, 401, {}, { 'www-authenticate': 'Basic realm="x"' })
          return void response
            .writeHead(307, { location: `http://localhost:${elsewhere.port}${request.url}?signature=1` })
            .end()
        })
      }
      const credentials = { [registry.host]: { username: 'bob', password: SECRET } }
      elsewhere.on(/./, (_request, response) =>
        sendJson(
          response,
          401,
          {},
          { 'www-authenticate': `Bearer realm="http://localhost:${elsewhere.port}/token",service="s"` },
        ),
      )
      const error = await failure({ credentials })
      expect(error.code).toBe('REGISTRY_DENIED')
      expect(elsewhere.requests.length).toBeGreaterThan(0)
      expect(elsewhere.requests.filter((request) => /token/.test(request))).toEqual([])
      expect(elsewhere.headers.filter(({ authorization: sent }) => sent)).toEqual([])
      expect(layers).toHaveLength(1)
    })

    test('to a host without TLS that is not on the loopback', async () => {
      registry.on(
        /manifests/,
        (_request, response) => void response.writeHead(307, { location: 'http://192.0.2.1/x?signature=1' }).end(),
      )
      expect((await failure()).message).toMatch(/redirects to 192\.0\.2\.1 without TLS, which is refused/)
    })
  })

  describe('whose token service', () => {
    const challenge = (realm: string) => {
      registry.on(/manifests/, (_request, response) =>
        sendJson(response, 401, {}, { 'www-authenticate': `Bearer realm="${realm}",service="s",scope="x"` }),
      )
    }
    const credentials = () => ({ [registry.host]: { username: 'bob', password: SECRET } })

    test.each([
      ['is without TLS on another machine', 'http://192.0.2.1/token', /without TLS \(192\.0\.2\.1\), which is refused/],
      ['is no URL', 'nonsense', /does not say from where/],
      ['has credentials in its URL', 'https://a:b@localhost/', /with credentials in its URL/],
      ['is a file', 'file:///etc/passwd', /without TLS/],
    ])('%s', async (_what, realm, message) => {
      challenge(realm)
      expect((await failure({ credentials: credentials() })).message).toMatch(message)
    })

    test.each([
      ['refuses the credentials', 401, '{}', 'REGISTRY_DENIED'],
      ['gives no token', 200, '{"tok":1}', 'REGISTRY_FAILED'],
      ['gives a token that would break the header', 200, JSON.stringify({ token: 'a\r\nX: y' }), 'REGISTRY_FAILED'],
      ['gives a megabyte of token', 200, JSON.stringify({ token: 'x'.repeat(1 << 20) }), 'REGISTRY_FAILED'],
      ['gives a token that the registry does not take', 200, '{"token":"secret-token"}', 'REGISTRY_DENIED'],
    ])('%s', async (_what, status, body, code) => {
      challenge(`http://${registry.host}/token`)
      registry.on(/^GET \/token/, (_request, response) => void response.writeHead(status).end(body))
      expect((await failure({ credentials: credentials() })).code).toBe(code)
      expect(registry.requests.length).toBeLessThan(10)
    })
  })

  describe('whose manifest', () => {
    test('is HTML', async () => {
      registry.on(
        /manifests/,
        (_request, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('<html>'),
      )
      expect((await failure()).message).toMatch(/answers with HTML instead of a manifest/)
    })

    test.each(['with', 'without'])('has 100 MB, %s saying so', async (how) => {
      let sent = 0
      registry.on(/manifests/, async (_request, response) => {
        response.writeHead(200, how === 'with' ? { 'content-length': 100e6 } : {})
        for (; sent < 100e6 && !response.destroyed; sent += 1e6) {
          if (!response.write(Buffer.alloc(1e6, ' ')))
            await Promise.race([once(response, 'drain'), once(response, 'close')])
        }
      })
      const error = await failure()
      expect(error.code).toBe('SIZE_MISMATCH')
      expect(error.message).toMatch(/a manifest of more than 4 MiB/)
      expect(sent).toBeLessThan(30e6)
    })

    test('is not what its digest says', async () => {
      registry.on(/manifests/, (_request, response) =>
        sendJson(response, 200, {}, { 'docker-content-digest': digestOf('other') }),
      )
      expect(await failure()).toMatchObject({ code: 'DIGEST_MISMATCH', digest: digestOf('other') })
      const wanted = digestOf('wanted')
      expect(await failure({}, `${registry.host}/app@${wanted}`)).toMatchObject({
        code: 'DIGEST_MISMATCH',
        digest: wanted,
      })
    })

    test.each([
      ['no JSON', 'hello', 'IMAGE_INVALID'],
      ['a list', '[]', 'IMAGE_INVALID'],
      [
        'layers that are paths',
        '{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:../../x","size":1},"layers":[]}',
        'IMAGE_INVALID',
      ],
      ['manifest and index at once', '{"schemaVersion":2,"layers":[],"manifests":[],"config":{}}', 'IMAGE_INVALID'],
    ])('is %s', async (_what, text, code) => {
      registry.manifest('1', text)
      expect((await failure()).code).toBe(code)
    })

    test('is an index without our platform: the ones it has are listed', async () => {
      const { manifest } = registry.image('x', [SMALL])
      const entry = (architecture: string) => ({ ...manifest, platform: { os: 'linux', architecture } })
      registry.manifest(
        '1',
        { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [entry('s390x'), entry('riscv64')] },
        OCI_INDEX,
      )
      const error = await failure({ platform: 'linux/amd64' })
      expect(error.code).toBe('PLATFORM_NOT_FOUND')
      expect(error.message).toMatch(/linux\/amd64.*linux\/s390x, linux\/riscv64/)
    })

    test('is for another platform than was asked for, without an index', async () => {
      registry.image('1', [SMALL], { architecture: 's390x' })
      expect((await failure({ platform: 'linux/amd64' })).message).toMatch(
        /it is for linux\/s390x, not for linux\/amd64/,
      )
      await attempt() // only what was asked for by name is insisted upon
    })

    test('has fewer layers than its config', async () => {
      registry.image('1', [SMALL], { rootfs: { type: 'layers', diff_ids: [] } })
      const { layers } = registry.image('x', [SMALL])
      const config = registry.blob(
        Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] } })),
        'application/vnd.oci.image.config.v1+json',
      )
      registry.manifest('1', { schemaVersion: 2, config, layers })
      expect((await failure()).message).toMatch(/its manifest has 1 layers and its config 0/)
    })
  })

  describe('whose blobs', () => {
    const compressed = gzipSync(LAYER)
    /** An image of one layer, whose config says that it unpacks to `diffId`. */
    const publishLayer = (bytes: Buffer, diffId: string) => {
      const layer = registry.blob(bytes, `${OCI_LAYER}+gzip`)
      const document = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [diffId] } }
      const config = registry.blob(Buffer.from(JSON.stringify(document)), 'application/vnd.oci.image.config.v1+json')
      registry.manifest('1', { schemaVersion: 2, config, layers: [layer] })
      return layer
    }
    const serve = (bytes: Buffer, answer: Parameters<HostileRegistry['on']>[1]) => {
      registry.image('1', [LAYER])
      registry.on(new RegExp(`GET .*blobs/${digestOf(gzipSync(LAYER, { level: 1 }))}`), answer)
      return bytes
    }
    const level1 = gzipSync(LAYER, { level: 1 })

    test('break in the middle, once or twice: it goes on where it broke', async () => {
      const ranges: (string | undefined)[] = []
      serve(level1, (request, response) => {
        ranges.push(request.headers.range)
        const first = Number(/=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
        if (ranges.length === 3) return sendBytes(level1)(request, response)
        const range = first > 0 ? { 'content-range': `bytes ${first}-${level1.length - 1}/${level1.length}` } : {}
        response.writeHead(first > 0 ? 206 : 200, { 'content-length': level1.length - first, ...range })
        response.write(level1.subarray(first, first + 1_000_000), () => setTimeout(() => response.destroy(), 50))
      })
      const image = await attempt()
      expect(ranges).toHaveLength(3)
      expect(ranges[0]).toBeUndefined()
      expect(ranges[1]).toMatch(/^bytes=\d{5,}-$/)
      expect(image.layers[0]!.diffId).toBe(digestOf(LAYER))
    })

    test('break, and the registry knows no ranges: what is known is passed over', async () => {
      let count = 0
      serve(level1, (_request, response) => {
        response.writeHead(200, { 'content-length': level1.length })
        if (++count === 2) return void response.end(level1)
        response.write(level1.subarray(0, 500_000), () => setTimeout(() => response.destroy(), 50))
      })
      expect((await attempt()).layers[0]!.diffId).toBe(digestOf(LAYER))
    })

    test('always end in the middle', async () => {
      serve(level1, (_request, response) => {
        response.writeHead(200, { 'content-length': level1.length })
        response.write(level1.subarray(0, 500), () => setTimeout(() => response.destroy(), 10))
      })
      const error = await failure()
      expect(error.code).toBe('REGISTRY_FAILED')
      expect(error.message).toMatch(/stops sending layer sha256:\w+ after 500 of \d+ bytes, 5 times/)
      expect(await layersHere()).toEqual([])
    })

    test('stall', async () => {
      serve(level1, (_request, response) => {
        response.writeHead(200, { 'content-length': level1.length })
        response.write(level1.subarray(0, 500))
      })
      const start = performance.now()
      const error = await failure({ registry: { ...FAST, timeouts: { ...FAST.timeouts, stallMs: 300 } } })
      expect(error.message).toMatch(/stops sending layer/)
      expect(performance.now() - start).toBeLessThan(20_000)
    })

    test.each([
      ['have other content of the same length', () => Buffer.from(level1.map((byte) => byte ^ 1)), 'DIGEST_MISMATCH'],
      [
        'have one wrong byte',
        () => Buffer.from(level1.map((byte, i) => (i === level1.length - 3 ? byte ^ 1 : byte))),
        'DIGEST_MISMATCH',
      ],
      ['are another archive that would unpack', () => padded(gzipSync(SMALL), level1.length), 'DIGEST_MISMATCH'],
      ['are shorter than announced', () => level1.subarray(0, 1000), 'SIZE_MISMATCH'],
      ['are longer than announced', () => Buffer.concat([level1, level1]), 'SIZE_MISMATCH'],
    ])('%s', async (_what, bytes, code) => {
      const wrong = bytes()
      serve(wrong, (_request, response) => void response.writeHead(200, { 'content-length': wrong.length }).end(wrong))
      expect(await failure()).toMatchObject({ code, digest: digestOf(level1) })
      expect(await layersHere()).toEqual([])
    })

    test('are longer than announced, without saying so', async () => {
      serve(level1, (_request, response) => {
        response.write(level1)
        response.end('more')
      })
      expect((await failure()).code).toBe('SIZE_MISMATCH')
    })

    test('unpack to something else than the config says', async () => {
      registry.image('1', [SMALL], {})
      publishLayer(gzipSync(LAYER), digestOf(SMALL))
      const error = await failure()
      expect(error.code).toBe('DIGEST_MISMATCH')
      expect(error.message).toMatch(/unpacks to sha256:/)
      expect(await layersHere()).toEqual([])
    })

    test('are right, and no archive', async () => {
      const bytes = Buffer.from('no gzip at all'.repeat(1000))
      const layer = publishLayer(bytes, digestOf(bytes))
      const error = await failure()
      expect(error.code).toBe('ARCHIVE_INVALID')
      expect(error.message).toContain(layer.digest)
    })

    test('are a decompression bomb: a few bytes that become ten gigabytes', async () => {
      const header = execFileSync(
        'sh',
        ['-c', 'truncate -s 10G zeros && tar --format=gnu -cf - zeros | head -c 512; rm zeros'],
        { cwd: certificates },
      )
      const bytes = gzipSync(Buffer.concat([header, Buffer.alloc(4 << 20)]))
      const layer = publishLayer(bytes, digestOf(bytes))
      const error = await failure()
      expect(error.code).toBe('ARCHIVE_TOO_LARGE')
      expect(error.message).toContain(layer.digest)
      expect(await layersHere()).toEqual([])
    })

    test('are wanted no more in the middle', async () => {
      serve(compressed, (_request, response) => {
        response.writeHead(200, { 'content-length': level1.length })
        response.write(level1.subarray(0, 1_000_000))
      })
      const controller = new AbortController()
      const pulling = attempt({
        signal: controller.signal,
        onProgress: (event) => {
          if (event.type === 'layer' && event.status === 'downloading' && event.current > 0)
            controller.abort(new Error('enough'))
        },
      })
      await expect(pulling).rejects.toThrow('enough')
      expect(await layersHere()).toEqual([])
      expect(existsSync(join(place.store.home, 'locks')) ? readdirSync(join(place.store.home, 'locks')) : []).toEqual(
        [],
      )
    })
  })

  describe('behind a proxy', () => {
    test('is reached with CONNECT, and the proxy sees no credentials but its own', async () => {
      const tls = {
        key: readFileSync(join(certificates, 'host.key'), 'utf8'),
        cert: readFileSync(join(certificates, 'host.crt'), 'utf8'),
      }
      await using secure = await startHostileRegistry(tls)
      secure.image('1', [SMALL])
      const seen: string[] = []
      const proxy = createProxy((_request, response) => response.writeHead(500).end())
      proxy.on('connect', (request, socket) => {
        seen.push(`${request.url} ${request.headers['proxy-authorization']} ${request.headers.authorization}`)
        if (request.url !== `registry.test:${secure.port}`) return void socket.end('HTTP/1.1 403 Forbidden\r\n\r\n')
        const through = connect(secure.port, '127.0.0.1', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'))
        for (const end of [socket, through]) end.on('error', () => {})
        through.pipe(socket).pipe(through)
      })
      proxy.listen(0, '127.0.0.1')
      await once(proxy, 'listening')
      vi.stubEnv('HTTPS_PROXY', `http://me:${SECRET}@127.0.0.1:${(proxy.address() as AddressInfo).port}`)
      vi.stubEnv('NO_PROXY', '')
      const ca = readFileSync(join(certificates, 'ca.crt'), 'utf8')
      const options = { registry: { ...FAST, ca } }
      const image = await attempt(options, `registry.test:${secure.port}/app:1`)
      expect(image.layers).toHaveLength(1)
      const basic = `Basic ${Buffer.from(`me:${SECRET}`).toString('base64')}`
      expect(new Set(seen)).toEqual(new Set([`registry.test:${secure.port} ${basic} undefined`]))
      const error = await failure(options, 'other.test/app:1')
      expect(error.message).toMatch(/the proxy refuses to connect to other\.test \(status 403\)/)
      proxy.closeAllConnections()
      proxy.close()
    })
  })

  test('a mirror that has nothing: the next source is asked, and the image keeps the name that was asked for', async () => {
    await using mirror = await startHostileRegistry()
    registry.image('1', [SMALL])
    vi.stubEnv('MAYFLY_HUB_MIRROR', `${mirror.host},${registry.host}/hub`)
    const image = await attempt({}, 'app:1')
    expect(image.references).toEqual(['docker.io/library/app:1'])
    expect(mirror.requests.filter((request) => /library\/app\/manifests/.test(request))).not.toEqual([])
    expect(registry.requests.filter((request) => /hub\/library\/app\/manifests/.test(request))).not.toEqual([])
  })
})

function padded(bytes: Buffer, length: number): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(length - bytes.length)])
}
