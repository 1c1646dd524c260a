import { execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Engine } from '../../src/index.js'
import { makeWorld, obstacle, type World } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

describe.skipIf(why)('a root file system from a tar', () => {
  let world: World
  let engine: Engine
  let plain: string

  beforeAll(async () => {
    world = makeWorld()
    plain = tarOf('plain', [])
    engine = await Engine.open({ home: world.home, network: false })
  })

  afterAll(async () => {
    await engine?.close()
    world?.remove()
  })

  const tarOf = (name: string, flags: string[]) => {
    const path = join(world.directory, `${name}.tar`)
    execFileSync('tar', ['-C', world.rootfs, ...flags, '-cf', path, '.'])
    return path
  }
  const layers = () => readdirSync(join(world.home, 'layers'))
  const temporaries = (one: Engine) => readdirSync(join(one.info.session, 'store'))
  const run = (tar: string, on = engine) => on.run({ rootfs: { tar }, command: ['cat', '/etc/group'] })

  test('is unpacked once, and used again without reading the file', async () => {
    expect((await run(plain)).stdout).toMatch(/^root:x:0:\n/)
    const [layer, ...more] = layers()
    expect([layer, more]).toEqual([expect.stringMatching(/^tar-[0-9a-f]{64}$/), []])
    const before = statSync(join(world.home, 'layers', layer!)).ctimeMs
    await run(plain)
    expect(statSync(join(world.home, 'layers', layer!)).ctimeMs).toBe(before)
  })

  test('may be compressed with gzip', async () => {
    expect((await run(tarOf('zipped', ['-z']))).stdout).toMatch(/^root:x:0:\n/)
  })

  test('is unpacked once also when two engines and many containers want it at the same time', async () => {
    const tar = tarOf('shared', ['--mtime=2001-01-01'])
    const count = layers().length
    await using other = await Engine.open({ home: world.home, network: false })
    const results = await Promise.all([engine, other].flatMap((one) => Array.from({ length: 5 }, () => run(tar, one))))
    expect(results.every(({ exitCode }) => exitCode === 0)).toBe(true)
    expect(layers()).toHaveLength(count + 1)
    for (const one of [engine, other]) expect(temporaries(one)).toEqual([])
  })

  const invalid = (message: RegExp) =>
    expect.objectContaining({ code: 'ROOTFS_INVALID', field: 'rootfs.tar', message: expect.stringMatching(message) })

  test.each([
    ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
    ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a]],
  ])('says that it cannot read %s', async (name, magic) => {
    const path = join(world.directory, `file.${name}`)
    writeFileSync(path, Buffer.from([...magic, ...Array(600).fill(0)]))
    await expect(run(path)).rejects.toThrow(invalid(new RegExp(`compressed with ${name}`)))
  })

  test('must be there and be a tar, and leaves nothing behind if it is not', async () => {
    const count = layers().length
    await expect(run('/no/such.tar')).rejects.toThrow(
      expect.objectContaining({ code: 'ROOTFS_NOT_FOUND', field: 'rootfs.tar' }),
    )
    const text = join(world.directory, 'text.tar')
    writeFileSync(text, 'this is no archive '.repeat(1000))
    await expect(run(text)).rejects.toThrow(invalid(/text\.tar/))
    const broken = tarOf('broken', ['-z'])
    writeFileSync(broken, Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0]), Buffer.alloc(1000, 7)]))
    await expect(run(broken)).rejects.toThrow(invalid(/broken\.tar/))
    const cut = tarOf('cut', [])
    execFileSync('truncate', ['-s', '300000', cut])
    await expect(run(cut)).rejects.toThrow(invalid(/cut\.tar/))
    await expect(run(world.directory)).rejects.toThrow(invalid(/EISDIR/))
    expect(layers()).toHaveLength(count)
    expect(temporaries(engine)).toEqual([])
    expect(engine.containers()).toEqual([])
  })

  test('is read anew when it has changed', async () => {
    const tar = tarOf('changing', [])
    await run(tar)
    const count = layers().length
    appendFileSync(tar, Buffer.alloc(512))
    await run(tar)
    expect(layers()).toHaveLength(count + 1)
    utimesSync(tar, 1, 1)
    await run(tar)
    expect(layers()).toHaveLength(count + 1)
  })

  test('outlives the engine', async () => {
    const before = layers()
    const other = await Engine.open({ home: world.home, network: false })
    await run(plain, other)
    await other.close()
    expect(layers()).toEqual(before)
    expect(existsSync(other.info.session)).toBe(false)
  })

  test('has only its loopback in an engine without a network', async () => {
    const { stdout } = await engine.run({ rootfs: { tar: plain }, command: ['ls', '/sys/class/net'] })
    expect(stdout).toBe('lo\n')
  })

  test('needs an engine with a network for a container with one', async () => {
    const attempt = engine.run({ rootfs: { tar: plain }, command: ['true'], network: 'bridge' })
    await expect(attempt).rejects.toThrow(expect.objectContaining({ code: 'NOT_SUPPORTED', field: 'network' }))
  })
})
