import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Engine } from '../../../src/engine/engine.js'
import { MayflyError } from '../../../src/engine/errors.js'
import { makeWorld, obstacle, type World } from '../support/world.js'
import { configOf, digest, type Files, legacyDockerArchive, ociLayout, tarOf } from './archives.js'

const reason = obstacle()

/** /etc/group is hidden by the upper layer; the rest is the engine's own. */
const SEEN = 'addedadded\nhostname\nhosts\npasswd\nresolv.conf\n'

describe.skipIf(reason !== '')(`loading an archive${reason && ` (${reason})`}`, () => {
  let world: World
  let engine: Engine
  let base: Buffer

  beforeAll(async () => {
    world = makeWorld()
    base = execFileSync('tar', ['--create', `--directory=${world.rootfs}`, 'bin', 'etc'], { maxBuffer: 1 << 28 })
    engine = await Engine.open({ home: world.home, network: false })
  })

  beforeEach(async () => {
    for (const { id } of await engine.images.list()) await engine.images.remove(id, { force: true })
  })

  afterAll(async () => {
    await engine?.close()
    world?.remove()
  })

  const above = tarOf({ 'etc/added': 'added', 'etc/.wh.group': '' })
  const load = (files: Files) => engine.images.load(tarOf(files))
  const see = async (image: string) => {
    const { stdout } = await engine.run({ image, command: ['sh', '-c', 'cat /etc/added; ls /etc'], pull: 'never' })
    return stdout
  }

  async function refusal(files: Files | Uint8Array): Promise<MayflyError> {
    const before = readdirSync(join(world.home, 'layers'))
    const archive = files instanceof Uint8Array ? files : tarOf(files as Files)
    const error = await engine.images.load(archive).then(
      () => undefined,
      (found) => found,
    )
    expect(error).toBeInstanceOf(MayflyError)
    expect(await engine.images.list()).toEqual([])
    expect(error.message).not.toContain(world.home)
    expect(readdirSync(join(engine.info.session, 'store'))).toEqual([])
    expect(readdirSync(join(world.home, 'layers')).length).toBeLessThanOrEqual(before.length + 2)
    return error
  }

  describe('of docker', () => {
    it('knows what Docker wrote until 24, equal layers as links', async () => {
      const [loaded, ...more] = await load(legacyDockerArchive([base, above, above], ['app:1', 'host:5000/app:2']))
      expect(more).toEqual([])
      expect(loaded!.references).toEqual(['docker.io/library/app:1', 'host:5000/app:2'])
      expect(loaded!.image.layers).toHaveLength(3)
      expect(await see('app:1')).toBe(SEEN)
      expect((await engine.images.get('host:5000/app:2')).id).toBe(loaded!.image.id)
    })

    it('knows several images, with and without a name', async () => {
      const other = configOf([base], { Cmd: ['x'] })
      const files = legacyDockerArchive([base, above], ['app:1'])
      const entries = JSON.parse(files['manifest.json'] as string)
      entries.push({ Config: `${digest(other)}.json`, RepoTags: null, Layers: [entries[0].Layers[0]] })
      const loaded = await load({
        ...files,
        [`${digest(other)}.json`]: other,
        'manifest.json': JSON.stringify(entries),
      })
      expect(loaded.map(({ references }) => references.length)).toEqual([1, 0])
      expect(loaded[1]!.image.id).toBe(`sha256:${digest(other)}`)
    })

    it('knows names as kaniko has them, and layers that are compressed', async () => {
      const config = configOf([base])
      const packed = gzipSync(base)
      const files = {
        [`sha256:${digest(config)}`]: config,
        [`${digest(packed)}.tar.gz`]: packed,
        'manifest.json': JSON.stringify([
          { Config: `sha256:${digest(config)}`, RepoTags: ['kaniko:1'], Layers: [`${digest(packed)}.tar.gz`] },
        ]),
      }
      const [loaded] = await load(files)
      expect(loaded!.image.id).toBe(`sha256:${digest(config)}`)
    })
  })

  describe('of OCI', () => {
    it.each([
      [
        'containerd',
        { 'io.containerd.image.name': 'docker.io/library/app:1', 'org.opencontainers.image.ref.name': '1' },
      ],
      ['podman', { 'org.opencontainers.image.ref.name': 'docker.io/library/app:1' }],
    ])('takes its name from where %s puts it', async (_program, annotations) => {
      const [loaded] = await load(ociLayout([base, above], { annotations }))
      expect(loaded!.references).toEqual(['docker.io/library/app:1'])
      expect(await see('app:1')).toBe(SEEN)
    })

    it.each([
      ['gzip', 'application/vnd.oci.image.layer.v1.tar+gzip'],
      ['zstd', 'application/vnd.oci.image.layer.v1.tar+zstd'],
      ['xz', 'application/vnd.oci.image.layer.v1.tar'],
    ])('decompresses layers of %s', async (program, mediaType) => {
      const pack = (layer: Uint8Array) => execFileSync(program, ['--stdout'], { input: layer, maxBuffer: 1 << 28 })
      const [loaded] = await load(ociLayout([base, above], { pack, mediaType }))
      expect(loaded!.references).toEqual([])
      expect(await see(loaded!.image.id)).toBe(SEEN)
    })

    it('chooses the image for this machine', async () => {
      const ours = ociLayout([base, above])
      const theirs = ociLayout([base])
      const entry = (files: Record<string, string | Uint8Array>, architecture: string) => ({
        ...JSON.parse(files['index.json'] as string).manifests[0],
        platform: { os: 'linux', architecture },
      })
      const own = process.arch === 'arm64' ? 'arm64' : 'amd64'
      const unknown = { ...entry(theirs, 'unknown'), platform: { os: 'unknown', architecture: 'unknown' } }
      const index = JSON.stringify({ schemaVersion: 2, manifests: [entry(theirs, 's390x'), entry(ours, own), unknown] })
      const [nested, ...more] = await load({ ...theirs, ...ours, 'index.json': index })
      expect(more).toEqual([])
      expect(nested!.image.layers).toHaveLength(2)
      const inner = {
        mediaType: 'application/vnd.oci.image.index.v1+json',
        digest: `sha256:${digest(index)}`,
        size: index.length,
      }
      const outer = JSON.stringify({ schemaVersion: 2, manifests: [inner] })
      const [again] = await load({ ...theirs, ...ours, [`blobs/sha256/${digest(index)}`]: index, 'index.json': outer })
      expect(again!.image.id).toBe(nested!.image.id)
      const foreign = JSON.stringify({ schemaVersion: 2, manifests: [entry(theirs, 's390x'), entry(ours, 'ppc64le')] })
      expect(
        await engine.images.load(tarOf({ ...theirs, ...ours, 'index.json': foreign })).catch((error) => error),
      ).toMatchObject({
        code: 'PLATFORM_NOT_FOUND',
      })
    })

    it('reads a directory', async () => {
      const directory = join(world.directory, 'layout')
      for (const [name, content] of Object.entries(ociLayout([base, above]))) {
        mkdirSync(dirname(join(directory, name)), { recursive: true })
        writeFileSync(join(directory, name), content)
      }
      const [loaded] = await engine.images.load({ directory })
      expect(await see(loaded!.image.id)).toBe(SEEN)
    })
  })

  it('takes a compressed archive, in pieces of any size', async () => {
    const archive = gzipSync(tarOf(legacyDockerArchive([base], ['app:1'])))
    async function* pieces() {
      for (let at = 0; at < archive.length; at += at < 100 ? 1 : 50_001)
        yield archive.subarray(at, at < 100 ? at + 1 : at + 50_001)
    }
    const [loaded] = await engine.images.load(pieces())
    expect(loaded!.references).toEqual(['docker.io/library/app:1'])
  })

  it('tells of its layers as it goes', async () => {
    const events: string[] = []
    const onProgress = (event: { type: string; status?: string }) => events.push(event.status ?? event.type)
    await engine.images.load(tarOf(legacyDockerArchive([base, above], ['app:1'])), { onProgress })
    expect(events).toContain('done')
    events.length = 0
    await engine.images.load(tarOf(legacyDockerArchive([base, above], ['app:1'])), { onProgress })
    expect(events.filter((status) => status === 'exists')).toHaveLength(2)
  })

  it('gives up when it is told to, and leaves nothing', async () => {
    const controller = new AbortController()
    async function* stalled() {
      yield tarOf(legacyDockerArchive([base], ['app:1'])).subarray(0, 2048)
      controller.abort(new Error('enough'))
      await new Promise((resolve) => setTimeout(resolve, 30_000).unref())
    }
    await expect(engine.images.load(stalled(), { signal: controller.signal })).rejects.toThrow('enough')
    expect(await engine.images.list()).toEqual([])
  })

  describe('refuses', () => {
    const layered = (change: (entry: Record<string, unknown>) => void): Files => {
      const files = legacyDockerArchive([base], ['app:1'])
      const entries = JSON.parse(files['manifest.json'] as string)
      change(entries[0])
      return { ...files, 'manifest.json': JSON.stringify(entries) }
    }

    it('a layer that is a link to a file of this machine', async () => {
      for (const link of ['/etc/shadow', '../../../../../../etc/shadow', 'gone/../../etc/shadow']) {
        const files = { ...layered((entry) => (entry.Layers = ['evil.tar'])), 'evil.tar': { link } }
        const error = await refusal(files)
        expect(error.code).toBe('IMAGE_INVALID')
        expect(error.message).toMatch(/leads out of the archive|lacks the file/)
      }
    })

    it('a config behind a link to a directory of this machine', async () => {
      const files = { ...layered((entry) => (entry.Config = 'out/passwd')), out: { link: '/etc' } }
      expect((await refusal(files)).message).toContain('leads out of the archive')
    })

    it('a decompression bomb', async () => {
      const header = Buffer.from(base.subarray(0, 512))
      header.write('bomb', 0)
      header.write('7'.repeat(11), 124)
      header.write(`${' '.repeat(8)}0`, 148)
      header.write(
        `${header
          .reduce((sum, byte) => sum + byte, 0)
          .toString(8)
          .padStart(6, '0')}\0`,
        148,
      )
      const bomb = gzipSync(Buffer.concat([header, Buffer.alloc(4 << 20)]))
      const files = { ...layered((entry) => (entry.Layers = ['bomb.tar'])), 'bomb.tar': bomb }
      expect((await refusal(files)).code).toBe('ARCHIVE_TOO_LARGE')
    })

    it('names that lie outside', async () => {
      for (const name of ['../../etc/shadow', '/../etc/shadow', 'a/../../x']) {
        expect((await refusal(layered((entry) => (entry.Config = name)))).message).toContain('lies outside of it')
        expect((await refusal(layered((entry) => (entry.Layers = [name])))).message).toContain('lies outside of it')
      }
    })

    it('links in a circle', async () => {
      const files = { ...layered((entry) => (entry.Layers = ['a'])), a: { link: 'b' }, b: { link: 'a' } }
      expect((await refusal(files)).message).toContain('loop of links')
    })

    it('directories and devices in place of files', async () => {
      expect((await refusal({ ...layered((entry) => (entry.Layers = ['d'])), 'd/x': '' })).message).toContain(
        'no regular file',
      )
    })

    it('files that are missing', async () => {
      expect(await refusal(layered((entry) => (entry.Layers = ['nowhere/layer.tar'])))).toMatchObject({
        code: 'IMAGE_INVALID',
        value: 'nowhere/layer.tar',
      })
      const { [`blobs/sha256/${digest(base)}`]: _gone, ...rest } = ociLayout([base])
      expect((await refusal(rest)).message).toContain(`lacks the file "blobs/sha256/${digest(base)}"`)
    })

    it('a layer that is another one', async () => {
      const files = layered(() => {})
      const [layer] = Object.keys(files).filter((name) => name.endsWith('layer.tar'))
      const error = await refusal({ ...files, [layer!]: above })
      expect(error).toMatchObject({
        code: 'DIGEST_MISMATCH',
        digest: `sha256:${digest(base)}`,
        value: `sha256:${digest(above)}`,
      })
    })

    it('blobs that are not what their digest says', async () => {
      const files = ociLayout([base])
      const damage = (name: string) => ({
        ...files,
        [name]: Buffer.concat([Buffer.from(files[name]!), Buffer.from(' ')]),
      })
      const index = JSON.parse(files['index.json'] as string)
      const manifest = index.manifests[0].digest.replace(':', '/')
      expect(await refusal(damage(`blobs/${manifest}`))).toMatchObject({ code: 'DIGEST_MISMATCH' })
      const broken = { ...files, [`blobs/sha256/${digest(base)}`]: Buffer.from(base).fill('x', 1000, 1001) }
      expect(await refusal(broken)).toMatchObject({ code: 'DIGEST_MISMATCH', digest: `sha256:${digest(base)}` })
      const short = { ...files, [`blobs/sha256/${digest(base)}`]: base.subarray(0, -512) }
      expect(await refusal(short)).toMatchObject({ code: 'SIZE_MISMATCH' })
    })

    it('a config that is not what its name says', async () => {
      const files = layered(() => {})
      const [name] = Object.keys(files).filter((one) => /^[0-9a-f]{64}\.json$/.test(one))
      expect(await refusal({ ...files, [name!]: configOf([base], { Cmd: ['other'] }) })).toMatchObject({
        code: 'DIGEST_MISMATCH',
      })
    })

    it('another number of layers than the config has', async () => {
      expect((await refusal(layered((entry) => (entry.Layers = [])))).message).toContain(
        'has 0 layers, and its config 1',
      )
    })

    it('a digest that is a path', async () => {
      const index = JSON.stringify({
        schemaVersion: 2,
        manifests: [
          { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: 'sha256:../../../etc/shadow', size: 1 },
        ],
      })
      expect(await refusal({ ...ociLayout([base]), 'index.json': index })).toMatchObject({ code: 'IMAGE_INVALID' })
    })

    it('names that are none', async () => {
      expect(await refusal(layered((entry) => (entry.RepoTags = ['Not A Name'])))).toMatchObject({
        code: 'INVALID_REFERENCE',
      })
    })

    it('documents that are no JSON, or JSON of another kind', async () => {
      expect(await refusal({ 'manifest.json': '<html>' })).toMatchObject({ code: 'IMAGE_INVALID' })
      expect(await refusal({ 'manifest.json': '{}' })).toMatchObject({ code: 'IMAGE_INVALID' })
      expect(await refusal({ 'manifest.json': '[]' })).toMatchObject({ code: 'IMAGE_INVALID' })
      expect(await refusal({ 'manifest.json': '[7]' })).toMatchObject({
        code: 'IMAGE_INVALID',
        field: 'manifest.json[0]',
      })
      expect(await refusal({ ...ociLayout([base]), 'index.json': 'null' })).toMatchObject({ code: 'IMAGE_INVALID' })
      expect(await refusal({ ...ociLayout([base]), 'oci-layout': '{"imageLayoutVersion":"2.0.0"}' })).toMatchObject({
        code: 'NOT_SUPPORTED',
      })
    })

    it('what is no archive of images, with a hint where it is a root file system', async () => {
      expect(await refusal(base)).toMatchObject({ code: 'IMAGE_INVALID', hint: expect.stringContaining('import') })
      expect(await refusal({ repositories: '{}' })).toMatchObject({ code: 'NOT_SUPPORTED' })
      expect(await refusal({ x: '' })).toMatchObject({ code: 'IMAGE_INVALID' })
    })

    it('what is cut off, wherever', async () => {
      const archive = tarOf(legacyDockerArchive([base], ['app:1']))
      for (const part of [0.05, 0.5, 0.9]) {
        const { code } = await refusal(archive.subarray(0, Math.floor(archive.length * part)))
        expect(['ARCHIVE_INVALID', 'IMAGE_INVALID']).toContain(code)
      }
      const packed = gzipSync(archive)
      expect(await refusal(packed.subarray(0, packed.length - 1000))).toMatchObject({ code: 'ARCHIVE_INVALID' })
    })

    it('to follow links of a directory', async () => {
      const directory = join(world.directory, 'hostile')
      mkdirSync(directory)
      symlinkSync('/etc', join(directory, 'blobs'))
      for (const [name, content] of Object.entries(ociLayout([base])))
        if (!name.startsWith('blobs/')) writeFileSync(join(directory, name), content)
      const error = await engine.images.load({ directory }).catch((found) => found)
      expect(error).toMatchObject({
        code: 'IMAGE_INVALID',
        message: expect.stringContaining('leads out of the archive'),
      })
    })
  })
})
