/** Workspaces and kept layers as an ordinary user, where overlay marks its trees otherwise (userxattr) and ids are mapped. */

import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { wardenProgram } from '../../src/engine/where.js'
import { makeRootfs, missingBusybox } from '../support/rootfs.js'
import { bundleScenario, startScenario } from '../support/scenario.js'
import { openUnprivileged, type UnprivilegedTerritory } from '../support/unprivileged.js'

const reason = process.getuid?.() === 0 ? missingBusybox() : 'needs root, to become somebody else'
const modes = [
  { ids: 'single', range: false, skip: reason },
  { ids: 'range', range: true, skip: reason ?? (existsSync('/usr/bin/newuidmap') ? undefined : 'needs newuidmap') },
] as const

describe.each(modes)('as an ordinary user with ids "$ids"', ({ ids, range, skip }) => {
  describe.skipIf(skip)(`(${skip ?? 'here'})`, () => {
    let territory: UnprivilegedTerritory

    beforeAll(async () => {
      territory = await openUnprivileged({ range })
      makeRootfs(join(territory.home, 'rootfs'))
      execFileSync('chown', ['-hR', `${territory.uid}:${territory.uid}`, join(territory.home, 'rootfs')])
      copyFileSync(wardenProgram(), join(territory.directory, 'mayfly-warden'))
      chmodSync(join(territory.directory, 'mayfly-warden'), 0o755)
      const source = fileURLToPath(new URL('workspace-rootless.scenario.ts', import.meta.url))
      await bundleScenario(source, join(territory.directory, 'scenario.mjs'))
    })
    afterAll(() => territory?.[Symbol.dispose]())

    test('files are copied in, steps are kept as layers, and the next step sees them', async () => {
      const script = [process.execPath, join(territory.directory, 'scenario.mjs')]
      const scenario = startScenario(
        [...territory.enterAsUser, ...script, join(territory.home, 'rootfs'), territory.home],
        { MAYFLY_WARDEN: join(territory.directory, 'mayfly-warden') },
      )
      const facts = await scenario.fact()
      await scenario.ended
      const uid = range ? 7 : 0
      expect(facts).toEqual({
        ids,
        listed: ['d  755 0', `f file 755 ${uid}`, 'l link 777 0'],
        isEmpty: true,
        seen: 'new\nnone\n',
        second: ['app', 'etc'],
        fileMode: '755',
      })
    })
  })
})
