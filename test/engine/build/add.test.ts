import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import * as zlib from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { obstacle } from '../support/world.js'
import { type BuildWorld, openWorld } from './support/world.js'

/** Node knows zstd from 22.15 on. */
const { zstdCompressSync } = zlib as { zstdCompressSync?: (bytes: Uint8Array) => Buffer }

describe.skipIf(obstacle())('ADD', () => {
  let world: BuildWorld
  let directory: string
  let server: Server
  let address: string
  const requests: { url: string; etag: string | undefined }[] = []
  const lastModified = 'Tue, 14 Nov 2023 22:13:20 GMT'

  beforeAll(async () => {
    world = await openWorld()
    directory = world.fresh()
    mkdirSync(join(directory, 'tree/sub'), { recursive: true })
    writeFileSync(join(directory, 'tree/f'), 'in the archive', { mode: 0o640 })
    writeFileSync(join(directory, 'tree/sub/g'), 'g')
    const tar = execFileSync('tar', ['-C', join(directory, 'tree'), '--owner=7', '--group=8', '-cf', '-', '.'])
    writeFileSync(join(directory, 'plain.tar'), tar)
    for (const [program, name] of [
      ['gzip', 'gzip.bin'],
      ['bzip2', 'bzip2.bin'],
      ['xz', 'xz.bin'],
    ] as const) {
      writeFileSync(join(directory, name), execFileSync(program, ['-c'], { input: tar }))
    }
    if (zstdCompressSync) writeFileSync(join(directory, 'zstd.bin'), zstdCompressSync(tar))
    writeFileSync(join(directory, 'not.tar'), 'only its name says so')
    writeFileSync(join(directory, 'text.gz'), execFileSync('gzip', ['-c'], { input: 'no archive inside' }))
    server = createServer((request, response) => {
      requests.push({ url: request.url!, etag: request.headers['if-none-match'] })
      if (request.url === '/missing') return response.writeHead(404).end()
      if (request.url === '/moved') return response.writeHead(302, { location: '/dir/file.txt' }).end()
      if (request.url === '/loop') return response.writeHead(302, { location: '/loop' }).end()
      if (request.url === '/cut') {
        response.writeHead(200, { 'content-length': '100' }).write('short')
        return response.destroy()
      }
      if (request.headers['if-none-match'] === '"v1"') return response.writeHead(304).end()
      const name = request.url === '/named' ? { 'content-disposition': 'attachment; filename="given.txt"' } : {}
      const body = request.url === '/a.tar' ? readFileSync(join(directory, 'gzip.bin')) : `content of ${request.url}`
      return response.writeHead(200, { etag: '"v1"', 'last-modified': lastModified, ...name }).end(body)
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(async () => {
    server.close()
    await world[Symbol.asyncDispose]()
  })

  const add = (lines: string, from = 'scratch') =>
    world.build({ context: { directory }, dockerfile: `FROM ${from}\n${lines}` })

  test.each(['plain.tar', 'gzip.bin', 'bzip2.bin', 'xz.bin', ...(zstdCompressSync ? ['zstd.bin'] : [])])(
    'unpacks %s for what is in it, into a directory that it makes',
    async (name) => {
      const result = await add(`ADD ${name} /o`)
      expect(await world.files(result, '/o')).toEqual({ f: 'f 640 7:8', sub: 'd 755 7:8', 'sub/g': 'f 644 7:8' })
      expect(await world.read(result, '/o/f')).toBe('in the archive')
    },
  )

  test('leaves the directory as it is that an archive with an entry for "." is unpacked in', async () => {
    const result = await add(
      'RUN mkdir -m 700 /there\nADD plain.tar /there/\nADD plain.tar /new/\nADD plain.tar /',
      'base',
    )
    expect(await world.files(result)).toMatchObject({
      there: 'd 700 0:0',
      'there/f': 'f 640 7:8',
      new: 'd 755 0:0',
      'new/f': 'f 640 7:8',
    })
  })

  test('copies what is no archive, whatever its name', async () => {
    expect(await world.files(await add('ADD not.tar text.gz tree/f /o/'), '/o')).toEqual({
      f: 'f 640 0:0',
      'not.tar': 'f 644 0:0',
      'text.gz': 'f 644 0:0',
    })
  })

  test('--unpack=false leaves an archive as it is, and --chown holds for what is in one', async () => {
    expect(await world.files(await add('ADD --unpack=false plain.tar /o/'), '/o')).toEqual({ 'plain.tar': 'f 644 0:0' })
    expect(await world.files(await add('ADD --chown=5:6 plain.tar /o/'), '/o')).toMatchObject({
      f: 'f 640 5:6',
      'sub/g': 'f 644 5:6',
    })
  })

  test('COPY does not unpack', async () => {
    expect(await world.files(await add('COPY plain.tar /o/'), '/o')).toEqual({ 'plain.tar': 'f 644 0:0' })
  })

  test('fetches a URL: its name, mode 0600, its time', async () => {
    const result = await add(
      `ADD ${address}/dir/file.txt ${address}/named ${address}/moved /o/\nADD ${address}/x /renamed`,
    )
    expect(await world.files(result, '/o')).toEqual({
      'file.txt': 'f 600 0:0',
      'given.txt': 'f 600 0:0',
      moved: 'f 600 0:0',
    })
    expect(await world.read(result, '/renamed')).toBe('content of /x')
    expect(await world.read(result, '/o/moved')).toBe('content of /dir/file.txt')
  })

  test('asks again by ETag, and is cached when nothing changed', async () => {
    await add(`ADD ${address}/again /o`)
    const before = requests.length
    expect((await add(`ADD ${address}/again /o`)).executed).toBe(0)
    expect(requests.slice(before)).toEqual([{ url: '/again', etag: '"v1"' }])
  })

  test('a URL is unpacked only when told so', async () => {
    expect(await world.files(await add(`ADD ${address}/a.tar /o/`), '/o')).toEqual({ 'a.tar': 'f 600 0:0' })
    expect(await world.files(await add(`ADD --unpack=true ${address}/a.tar /o/`), '/o')).toMatchObject({
      f: 'f 640 7:8',
    })
  })

  test('--checksum is checked', async () => {
    const digest = createHash('sha256').update('content of /sum').digest('hex')
    await add(`ADD --checksum=sha256:${digest} ${address}/sum /o`)
    const wrong = add(`ADD --checksum=sha256:${'0'.repeat(64)} ${address}/sum /o`)
    await expect(wrong).rejects.toMatchObject({ code: 'DIGEST_MISMATCH', line: 2 })
  })

  test.each(['missing', 'loop', 'cut'])(
    'a URL that is no use (%s) fails with its address and no password',
    async (path) => {
      const url = `${address.replace('//', '//user:pass-4713@')}/${path}`
      const error = await add(`ADD ${url} /o`).catch((reason) => reason)
      expect(error).toMatchObject({ code: 'FETCH_FAILED', line: 2 })
      expect(error.message.split('\n')[0]).toContain(`${address}/${path}`)
      expect(error.message.split('\n')[0]).not.toContain('pass-4713')
    },
  )

  test('fetches git repositories, without .git unless told otherwise', async () => {
    const served = world.fresh()
    const work = join(served, 'work')
    mkdirSync(join(work, 'sub'), { recursive: true })
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', work, '-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args], {
        encoding: 'utf8',
      }).trim()
    git('init', '-q', '-b', 'main')
    writeFileSync(join(work, 'f'), 'one')
    writeFileSync(join(work, 'sub/g'), 'g')
    git('add', '.')
    git('commit', '-qm', 'one')
    const commit = git('rev-parse', 'HEAD')
    execFileSync('git', ['clone', '-q', '--bare', work, join(served, 'project.git')])
    execFileSync('git', ['-C', join(served, 'project.git'), 'update-server-info'])
    const port = await freePort()
    const daemon = spawn('git', [
      'daemon',
      '--reuseaddr',
      '--listen=127.0.0.1',
      `--port=${port}`,
      '--export-all',
      `--base-path=${served}`,
      served,
    ])
    const url = `git://127.0.0.1:${port}/project.git`
    try {
      await expect
        .poll(() =>
          execFileSync('sh', ['-c', `git ls-remote ${url} 2>/dev/null || true`], {
            encoding: 'utf8',
          }),
        )
        .toContain(commit)
      const all = await add(`ADD ${url} /o/`)
      expect(Object.keys(await world.files(all, '/o'))).toEqual(['f', 'sub', 'sub/g'])
      expect(Object.keys(await world.files(await add(`ADD ${url}#main:sub /o/`), '/o'))).toEqual(['g'])
      expect(Object.keys(await world.files(await add(`ADD --keep-git-dir=true ${url}#${commit} /o/`), '/o'))).toContain(
        '.git/HEAD',
      )
      expect((await add(`ADD ${url}?branch=main /o/`)).executed).toBe(0)
      await expect(add(`ADD ${url}?checksum=0123456 /o/`)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' })
    } finally {
      daemon.kill()
    }
  })
})

/** A port that was free just now; git's daemon does not say which one it has chosen. */
async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  await new Promise((resolve) => probe.close(resolve))
  return port
}
