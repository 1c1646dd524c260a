import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Engine } from '../../../src/index.js'
import { makeWorld, obstacle } from '../support/world.js'
import { makeStoreWorld, type OpenStore, openStore, putImage, putLayer, type StoreWorld } from './support.js'

const why = obstacle()
if (why) console.warn(`skipped: there is no warden here: ${why}`)

describe.skipIf(why)('pruning', () => {
  let world: StoreWorld
  let at: OpenStore

  beforeEach(async () => {
    world = makeStoreWorld()
    at = await world.open()
  })
  afterEach(() => world?.remove())

  const cacheEntry = (name: string, text: string) => {
    const path = join(world.home, 'cache', 'build', name)
    writeFileSync(path, text)
    return path
  }

  test('removes images without a name, and what no image needs', async () => {
    const [kept, lost, orphan] = [
      await putLayer(at, { k: 'kk' }),
      await putLayer(at, { l: 'lll' }),
      await putLayer(at, { o: 'oooo' }),
    ]
    await putImage(at, [kept], ['kept:1'])
    const dangling = await putImage(at, [lost], [])
    const { digest } = await at.store.blobs.put(Buffer.from('nobody needs this'))
    const dry = await at.store.prune({ dryRun: true })
    const result = await at.store.prune()
    expect({ ...dry, layers: [...dry.layers].sort() }).toEqual({ ...result, layers: [...result.layers].sort() })
    expect(result).toMatchObject({ images: [dangling.id], busy: [], tars: [], cacheEntries: 0 })
    expect([...result.layers].sort()).toEqual([lost.chainId, orphan.chainId].sort())
    expect([...result.blobs].sort()).toEqual([dangling.id, digest].sort())
    expect(result.bytesFreed).toBeGreaterThanOrEqual(3 + 4 + 17)
    expect(await at.store.layers.list()).toEqual([kept.chainId])
    expect(await at.store.images.resolve('kept:1')).toBeDefined()
    expect(await at.store.prune()).toMatchObject({ images: [], layers: [], blobs: [], bytesFreed: 0 })
  })

  test('of everything spares what a container uses and what is younger', async () => {
    const image = await putImage(at, [await putLayer(at, { a: 'x' })], ['app:1'])
    const yesterday = new Date(Date.now() - 86_400_000)
    expect(await at.store.prune({ all: true, until: yesterday })).toMatchObject({ images: [], layers: [] })
    const user = () => ({ name: 'db', isRunning: true })
    expect(await at.store.prune({ all: true, user })).toMatchObject({ images: [], layers: [] })
    expect(await at.store.prune({ all: true })).toMatchObject({
      images: [image.id],
      layers: [image.layers[0]!.chainId],
    })
  })

  test('keeps layers of the build cache and all below them, until the build cache goes too', async () => {
    const base = await putLayer(at, { base: 'x' })
    const top = await putLayer(at, { top: 'y' }, base.chainId)
    cacheEntry('a'.repeat(64), JSON.stringify({ version: 1, layer: top.chainId }))
    cacheEntry('b'.repeat(64), 'torn {"la')
    expect(await at.store.prune()).toMatchObject({ layers: [] })
    const mount = join(world.home, 'cache', 'mounts', 'apt')
    mkdirSync(join(mount, 'tree', 'deep'), { recursive: true })
    expect(await at.store.usage()).toMatchObject({ buildCache: { count: 2, sizeBytes: expect.any(Number) } })
    const result = await at.store.prune({ buildCache: true })
    expect(result).toMatchObject({ cacheEntries: 2, cacheMounts: 1 })
    expect([...result.layers].sort()).toEqual([base.chainId, top.chainId].sort())
    expect(readdirSync(join(world.home, 'cache', 'build'))).toEqual([])
    expect(readdirSync(join(world.home, 'cache', 'mounts'))).toEqual([])
  })

  test('removes the directories of a name that was never written', async () => {
    await putImage(at, [await putLayer(at, { k: 'kk' })], ['kept:1'])
    const refs = join(world.home, 'refs')
    mkdirSync(join(refs, 'docker.io', 'library', 'torn', '_tags'), { recursive: true })
    mkdirSync(join(refs, 'localhost:1', 'a', 'b', '_digests'), { recursive: true })
    await at.store.prune({ dryRun: true })
    expect(readdirSync(refs)).toEqual(['docker.io', 'localhost:1'])
    await at.store.prune()
    expect(readdirSync(refs)).toEqual(['docker.io'])
    expect(readdirSync(join(refs, 'docker.io', 'library'))).toEqual(['kept'])
    expect(await at.store.images.resolve('kept:1')).toBeDefined()
  })

  test('forgets the digests of files together with the build cache', async () => {
    const directory = join(world.home, 'cache', 'digests')
    for (const name of ['context-1', 'copy-1', 'f'.repeat(64)]) writeFileSync(join(directory, name), 'what is known')
    await at.store.prune()
    expect(readdirSync(directory)).toHaveLength(3)
    const yesterday = new Date(Date.now() - 86_400_000)
    await at.store.prune({ buildCache: true, until: yesterday })
    await at.store.prune({ buildCache: true, dryRun: true })
    expect(readdirSync(directory)).toHaveLength(3)
    expect(await at.store.prune({ buildCache: true })).toMatchObject({ cacheEntries: 0, bytesFreed: 39 })
    expect(readdirSync(directory)).toEqual([])
  })

  test('waits for writers, and gives up when they take too long', async () => {
    const other = await world.open()
    let layer = ''
    let done = () => {}
    const written = other.store.writing(undefined, async () => {
      layer = (await putLayer(other, { young: 'x' })).chainId
      await new Promise<void>((resolve) => {
        done = resolve
      })
      await putImage(other, [(await other.store.layers.get(layer))!], ['young'])
    })
    await expect.poll(() => layer).not.toBe('')
    await expect(at.store.prune({ waitMs: 100 })).rejects.toThrow(expect.objectContaining({ code: 'STORE_BUSY' }))
    await expect(at.store.prune({ signal: AbortSignal.timeout(100) })).rejects.toThrow(
      expect.objectContaining({ name: 'TimeoutError' }),
    )
    const pruned = at.store.prune()
    done()
    await written
    expect(await pruned).toMatchObject({ layers: [], blobs: [] })
    expect(await at.store.images.resolve('young')).toBeDefined()
  })

  test('keeps writers out only while it lasts, also in the same process', async () => {
    const rounds = Array.from({ length: 8 }, async (_, n) => {
      const image = await at.store.writing(undefined, async () =>
        putImage(at, [await putLayer(at, { [`n${n}`]: 'x' })], [`app:${n}`]),
      )
      await at.store.prune()
      return image
    })
    await Promise.all(rounds)
    expect(await at.store.images.list()).toHaveLength(8)
  })

  test('tells how much there is, and how much can go', async () => {
    const base = await putLayer(at, { base: 'x'.repeat(1000) })
    const top = await putLayer(at, { top: 'y'.repeat(100) }, base.chainId)
    const used = await putImage(at, [base], ['base'])
    await putImage(at, [base, top], ['top'])
    await at.store.blobs.put(Buffer.alloc(77))
    const usage = await at.store.usage({ user: (id) => (id === used.id ? { name: 'c', isRunning: true } : undefined) })
    expect(usage.images).toEqual({ count: 2, active: 1, sizeBytes: 1100, reclaimableBytes: 100 })
    expect(usage.blobs).toMatchObject({ count: 3, active: 2, reclaimableBytes: 77 })
  })

  test('removes what is damaged', async () => {
    const layer = await putLayer(at, { a: 'x' })
    const image = await putImage(at, [layer], ['app:1'])
    writeFileSync(join(at.store.layers.directory(layer.chainId), 'layer.json'), '')
    writeFileSync(join(world.home, 'refs/docker.io/library/app/_tags/1'), '')
    writeFileSync(join(world.home, 'locks', 'f'.repeat(64)), '') // of somebody who was killed
    expect(await at.store.prune()).toMatchObject({ images: [image.id], layers: [layer.chainId] })
    expect(readdirSync(join(world.home, 'refs'))).toEqual([])
    expect(readdirSync(join(world.home, 'locks'))).toEqual([])
  })
})

describe.skipIf(why)('beside a container that runs,', () => {
  test('its layers stay, named or not, and go when it has gone', async () => {
    const world = makeWorld()
    const engine = await Engine.open({ home: world.home, network: false })
    try {
      const other = await openStore(world.home)
      const { store } = other
      try {
        const layer = await putLayer(other, { 'marker.txt': 'still here' })
        const container = await engine.start({
          rootfs: { layers: [world.rootfs, layer.tree] },
          command: ['sleep', '60'],
          init: true,
        })
        expect(await store.prune({ all: true })).toMatchObject({ layers: [], busy: [layer.chainId] })
        const { stdout } = await container.exec(['cat', '/marker.txt'])
        expect(stdout).toBe('still here')
        await container.remove({ force: true })
        await engine.close() // an overlay that nothing was written to stays mounted for the next container
        expect(await store.prune({ all: true })).toMatchObject({ layers: [layer.chainId], busy: [] })
      } finally {
        await other.close()
      }
    } finally {
      await engine.close()
      world.remove()
    }
  })
})
