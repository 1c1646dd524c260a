/** Named volumes: what they keep, what they get from the image, and that nobody removes one in use. */

import { existsSync, lstatSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type ContainerOptions, Engine, type Mount } from '../../src/index.js'
import { fault, useEngine } from './support/own-engine.js'
import { obstacle, type World } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

describe.skipIf(why)('the volumes of a store', () => {
  let world: World
  let engine: Engine

  useEngine(
    (own) => {
      world = own.world
      engine = own.engine
    },
    (world) => {
      // What an image has at /data.
      const data = join(world.rootfs, 'data')
      mkdirSync(join(data, 'sub'), { recursive: true, mode: 0o750 })
      writeFileSync(join(data, 'sub', 'seed'), 'from the image', { mode: 0o640 })
      symlinkSync('sub/seed', join(data, 'link'))
      symlinkSync('/etc/passwd', join(data, 'away'))
      mkdirSync(join(world.rootfs, 'empty'))
      symlinkSync('/data', join(world.rootfs, 'linked'))
    },
  )

  const base = (mounts: readonly Mount[]): ContainerOptions => ({
    rootfs: { directory: world.rootfs },
    command: ['sleep', '1000'],
    mounts,
  })
  const volume = (source: string, target: string, more: Partial<Extract<Mount, { type: 'volume' }>> = {}) =>
    ({ type: 'volume', source, target, ...more }) as const
  const sh = async (script: string, ...mounts: Mount[]) => {
    const { stdout, stderr } = await engine.run({ ...base(mounts), command: ['sh', '-c', script] })
    return (stdout + stderr).trim()
  }
  const path = (name: string) => join(world.home, 'volumes', name)

  test('are made, listed, found and removed', async () => {
    const made = await engine.volumes.create({ name: 'cache', labels: { a: 'b' } })
    expect(made).toMatchObject({ name: 'cache', labels: { a: 'b' }, isAnonymous: false, createdAt: expect.any(Date) })
    expect(await engine.volumes.create({ name: 'cache', labels: { c: 'd' } })).toMatchObject({ labels: { a: 'b' } })
    const nameless = await engine.volumes.create()
    expect(nameless.name).toMatch(/^[0-9a-f]{64}$/)
    expect((await engine.volumes.list()).map(({ name }) => name).sort()).toEqual(['cache', nameless.name].sort())
    expect(await engine.volumes.prune()).toEqual([nameless.name])
    await made.remove()
    await made.remove()
    expect(await fault(engine.volumes.get('cache'))).toMatchObject({ code: 'NO_SUCH_VOLUME' })
    expect(await fault(engine.volumes.remove('cache'))).toMatchObject({ code: 'NO_SUCH_VOLUME' })
    expect(readdirSync(join(world.home, 'volumes'))).toEqual([])
  })

  test('keep what is written, from one container and engine to the next', async () => {
    await sh('echo kept >/v/a', volume('kept', '/v'))
    expect(await sh('cat /v/a', volume('kept', '/v'))).toBe('kept')
    await using other = await Engine.open({ home: world.home })
    const { stdout } = await other.run({ ...base([volume('kept', '/w')]), command: ['cat', '/w/a'] })
    expect(stdout).toBe('kept\n')
    expect(await sh('echo more >/v/a', volume('kept', '/v', { readonly: true }))).toMatch(/read-only/i)
  })

  test('have the labels of the mount that makes them', async () => {
    await sh('true', volume('labelled', '/v', { labels: { a: 'b' } }))
    await sh('true', volume('labelled', '/v', { labels: { c: 'd' } }))
    expect((await engine.volumes.get('labelled')).labels).toEqual({ a: 'b' })
    const nameless = engine.run(base([{ type: 'volume', target: '/v', labels: { a: 'b' } }]))
    expect(await fault(nameless)).toMatchObject({ code: 'INVALID_OPTION', field: 'mounts[0].labels' })
  })

  test('are shared by containers that run at once', async () => {
    const one = await engine.start(base([volume('shared', '/v')]))
    const other = await engine.start(base([volume('shared', '/v')]))
    await one.exec(['sh', '-c', 'echo hello >/v/a'])
    expect((await other.exec(['cat', '/v/a'])).stdout).toBe('hello\n')
  })

  test('get what the image has in their place, with owners and modes, once', async () => {
    expect(
      await sh('cat /data/sub/seed /data/link; stat -c "%a %u" /data/sub/seed /data', volume('full', '/data')),
    ).toBe('from the imagefrom the image640 0\n750 0')
    // Links are copied, not followed.
    expect(lstatSync(join(path('full'), 'data', 'away')).isSymbolicLink()).toBe(true)
    await sh('rm -r /data/sub; echo mine >/data/own', volume('full', '/data'))
    expect(await sh('ls /data', volume('full', '/data'))).toBe('away\nlink\nown')
    expect(await sh('ls /data', volume('bare', '/data', { noCopy: true }))).toBe('')
    expect(await sh('ls /other', volume('bare', '/other'))).toBe('')
    expect(await sh('ls /linked', volume('through', '/linked'))).toBe('away\nlink\nsub')
    // The image itself stays as it is.
    expect(await sh('ls /data')).toBe('away\nlink\nsub')
  })

  test('below another mount get what the image has there, not what is mounted over it', async () => {
    const modules = join(world.rootfs, 'app', 'modules')
    mkdirSync(modules, { recursive: true })
    writeFileSync(join(modules, 'built'), '')
    const project = join(world.directory, 'project')
    mkdirSync(join(project, 'modules'), { recursive: true })
    writeFileSync(join(project, 'modules', 'own'), '')
    const bind = { type: 'bind', source: project, target: '/app' } as const
    const script = 'ls /app /app/modules; touch /app/modules/new'
    const seen = '/app:\nmodules\n\n/app/modules:\nbuilt'
    const nameless = { type: 'volume', target: '/app/modules' } as const
    expect(await sh(script, bind, volume('modules', '/app/modules'))).toBe(seen)
    expect(await sh(script, bind, nameless)).toBe(seen)
    expect(await sh('ls /app/modules', bind, volume('modules', '/app/modules'))).toBe('built\nnew')
    expect(await sh('ls /app/modules', bind, nameless)).toBe('built')
    expect(await sh(script, { type: 'tmpfs', target: '/app' }, nameless)).toBe(seen)
    expect(await sh('ls /app', bind, volume('none', '/app/none'))).toBe('modules\nnone')
    // Nothing of the project's own has changed, but for the place of a mount that was not there.
    expect([readdirSync(join(project, 'modules')), readdirSync(project)]).toEqual([['own'], ['modules', 'none']])
  })

  test('are filled once by many that start together, in several engines', { timeout: 60_000 }, async () => {
    const seeds = join(world.rootfs, 'many')
    mkdirSync(seeds)
    for (let i = 0; i < 300; i++) writeFileSync(join(seeds, `f${i}`), `${i}`)
    await using other = await Engine.open({ home: world.home })
    const command = ['sh', '-c', 'ls /many | wc -l; echo x >>/many/count']
    const results = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        (i % 2 ? other : engine).run({ ...base([volume('together', '/many')]), command }),
      ),
    )
    for (const { stdout } of results) expect(Number(stdout)).toBeGreaterThanOrEqual(300)
    expect(await sh('wc -l </many/count; ls /many | wc -l', volume('together', '/many'))).toBe('8\n301')
    rmSync(seeds, { recursive: true })
  })

  test('are filled anew when the one who did it died', async () => {
    await engine.volumes.create({ name: 'torn' })
    // What a process leaves that is killed while it copies: its mark, and half of the files.
    writeFileSync(join(path('torn'), 'filling'), '1')
    writeFileSync(join(path('torn'), 'data', 'half'), '')
    expect(await sh('ls /data', volume('torn', '/data'))).toBe('away\nlink\nsub')
    expect(statSync(join(path('torn'), 'filling')).size).toBe(0)
  })

  test('are not removed while a container has them, in whatever engine', async () => {
    await using other = await Engine.open({ home: world.home })
    const container = await other.create({ ...base([volume('used', '/v')]), remove: false })
    const used = await engine.volumes.get('used')
    expect(await fault(used.remove())).toMatchObject({ code: 'VOLUME_IN_USE', value: 'used' })
    expect(await engine.volumes.prune({ all: true })).toEqual([])
    await container.start()
    await container.stop({ timeoutMs: 0 })
    expect(await fault(used.remove())).toMatchObject({ code: 'VOLUME_IN_USE' })
    await container.remove()
    await used.remove()
    expect(existsSync(path('used'))).toBe(false)
  })

  test('stay when their engine is gone, and are free then', async () => {
    const other = await Engine.open({ home: world.home })
    await other.start(base([volume('stays', '/v')]))
    await other.close()
    await engine.volumes.remove('stays')
  })

  test('refuse what is no name', async () => {
    for (const name of ['..', '.', '../up', 'a/b', '', '-a', 'a']) {
      expect(await fault(engine.volumes.create({ name }))).toMatchObject({
        code: 'INVALID_OPTION',
        field: 'volume.name',
      })
      expect(await fault(engine.run(base([volume(name, '/v')])))).toMatchObject({ field: 'mounts[0].source' })
    }
    const odd = { ...volume('good', '/v'), propagation: 'shared' } as unknown as Mount
    expect(await fault(engine.run(base([odd])))).toMatchObject({ code: 'INVALID_OPTION' })
  })
})
