/** How prepared states are kept, and which of them go. What is in them is told by test/engine/snapshot.test.ts. */

import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { PreparedStates } from '../../../src/engine/store/prepared.js'
import { obstacle } from '../support/world.js'
import { makeStoreWorld, type OpenStore, type StoreWorld } from './support.js'

const why = obstacle()
if (why) console.warn(`skipped: there is no warden here: ${why}`)

const HOUR = 3_600_000

describe.skipIf(why)('prepared states', () => {
  let world: StoreWorld
  let at: OpenStore
  let states: PreparedStates
  let base: string

  beforeEach(async () => {
    world = makeStoreWorld()
    at = await world.open()
    states = new PreparedStates(at.store.disk, { bytes: 1000, unusedMs: 24 * HOUR, graceMs: 60_000 })
    base = join(world.home, 'layers', 'base')
    mkdirSync(base, { recursive: true })
  })
  afterEach(() => world?.remove())

  const prepare = (key: string, sizeBytes: number, among = states) =>
    among.ensure(key, async (target) => {
      await mkdir(join(target, 'tree'), { recursive: true })
      return { below: [base], sizeBytes }
    })
  const directoryOf = (key: string) => join(states.get(key)!.layers[0]!, '..')
  const age = (key: string, hours: number) => {
    const then = (Date.now() - hours * HOUR) / 1000
    utimesSync(directoryOf(key), then, then)
  }
  const nameOf = (key: string) => createHash('sha256').update(key).digest('hex')
  /** Without using them. */
  const present = async (...keys: string[]) => {
    const entries = await Promise.all(keys.map((key) => states.entry(nameOf(key))))
    return keys.filter((_key, index) => entries[index]?.isUsable)
  }

  test('go when they are too much, those first that were not used for longest', async () => {
    for (const [index, key] of ['a', 'b', 'c'].entries()) {
      await prepare(key, 400)
      age(key, 10 - index)
    }
    expect(await present('a', 'b', 'c')).toEqual(['b', 'c']) // the third was one too many
    await prepare('d', 300)
    expect(await present('a', 'b', 'c', 'd')).toEqual(['c', 'd'])
    expect(readdirSync(join(world.home, 'locks'))).toEqual([])
  })

  test('count as used when they are asked for, also by a process that asks for the second time', async () => {
    await prepare('a', 400)
    await prepare('b', 400)
    age('b', 9)
    age('a', 10)
    new PreparedStates(at.store.disk).get('a') // as another process does
    await prepare('c', 400)
    expect(await present('a', 'b', 'c')).toEqual(['a', 'c'])
  })

  test('stay for a moment after their use, however many there are', async () => {
    for (const key of ['a', 'b', 'c', 'd']) await prepare(key, 400)
    expect(await present('a', 'b', 'c', 'd')).toEqual(['a', 'b', 'c', 'd'])
  })

  test('go when they were not used for long, however few there are', async () => {
    await prepare('a', 1)
    age('a', 25)
    await prepare('b', 1)
    expect(await present('a', 'b')).toEqual(['b'])
  })

  test('go when nobody can use them any more: they are of an earlier boot, or what they stand on is gone', async () => {
    for (const key of ['earlier', 'baseless', 'fresh']) await prepare(key, 1)
    const [earlier, baseless, fresh] = ['earlier', 'baseless', 'fresh'].map(directoryOf)
    const change = (directory: string, facts: object) => {
      const marker = join(directory, 'state.json')
      writeFileSync(marker, JSON.stringify({ ...JSON.parse(readFileSync(marker, 'utf8')), ...facts }))
    }
    for (const key of ['earlier', 'baseless']) age(key, 1)
    change(earlier!, { boot: 'another' })
    change(baseless!, { below: [join(world.home, 'layers', 'gone')] })
    expect(await present('earlier', 'baseless', 'fresh')).toEqual(['fresh'])
    await prepare('one more', 1)
    expect(readdirSync(join(world.home, 'cache', 'prepared')).length).toBe(2)
    expect(directoryOf('fresh')).toBe(fresh)
  })

  test('stay while somebody needs them, and the next ones that are too much go instead', async () => {
    await prepare('held', 400)
    await prepare('b', 400)
    const other = await world.open()
    const letGo = await other.store.prepared.hold([...states.get('held')!.layers, '/somewhere/else'])
    age('held', 30)
    age('b', 10)
    await prepare('c', 400)
    expect(await present('held', 'b', 'c')).toEqual(['held', 'c'])
    expect(await states.removeKey('held')).toBe('busy')
    letGo()
    await expect.poll(() => states.removeKey('held')).toBe('removed')
  })

  test('stay while a session needs them, and no longer', async () => {
    await prepare('held', 1)
    const other = await world.open()
    await other.store.prepared.hold(states.get('held')!.layers)
    expect(await states.removeKey('held')).toBe('busy')
    await other.close()
    await expect.poll(() => states.removeKey('held')).toBe('removed')
  })

  test('are counted, with their size, and pruned', async () => {
    await prepare('a', 400)
    await prepare('b', 30)
    age('a', 2)
    expect(await at.store.usage()).toMatchObject({
      preparedStates: { count: 2, active: 0, sizeBytes: 430, reclaimableBytes: 430 },
    })
    expect(await at.store.prune({ dryRun: true })).toMatchObject({ preparedStates: 2, bytesFreed: 430 })
    const until = new Date(Date.now() - HOUR)
    expect(await at.store.prune({ until })).toMatchObject({ preparedStates: 1, bytesFreed: 400 })
    rmSync(join(directoryOf('b'), 'state.json')) // damaged: nothing is known of it
    expect(await at.store.prune()).toMatchObject({ preparedStates: 1, bytesFreed: 0 })
    expect(await at.store.usage()).toMatchObject({ preparedStates: { count: 0, sizeBytes: 0 } })
  })
})
