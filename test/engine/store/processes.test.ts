import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { bundleScenario, type Scenario, startScenario } from '../../support/scenario.js'
import { obstacle } from '../support/world.js'
import { makeStoreWorld, type StoreWorld } from './support.js'

const why = obstacle()
if (why) console.warn(`skipped: there is no warden here: ${why}`)

const KILLS = 12

describe.skipIf(why)('several processes that share a store', () => {
  let bundle: string
  let scenario: string
  let world: StoreWorld
  let started: Scenario[]

  beforeAll(async () => {
    // Below this directory, since the bundle looks for the native program from where it lies.
    bundle = mkdtempSync(fileURLToPath(new URL('.scenario-', import.meta.url)))
    scenario = join(bundle, 'scenario.mjs')
    await bundleScenario(fileURLToPath(new URL('scenario.ts', import.meta.url)), scenario)
  })
  afterAll(() => rmSync(bundle, { recursive: true, force: true }))
  beforeEach(() => {
    world = makeStoreWorld()
    started = []
  })
  afterEach(async () => {
    for (const one of started) one.process.kill('SIGKILL')
    await Promise.all(started.map((one) => one.ended))
    await world.remove()
  })

  const start = (mode: string, name = '') => {
    const one = startScenario([process.execPath, scenario, mode, world.home, name])
    started.push(one)
    return one
  }

  test('make a layer once', async () => {
    const racers = Array.from({ length: 4 }, () => start('race'))
    for (const racer of racers) expect(await racer.fact()).toBe('ready')
    for (const racer of racers) racer.tell('go')
    const results = await Promise.all(racers.map((racer) => racer.fact<{ isMaker: boolean; chainId: string }>()))
    expect(results.filter(({ isMaker }) => isMaker)).toHaveLength(1)
    expect(new Set(results.map(({ chainId }) => chainId)).size).toBe(1)
    for (const racer of racers) expect(await racer.ended).toMatchObject({ code: 0 })
    expect(readdirSync(join(world.home, 'locks'))).toEqual([])
    expect(readdirSync(join(world.home, 'layers'))).toHaveLength(1)
  })

  test(`leave nothing torn and nothing behind when they are killed, ${KILLS} times over`, async () => {
    // One writes and prunes all the time, so that every kill is also one beside a writer and a prune.
    const steady = start('churn', 'steady')
    await steady.fact()
    const finished: string[] = []
    for (let kill = 0; kill < KILLS; kill++) {
      const victim = start('churn', `victim${kill}`)
      finished.push(await victim.fact())
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 120))
      victim.process.kill('SIGKILL')
      await victim.ended
    }
    steady.process.kill('SIGKILL')
    await steady.ended

    const { store, session } = await world.open() // sweeps what the dead have left
    await expect
      .poll(() => readdirSync(join(world.home, 'sessions')), { timeout: 10_000 })
      .toEqual([session.facts.session.split('/').at(-1)])
    expect((await store.verify()).damages).toEqual([])
    // What was told to be done is there: the first image of every victim has an even number and keeps its name.
    for (const id of finished) expect((await store.images.resolve(`app:${id}`))?.layers, id).toHaveLength(2)
    for (const { id, references } of await store.images.list({ incomplete: true })) {
      expect((await store.images.get(id))?.missing, references.join()).toEqual([])
    }
    await store.prune({ all: true })
    for (const directory of ['layers', 'blobs/sha256', 'images', 'refs', 'locks']) {
      expect(readdirSync(join(world.home, directory)), directory).toEqual([])
    }
  })
})
