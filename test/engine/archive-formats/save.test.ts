import { execFile, execFileSync } from 'node:child_process'
import { createReadStream, createWriteStream, existsSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Engine } from '../../../src/engine/engine.js'
import { missingDocker, startDockerd } from '../../support/dockerd.js'
import { openSandbox } from '../../support/sandbox.js'
import { makeWorld, obstacle, type World } from '../support/world.js'
import { digest, legacyDockerArchive, tarOf } from './archives.js'

const run = promisify(execFile)
const reason = obstacle()
const isRoot = process.getuid?.() === 0
const has = (program: string) => existsSync(`/usr/bin/${program}`)

describe.skipIf(reason !== '')(`saving images${reason && ` (${reason})`}`, () => {
  let world: World
  let engine: Engine
  let other: Engine

  beforeAll(async () => {
    world = makeWorld()
    engine = await Engine.open({ home: world.home, network: false })
    other = await Engine.open({ home: join(world.directory, 'other'), network: false })
    const root = execFileSync('tar', ['--create', `--directory=${world.rootfs}`, '.'], { maxBuffer: 1 << 28 })
    await engine.images.import(root, { reference: 'busy:1', changes: ['ENV PATH=/bin', 'CMD ["echo", "hello"]'] })
    await using container = await engine.create({ image: 'busy:1', remove: false })
    await container.copyIn('/', tarOf({ 'etc/own': 'own' }))
    await container.commit({ reference: 'upper:1' })
  })

  afterAll(async () => {
    await engine?.close()
    await other?.close()
    world?.remove()
  })

  const path = (name: string) => join(world.directory, name)
  const save = async (names: string | string[], file: string, options = {}) => {
    await pipeline(engine.images.save(names, options), createWriteStream(path(file)))
    return path(file)
  }
  const bytes = async (names: string | string[], options = {}) => {
    const pieces: Uint8Array[] = []
    for await (const piece of engine.images.save(names, options)) pieces.push(piece)
    return Buffer.concat(pieces)
  }

  it.each(['docker', 'oci'] as const)('as %s, they are the same images again in another store', async (format) => {
    await engine.images.tag('busy:1', 'also/busy:2')
    const archive = await bytes(['busy:1', 'upper:1', 'also/busy:2'], { format })
    const loaded = await other.images.load(archive)
    const { id } = await engine.images.get('busy:1')
    expect(loaded.map(({ image, references }) => [image.id, references])).toEqual([
      [id, ['docker.io/library/busy:1', 'docker.io/also/busy:2']],
      [(await engine.images.get('upper:1')).id, ['docker.io/library/upper:1']],
    ])
    expect((await other.run({ image: 'upper:1', command: ['cat', '/etc/own'], pull: 'never' })).stdout).toBe('own')
    expect((await other.run({ image: 'also/busy:2', pull: 'never' })).stdout).toBe('hello\n')
    for (const { image } of loaded) await other.images.remove(image.id, { force: true })
  })

  it('gives the same bytes each time, and can be compressed', async () => {
    const archive = await bytes('upper:1')
    expect(digest(await bytes('upper:1'))).toBe(digest(archive))
    const packed = await bytes('upper:1', { compression: 'gzip' })
    expect(packed.length).toBeLessThan(archive.length / 1.5)
    const [loaded] = await other.images.load(packed)
    expect(loaded!.image.id).toBe((await engine.images.get('upper:1')).id)
  })

  it('gives an image no name when it was asked for by its id', async () => {
    const { id } = await engine.images.get('upper:1')
    const archive = await bytes(id)
    expect((await other.images.load(archive))[0]!.references).toEqual([])
  })

  it('keeps the id of an image that came from elsewhere', async () => {
    const foreign = tarOf({ 'etc/x': 'x', 'etc/y': 'y' })
    const [loaded] = await engine.images.load(tarOf(legacyDockerArchive([foreign], ['foreign:1'])))
    expect(loaded!.image.layers[0]!.origin).toBe('unpacked')
    const [again] = await other.images.load(await bytes('foreign:1'))
    expect(again!.image.id).toBe(loaded!.image.id)
    // Without the archive that it came in, the same files are another layer.
    for (const { digest: blob } of loaded!.image.layers[0]!.blobs)
      execFileSync('rm', [join(world.home, 'blobs/sha256', blob.slice(7))])
    const [repacked] = await other.images.load(await bytes('foreign:1'))
    expect(repacked!.image.id).not.toBe(loaded!.image.id)
    expect(repacked!.image.layers[0]!.origin).toBe('packed')
  })

  it('says at once what is wrong', async () => {
    await expect(bytes('nowhere:1')).rejects.toMatchObject({ code: 'IMAGE_NOT_FOUND' })
    await expect(bytes('busy:1', { format: 'rar' })).rejects.toMatchObject({ code: 'INVALID_OPTION', field: 'format' })
    await expect(bytes([])).rejects.toThrow(TypeError)
    const controller = new AbortController()
    controller.abort(new Error('enough'))
    await expect(bytes('busy:1', { signal: controller.signal })).rejects.toThrow('enough')
  })

  describe.skipIf(!has('skopeo'))('with skopeo (apt-get install skopeo)', () => {
    const skopeo = async (...words: string[]) =>
      (await run('skopeo', ['--insecure-policy', ...words], { maxBuffer: 1 << 26 })).stdout

    it('is read as docker-archive and as oci-archive', async () => {
      const { id, config } = await engine.images.get('upper:1')
      for (const [format, transport] of [
        ['docker', 'docker-archive'],
        ['oci', 'oci-archive'],
      ] as const) {
        const file = await save('upper:1', `${format}.tar`, { format })
        const inspected = JSON.parse(await skopeo('inspect', '--config', '--raw', `${transport}:${file}`))
        expect(inspected.rootfs.diff_ids).toEqual(config.rootfs.diff_ids)
        const copy = path(`copy-of-${format}`)
        await skopeo('copy', `${transport}:${file}`, `oci:${copy}:upper:1`)
        const [loaded] = await other.images.load({ directory: copy })
        // From the other format, skopeo writes the config anew.
        if (format === 'oci') expect(loaded!.image.id).toBe(id)
        expect(loaded!.image.config.rootfs).toEqual(config.rootfs)
        expect(loaded!.references).toEqual(['docker.io/library/upper:1'])
        await other.images.remove('upper:1', { force: true })
      }
    })

    it('writes what we load', async () => {
      const source = `docker-archive:${await save('upper:1', 'source.tar')}`
      const { config } = await engine.images.get('upper:1')
      const sources = {
        [`docker-archive:${path('skopeo-docker.tar')}:app:1`]: () => createReadStream(path('skopeo-docker.tar')),
        [`oci-archive:${path('skopeo-oci.tar')}:app:1`]: () => createReadStream(path('skopeo-oci.tar')),
        [`oci:${path('skopeo-oci')}:app:1`]: () => ({ directory: path('skopeo-oci') }),
      }
      for (const [target, open] of Object.entries(sources)) {
        await skopeo('copy', source, target)
        const [loaded] = await other.images.load(open())
        expect(loaded!.references).toEqual(['docker.io/library/app:1'])
        expect(loaded!.image.config.rootfs).toEqual(config.rootfs)
        expect((await other.run({ image: 'app:1', command: ['cat', '/etc/own'], pull: 'never' })).stdout).toBe('own')
        await other.images.remove('app:1', { force: true })
      }
    })
  })

  it.skipIf(!has('podman') || !isRoot)(
    'goes to podman and comes back (apt-get install podman)',
    async () => {
      using sandbox = await openSandbox('podman')
      const storage = [
        '--root',
        join(sandbox.directory, 'root'),
        '--runroot',
        join(sandbox.directory, 'run'),
        '--storage-driver',
        'vfs',
      ]
      const podman = async (...words: string[]) =>
        (
          await run(sandbox.enter[0]!, [...sandbox.enter.slice(1), 'podman', ...storage, ...words], {
            maxBuffer: 1 << 26,
          })
        ).stdout
      for (const format of ['docker', 'oci'] as const) {
        const file = await save('upper:1', `to-podman-${format}.tar`, { format })
        await podman('load', '--input', file)
        const id = (await podman('images', '--no-trunc', '--quiet')).trim()
        expect(id).toBe((await engine.images.get('upper:1')).id)
        const back = path(`from-podman-${format}.tar`)
        await podman('save', '--format', `${format}-archive`, '--output', back, id)
        const [loaded] = await other.images.load(createReadStream(back))
        expect(loaded!.image.config.rootfs).toEqual((await engine.images.get('upper:1')).config.rootfs)
        expect((await other.run({ image: loaded!.image.id, command: ['cat', '/etc/own'] })).stdout).toBe('own')
        await podman('rmi', '--all', '--force')
      }
    },
    120_000,
  )

  it.skipIf(missingDocker() !== undefined || !isRoot)(
    'goes to Docker and comes back (apt-get install docker.io)',
    async () => {
      await using docker = await startDockerd()
      const file = await save(['busy:1', 'upper:1'], 'to-docker.tar')
      expect(await docker.docker('load', '--input', file)).toContain('Loaded image: upper:1')
      const id = await docker.docker('image', 'inspect', '--format', '{{.Id}}', 'upper:1')
      expect(id).toBe((await engine.images.get('upper:1')).id)
      const back = path('from-docker.tar')
      await docker.docker('save', '--output', back, 'busy:1', 'upper:1')
      for (const { id: known } of await other.images.list()) await other.images.remove(known, { force: true })
      const loaded = await other.images.load(createReadStream(back))
      expect(loaded.map(({ image }) => image.id).sort()).toEqual([id, (await engine.images.get('busy:1')).id].sort())
      expect((await other.run({ image: 'upper:1', command: ['cat', '/etc/own'], pull: 'never' })).stdout).toBe('own')
      await docker.docker('create', '--name', 'box', 'upper:1')
      await docker.docker('export', '--output', path('exported.tar'), 'box')
      const flat = await other.images.import(createReadStream(path('exported.tar')), { changes: ['ENV PATH=/bin'] })
      expect((await other.run({ image: flat.id, command: ['cat', '/etc/own'] })).stdout).toBe('own')
    },
    120_000,
  )
})
