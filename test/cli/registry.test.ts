/** `pull`, `push`, `login` and `run IMAGE` against a real registry on the loopback. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer, request as forward, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { missingRegistry, type Registry, startRegistry } from '../support/registry.js'
import { type Bench, finished, PROGRAM, whyNoContainers } from './command.js'
import { display } from './emulator.js'
import { imageBench } from './image-bench.js'
import { missingTerminals, onTerminal } from './terminal.js'

const why =
  whyNoContainers() ?? missingRegistry() ?? (process.getuid!() === 0 ? undefined : 'the images here belong to root')
if (why) console.warn(`skipped: the command line with a registry, because ${why}`)

describe.skipIf(why)('mayfly with a registry', () => {
  let bench: Bench
  let registry: Registry
  let app: string
  beforeAll(async () => {
    ;[bench, registry] = await Promise.all([imageBench(), startRegistry()])
    app = `${registry.host}/team/app:1`
    const files = join(bench.directory, 'files')
    mkdirSync(files)
    // Two layers that do not compress, so that there is something to be seen.
    for (const name of ['one', 'two']) writeFileSync(join(files, name), randomBytes(3_000_000))
    const dockerfile = 'FROM busy:1\nCOPY one /\nCOPY two /\nCMD ["echo", "pulled"]\n'
    const { code, stderr } = await bench.call(['build', '-q', '-t', app, '-f', '-', files], dockerfile)
    if (code !== 0) throw new Error(stderr)
    const pushed = await bench.call(['push', app])
    if (pushed.code !== 0) throw new Error(pushed.stderr)
  })
  afterAll(async () => {
    await registry?.[Symbol.asyncDispose]()
    bench?.[Symbol.dispose]()
  })

  /** A store without images. */
  let homes = 0
  function emptyHome(): string {
    const home = join(bench.directory, `home-${++homes}`)
    mkdirSync(home)
    return home
  }

  /** The registry behind a server that sends layers slowly, or not at all. */
  async function slowly(bytesPerSecond: number): Promise<{ readonly host: string; readonly server: Server }> {
    const [host, port] = registry.host.split(':')
    const server = createServer((request, response) => {
      const { method, url, headers } = request
      const onward = forward(
        { host, port, method, path: url, headers: { ...headers, host: registry.host } },
        async (answer) => {
          response.writeHead(answer.statusCode!, answer.headers)
          for await (const piece of answer) {
            if (response.destroyed) break
            response.write(piece)
            await new Promise((resolve) => setTimeout(resolve, ((piece as Buffer).length / bytesPerSecond) * 1000))
          }
          response.end()
        },
      )
      onward.on('error', () => response.destroy())
      request.pipe(onward)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return { host: `localhost:${(server.address() as AddressInfo).port}`, server }
  }

  test('pulls with a line for each state of each layer, and the name on stdout', async () => {
    const env = { MAYFLY_HOME: emptyHome() }
    const { code, stdout, stderr } = await bench.call(['pull', app], '', { env })
    expect([code, stdout]).toEqual([0, `${app}\n`])
    expect(stderr).not.toContain('\x1b')
    const layers = new Set([...stderr.matchAll(/^([0-9a-f]{12}): Done [\d.]+[kM]?B$/gm)].map(([, id]) => id))
    expect(layers.size).toBe(3)
    expect(stderr.match(/^[0-9a-f]{12}: Downloading$/gm)).toHaveLength(3)
    expect(stderr).toMatch(/^Digest: sha256:[0-9a-f]{64}\nImage: sha256:[0-9a-f]{64}\n$/m)
    const quiet = await bench.call(['pull', '-q', app], '', { env })
    expect(quiet).toMatchObject({ code: 0, stdout: expect.stringMatching(/^sha256:[0-9a-f]{64}\n$/), stderr: '' })
    const listed = await bench.call(['images', '--digests', '--format', '{{.Digest}}'], '', { env })
    expect(stderr).toContain(`Digest: ${listed.stdout}`)
    // The same image by an index too: each name tells its own digest.
    const url = `http://${registry.host}/v2/team/app/manifests`
    const types = {
      accept: 'application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json',
    }
    const answer = await fetch(`${url}/1`, { headers: types })
    const mediaType = answer.headers.get('content-type')!
    const [digest, size] = [listed.stdout.trim(), (await answer.arrayBuffer()).byteLength]
    const index = 'application/vnd.oci.image.index.v1+json'
    const body = JSON.stringify({ schemaVersion: 2, mediaType: index, manifests: [{ mediaType, digest, size }] })
    const put = await fetch(`${url}/index`, { method: 'PUT', headers: { 'content-type': index }, body })
    const indexDigest = put.headers.get('docker-content-digest')!
    expect(put.status).toBe(201)
    for (const [name, told] of [
      [app.replace(/:1$/, ':index'), indexDigest],
      [app, digest],
      [app.replace(/:1$/, `@${indexDigest}`), indexDigest],
    ] as const) {
      expect((await bench.call(['pull', name], '', { env })).stderr).toContain(`Digest: ${told}\n`)
    }
    const both = await bench.call(['images', '--digests', '--format', '{{.Tag}} {{.Digest}}', app], '', { env })
    expect(both.stdout.trim().split('\n').sort()).toEqual([`1 ${digest}`, `1 ${indexDigest}`].sort())
  })

  test('run pulls what is missing, on stderr, and only then', async () => {
    const env = { MAYFLY_HOME: emptyHome() }
    const first = await bench.call(['run', '--rm', '--network', 'none', app], '', { env })
    expect(first).toMatchObject({ code: 0, stdout: 'pulled\n', stderr: expect.stringMatching(/: Done /) })
    const second = await bench.call(['run', '--rm', '--network', 'none', app], '', { env })
    expect(second).toMatchObject({ code: 0, stdout: 'pulled\n', stderr: '' })
    registry.forget()
    await bench.call(['run', '--pull', 'always', '--network', 'none', app], '', { env })
    await expect.poll(() => registry.requests.length).toBeGreaterThan(0)
    const quiet = await bench.call(['run', '-q', '--network', 'none', app], '', { env: { MAYFLY_HOME: emptyHome() } })
    expect(quiet).toMatchObject({ code: 0, stdout: 'pulled\n', stderr: '' })
    const never = await bench.call(['run', '--pull', 'never', app], '', { env: { MAYFLY_HOME: emptyHome() } })
    expect(never).toMatchObject({ code: 125, stdout: '' })
  })

  test('build pulls its base, and tells of its layers', async () => {
    const env = { MAYFLY_HOME: emptyHome() }
    const { code, stderr } = await bench.call(['build', '-'], `FROM ${app}\nRUN true\n`, { env })
    expect(code).toBe(0)
    expect(stderr).toMatch(/^#\d+ [0-9a-f]{12} downloading$/m)
    expect(stderr).toMatch(/^#\d+ [0-9a-f]{12} done [\d.]+[kM]?B$/m)
  })

  test('pushes under the name, and tells the digest', async () => {
    await bench.call(['tag', app, `${registry.host}/team/app:2`])
    const { code, stdout, stderr } = await bench.call(['push', `${registry.host}/team/app:2`])
    expect([code, stdout]).toEqual([
      0,
      expect.stringMatching(new RegExp(`^${registry.host}/team/app@sha256:[0-9a-f]{64}\n$`)),
    ])
    expect(stderr).toContain(`Digest: ${stdout.trim().split('@')[1]}`)
    expect(await bench.call(['push', 'nowhere:1'])).toMatchObject({ code: 1, stdout: '' })
  })

  test.each<[string, () => string[], RegExp]>([
    ['an image that is not there', () => ['pull', `${registry.host}/none:1`], /none:1/],
    ['a registry that is not there', () => ['pull', 'localhost:1/none'], /localhost:1 refuses/],
    ['a platform that is not there', () => ['pull', '--platform', 'linux/s390x', app], /s390x/],
    ['a name that is none', () => ['pull', 'UPPER'], /UPPER/],
  ])('exits 1 for %s', async (_name, words, saying) => {
    const { code, stdout, stderr } = await bench.call(words(), '', { env: { MAYFLY_HOME: emptyHome() } })
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(saying)
    expect(stderr).not.toMatch(/\n\s+at |node:internal/)
  })

  test('Ctrl-C ends a pull at once, and the next one finds nothing half-written', async () => {
    const { host, server } = await slowly(50_000)
    try {
      for (const words of [['pull'], ['run', '--network', 'none']]) {
        const env = { MAYFLY_HOME: emptyHome() }
        const name = `${host}/team/app:1`
        const child = bench.start([...words, name], { env })
        const result = finished(child)
        let seen = ''
        child.stderr!.on('data', (piece) => {
          seen += piece
        })
        await expect.poll(() => seen, { timeout: 20_000 }).toContain('Downloading')
        const begin = performance.now()
        child.kill('SIGINT')
        expect(await result).toMatchObject({ code: 130, stdout: '' })
        expect(performance.now() - begin).toBeLessThan(5_000)
        expect((await bench.call(['images', '-q'], '', { env })).stdout).toBe('')
        expect(await bench.call(['prune', '--verify', '-f'], '', { env })).toMatchObject({ code: 0 })
      }
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })

  const noTerminals = missingTerminals()
  describe.skipIf(noTerminals)('on a terminal', () => {
    test('draws a bar for each layer, and leaves a line for each', async () => {
      const { host, server } = await slowly(4_000_000)
      try {
        const env = { MAYFLY_HOME: emptyHome(), NO_COLOR: '' }
        const { seen, status, restored } = await onTerminal(
          [process.execPath, PROGRAM, 'pull', `${host}/team/app:1`],
          [],
          env,
        )
        const { lines, isCursorShown, unknown } = display(seen, 90)
        expect([status, restored, isCursorShown, unknown]).toEqual([0, true, true, []])
        expect(seen).toMatch(/[0-9a-f]{12}: Downloading +\[=+> *\] [\d.]+[kM]B\/3MB/)
        expect(lines.slice(0, 3)).toEqual(Array(3).fill(expect.stringMatching(/^[0-9a-f]{12}: Done$/)))
        expect(lines.slice(3)).toEqual([
          expect.stringMatching(/^Digest: /),
          expect.stringMatching(/^Image: /),
          `${host}/team/app:1`,
          '',
        ])
      } finally {
        server.closeAllConnections()
        server.close()
      }
    })

    test('gives the cursor back when Ctrl-C ends it', async () => {
      const { host, server } = await slowly(50_000)
      try {
        const words = [process.execPath, PROGRAM, 'pull', `${host}/team/app:1`]
        const steps = [{ wait: 'Downloading' }, { send: '\x03' }]
        const { seen, status, restored } = await onTerminal(words, steps, { MAYFLY_HOME: emptyHome() })
        expect([status, restored, display(seen, 90).isCursorShown]).toEqual([130, true, true])
      } finally {
        server.closeAllConnections()
        server.close()
      }
    })

    test('asks for user name and password, which is not shown', async () => {
      await using secured = await startRegistry({ auth: 'password' })
      const env = {
        MAYFLY_HOME: emptyHome(),
        DOCKER_CONFIG: join(bench.directory, 'asked'),
        NODE_EXTRA_CA_CERTS: join(secured.certificates, 'ca.crt'),
      }
      const steps = [
        { wait: 'Username: ' },
        { send: `${secured.username}\r` },
        { wait: 'Password: ' },
        { send: `${secured.password}\r` },
      ]
      const { seen, status, restored } = await onTerminal(
        [process.execPath, PROGRAM, 'login', secured.host],
        steps,
        env,
      )
      expect([status, restored]).toEqual([0, true])
      expect(seen).toContain('Logged in')
      expect(seen).not.toContain(secured.password)
    })
  })

  test('login keeps what the registry accepts, and nothing else', async () => {
    await using secured = await startRegistry({ auth: 'password' })
    const configuration = join(bench.directory, 'docker')
    const file = join(configuration, 'config.json')
    mkdirSync(configuration)
    writeFileSync(file, '{"proxies":{"default":{}},"auths":{"other.example":{"auth":"YTpi"}}}')
    const env = {
      DOCKER_CONFIG: configuration,
      NODE_EXTRA_CA_CERTS: join(secured.certificates, 'ca.crt'),
      MAYFLY_HOME: emptyHome(),
    }
    const flags = ['-u', secured.username, '--password-stdin', secured.host]
    const wrong = await bench.call(['login', ...flags], 'not it\n', { env })
    expect(wrong).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining(secured.host) })
    expect(wrong.stderr).toMatch(/denies access with the credentials .*\n {2}Hint: check user name and password\n/)
    expect(wrong.stderr).not.toContain('not it')
    expect(JSON.parse(readFileSync(file, 'utf8')).auths).toEqual({ 'other.example': { auth: 'YTpi' } })

    expect((await bench.call(['login', ...flags], `${secured.password}\n`, { env })).code).toBe(0)
    expect(statSync(file).mode & 0o777).toBe(0o600)
    const kept = JSON.parse(readFileSync(file, 'utf8'))
    expect(kept.proxies).toEqual({ default: {} })
    expect(Object.keys(kept.auths)).toEqual(['other.example', secured.host])

    const name = `${secured.host}/mine:1`
    await bench.call(['tag', 'busy:1', name])
    expect(await bench.call(['push', name], '', { env: { ...env, MAYFLY_HOME: bench.home } })).toMatchObject({
      code: 0,
    })
    expect(await bench.call(['pull', name], '', { env })).toMatchObject({ code: 0 })
    expect(await bench.call(['logout', secured.host], '', { env })).toMatchObject({ code: 0 })
    const denied = await bench.call(['pull', name], '', { env: { ...env, MAYFLY_HOME: emptyHome() } })
    expect(denied).toMatchObject({ code: 1, stdout: '' })
    expect(JSON.parse(readFileSync(file, 'utf8')).auths).toEqual({ 'other.example': { auth: 'YTpi' } })
  })

  test('login hands the password to the helper that the configuration names', async () => {
    const programs = join(bench.directory, 'helpers')
    const configuration = join(bench.directory, 'helped')
    for (const directory of [programs, configuration]) mkdirSync(directory)
    const helper = join(programs, 'docker-credential-test')
    writeFileSync(helper, `#!/bin/sh\necho "$1" >> ${programs}/calls; cat >> ${programs}/calls\n`, { mode: 0o755 })
    writeFileSync(join(configuration, 'config.json'), '{"credsStore":"test"}')
    const env = { DOCKER_CONFIG: configuration, PATH: `${programs}:${process.env.PATH}` }
    const words = ['login', '-u', 'me', '--password-stdin', registry.host]
    expect(await bench.call(words, 'kept secret', { env })).toMatchObject({ code: 0 })
    expect(readFileSync(join(programs, 'calls'), 'utf8')).toBe(
      `store\n${JSON.stringify({ ServerURL: registry.host, Username: 'me', Secret: 'kept secret' })}`,
    )
    expect(readFileSync(join(configuration, 'config.json'), 'utf8')).not.toContain('secret')
    expect((await bench.call(['logout', registry.host], '', { env })).code).toBe(0)
    expect(readFileSync(join(programs, 'calls'), 'utf8')).toMatch(/}erase\nlocalhost:\d+$/)
  })
})
