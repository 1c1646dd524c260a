import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { MayflyError } from '../../../src/engine/errors.js'
import { digestOfBytes } from '../../../src/engine/image/digest-of.js'
import { chainId } from '../../../src/engine/image/manifest.js'
import { digestLayer } from '../../../src/engine/store/layer-archive.js'
import { obstacle } from '../support/world.js'
import { makeStoreWorld, type OpenStore, putLayer, type StoreWorld, tarOf, unpackFiles } from './support.js'

const why = obstacle()
if (why) console.warn(`skipped: there is no warden here: ${why}`)

describe.skipIf(why)('a layer', () => {
  let world: StoreWorld
  let at: OpenStore
  let damages: MayflyError[]

  beforeAll(async () => {
    world = makeStoreWorld()
    at = await world.open()
    at.store.onDamage((damage) => damages.push(damage))
  })
  beforeEach(() => {
    damages = []
    at.store.disk.forgetDamages()
  })
  afterAll(() => world?.remove())

  const idOf = (files: Record<string, string>, parent?: string) => chainId(parent, digestOfBytes(tarOf(files)))
  const temporaries = () => readdirSync(join(at.session.facts.session, 'store'))
  const changeMarker = (id: string, changes: object) => {
    const path = join(at.store.layers.directory(id), 'layer.json')
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...changes }))
  }

  test('is made once and found by its chainID', async () => {
    const layer = await putLayer(at, { 'a.txt': 'hello' })
    expect(layer).toMatchObject({
      chainId: layer.diffId,
      parent: undefined,
      sizeBytes: 5,
      blobs: [],
      origin: 'unpacked',
    })
    expect(readFileSync(join(layer.tree, 'a.txt'), 'utf8')).toBe('hello')
    expect(await at.store.layers.get(layer.chainId)).toEqual(layer)
    const never = () => Promise.reject(new Error('made twice'))
    expect(await at.store.layers.ensure(layer.chainId, never)).toEqual(layer)
    expect(readdirSync(join(world.home, 'locks'))).toEqual([])
  })

  test('upon another one has a name of its own', async () => {
    const [base, other] = [await putLayer(at, { base: '1' }), await putLayer(at, { other: '2' })]
    const [one, two] = [await putLayer(at, { top: 'x' }, base.chainId), await putLayer(at, { top: 'x' }, other.chainId)]
    expect(one.diffId).toBe(two.diffId)
    expect(one.chainId).not.toBe(two.chainId)
    expect(await at.store.layers.chain([base.diffId, one.diffId])).toEqual([base, one])
    expect(await at.store.layers.chain([one.diffId, base.diffId])).toBeUndefined()
  })

  test('is made once for callers and sessions that want it at the same time', async () => {
    const other = await world.open()
    const files = { 'shared.txt': 'x' }
    let made = 0
    const makeIn =
      ({ session }: OpenStore) =>
      async (temporary: string) => {
        made++
        await new Promise((resolve) => setTimeout(resolve, 50))
        return unpackFiles(session, temporary, files)
      }
    const callers = [at, other, at, other, at, other]
    const layers = await Promise.all(callers.map((one) => one.store.layers.ensure(idOf(files), makeIn(one))))
    expect(made).toBe(1)
    for (const layer of layers) expect(layer).toEqual(layers[0])
  })

  test('whose making fails leaves nothing, and the next one makes it', async () => {
    const files = { 'failing.txt': 'x' }
    const fail = async (temporary: string) => {
      await unpackFiles(at.session, temporary, files)
      throw new Error('broken off')
    }
    const attempts = [0, 1].map(() => at.store.layers.ensure(idOf(files), fail))
    for (const attempt of attempts) await expect(attempt).rejects.toThrow('broken off')
    expect(temporaries()).toEqual([])
    expect(await at.store.layers.get(idOf(files))).toBeUndefined()
    await putLayer(at, files)
    expect(damages).toEqual([])
  })

  test('goes on being made for others when the first one loses interest', async () => {
    const files = { 'abandoned.txt': 'x' }
    const controller = new AbortController()
    const first = at.store.layers.ensure(
      idOf(files),
      () =>
        new Promise((_, reject) => controller.signal.addEventListener('abort', () => reject(controller.signal.reason))),
      controller.signal,
    )
    const second = at.store.layers.ensure(idOf(files), (temporary) => unpackFiles(at.session, temporary, files))
    first.catch(() => {})
    setTimeout(() => controller.abort(new Error('no longer needed')), 30)
    await expect(first).rejects.toThrow('no longer needed')
    expect((await second).chainId).toBe(idOf(files))
  })

  test('that somebody waits for can be given up alone', async () => {
    const files = { 'slow.txt': 'x' }
    let go = () => {}
    const gate = new Promise<void>((resolve) => {
      go = resolve
    })
    const first = at.store.layers.ensure(idOf(files), async (temporary) => {
      await gate
      return unpackFiles(at.session, temporary, files)
    })
    const never = () => Promise.reject(new Error('made twice'))
    const other = await world.open()
    const waiters = [at, other].map(({ store }) => store.layers.ensure(idOf(files), never, AbortSignal.timeout(100)))
    for (const waiter of waiters)
      await expect(waiter).rejects.toThrow(expect.objectContaining({ name: 'TimeoutError' }))
    go()
    expect((await first).chainId).toBe(idOf(files))
  })

  test('that is another one than was asked for is refused', async () => {
    const make = (temporary: string) => unpackFiles(at.session, temporary, { 'is.txt': 'this' })
    const wanted = idOf({ 'not.txt': 'that' })
    await expect(at.store.layers.ensure(wanted, make)).rejects.toThrow(
      expect.objectContaining({ code: 'DIGEST_MISMATCH', digest: wanted }),
    )
    expect(temporaries()).toEqual([])
  })

  test('is taken in from a directory, or that directory is dropped for an equal one', async () => {
    const files = { 'kept.txt': 'x' }
    for (const _ of [1, 2]) {
      const directory = await at.store.temporary()
      mkdirSync(directory)
      const facts = await unpackFiles(at.session, directory, files)
      const layer = await at.store.layers.adopt(directory, { ...facts, origin: 'packed' })
      expect(layer.chainId).toBe(idOf(files))
    }
    expect(temporaries()).toEqual([])
  })

  test('remembers the compressed forms it came in', async () => {
    const layer = await putLayer(at, { 'compressed.txt': 'x' })
    const blob = { mediaType: 'application/x', digest: `sha256:${'d'.repeat(64)}`, size: 9 }
    await at.store.layers.addBlob(layer.chainId, blob)
    await at.store.layers.addBlob(layer.chainId, blob)
    expect((await at.store.layers.get(layer.chainId))?.blobs).toEqual([blob])
  })

  test.each<[string, (id: string) => void]>([
    ['lost its layer.json', (id) => rmSync(join(at.store.layers.directory(id), 'layer.json'))],
    ['lost its tree', (id) => rmSync(join(at.store.layers.directory(id), 'tree'), { recursive: true })],
    ['has half a layer.json', (id) => writeFileSync(join(at.store.layers.directory(id), 'layer.json'), '{"chainId":')],
    ['has an empty layer.json', (id) => writeFileSync(join(at.store.layers.directory(id), 'layer.json'), '')],
    ['has a layer.json of another one', (id) => changeMarker(id, { chainId: `sha256:${'0'.repeat(64)}` })],
    ['has a diffID that does not fit', (id) => changeMarker(id, { diffId: `sha256:${'0'.repeat(64)}` })],
    ['was not flushed before the machine went down', (id) => changeMarker(id, { boot: 'an earlier one' })],
    [
      'is a file',
      (id) => {
        rmSync(at.store.layers.directory(id), { recursive: true })
        writeFileSync(at.store.layers.directory(id), 'x')
      },
    ],
  ])('that %s is named, counts as absent and is made again', async (how, harm) => {
    const files = { 'damaged.txt': how }
    const layer = await putLayer(at, files)
    harm(layer.chainId)
    expect(await at.store.layers.get(layer.chainId)).toBeUndefined()
    expect(damages).toEqual([
      expect.objectContaining({
        code: 'LAYER_DAMAGED',
        digest: layer.chainId,
        path: at.store.layers.directory(layer.chainId),
      }),
    ])
    expect((await putLayer(at, files)).chainId).toBe(layer.chainId)
    expect(readFileSync(join(layer.tree, 'damaged.txt'), 'utf8')).toBe(how)
  })

  test('survives a new boot once it was flushed', async () => {
    const layer = await putLayer(at, { 'flushed.txt': 'x' })
    const marker = () => JSON.parse(readFileSync(join(at.store.layers.directory(layer.chainId), 'layer.json'), 'utf8'))
    expect(marker().boot).toMatch(/./)
    await at.store.layers.flush([layer.chainId])
    expect(marker()).not.toHaveProperty('boot')
    expect(await at.store.layers.get(layer.chainId)).toEqual(layer)
    expect(temporaries()).toEqual([])
  })

  test('that we packed is verified by its diffID, and removed when it has changed', async () => {
    const directory = await at.store.temporary()
    mkdirSync(directory)
    const facts = await unpackFiles(at.session, directory, { 'packed.txt': 'good' })
    const { digest } = await digestLayer(at.session, { tree: join(directory, 'tree') })
    const { chainId: id, tree } = await at.store.layers.adopt(directory, { ...facts, diffId: digest, origin: 'packed' })
    expect(await at.store.layers.verify(id)).toBe('whole')
    writeFileSync(join(tree, 'packed.txt'), 'evil')
    await expect(at.store.layers.verify(id)).rejects.toThrow(
      expect.objectContaining({ code: 'LAYER_DAMAGED', digest: id }),
    )
    expect(await at.store.layers.get(id)).toBeUndefined()
  })

  test('that came from elsewhere is recorded first and compared then', async () => {
    const { chainId: id, tree } = await putLayer(at, { 'foreign.txt': 'good' })
    expect(await at.store.layers.verify(id)).toBe('recorded')
    expect(await at.store.layers.verify(id)).toBe('whole')
    rmSync(join(tree, 'foreign.txt'))
    await expect(at.store.layers.verify(id)).rejects.toThrow(/files have changed/)
    expect(await at.store.layers.get(id)).toBeUndefined()
  })

  test('can be verified together with everything else', async () => {
    const layer = await putLayer(at, { 'whole.txt': 'good' })
    const { digest } = await at.store.blobs.put(Buffer.from('blob'))
    const before = await at.store.verify()
    expect(before.damages).toEqual([])
    expect(before.recorded).toContain(layer.chainId)
    writeFileSync(join(layer.tree, 'whole.txt'), 'bad')
    writeFileSync(at.store.blobs.path(digest), 'blub')
    const { damages: found } = await at.store.verify()
    expect(found.map(({ code, digest }) => [code, digest])).toEqual([
      ['BLOB_DAMAGED', digest],
      ['LAYER_DAMAGED', layer.chainId],
    ])
    expect((await at.store.verify()).damages).toEqual([])
  })
})
