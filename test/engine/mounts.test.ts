/** Mounts: directories of this machine, images, volumes without a name, and what another container has. */

import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { type ContainerOptions, Engine, type Mount } from '../../src/index.js'
import { fault, useEngine } from './support/own-engine.js'
import { obstacle, type World } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

describe.skipIf(why)('mounts', () => {
  let world: World
  let engine: Engine
  let image: string

  useEngine((own) => {
    world = own.world
    engine = own.engine
  })

  beforeEach(async () => {
    const { image: built } = await engine.images.build({
      context: {
        dockerfile: 'FROM scratch\nCOPY one /dir/one\nCOPY two /dir/two\nCOPY one /dir/sub/one\n',
        files: { one: 'first', two: 'second' },
      },
      tags: ['assets:1'],
    })
    image = built.id
  })

  const base = (more: Partial<ContainerOptions>): ContainerOptions => ({
    rootfs: { directory: world.rootfs },
    command: ['sleep', '1000'],
    ...more,
  })
  const sh = async (script: string, mounts: readonly Mount[], more: Partial<ContainerOptions> = {}) => {
    const { stdout, stderr } = await engine.run(base({ mounts, command: ['sh', '-c', script], ...more }))
    return (stdout + stderr).trim()
  }

  describe('of directories of this machine', () => {
    test('are refused when they are missing, or made where that is asked for', async () => {
      const source = join(world.directory, 'new', 'deep')
      const mount = { type: 'bind', source, target: '/here' } as const
      const error = await fault(engine.run(base({ mounts: [mount] })))
      expect(error).toMatchObject({ code: 'MOUNT_SOURCE_NOT_FOUND', field: 'mounts[0].source', value: source })
      expect(existsSync(source)).toBe(false)
      expect(await sh('echo a >/here/a; cat /here/a', [{ ...mount, createSource: true }])).toBe('a')
      expect(statSync(join(source, 'a')).size).toBe(2)
      const file = join(source, 'a')
      expect(await sh('cat /file', [{ type: 'bind', source: file, target: '/file', createSource: true }])).toBe('a')
      const below = { type: 'bind', source: join(file, 'b'), target: '/b', createSource: true } as const
      expect(await fault(sh('true', [below]))).toMatchObject({ code: 'MOUNT_FAILED', field: 'mounts[0].source' })
    })

    test('have what is mounted below them, unless told not to', async () => {
      const below = (more: object) =>
        sh('grep -c " /d/" /proc/self/mountinfo', [{ type: 'bind', source: '/dev', target: '/d', ...more }])
      expect(Number(await below({}))).toBeGreaterThan(0)
      // The kernel shows an ordinary user nothing that a mount of root's has covered (has_locked_children() in fs/namespace.c).
      if (process.getuid!() !== 0) await expect(below({ recursive: false })).rejects.toThrow('ordinary user')
      else expect(await below({ recursive: false })).toBe('0')
    })

    test('see what is mounted below them later only as a slave', async () => {
      const { code, field } = (await fault(
        sh('true', [{ type: 'bind', source: '/tmp', target: '/t', propagation: 'rshared' as 'rslave' }]),
      ))!
      expect([code, field]).toEqual(['NOT_SUPPORTED', 'mounts[0].propagation'])
      expect(await sh('ls -d /t', [{ type: 'bind', source: '/tmp', target: '/t', propagation: 'rslave' }])).toBe('/t')
    })
  })

  describe('of images', () => {
    test('hold their files, read-only', async () => {
      const mount = { type: 'image', source: 'assets:1', target: '/assets' } as const
      expect(await sh('cat /assets/dir/one /assets/dir/two', [mount])).toBe('firstsecond')
      expect(await sh('echo x >/assets/dir/one; rm /assets/dir/two', [mount])).toMatch(/read-only/i)
      expect(await sh('cat /assets/dir/one', [mount])).toBe('first')
      expect(await sh('cat /assets/sub/one', [{ ...mount, source: image, subpath: 'dir' }])).toBe('first')
      expect(await sh('cat /assets', [{ ...mount, subpath: 'dir/two' }])).toBe('second')
    })

    test('stay while a container has them', async () => {
      const container = await engine.start(base({ mounts: [{ type: 'image', source: 'assets:1', target: '/a' }] }))
      expect(await fault(engine.images.remove(image))).toMatchObject({ code: 'IMAGE_IN_USE' })
      await using other = await Engine.open({ home: world.home })
      await other.images.prune({ all: true })
      expect((await container.exec(['cat', '/a/dir/two'])).stdout).toBe('second')
    })

    test('are told when they are missing', async () => {
      const mount = { type: 'image', source: 'nowhere.invalid/none:1', target: '/a' } as const
      expect((await fault(sh('true', [mount])))?.code).toMatch(/^REGISTRY_|^IMAGE_NOT_FOUND$/)
      await engine.images.build({
        context: { dockerfile: 'FROM scratch\nCOPY a /a\n', files: { a: 'b' } },
        tags: ['small:1'],
      })
      const missing = { ...mount, source: 'small:1', subpath: 'b' } as const
      expect(await fault(sh('true', [missing]))).toMatchObject({ code: 'MOUNT_SOURCE_NOT_FOUND' })
    })
  })

  describe('of volumes', () => {
    test('without a name go with their container', async () => {
      mkdirSync(join(world.rootfs, 'seeded'), { recursive: true })
      writeFileSync(join(world.rootfs, 'seeded', 'file'), 'from the image')
      const mounts = [
        { type: 'volume', target: '/seeded' },
        { type: 'volume', target: '/fresh' },
      ] as const
      expect(await sh('cat /seeded/file; echo a >/fresh/a; ls /fresh', mounts)).toBe('from the imagea')
      expect(await sh('echo a >/fresh/a; cat /fresh/a', mounts, { readonlyRootfs: true })).toBe('a')
      expect(await sh('ls /fresh', mounts)).toBe('')
      expect(await engine.volumes.list()).toEqual([])
      const error = await fault(sh('true', [{ type: 'volume', target: '/v', readonly: true }]))
      expect(error).toMatchObject({ code: 'INVALID_OPTION', field: 'mounts[0].readonly' })
    })

    test('may be a part of one', async () => {
      await sh('mkdir -p /v/a/b; echo deep >/v/a/b/c', [{ type: 'volume', source: 'whole', target: '/v' }])
      const part = { type: 'volume', source: 'whole', target: '/p', subpath: 'a/b' } as const
      expect(await sh('cat /p/c', [part])).toBe('deep')
      const missing = await fault(sh('true', [{ ...part, subpath: 'a/none' }]))
      expect(missing).toMatchObject({ code: 'MOUNT_SOURCE_NOT_FOUND', field: 'mounts[0].subpath', value: 'a/none' })
      expect((missing as Error).message).toContain('there is no a/none in volume "whole"')
      // Nothing in a volume leads out of it.
      await sh('ln -s /etc /v/out; ln -s ../../.. /v/up', [{ type: 'volume', source: 'whole', target: '/v' }])
      expect(await fault(sh('ls /p', [{ ...part, subpath: 'out' }]))).toMatchObject({ code: 'MOUNT_SOURCE_NOT_FOUND' })
      expect(await sh('ls /p', [{ ...part, subpath: 'up' }])).toContain('a')
      const up = await fault(sh('true', [{ ...part, subpath: '../x' }]))
      expect(up).toMatchObject({ code: 'INVALID_OPTION', field: 'mounts[0].subpath' })
    })
  })

  describe('of another container', () => {
    test('are all that it has, in the same places', async () => {
      const data = await engine.start(
        base({
          name: 'data',
          mounts: [
            { type: 'volume', source: 'named', target: '/named' },
            { type: 'volume', target: '/own' },
            { type: 'image', source: image, target: '/assets' },
            { type: 'bind', source: world.directory, target: '/bound' },
          ],
        }),
      )
      await data.exec(['sh', '-c', 'echo 1 >/named/a; echo 2 >/own/a'])
      const script = 'cat /named/a /own/a /assets/dir/one; ls /bound | grep rootfs'
      expect(await sh(script, [], { volumesFrom: ['data'] })).toBe('1\n2\nfirstrootfs')
      expect(await sh('echo 3 >/own/b; cat /own/b', [], { volumesFrom: [data.id] })).toBe('3')
      expect((await data.exec(['cat', '/own/b'])).stdout).toBe('3\n')
      expect(await sh('echo 4 >/own/b; echo 4 >/named/b', [], { volumesFrom: ['data:ro'] })).toMatch(
        /Read-only.*\n.*Read-only/,
      )
      // What it mounts itself comes before.
      const own = [{ type: 'tmpfs', target: '/named' }] as const
      expect(await sh('ls /named; cat /own/a', own, { volumesFrom: [{ container: 'data' }] })).toBe('2')
      // From one that has it from another.
      await using _second = await engine.start(base({ name: 'second', volumesFrom: ['data'] }))
      expect(await sh('cat /own/a', [], { volumesFrom: ['second'] })).toBe('2')
    })

    test('can be had of one that has ended, too', async () => {
      const data = await engine.start(
        base({
          name: 'data',
          remove: false,
          command: ['sh', '-c', 'echo 1 >/own/a'],
          mounts: [{ type: 'volume', target: '/own' }],
        }),
      )
      await data.wait()
      expect(await sh('cat /own/a', [], { volumesFrom: ['data'] })).toBe('1')
    })

    test('stay until the last that has them goes, and nobody who removes their container waits for that', async () => {
      const data = await engine.start(base({ name: 'lender', mounts: [{ type: 'volume', target: '/own' }] }))
      await data.exec(['sh', '-c', 'echo 1 >/own/witness'])
      const borrowers = [
        await engine.start(base({ name: 'first', volumesFrom: ['lender'] })),
        await engine.start(base({ name: 'last', volumesFrom: ['lender'] })),
      ]
      const witnesses = () =>
        readdirSync(engine.info.session, { recursive: true, encoding: 'utf8' }).filter((path) =>
          path.endsWith('/witness'),
        )
      expect(witnesses()).toHaveLength(1)
      await data.remove({ force: true })
      await engine.start(base({ name: 'lender' })) // the name is free
      await borrowers[0]!.remove({ force: true })
      await borrowers[1]!.restart({ timeoutMs: 0 })
      expect((await borrowers[1]!.exec(['cat', '/own/witness'])).stdout).toBe('1\n')
      await borrowers[1]!.remove({ force: true })
      await expect.poll(witnesses).toEqual([])
    })

    test('are told when there is no such container', async () => {
      expect(await fault(sh('true', [], { volumesFrom: ['nobody'] }))).toMatchObject({ code: 'NO_SUCH_CONTAINER' })
      const bad = await fault(sh('true', [], { volumesFrom: ['data:x'] }))
      expect(bad).toMatchObject({ code: 'INVALID_OPTION', field: 'volumesFrom[0]' })
    })
  })

  test('of a directory over a file, or the reverse, say what is possible', async () => {
    for (const [source, target] of [
      [world.directory, '/etc/passwd'],
      [join(world.rootfs, 'etc/passwd'), '/etc'],
    ] as const) {
      expect(await fault(sh('true', [{ type: 'bind', source, target }]))).toMatchObject({
        code: 'MOUNT_FAILED',
        field: 'mounts[0].target',
        hint: 'a directory is mounted over a directory, and a file over a file',
      })
    }
  })

  test('over /dev are had as they are: nothing is made in their source', async () => {
    const source = join(world.directory, 'dev')
    mkdirSync(source)
    writeFileSync(join(source, 'own'), 'its own')
    const mounts = [{ type: 'bind', source, target: '/dev' }] as const
    for (let i = 0; i < 2; i++)
      expect(await sh('ls /dev; cat /dev/own', mounts, { privileged: true })).toBe('own\nits own')
    // Masks are made of its null device, and to go without them is not for us to decide.
    expect(await fault(sh('true', mounts))).toMatchObject({ message: expect.stringContaining('no null device') })
    expect(readdirSync(source)).toEqual(['own'])
  })

  test('over the root, /proc and /sys are refused', async () => {
    for (const target of ['/', '/proc', '/proc/sys', '/sys', '/x/../sys/']) {
      const mounts = [{ type: 'bind', source: world.directory, target }] as const
      expect(await fault(sh('true', mounts))).toMatchObject({ code: 'INVALID_OPTION', field: 'mounts[0].target' })
    }
    const odd = await fault(sh('true', [{ type: 'npipe', source: 'a', target: '/a' } as unknown as Mount]))
    expect(odd).toMatchObject({ code: 'INVALID_OPTION', field: 'mounts[0].type' })
    const driver = await fault(engine.volumes.create({ name: 'remote', driver: 'nfs' }))
    expect(driver).toMatchObject({ code: 'NOT_SUPPORTED', field: 'volume.driver', value: 'nfs' })
    expect(await engine.volumes.list()).toEqual([])
  })
})
