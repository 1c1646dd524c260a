/** A process that has run out of descriptors is told so by an engine that cannot open, and can open one later. */

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { wardenProgram } from '../../src/engine/where.js'
import { bundleScenario, startScenario } from '../support/scenario.js'
import { makeWorld, obstacle } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: there is no warden here: ${why}`)

test.skipIf(why)('an engine that cannot open for want of descriptors says so, and nothing of it stays', async () => {
  const world = makeWorld()
  try {
    mkdirSync(world.home)
    const script = join(world.directory, 'scenario.mjs')
    await bundleScenario(fileURLToPath(new URL('exhausted.scenario.ts', import.meta.url)), script)
    const few = ['prlimit', '--nofile=64', process.execPath, script, world.home]
    const scenario = startScenario(few, { MAYFLY_WARDEN: wardenProgram() })
    expect(await scenario.fact()).toBe('open')
    const refused = { code: 'ENGINE_UNAVAILABLE', message: expect.any(String) }
    expect(await scenario.fact()).toEqual({ full: refused, nearlyFull: refused })
    expect(await scenario.fact()).toBe('open')
    expect(await scenario.ended).toMatchObject({ code: 0 })
  } finally {
    world.remove()
  }
})
