import { execFileSync } from 'node:child_process'
import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Engine } from '../../src/engine/engine.js'
import { MayflyError } from '../../src/engine/errors.js'
import { makeWorld, obstacle, type World } from './support/world.js'

const reason = obstacle()

describe.skipIf(reason !== '')(`images${reason && ` (${reason})`}`, () => {
  let world: World
  let engine: Engine

  beforeAll(async () => {
    world = makeWorld()
    mkdirSync(join(world.rootfs, 'var/data'), { recursive: true, mode: 0o755 })
    writeFileSync(join(world.rootfs, 'var/data/seed'), 'seed')
    execFileSync('chown', ['-R', '1000:1000', join(world.rootfs, 'var/data')])
    engine = await Engine.open({ home: world.home })
    await engine.images.import(rootTar(world.rootfs), { reference: 'busy:1', changes: ['CMD ["sh"]', 'ENV PATH=/bin'] })
  })

  afterAll(async () => {
    await engine?.close()
    world?.remove()
  })

  const rejection = (promise: Promise<unknown>): Promise<MayflyError> =>
    promise.then(
      () => {
        throw new Error('it did not reject')
      },
      (error) => {
        expect(error).toBeInstanceOf(MayflyError)
        return error
      },
    )

  describe('a container of an image', () => {
    const CHANGES = [
      'ENTRYPOINT ["sh", "-c"]',
      `CMD ["pwd; id -u; id -g; echo $MODE; echo $EXTRA; cat /var/data/seed"]`,
      'ENV MODE=production',
      'USER alice:staff',
      'WORKDIR /srv/app/deep',
      'LABEL a=image b=image',
      'EXPOSE 5432 53/udp',
      'STOPSIGNAL SIGINT',
      'HEALTHCHECK --interval=1s CMD true',
      'VOLUME /var/data /var/new',
    ]

    beforeAll(async () => {
      const base = rootTar(world.rootfs)
      await engine.images.import(base, { reference: 'app:1', changes: ['ENV PATH=/bin', ...CHANGES] })
    })

    it('runs as the image says', async () => {
      const { stdout, stderr } = await engine.run({ image: 'app:1' })
      expect(stderr).toBe('')
      expect(stdout).toBe('/srv/app/deep\n1000\n50\nproduction\n\nseed')
    })

    it('runs as the options say where they say something', async () => {
      const { stdout } = await engine.run({
        image: 'app:1',
        env: { MODE: 'test', EXTRA: 'more' },
        user: '0',
        workdir: '/tmp',
      })
      expect(stdout).toBe('/tmp\n0\n0\ntest\nmore\nseed')
      expect((await engine.run({ image: 'app:1', entrypoint: ['id'], command: ['-un'] })).stdout).toBe('alice\n')
    })

    it('tells what came of both', async () => {
      await using container = await engine.create({ image: 'app:1', labels: { b: 'mine' }, command: ['sleep 1'] })
      const { config, options } = container.inspect()
      expect(config).toMatchObject({
        Entrypoint: ['sh', '-c'],
        Cmd: ['sleep 1'],
        User: 'alice:staff',
        WorkingDir: '/srv/app/deep',
        Labels: { a: 'image', b: 'mine' },
        ExposedPorts: { '53/udp': {}, '5432/tcp': {} },
        StopSignal: 'SIGINT',
        Healthcheck: { Test: ['CMD-SHELL', 'true'], Interval: 1e9 },
        Volumes: { '/var/data': {}, '/var/new': {} },
      })
      expect(options).toMatchObject({ stopSignal: 2, image: { reference: 'app:1' }, command: ['sh', '-c', 'sleep 1'] })
      expect(container.exposedPorts).toEqual([
        { port: 53, protocol: 'udp' },
        { port: 5432, protocol: 'tcp' },
      ])
    })

    it('has the volumes of the image, with their content and owner, and writable on a read-only root', async () => {
      const script =
        'stat -c %u /var/data && cat /var/data/seed && echo x > /var/data/own && echo y > /var/new/own && cat /var/*/own; echo z > /tmp/own || echo no'
      for (const readonlyRootfs of [false, true]) {
        const { stdout } = await engine.run({ image: 'app:1', command: [script], user: '0', readonlyRootfs })
        expect(stdout).toBe(`1000\nseedx\ny\n${readonlyRootfs ? 'no\n' : ''}`)
      }
    })

    it('leaves the volume to a mount of the caller', async () => {
      const { stdout } = await engine.run({
        image: 'app:1',
        command: ['ls -A /var/data | wc -l'],
        tmpfs: { '/var/data': 'mode=777' },
      })
      expect(stdout.trim()).toBe('0')
    })

    it('is named by the id, too', async () => {
      const { id } = await engine.images.get('busy:1')
      for (const image of [id, id.slice('sha256:'.length), id.slice('sha256:'.length, 20)])
        expect((await engine.run({ image, command: ['echo', 'hello'] })).stdout).toBe('hello\n')
    })

    it('is refused without an image, before anything is fetched for options that are wrong', async () => {
      expect(await rejection(engine.run({ image: 'nowhere.invalid/x', pull: 'never' }))).toMatchObject({
        code: 'IMAGE_NOT_FOUND',
        value: 'nowhere.invalid/x',
      })
      const unknown = await rejection(engine.run({ image: 'nowhere.invalid/x', usr: 'me' } as never))
      expect(unknown).toMatchObject({ code: 'INVALID_OPTION', field: 'usr' })
      expect(await rejection(engine.run({ image: 'UPPER' }))).toMatchObject({ code: 'INVALID_REFERENCE' })
      expect(await rejection(engine.run({ image: 'busy:1', platform: 'linux/s390x', pull: 'never' }))).toMatchObject({
        code: 'IMAGE_NOT_FOUND',
      })
    })

    it('takes the image that the name means at that moment', async () => {
      await engine.images.import(rootTar(world.rootfs), {
        reference: 'moving:1',
        changes: ['CMD ["echo", "one"]', 'ENV PATH=/bin'],
      })
      expect((await engine.run({ image: 'moving:1' })).stdout).toBe('one\n')
      await engine.images.import(rootTar(world.rootfs), {
        reference: 'moving:1',
        changes: ['CMD ["echo", "two"]', 'ENV PATH=/bin'],
      })
      expect((await engine.run({ image: 'moving:1' })).stdout).toBe('two\n')
      await engine.images.remove('moving:1')
      expect(await rejection(engine.run({ image: 'moving:1', pull: 'never' }))).toMatchObject({
        code: 'IMAGE_NOT_FOUND',
      })
    })
  })

  describe('commit', () => {
    it.each(['running', 'exited', 'created'] as const)('makes an image of a container that is %s', async (state) => {
      await using container = await engine.create({
        image: 'busy:1',
        command: ['sh', '-c', 'echo hello > /root/made; rm -r /home; echo ready; exec sleep 60'],
        remove: false,
        env: { OWN: '1' },
      })
      await container.copyIn('/', oneFile('copied', 'x'))
      if (state !== 'created') await container.start()
      if (state !== 'created') await container.waitForLog('ready')
      if (state === 'exited') await container.stop({ timeoutMs: 0 })
      const image = await container.commit({
        reference: `committed:${state}`,
        author: 'me',
        message: 'why',
        changes: ['CMD ["cat", "/copied"]', 'LABEL x=y', 'EXPOSE 80', 'HEALTHCHECK NONE'],
      })
      expect(container.state).toBe(state)
      expect(image.references).toEqual([`docker.io/library/committed:${state}`])
      expect(image.layers).toHaveLength(2)
      expect(image.config).toMatchObject({
        author: 'me',
        config: {
          Cmd: ['cat', '/copied'],
          Env: ['PATH=/bin', 'OWN=1'],
          Labels: { x: 'y' },
          ExposedPorts: { '80/tcp': {} },
          Healthcheck: { Test: ['NONE'] },
        },
      })
      const [last, first] = await engine.images.history(`committed:${state}`)
      expect(last).toMatchObject({ id: image.id, comment: 'why', tags: [`committed:${state}`] })
      expect(last!.createdBy).toContain('sh -c echo hello')
      expect(first!.comment).toBe('Imported from a root file system')
      expect((await engine.run({ image: image.id })).stdout).toBe('x')
      const made = await engine.run({ image: image.id, command: ['sh', '-c', 'cat /root/made; ls -d /home'] })
      expect(made.stdout).toBe(state === 'created' ? '/home\n' : 'hello\n')
    })

    it('makes an image of a container without one', async () => {
      await using container = await engine.create({
        rootfs: { directory: world.rootfs },
        command: ['sh'],
        remove: false,
      })
      await container.copyIn('/', oneFile('added', 'content'))
      const image = await container.commit({ changes: ['ENV PATH=/bin'] })
      expect(image.layers).toHaveLength(1)
      expect((await engine.run({ image: image.id, command: ['cat', '/added'] })).stdout).toBe('content')
    })

    it('refuses changes that are none', async () => {
      await using container = await engine.create({ image: 'busy:1' })
      expect(await rejection(container.commit({ changes: ['RUN true'] }))).toMatchObject({
        code: 'INVALID_OPTION',
        field: 'changes[0]',
      })
      expect(await rejection(container.commit({ changes: ['CMD true', 'ENVY A=b'] }))).toMatchObject({
        code: 'DOCKERFILE_INVALID',
        file: 'changes[1]',
      })
      expect(await rejection(container.commit({ reference: 'A' }))).toMatchObject({ code: 'INVALID_REFERENCE' })
    })
  })

  describe('export and import', () => {
    it('carry a root file system, without what is mounted in it', async () => {
      await using container = await engine.start({
        image: 'busy:1',
        command: ['sh', '-c', 'echo new > /etc/new && exec sleep 60'],
        tmpfs: { '/tmp': '' },
      })
      await container.exec(['sh', '-c', 'until [ -e /etc/new ]; do sleep 0.01; done; echo hidden > /tmp/hidden'])
      const pieces: Uint8Array[] = []
      for await (const piece of container.export()) pieces.push(piece)
      const tar = Buffer.concat(pieces)
      const names = execFileSync('tar', ['--list', '--file=-'], { input: tar, encoding: 'utf8', maxBuffer: 1 << 26 })
      expect(names).toContain('./etc/new\n')
      expect(names).not.toContain('hidden')
      expect(names).not.toMatch(/^\.\/proc\/./m)
      const image = await engine.images.import(gzipSync(tar, { level: 1 }), {
        reference: 'flat:1',
        message: 'flattened',
      })
      expect(await engine.images.inspect('flat:1')).toMatchObject({
        Id: image.id,
        RepoTags: ['flat:1'],
        Comment: 'flattened',
        Os: 'linux',
        RootFS: { Type: 'layers', Layers: image.config.rootfs.diff_ids },
      })
      const { stdout } = await engine.run({ image: 'flat:1', command: ['/bin/cat', '/etc/new'] })
      expect(stdout).toBe('new\n')
    })

    it('take every usual compression', async () => {
      const tar = oneFile('etc/hello', 'hello')
      const plain = await engine.images.import(tar)
      for (const program of ['gzip', 'bzip2', 'xz', 'zstd']) {
        const packed = execFileSync(program, ['--stdout'], { input: tar })
        const image = await engine.images.import(packed)
        expect(image.config.rootfs).toEqual(plain.config.rootfs)
      }
    })

    it('refuse what is no archive, and leave nothing behind', async () => {
      const before = await engine.images.list()
      expect(
        await rejection(engine.images.import(Buffer.from('no archive at all, only text'.repeat(100)))),
      ).toMatchObject({
        code: 'ARCHIVE_INVALID',
      })
      const cut = gzipSync(rootTar(world.rootfs)).subarray(0, 10_000)
      expect(await rejection(engine.images.import(cut))).toMatchObject({ code: 'ARCHIVE_INVALID' })
      expect(await engine.images.list()).toHaveLength(before.length)
    })
  })

  describe('names', () => {
    it('are given and taken, and the last one takes the image along', async () => {
      const { id } = await engine.images.import(oneFile('a', 'unique'), { reference: 'named:1' })
      await engine.images.tag('named:1', 'other/named:2')
      expect((await engine.images.get(id)).references).toEqual(['docker.io/library/named:1', 'docker.io/other/named:2'])
      expect(await engine.images.remove('named:1')).toMatchObject({ untagged: ['named:1'], deleted: [] })
      const { deleted } = await engine.images.remove('other/named:2')
      expect(deleted[0]).toBe(id)
      expect(await rejection(engine.images.get(id))).toMatchObject({ code: 'IMAGE_NOT_FOUND' })
      expect(await rejection(engine.images.tag('named:1', 'x'))).toMatchObject({ code: 'IMAGE_NOT_FOUND' })
      const invented = `x@sha256:${'a'.repeat(64)}`
      expect(await rejection(engine.images.tag('named:1', invented))).toMatchObject({ code: 'INVALID_REFERENCE' })
      expect(await rejection(engine.images.import(oneFile('a', 'b'), { reference: invented }))).toMatchObject({
        code: 'INVALID_REFERENCE',
      })
    })

    it('stay while a container was made from the image', async () => {
      await engine.images.import(rootTar(world.rootfs), {
        reference: 'used:1',
        changes: ['ENV USED=1', 'ENV PATH=/bin'],
      })
      await using container = await engine.start({ image: 'used:1', command: ['sleep', '60'] })
      expect(await rejection(engine.images.remove('used:1', { force: true }))).toMatchObject({
        code: 'IMAGE_IN_USE',
        container: container.name,
      })
      await container.remove({ force: true })
      await engine.images.remove('used:1')
    })
  })

  it('tell what they use of the disk', async () => {
    const usage = await engine.images.usage()
    expect(JSON.stringify(usage)).toMatch(/[1-9]\d{4,}/)
  })

  it('start a known image in well under a millisecond of the engine', async () => {
    const request = { image: 'busy:1' }
    await engine.run({ ...request, command: ['true'] })
    expect(engine.images.recall(request)).toBeDefined()
    const begin = performance.now()
    for (let round = 0; round < 200; round++) engine.images.recall(request)
    expect((performance.now() - begin) / 200).toBeLessThan(0.2)
  })

  it('remember nothing that is not on the disk any more', async () => {
    expect(statSync(engine.images.recall({ image: 'busy:1' })!.layers[0]!).isDirectory()).toBe(true)
    expect(engine.images.recall({ image: 'busy:1', pull: 'always' })).toBeUndefined()
    expect(engine.images.recall({ image: 'busy:2' })).toBeUndefined()
  })
})

function rootTar(directory: string): Buffer {
  return execFileSync('tar', ['--create', `--directory=${directory}`, '.'], { maxBuffer: 1 << 28 })
}

/** A tar with one file in it. */
function oneFile(name: string, content: string): Buffer {
  const script = `cd "$(mktemp -d)" && mkdir -p "$(dirname "$1")" && printf %s "$2" > "$1" && chmod 755 . && tar --create --mtime=@0 . && rm -rf "$PWD"`
  return execFileSync('sh', ['-c', script, 'sh', name, content])
}
