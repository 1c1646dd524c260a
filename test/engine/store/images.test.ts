import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { MayflyError } from '../../../src/engine/errors.js'
import { encodeConfig } from '../../../src/engine/image/config.js'
import { digestOfBytes } from '../../../src/engine/image/digest-of.js'
import { OCI_CONFIG, OCI_LAYER, OCI_MANIFEST } from '../../../src/engine/image/media-types.js'
import { obstacle } from '../support/world.js'
import { makeStoreWorld, type OpenStore, putImage, putLayer, type StoreWorld } from './support.js'

const why = obstacle()
if (why) console.warn(`skipped: there is no warden here: ${why}`)

describe.skipIf(why)('an image', () => {
  let world: StoreWorld
  let at: OpenStore
  let damages: MayflyError[]

  beforeEach(async () => {
    world = makeStoreWorld()
    at = await world.open()
    damages = []
    at.store.onDamage((damage) => damages.push(damage))
  })
  afterEach(() => world?.remove())

  const code = (code: string) => expect.objectContaining({ code })

  test('is found by its name in every form, by its id and by the beginning of it', async () => {
    const base = await putLayer(at, { base: 'x' })
    const top = await putLayer(at, { top: 'y' }, base.chainId)
    const image = await putImage(at, [base, top], ['postgres:16'])
    expect(image).toMatchObject({
      references: ['docker.io/library/postgres:16'],
      digests: [],
      layers: [base, top],
      missing: [],
      sizeBytes: 2,
    })
    const hex = image.id.slice('sha256:'.length)
    for (const text of [
      'postgres:16',
      'docker.io/library/postgres:16',
      'index.docker.io/postgres:16',
      image.id,
      hex,
      hex.slice(0, 12),
      image.id.slice(0, 20),
    ]) {
      expect((await at.store.images.resolve(text))?.id, text).toBe(image.id)
    }
    for (const text of ['postgres', 'postgres:17', 'other/postgres:16', 'f'.repeat(64), `sha256:${'0'.repeat(64)}`]) {
      expect(await at.store.images.resolve(text), text).toBeUndefined()
    }
    await expect(at.store.images.resolve('No:Such:Thing')).rejects.toThrow(code('INVALID_REFERENCE'))
  })

  test('is another one when a name comes before an id, and not guessed when several begin alike', async () => {
    const layer = await putLayer(at, { a: 'x' })
    const ids: string[] = []
    for (let n = 0; n < 20; n++) ids.push((await putImage(at, [layer], [], { author: `${n}` })).id.slice(7))
    const twice = ids.map((id) => id[0]!).find((digit, index, all) => all.indexOf(digit) !== index)!
    await expect(at.store.images.resolve(twice)).rejects.toThrow(code('IMAGE_AMBIGUOUS'))
    const named = await putImage(at, [layer], [twice], { author: 'named' })
    expect((await at.store.images.resolve(twice))?.id).toBe(named.id)
    expect((await at.store.images.resolve(ids[0]!.slice(0, 30)))?.id).toBe(`sha256:${ids[0]}`)
  })

  test('is found by the digest it was pulled by, also with a tag beside it', async () => {
    const digest = `sha256:${'e'.repeat(64)}`
    const image = await putImage(at, [await putLayer(at, { a: 'x' })], ['app:1', `app@${digest}`])
    expect(image.digests).toEqual([`docker.io/library/app@${digest}`])
    for (const text of [`app@${digest}`, `app:whatever@${digest}`]) {
      expect((await at.store.images.resolve(text))?.id).toBe(image.id)
    }
    expect(await at.store.images.resolve(`other@${digest}`)).toBeUndefined()
  })

  test('is found by the digest of its manifest, which must be its own', async () => {
    const layer = await putLayer(at, { a: 'x' })
    const config = encodeConfig({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: [layer.diffId] },
    })
    const document = {
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: { mediaType: OCI_CONFIG, digest: digestOfBytes(config), size: config.length },
      layers: [{ mediaType: OCI_LAYER, digest: layer.diffId, size: 2048 }],
    }
    const put = (changes: object) =>
      at.store.images.put({
        config,
        manifest: Buffer.from(JSON.stringify({ ...document, ...changes })),
        references: ['app'],
      })
    await expect(put({ layers: [] })).rejects.toThrow(code('IMAGE_INVALID'))
    await expect(put({ config: { ...document.config, digest: layer.diffId } })).rejects.toThrow(code('IMAGE_INVALID'))
    const image = await put({})
    expect(image.manifest).toBe(digestOfBytes(JSON.stringify(document)))
    expect((await at.store.images.resolve(`app@${image.manifest}`))?.id).toBe(image.id)
    // Put again by somebody who knows no manifest: what was known stays.
    expect((await putImage(at, [layer], ['app:2'])).manifest).toBe(image.manifest)
  })

  test('loses its name to a newer one and stays', async () => {
    const layer = await putLayer(at, { a: 'x' })
    const old = await putImage(at, [layer], ['app:1'], { author: 'old' })
    const young = await putImage(at, [layer], ['app:1'], { author: 'young' })
    expect((await at.store.images.resolve('app:1'))?.id).toBe(young.id)
    expect((await at.store.images.get(old.id))?.references).toEqual([])
    expect((await at.store.images.list()).map(({ id }) => id).sort()).toEqual([old.id, young.id].sort())
  })

  test('may have no layers', async () => {
    const image = await putImage(at, [], ['empty'])
    expect(image).toMatchObject({ layers: [], sizeBytes: 0 })
  })

  test('needs its layers', async () => {
    const layer = await putLayer(at, { a: 'x' })
    await at.store.layers.remove(layer.chainId)
    await expect(putImage(at, [layer], ['app'])).rejects.toThrow(code('LAYER_DAMAGED'))
    expect(await at.store.images.list()).toEqual([])
  })

  test('knows what was built upon it', async () => {
    const base = await putLayer(at, { base: 'x' })
    const top = await putLayer(at, { top: 'y' }, base.chainId)
    const parent = await putImage(at, [base], ['base'])
    const child = await putImage(at, [base, top], ['child'])
    await putImage(at, [base], [], { author: 'same layers' })
    expect((await at.store.images.children(parent.id)).map(({ id }) => id)).toEqual([child.id])
    expect(await at.store.images.children(child.id)).toEqual([])
  })

  test('is listed with the newest first', async () => {
    const layer = await putLayer(at, { a: 'x' })
    for (const year of [2001, 2003, 2002])
      await putImage(at, [layer], [`app:${year}`], { created: `${year}-01-01T00:00:00Z` })
    const listed = await at.store.images.list()
    expect(listed.map(({ references }) => references[0]?.slice(-4))).toEqual(['2003', '2002', '2001'])
    expect(listed[0]?.createdAt).toEqual(new Date('2003-01-01T00:00:00Z'))
  })

  test('can have a name of any length that is allowed, in a file of its own', async () => {
    const layer = await putLayer(at, { a: 'x' })
    const names = [
      `registry.example:5000/${'a'.repeat(200)}:${'t'.repeat(128)}`,
      `a.b/${Array(60).fill('abc').join('/')}:x`,
      '[::1]:5000/a/b:c',
      'a/b:1',
      'a/b/c:1',
      'a:b',
    ]
    const image = await putImage(at, [layer], names)
    expect(image.references).toHaveLength(names.length)
    for (const name of names) expect((await at.store.images.resolve(name))?.id).toBe(image.id)
    for (const name of names) expect(await at.store.images.untag(name)).toBe(true)
    expect(await at.store.images.untag('a:b')).toBe(false)
    expect(readdirSync(join(world.home, 'refs'))).toEqual([])
  })

  test.each<[string, (id: string) => string]>([
    ['reference was torn', () => join(world.home, 'refs/docker.io/library/app/_tags/1')],
    ['record was torn', (id) => join(world.home, 'images', `${id.slice(7)}.json`)],
    ['config was torn', (id) => join(world.home, 'blobs/sha256', id.slice(7))],
  ])('whose %s is not there, is told, and can be put again', async (_what, path) => {
    const layer = await putLayer(at, { a: 'x' })
    const image = await putImage(at, [layer], ['app:1'])
    truncateSync(path(image.id), Math.floor(readFileSync(path(image.id)).length / 2))
    expect(await at.store.images.resolve('app:1')).toBeUndefined()
    expect(damages.at(-1)).toMatchObject({ code: 'STORE_DAMAGED', path: path(image.id) })
    await putImage(at, [layer], ['app:1'])
    expect((await at.store.images.resolve('app:1'))?.id).toBe(image.id)
  })

  test.each(['garbage', 'sha256:../../x\n', `sha512:${'a'.repeat(128)}\n`])(
    'is not what a reference edited to %j says',
    async (text) => {
      await putImage(at, [await putLayer(at, { a: 'x' })], ['app:1'])
      writeFileSync(join(world.home, 'refs/docker.io/library/app/_tags/1'), text)
      expect(await at.store.images.resolve('app:1')).toBeUndefined()
      expect(damages).toEqual([code('STORE_DAMAGED')])
    },
  )

  test('that lost a layer is listed on request, and whole again when the layer is', async () => {
    const layer = await putLayer(at, { a: 'x' })
    const image = await putImage(at, [layer], ['app:1'])
    rmSync(layer.tree, { recursive: true })
    expect(await at.store.images.resolve('app:1')).toBeUndefined()
    expect(await at.store.images.list()).toEqual([])
    expect(await at.store.images.list({ incomplete: true })).toEqual([
      expect.objectContaining({ id: image.id, layers: [], missing: [layer.chainId] }),
    ])
    await putLayer(at, { a: 'x' })
    expect((await at.store.images.resolve('app:1'))?.id).toBe(image.id)
  })

  describe('is removed as by docker rmi:', () => {
    test('by its only name, with everything that nothing else needs', async () => {
      const base = await putLayer(at, { base: 'x' })
      const [one, two] = [
        await putLayer(at, { one: '1' }, base.chainId),
        await putLayer(at, { two: '2' }, base.chainId),
      ]
      const image = await putImage(at, [base, one], ['one:1'])
      await putImage(at, [base, two], ['two:1'])
      expect(await at.store.images.remove('one:1')).toEqual({ untagged: ['one:1'], deleted: [image.id, one.chainId] })
      expect(existsSync(at.store.blobs.path(image.id))).toBe(false)
      expect((await at.store.layers.list()).sort()).toEqual([base.chainId, two.chainId].sort())
    })

    test('only a name goes while there are others', async () => {
      await putImage(at, [await putLayer(at, { a: 'x' })], ['app:1', 'app:2'])
      expect(await at.store.images.remove('app:1')).toEqual({ untagged: ['app:1'], deleted: [] })
      expect(await at.store.images.resolve('app:2')).toBeDefined()
    })

    test('a digest goes with the last tag of its repository', async () => {
      const digest = `app@sha256:${'e'.repeat(64)}`
      const image = await putImage(at, [], ['app:1', digest])
      expect(await at.store.images.remove('app:1')).toEqual({ untagged: ['app:1', digest], deleted: [image.id] })
    })

    test('by its id with several names in one repository, and with force in several', async () => {
      const image = await putImage(at, [], ['app:1', 'app:2'])
      expect((await at.store.images.remove(image.id.slice(7, 19))).untagged).toEqual(['app:1', 'app:2'])
      await putImage(at, [], ['app:1', 'other:1'])
      await expect(at.store.images.remove(image.id)).rejects.toThrow(code('IMAGE_IN_USE'))
      expect((await at.store.images.remove(image.id, { force: true })).deleted).toEqual([image.id])
      await expect(at.store.images.remove(image.id)).rejects.toThrow(code('IMAGE_NOT_FOUND'))
    })

    test('not while a container runs from it; one that has stopped can be overridden', async () => {
      await putImage(at, [], ['app:1'])
      const used = (isRunning: boolean) => ({ user: () => ({ name: 'db', isRunning }) })
      for (const options of [used(true), { ...used(true), force: true }, used(false)]) {
        await expect(at.store.images.remove('app:1', options)).rejects.toThrow(
          expect.objectContaining({ code: 'IMAGE_IN_USE', container: 'db' }),
        )
      }
      await at.store.images.tag((await at.store.images.resolve('app:1'))!.id, 'app:2')
      expect((await at.store.images.remove('app:2', used(true))).untagged).toEqual(['app:2'])
      expect((await at.store.images.remove('app:1', { ...used(false), force: true })).deleted).toHaveLength(1)
    })

    test('its layers stay while something is being written', async () => {
      const layer = await putLayer(at, { a: 'x' })
      const image = await putImage(at, [layer], ['app:1'])
      const other = await world.open()
      await other.store.writing(undefined, async () => {
        expect(await at.store.images.remove('app:1')).toEqual({ untagged: ['app:1'], deleted: [image.id] })
        expect(await at.store.layers.get(layer.chainId)).toBeDefined()
      })
      expect((await at.store.prune()).layers).toEqual([layer.chainId])
    })
  })
})
