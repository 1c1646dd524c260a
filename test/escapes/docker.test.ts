/** Where Debian's Docker 20.10 is open and this engine is not: the same attack on both. */

import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Dockerd, missingDocker, startDockerd } from '../support/dockerd.ts'
import { missingBusybox } from '../support/rootfs.ts'
import { type EscapeWorld, layOut, openWorld } from './world.ts'

const sources = fileURLToPath(new URL('.', import.meta.url))
const skip = process.getuid?.() !== 0 ? 'needs root' : (missingDocker() ?? missingBusybox())
if (skip) console.warn(`skipped: escapes beside Docker: ${skip}`)

describe.skipIf(skip)('beside Debian’s Docker 20.10', () => {
  let docker: Dockerd
  let world: EscapeWorld
  let directory: string

  beforeAll(async () => {
    docker = await startDockerd()
    directory = join(docker.directory, 'escapes')
    mkdirSync(directory)
    layOut(directory, sources)
    world = await openWorld(directory)
    execFileSync('tar', ['-C', world.rootfs.directory, '-cf', join(directory, 'base.tar'), '.'])
    await docker.docker('import', join(directory, 'base.tar'), 'base')
    await using container = await world.engine.create({ rootfs: world.rootfs, command: ['true'] })
    await container.commit({ reference: 'base', changes: ['CMD ["sh"]'] })
  }, 60_000)

  afterAll(async () => {
    await world?.engine.close()
    await docker?.[Symbol.asyncDispose]()
  })

  test('a step that puts a link in the place of a mount point has no file of the host removed, as Docker 20.10 removes it (CVE-2024-23652)', async ({
    skip: skipHere,
  }) => {
    if (!docker.description.startsWith('20.10')) skipHere(`this is ${docker.description}`)
    const victim = join(directory, 'victim')
    const left = async (attack: (dockerfile: string) => Promise<unknown>) => {
      rmSync(victim, { recursive: true, force: true })
      mkdirSync(victim)
      writeFileSync(join(victim, 'precious'), '')
      await attack(`FROM base
RUN --mount=type=tmpfs,target=/stub/precious mv /stub /moved && ln -s ${victim} /stub
`).catch(() => {})
      return readdirSync(victim)
    }
    const theirs = await left(async (dockerfile) => {
      const context = join(directory, 'context')
      mkdirSync(context)
      writeFileSync(join(context, 'Dockerfile'), dockerfile)
      const [program, ...args] = [...docker.client, 'build', '--network=none', context]
      await promisify(execFile)(program!, args, { env: { ...process.env, DOCKER_BUILDKIT: '1' } })
    })
    const ours = await left((dockerfile) => world.engine.images.build({ context: { dockerfile } }))
    expect({ theirs, ours }).toEqual({ theirs: [], ours: ['precious'] })
  })

  test('AF_ALG, AF_VSOCK and io_uring are refused, which Docker 20.10 lets through (CVE-2026-31431)', async ({
    skip: skipHere,
  }) => {
    if (!docker.description.startsWith('20.10')) skipHere(`this is ${docker.description}`)
    const theirs = await docker.docker('run', '--rm', '--network=none', 'base', 'sharp')
    // EAFNOSUPPORT: the filter lets it through, this kernel happens to have no AF_ALG.
    expect(theirs).toMatch(/^AF_ALG=(0|EAFNOSUPPORT)\nAF_VSOCK=(0|EAFNOSUPPORT)\nio_uring_setup=0\n/)
    expect((await world.run('sharp')).stdout).toMatch(/^AF_ALG=EPERM\nAF_VSOCK=EPERM\nio_uring_setup=EPERM\n/)
  })
})
