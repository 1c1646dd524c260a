/** Images as an ordinary user: made, built, pushed, pulled, saved and loaded, by an engine that has no privilege at all. */

import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { wardenProgram } from '../../src/engine/where.ts'
import { expectNothingLeft, type Leftovers, snapshotHost } from '../support/leftovers.ts'
import { missingRegistry, type Registry, startRegistry } from '../support/registry.ts'
import { makeRootfs, missingBusybox } from '../support/rootfs.ts'
import { bundleScenario, type Scenario, startScenario } from '../support/scenario.ts'
import { openUnprivileged, type UnprivilegedTerritory } from '../support/unprivileged.ts'
import type { Opened, Outcome, Task } from './store-kill.scenario.ts'

const reason =
  process.getuid?.() !== 0 ? 'needs root, to become somebody else' : (missingBusybox() ?? missingRegistry())
const noRange = ['newuidmap', 'newgidmap'].some((name) => !existsSync(`/usr/bin/${name}`))
  ? 'needs newuidmap: apt-get install uidmap'
  : undefined

const modes = [
  { ids: 'single', range: false, skip: reason },
  { ids: 'range', range: true, skip: reason ?? noRange },
] as const

for (const { ids, skip } of modes) if (skip) console.warn(`skipped: rootless images, ids "${ids}": ${skip}`)

describe.each(modes)('as an ordinary user with ids "$ids", an image', ({ range, skip }) => {
  describe.skipIf(skip)(`(${skip ?? 'here'})`, () => {
    let territory: UnprivilegedTerritory
    let registry: Registry
    let before: Leftovers
    let scenario: Scenario
    let home: string
    let archive: string

    beforeAll(async () => {
      territory = await openUnprivileged({ range })
      const { directory, uid } = territory
      home = join(territory.home, 'store')
      archive = join(territory.home, 'saved.tar')
      makeRootfs(join(directory, 'rootfs'))
      const base = join(territory.home, 'base.tar')
      execFileSync('tar', ['-C', join(directory, 'rootfs'), '--owner=0', '--group=0', '-cf', base, '.'])
      execFileSync('chown', [`${uid}:${uid}`, base])
      copyFileSync(wardenProgram(), join(directory, 'mayfly-warden'))
      chmodSync(join(directory, 'mayfly-warden'), 0o755)
      await bundleScenario(source, join(directory, 'scenario.mjs'))
      registry = await startRegistry({ enter: territory.enter })
      before = snapshotHost(territory)
      scenario = startScenario([...territory.enterAsUser, process.execPath, join(directory, 'scenario.mjs'), home], {
        MAYFLY_WARDEN: join(directory, 'mayfly-warden'),
        DOCKER_CONFIG: '/nonexistent',
        DOCKER_AUTH_CONFIG: undefined,
      })
      await scenario.fact<Opened>()
      await done({ kind: 'import', reference: 'base', archive: base })
    }, 60_000)

    afterAll(async () => {
      await registry?.[Symbol.asyncDispose]()
      await territory?.clear()
      territory?.[Symbol.dispose]()
    })

    const attempt = async (task: Task) => {
      scenario.tell(JSON.stringify(task))
      expect(await scenario.fact()).toBe('begins')
      return scenario.fact<Outcome>()
    }
    const done = async (task: Task) => {
      const outcome = await attempt(task)
      if ('error' in outcome) throw new Error(`${task.kind} failed: ${outcome.error}`)
      return outcome.result
    }
    const build = (dockerfile: string, tag: string) =>
      attempt({ kind: 'build', dockerfile, files: { 'dir/one': 'one', 'dir/two': 'two' }, tag })

    test('is built with everything that RUN, COPY and mounts do, and removed files stay removed', async () => {
      const dockerfile = [
        'FROM base AS made',
        'RUN mkdir -p /made/deep && echo x > /made/deep/file && rm -r /home && id -u > /made/id',
        'FROM made',
        'WORKDIR /data',
        'COPY dir /data/',
        'COPY --from=made /made/deep /data/deep',
        'RUN --mount=type=cache,target=/cache --mount=type=bind,target=/context --mount=type=tmpfs,target=/t \\',
        '  echo kept > /cache/kept && cp /context/dir/one /t/ && mv /t/one /data/three && rm /data/two',
        'RUN test ! -e /home && test ! -e /data/two && test "$(cat /made/id)" = 0 && ls -R /data > /made/list',
      ]
      expect(await build(dockerfile.join('\n'), 'built:1')).toHaveProperty('result')
      const again = await build(dockerfile.join('\n'), 'built:2')
      expect(again).toMatchObject({ result: expect.stringMatching(/^sha256:/) })
    })

    test('belongs to whom it says, as far as there are ids', async () => {
      const outcome = await build(
        'FROM base\nCOPY --chown=1000:1000 dir /owned\nRUN stat -c %u:%g /owned/one | grep -x 1000:1000',
        'owned:1',
      )
      if (range) expect(outcome).toHaveProperty('result')
      else expect(outcome).toMatchObject({ error: expect.stringMatching(/1000/) })
    })

    test('is the same after push and pull, and after save and load', async () => {
      const reference = `${registry.host}/built:1`
      expect(await build('FROM built:1\nLABEL pushed=1', reference)).toHaveProperty('result')
      const sum = await done({ kind: 'sum', reference })
      expect(sum).toMatch(/^[0-9a-f]{32} /)
      await done({ kind: 'push', reference })
      await done({ kind: 'save', reference, archive })
      for (const task of [
        { kind: 'pull', reference },
        { kind: 'load', reference, archive },
      ] as const) {
        for (const name of [reference, 'built:1', 'built:2', 'owned:1']) await done({ kind: 'remove', reference: name })
        await done({ kind: 'prune', all: false })
        await done(task)
        expect(await done({ kind: 'sum', reference }), task.kind).toBe(sum)
      }
    })

    test('is removed with everything, and the engine leaves nothing', async () => {
      await done({ kind: 'prune', all: true })
      for (const directory of ['layers', 'blobs/sha256', 'images', 'refs'])
        expect(readdirSync(join(home, directory), { recursive: true }), directory).toEqual([])
      scenario.tell('end')
      expect(await scenario.ended).toMatchObject({ code: 0 })
      await expectNothingLeft(territory, before)
    })
  })
})

const source = fileURLToPath(new URL('store-kill.scenario.ts', import.meta.url))
