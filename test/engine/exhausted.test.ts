/** A process that has run out of descriptors is told so by an engine that cannot open, and can open one later. */

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { wardenProgram } from '../../src/engine/where.js'
import { bundleScenario, type Scenario, startScenario } from '../support/scenario.js'
import { makeWorld, obstacle } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: there is no warden here: ${why}`)

test.skipIf(why)('an engine that cannot open for want of descriptors says so, and nothing of it stays', async () => {
  const world = makeWorld()
  let scenario: Scenario | undefined
  try {
    mkdirSync(world.home)
    const script = join(world.directory, 'scenario.mjs')
    await bundleScenario(fileURLToPath(new URL('exhausted.scenario.ts', import.meta.url)), script)
    const few = ['prlimit', '--nofile=64', process.execPath, script, world.home]
    scenario = startScenario(few, { MAYFLY_WARDEN: wardenProgram() })
    expect(await scenario.fact()).toBe('open')
    const refused = { code: 'ENGINE_UNAVAILABLE', message: expect.stringContaining('EMFILE') }
    const outcomes = new Set<unknown>()
    for (let left = 0; left < 30; left++) {
      const { outcome, more } = await scenario.fact<{ outcome: unknown; more: number }>()
      if (outcome !== 'open') expect(outcome, `${left} descriptors are left`).toEqual(refused)
      expect(more, `sockets that stay open where ${left} descriptors were left`).toBe(0)
      outcomes.add(outcome === 'open')
    }
    expect([...outcomes], 'both happened').toEqual([false, true])
    expect(await scenario.fact()).toBe('open')
    expect(await scenario.ended).toMatchObject({ code: 0 })
  } finally {
    scenario?.process.kill('SIGKILL')
    await scenario?.ended
    world.remove()
  }
})
