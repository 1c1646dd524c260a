import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { obstacle } from '../support/world.js'
import { makeStoreWorld, type OpenStore, putImage, putLayer, type StoreWorld } from './support.js'

const why = obstacle()
if (why) console.warn(`skipped: there is no warden here: ${why}`)

describe.skipIf(why)('a name that goes with a session', () => {
  let world: StoreWorld
  let one: OpenStore
  let other: OpenStore

  beforeEach(async () => {
    world = makeStoreWorld()
    ;[one, other] = [await world.open(), await world.open()]
  })
  afterEach(() => world?.remove())

  const name = async (at: OpenStore, reference: string, content: string) => {
    const { id } = await putImage(at, [await putLayer(at, { a: content })], [reference])
    await at.store.temporaryNames.add(reference, id)
    return id
  }
  const found = async (reference: string) => (await other.store.images.resolve(reference))?.id
  const records = () => readdirSync(join(world.home, 'temporary'))

  test('goes when the session says so, with the image', async () => {
    const id = await name(one, 'built:1', 'x')
    expect(await found('built:1')).toBe(id)
    await one.store.temporaryNames.forgetOwn()
    expect(await found('built:1')).toBeUndefined()
    expect(await found(id)).toBeUndefined()
    expect(records()).toEqual([])
  })

  test('is taken away by another session once the one that gave it is no more', async () => {
    const id = await name(one, 'built:1', 'x')
    await other.store.temporaryNames.forgetEnded()
    expect(await found('built:1')).toBe(id)
    await one.close()
    await other.store.temporaryNames.forgetEnded()
    expect(await found('built:1')).toBeUndefined()
    expect(records()).toEqual([])
  })

  test('stays while another session has given it to the same image', async () => {
    const id = await name(one, 'built:1', 'x')
    await name(other, 'built:1', 'x')
    await one.store.temporaryNames.forgetOwn()
    expect(await found('built:1')).toBe(id)
    await other.store.temporaryNames.forgetOwn()
    expect(await found('built:1')).toBeUndefined()
  })

  test('stays when it means another image by now', async () => {
    await name(one, 'built:1', 'x')
    const { id } = await putImage(other, [await putLayer(other, { a: 'y' })], ['built:1'])
    await one.store.temporaryNames.forgetOwn()
    expect(await found('built:1')).toBe(id)
  })
})
