/** Layers in and out of a real store, through a real warden; what tar itself may hold is tested in native/test. */

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Engine } from '../../../src/engine/engine.js'
import { Session } from '../../../src/engine/session.js'
import { adoptParents, digestLayer, packLayer, reap, unpackLayer } from '../../../src/engine/store/layer-archive.js'
import { wardenProgram } from '../../../src/engine/where.js'
import { makeWorld, obstacle, type World } from '../support/world.js'

let world: World
let session: Session
let number = 0

/** A place for a layer: its directory exists, `tree` does not. */
function place(): { directory: string; tree: string } {
  const directory = join(world.home, 'layers', `test-${++number}`)
  mkdirSync(directory, { recursive: true })
  return { directory, tree: join(directory, 'tree') }
}

/** A tar of files, by GNU tar. Names that end in a slash are directories. */
function tarOf(files: Readonly<Record<string, string>>): Buffer {
  const directory = mkdtempSync(join(world.directory, 'tar-'))
  for (const [name, content] of Object.entries(files)) {
    if (name.endsWith('/')) mkdirSync(join(directory, name), { recursive: true })
    else {
      mkdirSync(join(directory, name, '..'), { recursive: true })
      writeFileSync(join(directory, name), content)
    }
  }
  return execFileSync('tar', ['--no-recursion', '-cf', '-', '-C', directory, ...Object.keys(files)], {
    maxBuffer: 1 << 28,
  })
}

const sum = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

async function gather(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = []
  for await (const piece of source) all.push(piece)
  return Buffer.concat(all)
}

describe.skipIf(obstacle() || (process.getuid?.() !== 0 && 'not root'))('layers', () => {
  beforeAll(async () => {
    world = makeWorld()
    session = await Session.open({ home: world.home, network: false, program: wardenProgram() })
  })

  afterAll(async () => {
    await session?.close()
    world?.remove()
  })

  test('are unpacked, with their digest, and packed again', async () => {
    const { tree } = place()
    const tar = Buffer.concat([tarOf({ 'etc/': '', 'etc/kept': 'kept', 'etc/.wh.gone': '' }), Buffer.from('trailing')])
    const unpacked = await unpackLayer(session, tree, tar, { layer: true })
    expect(unpacked).toEqual({ digest: sum(tar), entries: 3, bytes: 4, implied: 0 })
    expect(readFileSync(join(tree, 'etc/kept'), 'utf8')).toBe('kept')
    expect(lstatSync(join(tree, 'etc/gone')).isCharacterDevice()).toBe(true)

    const { bytes, done } = packLayer(session, { tree })
    const packed = await gather(bytes)
    expect(await done).toEqual({ digest: sum(packed), size: packed.length })
    expect(await digestLayer(session, { tree })).toEqual({ digest: sum(packed), size: packed.length })
    const names = execFileSync('tar', ['-tf', '-'], { input: packed, encoding: 'utf8' })
    expect(names).toBe('etc/\netc/.wh.gone\netc/kept\n')

    const again = place()
    expect((await unpackLayer(session, again.tree, packed, { layer: true, sync: false })).digest).toBe(sum(packed))
    expect((await digestLayer(session, { tree: again.tree })).digest).toBe(sum(packed))
  })

  test('a large one is not sent faster than it is read', async () => {
    const { tree } = place()
    mkdirSync(tree)
    writeFileSync(join(tree, 'big'), Buffer.alloc(64 * 1024 * 1024, 'x'))
    const { bytes, done } = packLayer(session, { tree })
    const before = process.memoryUsage().arrayBuffers
    await bytes.next()
    await sleep(200)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024)
    let size = 0
    for await (const piece of bytes) size += piece.length
    expect((await done).size - size).toBeLessThanOrEqual(65_536)
  })

  test('leaving early, and aborting, end the work', async () => {
    const { tree } = place()
    mkdirSync(tree)
    writeFileSync(join(tree, 'big'), Buffer.alloc(64 * 1024 * 1024))
    const left = packLayer(session, { tree })
    for await (const _ of left.bytes) break
    await expect(left.done).rejects.toThrow(/not read to its end/)
    const controller = new AbortController()
    const aborted = packLayer(session, { tree }, controller.signal)
    await aborted.bytes.next()
    controller.abort(new Error('enough'))
    await expect(aborted.done).rejects.toThrow('enough')
    await expect(gather(aborted.bytes)).rejects.toThrow('enough')
    await expect(digestLayer(session, { tree }, AbortSignal.abort(new Error('never began')))).rejects.toThrow(
      'never began',
    )
  })

  test('limits are errors of their own', async () => {
    const tar = tarOf({ a: 'x'.repeat(100_000), b: 'y' })
    await expect(
      unpackLayer(session, place().tree, tar, { layer: true, maxBytes: 50_000, name: 'sha256:abc' }),
    ).rejects.toThrow(
      expect.objectContaining({
        code: 'ARCHIVE_TOO_LARGE',
        message: expect.stringMatching(/^Cannot unpack "sha256:abc": .*50000 bytes allowed/),
      }),
    )
    await expect(unpackLayer(session, place().tree, tar, { layer: true, maxEntries: 1 })).rejects.toThrow(
      expect.objectContaining({ code: 'ARCHIVE_TOO_LARGE', message: expect.stringContaining('1 entries allowed') }),
    )
    await unpackLayer(session, place().tree, tar, { layer: true, maxBytes: tar.length, maxEntries: 2 })
  })

  test('hostile and broken archives are ARCHIVE_INVALID', async () => {
    const invalid = expect.objectContaining({ code: 'ARCHIVE_INVALID' })
    const tar = tarOf({ 'a/b': 'content' })
    await expect(unpackLayer(session, place().tree, tar.subarray(0, 600), { layer: true })).rejects.toThrow(invalid)
    await expect(
      unpackLayer(session, place().tree, Buffer.from('<html>'.repeat(500)), { layer: true }),
    ).rejects.toThrow(invalid)
    await expect(unpackLayer(session, place().tree, tarOf({ 'd/.wh..': '' }), { layer: true })).rejects.toThrow(invalid)
    await expect(unpackLayer(session, '/tmp/elsewhere', tar, { layer: true })).rejects.toThrow(/below the store/)
    expect(existsSync('/tmp/elsewhere')).toBe(false)
  })

  test('directories that a layer does not mention are told, and get what the layers below say', async () => {
    const low = place()
    const middle = place()
    const top = place()
    const unpack = (tree: string, tar: Buffer) => unpackLayer(session, tree, tar, { layer: true })
    await unpack(low.tree, tarOf({ 'tmp/': '', 'srv/': '', 'srv/data/': '' }))
    execFileSync('chmod', ['1777', join(low.tree, 'tmp')])
    execFileSync('chown', ['-R', '12:34', join(low.tree, 'srv')])
    expect((await unpack(middle.tree, tarOf({ 'srv/data/m': '' }))).implied).toBe(2)
    expect((await unpack(top.tree, tarOf({ 'tmp/x': '', 'srv/data/t': '', 'new/n': '' }))).implied).toBe(4)
    await adoptParents(session, middle.tree, [low.tree])
    await adoptParents(session, top.tree, [middle.tree, low.tree])
    expect(lstatSync(join(top.tree, 'tmp')).mode & 0o7777).toBe(0o1777)
    expect(lstatSync(join(top.tree, 'srv/data'))).toMatchObject({ uid: 12, gid: 34 })
    expect(lstatSync(join(top.tree, 'new'))).toMatchObject({ uid: 0, gid: 0 })
    expect(readdirSync(top.directory)).toEqual(['tree'])
    await adoptParents(session, top.tree, [low.tree]) // nothing is left to do
    await expect(adoptParents(session, place().tree, [])).rejects.toThrow(/ENOENT|does not exist/)
  })

  test('what nobody uses is reaped, with nothing followed', async () => {
    const { directory, tree } = place()
    mkdirSync(tree)
    writeFileSync(join(world.directory, 'canary'), 'alive')
    symlinkSync(world.directory, join(tree, 'link'))
    writeFileSync(join(directory, 'facts.json'), '{}')
    expect(await reap(session, directory)).toBe('reaped')
    expect(existsSync(directory)).toBe(false)
    expect(readFileSync(join(world.directory, 'canary'), 'utf8')).toBe('alive')
    await expect(reap(session, directory)).rejects.toThrow(expect.objectContaining({ errno: 'ENOENT' }))
    await expect(reap(session, world.directory)).rejects.toThrow(/below the store/)
    expect(readdirSync(session.facts.session).filter((name) => name.startsWith('reaped'))).toEqual([])
  })

  test('what a container uses is busy, in whichever process, and free when the container is gone', async () => {
    const { directory, tree } = place()
    const busybox = execFileSync('tar', ['-cf', '-', '-C', world.rootfs, '.'], { maxBuffer: 1 << 28 })
    await unpackLayer(session, tree, busybox, { layer: true })
    const engine = await Engine.open({ home: world.home, network: false })
    try {
      const container = await engine.start({ rootfs: { layers: [tree] }, command: ['sleep', '60'], network: 'none' })
      expect(await reap(session, directory)).toBe('busy')
      expect(existsSync(join(tree, 'bin/busybox'))).toBe(true)
      await container.remove({ force: true })
      const created = await engine.create({ rootfs: { layers: [tree] }, command: ['true'], network: 'none' })
      expect(await reap(session, directory)).toBe('busy')
      await created.remove({ force: true })
    } finally {
      await engine.close()
    }
    expect(await reap(session, directory)).toBe('reaped')
  })

  test('a session reaps what only it keeps mounted, and not what its containers use', async () => {
    const { directory, tree } = place()
    const busybox = execFileSync('tar', ['-cf', '-', '-C', world.rootfs, '.'], { maxBuffer: 1 << 28 })
    await unpackLayer(session, tree, busybox, { layer: true })
    const id = 'ab'.repeat(32)
    const plan = ['id', id, 'layer', tree, 'arg', '/bin/true', 'net', 'none']
    const created = await session.request('create', plan)
    expect(created.ok).toBe(true)
    expect(await reap(session, directory)).toBe('busy')
    expect((await session.request('remove', ['id', id, 'force', '1'])).ok).toBe(true)
    await sleep(50) // an overlay is mounted ahead of the next start
    expect(await reap(session, directory)).toBe('reaped')
    expect((await session.request('forget', ['id', id])).ok).toBe(true)
    const gone = await session.request('create', plan)
    expect(gone).toMatchObject({ ok: false, step: 'layer', errno: 'ENOENT' })
  })

  test('what a container has written is packed, before it runs and while it does', async () => {
    const { tree } = place()
    const busybox = execFileSync('tar', ['-cf', '-', '-C', world.rootfs, '.'], { maxBuffer: 1 << 28 })
    await unpackLayer(session, tree, busybox, { layer: true })
    const id = 'cd'.repeat(32)
    const script = 'mkdir /made && echo x >/made/file && rm /etc/group && exec sleep 60'
    const plan = ['id', id, 'layer', tree, 'arg', '/bin/sh', 'arg', '-c', 'arg', script, 'net', 'none']
    expect((await session.request('create', plan)).ok).toBe(true)
    expect((await digestLayer(session, { container: id })).size).toBe(1024)
    expect((await session.request('start', ['id', id])).ok).toBe(true)
    let names = ''
    for (let tries = 0; tries < 100 && !names.includes('.wh.group'); tries++) {
      await sleep(20)
      const { bytes } = packLayer(session, { container: id })
      names = execFileSync('tar', ['-tf', '-'], { input: await gather(bytes), encoding: 'utf8' })
    }
    expect(names).toBe('etc/\netc/.wh.group\nmade/\nmade/file\n')
    expect((await session.request('remove', ['id', id, 'force', '1'])).ok).toBe(true)
    expect((await session.request('forget', ['id', id])).ok).toBe(true)
    await expect(digestLayer(session, { container: id })).rejects.toThrow(
      expect.objectContaining({ code: 'NO_SUCH_CONTAINER' }),
    )
  })
})
