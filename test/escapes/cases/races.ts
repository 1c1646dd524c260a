/** Containers that share a volume and change it while others start upon it, and build steps that do so with a cache. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { type Case, type EscapeWorld, persist } from '../world.ts'

/** A container that exchanges /v/d, a directory, and /v/l, a link to `target`, in a volume. */
const swapper = (world: EscapeWorld, source: string, target: string) =>
  world.start(`mkdir -p /v/d/x/attr /v/d/sys; ln -s ${target} /v/l; exec swap /v/d /v/l`, 'swapping', {
    mounts: [{ type: 'volume', source, target: '/v' }],
  })

const hostMounts = () => readFileSync('/proc/self/mountinfo', 'utf8')

export const races: readonly Case[] = [
  {
    name: 'a mount target in a volume that another container turns into a link mounts and makes nothing outside (CVE-2021-30465, CVE-2024-45310)',
    run: async (world) => {
      const { outside } = world
      for (const target of [outside, `../../../../../../../../..${outside}`]) {
        await using attacker = await swapper(world, 'raced', target)
        const started = await persist(800, async (round) => {
          const name = `made-${round}`
          const mounts = [
            { type: 'volume' as const, source: 'raced', target: '/v' },
            { type: 'tmpfs' as const, target: `/v/d/x/${name}` },
            { type: 'bind' as const, source: world.rootfs.directory, target: `/v/d/${name}`, readonly: true },
          ]
          await world.run('true', { mounts })
        })
        assert.ok(started >= 0)
        assert.equal(attacker.state, 'running')
        assert.doesNotMatch(hostMounts(), /made-\d/)
      }
    },
  },
  {
    name: 'a mount target that turns into a link to /proc does not cover what is written there (CVE-2025-52881)',
    run: async (world) => {
      await using attacker = await swapper(world, 'covering', '/proc/self')
      await persist(1_000, async (round) => {
        const mounts = [
          { type: 'volume' as const, source: 'covering', target: '/v' },
          { type: 'tmpfs' as const, target: round % 2 ? '/v/d/attr' : '/v/d/sys' },
        ]
        const sysctls = { 'net.core.somaxconn': '77' }
        const { stdout } = await world.run(
          'cat /proc/sys/net/core/somaxconn; grep " /proc/self\\| /proc/[0-9]" /proc/mounts',
          { mounts, sysctls },
        )
        assert.equal(stdout, '77\n')
      })
      assert.equal(attacker.state, 'running')
    },
  },
  {
    name: 'the source of a cache mount that another step turns into a link stays in the cache (CVE-2024-23651, CVE-2024-11218)',
    run: async (world) => {
      const { engine, outside } = world
      await using base = await engine.create({ rootfs: world.rootfs, command: ['true'] })
      await base.commit({ reference: 'attacker:1', changes: ['CMD ["sh"]'] })
      let output = ''
      const built = await persist(1_500, async (round) => {
        const cache = (more: string) => `RUN --mount=type=cache,id=raced-${round},${more}`
        const read = cache('target=/m,source=d (cat /m/canary; echo evil > /m/canary) 2>&1 || true')
        await engine.images.build({
          noCache: true,
          context: {
            dockerfile: `FROM attacker:1 AS prepared
${cache('target=/c')} mkdir /c/d && echo -n fine > /c/d/canary && ln -s ${outside} /c/l
FROM prepared AS swapping
${cache('target=/c')} timeout 0.5 swap /c/d /c/l; touch /done
FROM prepared AS reading
${read.concat('\n').repeat(5)}FROM scratch
COPY --from=swapping /done /
COPY --from=reading /etc/passwd /`,
          },
          onEvent: (event) => {
            if (event.type === 'output') output += Buffer.from(event.data).toString()
          },
        })
      })
      assert.doesNotMatch(output, /untouched/)
      assert.match(output, /swapping/)
      assert.doesNotMatch(output, /renameat2/)
      assert.match(output, /fine|evil|canary/)
      assert.ok(built >= 0)
    },
  },
]
