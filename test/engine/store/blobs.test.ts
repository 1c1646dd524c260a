import { createHash } from 'node:crypto'
import { readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { MayflyError } from '../../../src/engine/errors.js'
import { obstacle } from '../support/world.js'
import { makeStoreWorld, type OpenStore, type StoreWorld } from './support.js'

const why = obstacle()
if (why) console.warn(`skipped: there is no warden here: ${why}`)

const sha256 = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`

describe.skipIf(why)('a blob', () => {
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

  const temporaries = () => readdirSync(join(at.session.facts.session, 'store'))
  const streamed = async (digest: string) => {
    const pieces: Buffer[] = []
    for await (const piece of at.store.blobs.open(digest)) pieces.push(piece)
    return Buffer.concat(pieces).toString()
  }

  test('is kept under its digest and read again', async () => {
    const { digest, size } = await at.store.blobs.put(Buffer.from('hello'))
    expect({ digest, size }).toEqual({ digest: sha256('hello'), size: 5 })
    expect(await at.store.blobs.has(digest, 5)).toBe(true)
    expect((await at.store.blobs.read(digest, 10)).toString()).toBe('hello')
    expect(await streamed(digest)).toBe('hello')
    expect(temporaries()).toEqual([])
  })

  test('that is not there is told by its digest', async () => {
    const digest = sha256('nobody has this')
    expect(await at.store.blobs.has(digest)).toBe(false)
    const missing = expect.objectContaining({ code: 'BLOB_NOT_FOUND', digest })
    await expect(at.store.blobs.read(digest, 10)).rejects.toThrow(missing)
    await expect(streamed(digest)).rejects.toThrow(missing)
  })

  test('is written piece by piece, and begun anew when the other side begins anew', async () => {
    const writer = await at.store.blobs.writer()
    await writer.write(Buffer.from('wrong'))
    await writer.restart()
    await writer.write(Buffer.from('one'))
    expect([writer.size, writer.digest]).toEqual([3, sha256('one')])
    await writer.write(Buffer.from(' two'))
    expect(await writer.commit({ digest: sha256('one two'), size: 7 })).toEqual({ digest: sha256('one two'), size: 7 })
    expect(await streamed(sha256('one two'))).toBe('one two')
    await writer.abort()
    expect(await at.store.blobs.has(sha256('one two'))).toBe(true)
  })

  test.each([
    ['another digest', { digest: sha256('else') }, 'DIGEST_MISMATCH'],
    ['another size', { digest: sha256('data'), size: 5 }, 'SIZE_MISMATCH'],
  ])('of %s is refused and leaves nothing', async (_what, expected, code) => {
    const writer = await at.store.blobs.writer()
    await writer.write(Buffer.from('data'))
    await expect(writer.commit(expected)).rejects.toThrow(expect.objectContaining({ code, digest: expected.digest }))
    expect(temporaries()).toEqual([])
    expect(await at.store.blobs.has(expected.digest)).toBe(false)
  })

  test('of another algorithm is checked with that one', async () => {
    const writer = await at.store.blobs.writer('sha512')
    await writer.write(Buffer.from('data'))
    const digest = `sha512:${createHash('sha512').update('data').digest('hex')}`
    await writer.commit({ digest })
    expect(await streamed(digest)).toBe('data')
    expect(await at.store.blobs.list()).toContainEqual({ digest, size: 4 })
  })

  test.each([
    ['changed', (path: string) => writeFileSync(path, 'jello')],
    ['cut off', (path: string) => truncateSync(path, 2)],
    ['emptied by a power cut', (path: string) => truncateSync(path, 0)],
  ])('that was %s is named, removed, and can be put again', async (_how, harm) => {
    const { digest } = await at.store.blobs.put(Buffer.from('hello'))
    const path = at.store.blobs.path(digest)
    for (const read of [
      () => at.store.blobs.read(digest, 10),
      () => streamed(digest),
      () => at.store.blobs.verify(digest),
    ]) {
      await at.store.blobs.put(Buffer.from('hello'))
      harm(path)
      await expect(read()).rejects.toThrow(expect.objectContaining({ code: 'BLOB_DAMAGED', digest, path }))
      expect(await at.store.blobs.has(digest)).toBe(false)
    }
    expect(damages.map(({ code }) => code)).toEqual(['BLOB_DAMAGED'])
    await at.store.blobs.put(Buffer.from('hello'))
    expect(await streamed(digest)).toBe('hello')
  })

  test('of the wrong size counts as absent without being read', async () => {
    const { digest } = await at.store.blobs.put(Buffer.from('sized'))
    truncateSync(at.store.blobs.path(digest), 3)
    expect(await at.store.blobs.has(digest, 5)).toBe(false)
    expect(damages).toEqual([expect.objectContaining({ code: 'BLOB_DAMAGED', digest })])
  })

  test('that is too long is not read into memory', async () => {
    const { digest } = await at.store.blobs.put(Buffer.alloc(100))
    await expect(at.store.blobs.read(digest, 99)).rejects.toThrow(expect.objectContaining({ code: 'IMAGE_INVALID' }))
  })

  test('must have a digest that is one: it becomes a path', async () => {
    expect(() => at.store.blobs.path('sha256:../../../etc/passwd')).toThrow(TypeError)
    expect(() => at.store.blobs.path('../x:00')).toThrow(TypeError)
  })

  test('goes where its directory was removed', async () => {
    rmSync(join(world.home, 'blobs'), { recursive: true })
    const { digest } = await at.store.blobs.put(Buffer.from('again'))
    expect(await streamed(digest)).toBe('again')
  })
})
