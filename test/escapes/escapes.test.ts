/**
 * Historic escapes of other engines, tried against this one, as root and as an ordinary user. SECURITY.md says which test is for which; the
 * cases are in cases/.
 */

import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { wardenProgram } from '../../src/engine/where.ts'
import { missingBusybox } from '../support/rootfs.ts'
import { bundleScenario, type Scenario, startScenario } from '../support/scenario.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { openUnprivileged, type UnprivilegedTerritory } from '../support/unprivileged.ts'
import { cases } from './cases/all.ts'
import { type EscapeWorld, layOut, openWorld } from './world.ts'

const sources = fileURLToPath(new URL('.', import.meta.url))
const noRoot = process.getuid?.() !== 0 ? 'needs root' : missingBusybox()
const noRange = existsSync('/usr/bin/newuidmap') ? noRoot : (noRoot ?? 'needs newuidmap: apt-get install uidmap')
if (noRange) console.warn(`skipped: escapes: ${noRange}`)

const namedFor = (user: 'root' | 'ordinary user') =>
  cases.filter(({ as = user }) => as === user).map((one) => [one.name, one] as const)

describe.skipIf(noRoot)('as root', () => {
  let directory: string
  let world: EscapeWorld

  beforeAll(async () => {
    directory = temporaryDirectory()
    layOut(directory, sources)
    world = await openWorld(directory)
  })

  afterAll(async () => {
    await world?.engine.close()
    rmSync(directory, { recursive: true, force: true })
  })

  test.each(namedFor('root'))('%s', async (_name, { run }) => {
    await run(world)
    world.assertUntouched()
  })

  test('what an exec holds is found by who may look for it: SYS_PTRACE opens the box, as SECURITY.md says', async () => {
    await using container = await world.start('exec hunt 3', 'hunting', { remove: false, capAdd: ['SYS_PTRACE'] })
    const signal = AbortSignal.timeout(18_000)
    while (container.state === 'running' && !signal.aborted)
      await container.exec(['true'], { signal }).catch(() => undefined)
    expect(await container.logText()).toMatch(/^descriptor .*\/sessions/m)
  })
})

describe.skipIf(noRange)('as an ordinary user', () => {
  let territory: UnprivilegedTerritory
  let scenario: Scenario

  beforeAll(async () => {
    territory = await openUnprivileged({ range: true })
    const { directory, home, uid } = territory
    layOut(home, sources)
    execFileSync('chown', ['-hR', `${uid}:${uid}`, home])
    // A checkout may lie where others cannot read.
    copyFileSync(wardenProgram(), join(directory, 'mayfly-warden'))
    chmodSync(join(directory, 'mayfly-warden'), 0o755)
    const bundle = join(directory, 'scenario.mjs')
    await bundleScenario(join(sources, 'escapes.scenario.ts'), bundle)
    scenario = startScenario([...territory.enterAsUser, process.execPath, bundle, home], {
      MAYFLY_WARDEN: join(directory, 'mayfly-warden'),
      TMPDIR: home,
    })
    expect(await scenario.fact()).toMatchObject({ rootless: true })
  })

  afterAll(async () => {
    scenario?.process.kill('SIGKILL')
    await scenario?.ended
    await territory?.clear()
    territory?.[Symbol.dispose]()
  })

  test.each(namedFor('ordinary user'))('%s', async (name) => {
    scenario.tell(name)
    expect(await scenario.fact()).toBe('')
  })
})
