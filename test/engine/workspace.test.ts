import { execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sendArchive } from '../../src/engine/archive.js'
import { newId } from '../../src/engine/ids.js'
import { Session } from '../../src/engine/session.js'
import { type Entry, listTree } from '../../src/engine/tree.js'
import { wardenProgram } from '../../src/engine/where.js'
import type { ExitEvent } from '../../src/engine/wire.js'
import {
  digestFiles,
  keepContainer,
  listDirectory,
  type TransferRecord,
  Workspace,
} from '../../src/engine/workspace.js'
import { makeWorld, obstacle, type World } from './support/world.js'

const isRoot = process.getuid?.() === 0

describe.skipIf(obstacle() || !isRoot)('a workspace', () => {
  let world: World
  let session: Session
  const exits = new Map<string, (event: ExitEvent) => void>()

  beforeAll(async () => {
    world = makeWorld()
    mkdirSync(world.home)
    session = await Session.open({ home: world.home, program: wardenProgram(), network: false })
    session.listen({
      exited: (event) => exits.get(event.container)?.(event),
      listening: () => {},
      warned: () => {},
      failed: () => {},
    })
  })
  afterAll(async () => {
    await session?.close()
    world?.remove()
  })

  let sequence = 0
  const fresh = (name = 'd') => join(world.directory, `${name}${++sequence}`)
  const makeDirectory = () => {
    const directory = fresh()
    mkdirSync(directory)
    return directory
  }
  const collect = async (entries: AsyncIterable<Entry>) => {
    const all: Entry[] = []
    for await (const entry of entries) all.push(entry)
    return all
  }
  const inHome = () => join(world.home, `kept${++sequence}`)
  const STEPS = [
    ...['mount', 'proc', 'target', '/proc', 'options', 'nosuid,noexec,nodev'],
    ...['mount', 'tmpfs', 'target', '/dev', 'options', 'nosuid', 'data', 'mode=755,size=64k'],
    ...['mount', 'sysfs', 'target', '/sys', 'options', 'ro'],
    ...['device', 'c:1:3:666:/dev/null'],
    ...['file', '/etc/hosts', 'content', '127.0.0.1 localhost\n'],
    ...['file', '/etc/hostname', 'content', 'h\n'],
    ...['file', '/etc/resolv.conf', 'content', 'nameserver 127.0.0.1\n'],
  ]
  /** Runs a shell command in a container of these layers, as a build step does. It stays, exited. */
  const runStep = async (layers: readonly string[], command: string, more: readonly string[] = []) => {
    const id = newId()
    const exited = new Promise<ExitEvent>((resolve) => exits.set(id, resolve))
    const words = ['id', id, 'net', 'none', 'caps', '3fffffffff', ...layers.flatMap((layer) => ['layer', layer])]
    const reply = await session.request('run', [
      ...words,
      ...STEPS,
      ...more,
      ...['env', 'PATH=/bin', 'arg', '/bin/sh', 'arg', '-ec', 'arg', command],
    ])
    if (!reply.ok) throw new Error(JSON.stringify(reply))
    const { code } = await exited
    if (code !== 0) throw new Error(`the step ended with ${code}: ${command}`)
    return id
  }
  const removeContainer = async (id: string) => {
    await session.request('remove', ['id', id, 'force', '1'])
    await session.request('forget', ['id', id])
  }
  /** Runs a step and makes a layer of it. */
  const layerOf = async (layers: readonly string[], command: string, more: readonly string[] = []) => {
    const target = inHome()
    const { empty } = await keepContainer(session, await runStep(layers, command, more), target)
    return { empty, target, tree: join(target, 'tree') }
  }
  /** Every path below a directory of the test's own. */
  const paths = (directory: string, below = ''): string[] =>
    readdirSync(join(directory, below))
      .sort()
      .flatMap((name) => {
        const path = join(below, name)
        return lstatSync(join(directory, path)).isDirectory() ? [path, ...paths(directory, path)] : [path]
      })

  describe('list', () => {
    test('tells all facts of every entry, parents first and names in byte order', async () => {
      const directory = makeDirectory()
      mkdirSync(join(directory, 'b'))
      writeFileSync(join(directory, 'b', 'file'), 'hello')
      chownSync(join(directory, 'b', 'file'), 12, 34)
      chmodSync(join(directory, 'b', 'file'), 0o4750)
      utimesSync(join(directory, 'b', 'file'), 1, 1234.5)
      symlinkSync('/nowhere', join(directory, 'a'))
      execFileSync('mkfifo', [join(directory, 'b.x')])
      execFileSync('mknod', [join(directory, 'c'), 'c', '1', '3'])
      const entries = await collect(listDirectory(session, directory))
      expect(entries.map(({ type, path }) => `${type} ${path}`)).toEqual([
        'd ',
        'l a',
        'd b',
        'f b/file',
        'p b.x',
        'c c',
      ])
      const stat = statSync(join(directory, 'b', 'file'), { bigint: true })
      expect(entries[3]).toEqual({
        type: 'f',
        mode: 0o4750,
        uid: 12,
        gid: 34,
        size: 5,
        mtimeNs: 1_234_500_000_000n,
        ctimeNs: stat.ctimeNs,
        dev: String(stat.dev),
        ino: String(stat.ino),
        nlink: 1,
        rdevMajor: 0,
        rdevMinor: 0,
        path: 'b/file',
        link: '',
        xattrs: '',
      })
      expect(entries[1]).toMatchObject({ link: '/nowhere' })
      expect(entries[5]).toMatchObject({ rdevMajor: 1, rdevMinor: 3 })
    })

    test('goes as deep as it is told', async () => {
      const directory = makeDirectory()
      mkdirSync(join(directory, 'a/b/c'), { recursive: true })
      const listed = async (path: string, depth: number) =>
        (await collect(listDirectory(session, directory, path, { depth }))).map((entry) => entry.path)
      expect(await listed('/', 0)).toEqual([''])
      expect(await listed('/a', 1)).toEqual(['', 'b'])
      expect(await listed('/', 2)).toEqual(['', 'a', 'a/b'])
    })

    test('follows the last link only when it is told, and never out of the root', async () => {
      const directory = makeDirectory()
      mkdirSync(join(directory, 'etc'))
      writeFileSync(join(directory, 'etc/passwd'), 'inner')
      symlinkSync('/etc/passwd', join(directory, 'link'))
      symlinkSync('../../../../..', join(directory, 'up'))
      const [link] = await collect(listDirectory(session, directory, 'link'))
      expect(link).toMatchObject({ type: 'l', link: '/etc/passwd' })
      const [file] = await collect(listDirectory(session, directory, 'link', { follow: true }))
      expect(file).toMatchObject({ type: 'f', size: 5 })
      const above = await collect(listDirectory(session, directory, 'up/etc'))
      expect(above.map((entry) => entry.path)).toEqual(['', 'passwd'])
    })

    test('says which path does not exist', async () => {
      await expect(collect(listDirectory(session, world.rootfs, '/no/such'))).rejects.toMatchObject({
        code: 'PATH_NOT_FOUND',
        value: '/no/such',
      })
      await expect(collect(listDirectory(session, '/no/such/directory'))).rejects.toMatchObject({
        code: 'PATH_NOT_FOUND',
      })
      await expect(collect(listTree(session, { container: newId() }))).rejects.toMatchObject({
        code: 'NO_SUCH_CONTAINER',
      })
    })

    test('carries names that are no UTF-8 there and back', async () => {
      const directory = makeDirectory()
      writeFileSync(Buffer.concat([Buffer.from(`${directory}/`), Buffer.from('a\xffb\xe4', 'latin1')]), 'odd')
      writeFileSync(join(directory, 'ä€😀'), 'even')
      const files = (await collect(listDirectory(session, directory))).filter((entry) => entry.type === 'f')
      expect(files.map((entry) => entry.size).sort()).toEqual([3, 4])
      const digests = await digestFiles(
        session,
        directory,
        files.map((entry) => entry.path),
      )
      expect(digests).toEqual(files.map(({ size }) => sha256(size === 3 ? 'odd' : 'even')))
      const workspace = await Workspace.open(session, [world.rootfs])
      await workspace.transfer(
        { directory },
        files.map(({ path }) => ({ source: path, destination: `/names/${path}` })),
      )
      const arrived = (await collect(workspace.list('/names'))).slice(1)
      expect(arrived.map((entry) => entry.path)).toEqual(files.map((entry) => entry.path))
      await workspace.remove()
    })

    test('ends when the caller stops listening or aborts', async () => {
      const controller = new AbortController()
      const seen: string[] = []
      const reading = (async () => {
        for await (const entry of listDirectory(session, '/usr', '/', { signal: controller.signal })) {
          seen.push(entry.path)
          controller.abort(new Error('enough'))
        }
      })()
      await expect(reading).rejects.toThrow('enough')
      for await (const entry of listDirectory(session, '/usr')) {
        seen.push(entry.path)
        break
      }
      expect(seen.length).toBeGreaterThan(1)
      expect((await session.request('ping', [])).ok).toBe(true)
    })
  })

  describe('digest', () => {
    test('gives the digests of many files in order, also of empty and large ones', async () => {
      const directory = makeDirectory()
      const contents = [
        randomBytes(3_000_000),
        Buffer.alloc(0),
        ...Array.from({ length: 500 }, (_, i) => Buffer.from(`${i}`)),
      ]
      for (const [index, bytes] of contents.entries()) writeFileSync(join(directory, `${index}`), bytes)
      const digests = await digestFiles(
        session,
        directory,
        contents.map((_, index) => `/${index}`),
      )
      expect(digests).toEqual(contents.map(sha256))
    })

    test('refuses what is no regular file, without touching it', async () => {
      const directory = makeDirectory()
      execFileSync('mkfifo', [join(directory, 'pipe')])
      symlinkSync('pipe', join(directory, 'link'))
      for (const name of ['pipe', 'link', '/'])
        await expect(digestFiles(session, directory, [name])).rejects.toMatchObject({
          code: 'NOT_SUPPORTED',
          value: name,
        })
      await expect(digestFiles(session, directory, ['gone'])).rejects.toMatchObject({ code: 'PATH_NOT_FOUND' })
    })
  })

  describe('transfer', () => {
    test('keeps mode, owner, times, capabilities, links and devices', async () => {
      const from = makeDirectory()
      mkdirSync(join(from, 'd'), { mode: 0o750 })
      chmodSync(join(from, 'd'), 0o2750)
      chownSync(join(from, 'd'), 7, 8)
      writeFileSync(join(from, 'd/file'), 'contents')
      chownSync(join(from, 'd/file'), 1000, 50)
      chmodSync(join(from, 'd/file'), 0o4755)
      linkSync(join(from, 'd/file'), join(from, 'd/other'))
      writeFileSync(join(from, 'd/cap'), 'x')
      execFileSync('setcap', ['cap_net_raw+ep', join(from, 'd/cap')])
      symlinkSync('../etc/passwd', join(from, 'd/link'))
      execFileSync('chown', ['-h', '5:6', join(from, 'd/link')])
      execFileSync('mkfifo', ['-m', '640', join(from, 'd/pipe')])
      execFileSync('mknod', ['-m', '604', join(from, 'd/null'), 'c', '1', '3'])
      for (const name of ['file', 'cap', 'pipe', 'null']) utimesSync(join(from, 'd', name), 1.25, 1000.123456789)
      lutimesSync(join(from, 'd/link'), 2, 2000.5)
      utimesSync(join(from, 'd'), 3, 3000.75)
      const workspace = await Workspace.open(session, [world.rootfs])
      const listed = await collect(listDirectory(session, from))
      const records = listed.map(({ path }) => ({ source: `/${path}`, destination: `/copy/${path}`, hardLinks: true }))
      const { entries } = await workspace.transfer({ directory: from }, records)
      expect(entries).toBe(records.length)
      const copies = await collect(workspace.list('/copy'))
      const facts = ({
        type,
        mode,
        uid,
        gid,
        size,
        mtimeNs,
        rdevMajor,
        rdevMinor,
        path,
        link,
        xattrs,
        nlink,
      }: Entry) => {
        const common = { type, mode, uid, gid, mtimeNs, rdevMajor, rdevMinor, path, link, xattrs }
        return type === 'd' ? common : { ...common, size, nlink }
      }
      expect(copies.map(facts)).toEqual(listed.map(facts))
      const inode = (path: string) => copies.find((copy) => copy.path === path)?.ino
      expect(inode('d/file')).toBe(inode('d/other'))
      expect(copies.find((copy) => copy.path === 'd/cap')?.xattrs).toContain(
        Buffer.from('security.capability=').toString('hex'),
      )
      await workspace.remove()
    })

    test('replaces mode, owner and time where it is asked to, and makes parents for their owner', async () => {
      const from = makeDirectory()
      writeFileSync(join(from, 'f'), 'x')
      symlinkSync('f', join(from, 'l'))
      const workspace = await Workspace.open(session, [world.rootfs])
      const wishes = {
        mode: 0o4711,
        uid: 9,
        gid: 10,
        mtimeNs: 1_700_000_000_123_456_789n,
        parentsUid: 3,
        parentsGid: 4,
      }
      await workspace.transfer({ directory: from }, [
        { source: 'f', destination: '/new/deep/f', ...wishes },
        { source: 'l', destination: '/new/deep/l', ...wishes },
      ])
      const [parent, deep, file, link] = await collect(workspace.list('/new'))
      for (const made of [parent, deep]) expect(made).toMatchObject({ type: 'd', mode: 0o755, uid: 3, gid: 4 })
      expect(file).toMatchObject({ mode: 0o4711, uid: 9, gid: 10, mtimeNs: wishes.mtimeNs })
      expect(link).toMatchObject({ type: 'l', mode: 0o777, uid: 9, gid: 10, mtimeNs: wishes.mtimeNs })
      await workspace.remove()
    })

    test('keeps holes in a sparse file, and every byte of a large one', async () => {
      const from = makeDirectory()
      const bytes = randomBytes(5_000_001)
      writeFileSync(join(from, 'large'), bytes)
      writeFileSync(join(from, 'sparse'), 'head')
      truncateSync(join(from, 'sparse'), 1 << 30)
      const workspace = await Workspace.open(session, [world.rootfs])
      await workspace.transfer({ directory: from }, [
        { source: 'large', destination: '/large' },
        { source: 'sparse', destination: '/sparse' },
      ])
      expect(await workspace.digest(['/large'])).toEqual([sha256(bytes)])
      const target = inHome()
      await workspace.keep(target)
      const { size, blocks } = statSync(join(target, 'tree/sparse'))
      expect({ size, isSparse: blocks * 512 < 1 << 20 }).toEqual({ size: 1 << 30, isSparse: true })
    })

    test('merges directories, replaces files, and never one by the other', async () => {
      const from = makeDirectory()
      mkdirSync(join(from, 'd'))
      writeFileSync(join(from, 'f'), 'new')
      symlinkSync('target', join(from, 'l'))
      const workspace = await Workspace.open(session, [world.rootfs])
      const put = (source: string, destination: string, more: Partial<TransferRecord> = {}) =>
        workspace.transfer({ directory: from }, [{ source, destination, ...more }])
      await put('f', '/etc/group')
      expect(await workspace.digest(['/etc/group'])).toEqual([sha256('new')])
      await put('l', '/etc/group')
      await put('f', '/etc/group')
      expect((await collect(workspace.list('/etc/group')))[0]).toMatchObject({ type: 'f', size: 3 })
      chmodSync(join(from, 'd'), 0o711)
      await put('d', '/tmp', { keepDirectory: true })
      expect((await collect(workspace.list('/tmp', { depth: 0 })))[0]).toMatchObject({ mode: 0o1777 })
      await put('d', '/tmp')
      expect((await collect(workspace.list('/tmp', { depth: 0 })))[0]).toMatchObject({ mode: 0o711 })
      await expect(put('f', '/etc')).rejects.toMatchObject({ errno: 'EISDIR' })
      await expect(put('l', '/etc')).rejects.toMatchObject({ errno: 'EISDIR' })
      await expect(put('f', '/')).rejects.toMatchObject({ errno: 'EISDIR' })
      await expect(put('d', '/etc/passwd')).rejects.toMatchObject({ errno: 'ENOTDIR' })
      await expect(put('f', '/etc/passwd/x')).rejects.toMatchObject({ errno: 'ENOTDIR' })
      await expect(put('gone', '/x')).rejects.toThrow(/gone/)
      await workspace.remove()
    })

    test('follows links at the destination inside the root only, and the last one only when it is asked to', async () => {
      const outside = makeDirectory()
      const from = makeDirectory()
      writeFileSync(join(from, 'f'), 'x')
      mkdirSync(join(from, 'd'))
      symlinkSync(outside, join(from, 'absolute'))
      symlinkSync(`../../../../../..${outside}`, join(from, 'relative'))
      symlinkSync('/tmp', join(from, 'temporary'))
      const workspace = await Workspace.open(session, [world.rootfs])
      const put = (...records: TransferRecord[]) => workspace.transfer({ directory: from }, records)
      await put(
        ...['absolute', 'relative', 'temporary'].map((name) => ({ source: name, destination: `/${name}` })),
        { source: 'f', destination: '/absolute/f' },
        { source: 'f', destination: '/relative/g' },
        { source: 'f', destination: '/../../../h' },
        { source: 'd', destination: '/temporary', followDestination: true, keepDirectory: true },
      )
      expect(readdirSync(outside)).toEqual([])
      const inner = (await collect(workspace.list(outside))).map((entry) => entry.path)
      expect(inner).toEqual(['', 'f', 'g'])
      expect((await collect(workspace.list('/h')))[0]?.type).toBe('f')
      expect((await collect(workspace.list('/temporary')))[0]?.type).toBe('l')
      await put({ source: 'f', destination: '/temporary' })
      expect((await collect(workspace.list('/temporary')))[0]?.type).toBe('f')
      await workspace.remove()
    })

    test('reads from a container as well, through its links and not out of it', async () => {
      const source = await Workspace.open(session, [world.rootfs])
      const from = makeDirectory()
      const secret = join(makeDirectory(), 'secret')
      writeFileSync(secret, 'secret')
      symlinkSync(join(secret, '..'), join(from, 'out'))
      symlinkSync('etc', join(from, 'within'))
      await source.transfer({ directory: from }, [
        { source: 'out', destination: '/out' },
        { source: 'within', destination: '/within' },
      ])
      const workspace = await Workspace.open(session, [world.rootfs])
      await expect(
        workspace.transfer({ workspace: source }, [{ source: '/out/secret', destination: '/x' }]),
      ).rejects.toMatchObject({ errno: 'ENOENT' })
      await workspace.transfer({ workspace: source }, [{ source: '/within/passwd', destination: '/y' }])
      expect(await workspace.digest(['/y'])).toEqual([sha256(readFileSync(join(world.rootfs, 'etc/passwd')))])
      await source.remove()
      await workspace.remove()
    })

    test('is not led out by somebody who exchanges directories and links meanwhile', async () => {
      const outside = makeDirectory()
      writeFileSync(join(outside, 'f'), 'canary')
      const from = makeDirectory()
      mkdirSync(join(from, 'real'))
      writeFileSync(join(from, 'real/f'), 'inner')
      symlinkSync(outside, join(from, 'bad'))
      const script = `const fs = require('fs'); const at = ${JSON.stringify(from)} + '/';
        for (;;) { fs.renameSync(at + 'real', at + 'x'); fs.renameSync(at + 'bad', at + 'real');
          fs.renameSync(at + 'real', at + 'bad'); fs.renameSync(at + 'x', at + 'real') }`
      const racer = spawn(process.execPath, ['-e', script], { stdio: 'ignore' })
      const workspace = await Workspace.open(session, [world.rootfs])
      const canary = sha256('canary')
      let copied = 0
      try {
        for (const end = Date.now() + 1500; Date.now() < end; ) {
          const digests = await digestFiles(session, from, ['real/f']).catch(() => [])
          expect(digests).not.toContain(canary)
          const done = await workspace.transfer({ directory: from }, [{ source: 'real/f', destination: '/f' }]).then(
            () => true,
            () => false,
          )
          if (!done) continue
          copied++
          expect(await workspace.digest(['/f'])).toEqual([sha256('inner')])
        }
      } finally {
        racer.kill('SIGKILL')
        await workspace.remove()
      }
      expect(copied).toBeGreaterThan(0)
      expect(readFileSync(join(outside, 'f'), 'utf8')).toBe('canary')
    })

    test('does not write through a link that a program in the container puts in its way', async () => {
      const outside = makeDirectory()
      const id = newId()
      exits.set(id, () => {})
      const command = `mkdir /real; ln -s ${outside} /bad; while true; do mv /real /x; mv /bad /real; mv /real /bad; mv /x /real; done`
      const reply = await session.request('run', [
        ...['id', id, 'net', 'none', 'layer', world.rootfs, ...STEPS],
        ...['env', 'PATH=/bin', 'arg', '/bin/sh', 'arg', '-c', 'arg', command],
      ])
      expect(reply.ok).toBe(true)
      const from = makeDirectory()
      writeFileSync(join(from, 'f'), 'x')
      const record = Buffer.from('f\0/real/f\0\0')
      for (const end = Date.now() + 1000; Date.now() < end; )
        await sendArchive(session, 'transfer', ['dir', from, 'id', id], record, { verb: 'copy', container: 'c' }).catch(
          () => {},
        )
      expect(readdirSync(outside)).toEqual([])
      await removeContainer(id)
    })

    test('copies thousands of small files in a moment', async () => {
      const from = makeDirectory()
      for (let i = 0; i < 50; i++) {
        mkdirSync(join(from, `d${i}`))
        for (let k = 0; k < 100; k++) writeFileSync(join(from, `d${i}/f${k}`), `contents of ${i}.${k}`)
      }
      const workspace = await Workspace.open(session, [world.rootfs])
      const listed = await collect(listDirectory(session, from))
      const records = listed.map(({ path }) => ({ source: path, destination: `/app/${path}` }))
      const started = performance.now()
      await workspace.transfer({ directory: from }, records)
      const tookMs = performance.now() - started
      expect(records).toHaveLength(5051)
      expect((await collect(workspace.list('/app'))).length).toBe(5051)
      expect(tookMs).toBeLessThan(15_000) // about 200 ms on an idle machine: what this finds is a quadratic loop
      await workspace.remove()
    })

    describe('with a base', () => {
      /** A tree below home with `d/<name>` for each of these. */
      const makeBase = (files: Record<string, string>) => {
        const base = inHome()
        mkdirSync(join(base, 'd'), { recursive: true })
        for (const [name, content] of Object.entries(files)) {
          writeFileSync(join(base, 'd', name), content, { mode: 0o644 })
          utimesSync(join(base, 'd', name), 1000, 1000)
        }
        return base
      }
      const inode = (...parts: string[]) => lstatSync(join(...parts)).ino

      test('gives a file that is in it another name, and copies what differs in anything', async () => {
        const files = { same: 'one', size: 'two', time: 'three', mode: 'four', owner: 'five', unasked: 'six' }
        const base = makeBase(files)
        const source = makeBase(files)
        writeFileSync(join(source, 'd/size'), 'longer')
        utimesSync(join(source, 'd/size'), 1000, 1000)
        utimesSync(join(source, 'd/time'), 1000, 1000.5)
        chmodSync(join(source, 'd/mode'), 0o600)
        chownSync(join(source, 'd/owner'), 7, 7)
        writeFileSync(join(source, 'd/missing'), 'seven')
        const workspace = await Workspace.open(session, [makeDirectory()])
        const names = [...Object.keys(files), 'missing']
        const records = names.map((name) => ({
          source: `d/${name}`,
          destination: `/d/${name}`,
          isInBase: name !== 'unasked',
        }))
        const result = await workspace.transfer(
          { directory: source },
          [{ source: 'd', destination: '/d' }, ...records],
          undefined,
          base,
        )
        expect(result).toMatchObject({ entries: 8, linked: 1 })
        const target = inHome()
        await workspace.keep(target)
        for (const name of names) {
          const kept = join(target, 'tree/d', name)
          expect(readFileSync(kept, 'utf8')).toBe(readFileSync(join(source, 'd', name), 'utf8'))
          expect(lstatSync(kept).mtimeMs).toBe(lstatSync(join(source, 'd', name)).mtimeMs)
          expect(lstatSync(kept).nlink, name).toBe(name === 'same' ? 2 : 1)
        }
        expect(inode(target, 'tree/d/same')).toBe(inode(base, 'd/same'))
        expect(lstatSync(join(target, 'tree/d/mode')).mode & 0o777).toBe(0o600)
        expect(lstatSync(join(target, 'tree/d/owner')).uid).toBe(7)
      })

      test('hides a file of the layers below, also in a directory that only they have', async () => {
        const base = makeBase({ a: 'new', b: 'new' })
        const lower = makeBase({ a: 'old', b: 'old', c: 'old' })
        const workspace = await Workspace.open(session, [lower])
        const records = ['a', 'b'].map((name) => ({ source: `d/${name}`, destination: `/d/${name}`, isInBase: true }))
        const { linked } = await workspace.transfer({ directory: base }, records, undefined, base)
        expect(linked).toBe(1) // the first makes the directory
        const target = inHome()
        await workspace.keep(target)
        const next = await Workspace.open(session, [join(target, 'tree'), lower])
        const found = await collect(next.list('/d'))
        expect(found.map(({ path }) => path)).toEqual(['', 'a', 'b', 'c'])
        expect(await next.digest(['/d/a', '/d/b', '/d/c'])).toEqual(['new', 'new', 'old'].map(sha256))
        await next.remove()
        expect(readFileSync(join(base, 'd/a'), 'utf8')).toBe('new')
      })

      test('follows no link of it, and never takes the place of a directory', async () => {
        const base = makeBase({ file: 'x' })
        symlinkSync('d', join(base, 'link'))
        symlinkSync('file', join(base, 'd/pointer'))
        const source = makeBase({ file: 'x', pointer: 'x' })
        const lower = makeDirectory()
        mkdirSync(join(lower, 'd/file'), { recursive: true })
        const workspace = await Workspace.open(session, [lower])
        const to = (destination: string, name = 'file') => [{ source: `d/${name}`, destination, isInBase: true }]
        const transfer = (records: TransferRecord[]) =>
          workspace.transfer({ directory: source }, records, undefined, base)
        expect(await transfer(to('/link/file'))).toMatchObject({ linked: 0 })
        expect(await transfer(to('/d/pointer', 'pointer'))).toMatchObject({ linked: 0 })
        await expect(transfer(to('/d/file'))).rejects.toMatchObject({ errno: 'EISDIR' })
        await workspace.remove()
      })

      test('refuses a base outside the store, copies without one that is gone, and does not serve a container that has run', async () => {
        const source = makeBase({ file: 'x' })
        const record = [{ source: 'd/file', destination: '/d/file', isInBase: true }]
        const workspace = await Workspace.open(session, [makeDirectory()])
        await expect(
          workspace.transfer({ directory: source }, record, undefined, makeDirectory()),
        ).rejects.toMatchObject({ errno: 'EINVAL' })
        const result = await workspace.transfer({ directory: source }, record, undefined, join(world.home, 'gone'))
        expect(result).toMatchObject({ entries: 1, linked: 0 })
        await workspace.remove()
        const id = await runStep([world.rootfs], 'true')
        const words = ['id', id, 'dir', source, 'base', source]
        const attempt = { verb: 'copy into', container: id }
        await expect(
          sendArchive(session, 'transfer', words, Buffer.from('d/file\0/d/file\0same\0'), attempt),
        ).rejects.toMatchObject({ errno: 'EBUSY' })
        await removeContainer(id)
      })
    })
  })

  describe('keep', () => {
    test('makes no layer of a step that has written nothing', async () => {
      const bare = makeDirectory() // without mount points and files in /etc: the start has to make them all
      mkdirSync(join(bare, 'bin'))
      mkdirSync(join(bare, 'etc'), { mode: 0o711 })
      execFileSync('cp', ['-a', join(world.rootfs, 'bin'), bare])
      for (const layers of [[world.rootfs], [bare], [makeDirectory(), bare]]) {
        const { empty, target } = await layerOf(layers, 'true', [
          ...['mount', 'tmpfs', 'target', '/run/secrets/deep', 'options', 'nosuid'],
          ...['file', '/run/other/secret', 'content', 's', 'mode', '0400'],
        ])
        expect({ empty, isThere: existsSync(target) }).toEqual({ empty: true, isThere: false })
      }
    })

    test('keeps what the step has written, and nothing that its start had to make', async () => {
      const { empty, tree, target } = await layerOf(
        [world.rootfs],
        'echo hi > /etc/motd; mkdir -p /srv/a; echo x > /srv/a/b; rm /etc/group',
      )
      expect(empty).toBe(false)
      expect(paths(tree)).toEqual(['etc', 'etc/group', 'etc/motd', 'srv', 'srv/a', 'srv/a/b'])
      expect(lstatSync(join(tree, 'etc/group'))).toMatchObject({ rdev: 0 })
      expect(lstatSync(join(tree, 'etc/group')).isCharacterDevice()).toBe(true)
      expect(statSync(target).mode & 0o777).toBe(0o700)
    })

    test('gives a directory that only the start has changed the time of the layer below', async () => {
      const lower = makeDirectory()
      execFileSync('cp', ['-a', `${world.rootfs}/.`, lower])
      mkdirSync(join(lower, 'etc/app'))
      utimesSync(join(lower, 'etc'), 1, 12345.5)
      const { tree } = await layerOf([lower], 'sleep 0.05; echo x > /etc/app/new')
      expect(paths(tree)).toEqual(['etc', 'etc/app', 'etc/app/new'])
      expect(statSync(join(tree, 'etc')).mtimeMs).toBe(12345500)
    })

    test('can be a layer of the next step: files gone, directories replaced, and empty again', async () => {
      const first = await layerOf([world.rootfs], 'mkdir -p /data/old; echo 1 > /data/old/f; echo 2 > /data/g')
      const second = await layerOf(
        [first.tree, world.rootfs],
        'rm -rf /data; mkdir /data; echo 3 > /data/h; rm /etc/passwd',
      )
      const layers = [second.tree, first.tree, world.rootfs]
      const third = await layerOf(layers, 'ls -A /data > /seen; ls /etc >> /seen; test ! -e /etc/passwd')
      expect(readFileSync(join(third.tree, 'seen'), 'utf8').split('\n')).toEqual(expect.arrayContaining(['h']))
      expect(readFileSync(join(third.tree, 'seen'), 'utf8')).not.toMatch(/^(old|g|passwd)$/m)
      expect(paths(third.tree)).toEqual(['seen'])
      expect((await layerOf([third.tree, ...layers], 'true')).empty).toBe(true)
    })

    test('leaves no mark of the mount on the top of the layer', async () => {
      const { tree } = await layerOf([world.rootfs], 'echo > /etc/new')
      const xattrs = execFileSync('python3', ['-c', `import os; print(os.listxattr(${JSON.stringify(tree)}))`], {
        encoding: 'utf8',
      })
      expect(xattrs.trim()).toBe('[]')
    })

    test('keeps a directory that was mounted over but belongs to the layers, and one that the program has filled', async () => {
      const lower = makeDirectory()
      execFileSync('cp', ['-a', `${world.rootfs}/.`, lower])
      mkdirSync(join(lower, 'cache'))
      const { tree } = await layerOf([lower], 'chmod 700 /cachedir; mkdir /tools/bin; echo > /cache/lost', [
        ...['mount', 'tmpfs', 'target', '/cache', 'options', 'nosuid'],
        ...['mount', 'tmpfs', 'target', '/tools/mnt', 'options', 'nosuid'],
        ...['mount', 'tmpfs', 'target', '/cachedir/mnt', 'options', 'nosuid'],
      ])
      expect(paths(tree)).toEqual(['cachedir', 'tools', 'tools/bin'])
    })

    test('follows no link that the step has put where a mount was (CVE-2024-23652)', async () => {
      const outside = makeDirectory()
      mkdirSync(join(outside, 'mnt'))
      writeFileSync(join(outside, 'secret'), '')
      const { tree } = await layerOf(
        [world.rootfs],
        `mv /work /moved; ln -s ${outside} /work; mv /run /ran; ln -s ${outside} /run; mkdir -p ${outside}/mnt`,
        [...['mount', 'tmpfs', 'target', '/work/mnt', 'options', 'nosuid'], ...['file', '/run/secret', 'content', 'x']],
      )
      expect(readdirSync(outside).sort()).toEqual(['mnt', 'secret'])
      expect(readlinkSync(join(tree, 'work'))).toBe(outside)
      expect(readlinkSync(join(tree, 'run'))).toBe(outside)
      expect(existsSync(join(tree, outside, 'mnt'))).toBe(true)
    })

    test('finds what the start has made behind a link of the layers', async () => {
      const lower = makeDirectory()
      execFileSync('cp', ['-a', `${world.rootfs}/.`, lower])
      mkdirSync(join(lower, 'run'))
      mkdirSync(join(lower, 'var'))
      symlinkSync('/run', join(lower, 'var/run'))
      symlinkSync('../run/systemd/resolv.conf', join(lower, 'etc/resolv.conf'))
      const { empty } = await layerOf([lower], 'grep -q nameserver /etc/resolv.conf', [
        ...['mount', 'tmpfs', 'target', '/var/run/lock', 'options', 'nosuid'],
      ])
      expect(empty).toBe(true)
    })

    test('takes what was copied into a workspace as it is, and the workspace away', async () => {
      const from = makeDirectory()
      mkdirSync(join(from, 'proc'))
      const workspace = await Workspace.open(session, [makeDirectory()])
      await workspace.transfer({ directory: from }, [{ source: 'proc', destination: '/proc' }])
      const target = inHome()
      expect(await workspace.keep(target, { sync: true })).toEqual({ empty: false })
      expect(paths(join(target, 'tree'))).toEqual(['proc'])
      await expect(collect(workspace.list())).rejects.toMatchObject({ code: 'NO_SUCH_CONTAINER' })
      const untouched = await Workspace.open(session, [world.rootfs])
      expect(await untouched.keep(inHome())).toEqual({ empty: true })
    })

    test('refuses a target outside the store or one that exists, and a container that runs', async () => {
      const workspace = await Workspace.open(session, [world.rootfs])
      const from = makeDirectory()
      writeFileSync(join(from, 'f'), 'x')
      await workspace.transfer({ directory: from }, [{ source: 'f', destination: '/f' }])
      for (const target of [join(world.directory, 'elsewhere'), `${world.home}/../elsewhere`])
        await expect(workspace.keep(target)).rejects.toMatchObject({ errno: 'EINVAL' })
      const taken = inHome()
      mkdirSync(taken)
      await expect(workspace.keep(taken)).rejects.toMatchObject({ errno: 'EEXIST' })
      expect(await workspace.digest(['/f'])).toEqual([sha256('x')])
      expect(await workspace.keep(inHome())).toEqual({ empty: false })
      const id = newId()
      await session.request('run', ['id', id, 'net', 'none', 'layer', world.rootfs, 'arg', '/bin/sleep', 'arg', '60'])
      await expect(keepContainer(session, id, inHome())).rejects.toMatchObject({ code: 'CONTAINER_RUNNING' })
      await removeContainer(id)
    })
  })

  describe('a mount with a source root', () => {
    const bind = (root: string, source: string, options = 'ro') => [
      ...['mount', 'bind', 'source', source, 'target', '/mnt', 'options', options, 'source-root', root],
    ]

    test('shows a directory or a file of a workspace, of a running container, or of a directory', async () => {
      const workspace = await Workspace.open(session, [world.rootfs])
      const from = makeDirectory()
      writeFileSync(join(from, 'f'), 'from the stage')
      await workspace.transfer({ directory: from }, [{ source: 'f', destination: '/out/f' }])
      const copy = 'cp /mnt/f /got || cat /mnt/f > /got'
      const first = await layerOf([world.rootfs], copy, bind(`container:${workspace.id}`, '/out'))
      expect(paths(first.tree)).toEqual(['got'])
      expect(readFileSync(join(first.tree, 'got'), 'utf8')).toBe('from the stage')
      const second = await layerOf([world.rootfs], 'cat /mnt > /got', bind(`container:${workspace.id}`, 'out/f'))
      expect(readFileSync(join(second.tree, 'got'), 'utf8')).toBe('from the stage')
      const third = await layerOf([world.rootfs], 'cat /mnt/f > /got', bind(from, '/'))
      expect(readFileSync(join(third.tree, 'got'), 'utf8')).toBe('from the stage')
      const id = newId()
      await session.request('run', [
        ...['id', id, 'net', 'none', 'layer', world.rootfs, 'mount', 'tmpfs', 'target', '/tmp', 'env', 'PATH=/bin'],
        ...['arg', '/bin/sh', 'arg', '-c', 'arg', 'echo running > /tmp/f; echo > /tmp/ready; sleep 60'],
      ])
      for (;;) {
        const ready = await collect(listTree(session, { container: id }, '/tmp/ready')).catch(() => [])
        if (ready.length > 0) break
      }
      const fourth = await layerOf([world.rootfs], 'cat /mnt/f > /got', bind(`container:${id}`, '/tmp'))
      expect(readFileSync(join(fourth.tree, 'got'), 'utf8')).toBe('running\n')
      await removeContainer(id)
      expect(await workspace.keep(inHome())).toEqual({ empty: false })
    })

    test('is resolved inside that root, by links and dots alike', async () => {
      const outside = makeDirectory()
      writeFileSync(join(outside, 'f'), 'canary')
      const from = makeDirectory()
      symlinkSync(outside, join(from, 'link'))
      symlinkSync('/', join(from, 'top'))
      writeFileSync(join(from, 'f'), 'inner')
      for (const source of ['link', `../../../..${outside}`, `/top/..${outside}`])
        await expect(runStep([world.rootfs], 'true', bind(from, source))).rejects.toThrow(/mount-source.*ENOENT/)
      const { tree } = await layerOf([world.rootfs], 'cat /mnt/f > /got', bind(from, 'top/../../..'))
      expect(readFileSync(join(tree, 'got'), 'utf8')).toBe('inner')
      await expect(runStep([world.rootfs], 'true', bind(`container:${newId()}`, '/'))).rejects.toThrow(/mount-source/)
    })

    test('holds the other container until the one that mounts it has ended', async () => {
      const workspace = await Workspace.open(session, [world.rootfs])
      const id = newId()
      const exited = new Promise((resolve) => exits.set(id, resolve))
      const reply = await session.request('run', [
        ...['id', id, 'net', 'none', 'layer', world.rootfs, ...bind(`container:${workspace.id}`, '/')],
        ...['arg', '/bin/sleep', 'arg', '60'],
      ])
      expect(reply.ok).toBe(true)
      await expect(workspace.keep(inHome())).rejects.toThrow(/has a mount of it/)
      await session.request('signal', ['id', id, 'signal', '9'])
      await exited
      await removeContainer(id)
      expect(await workspace.keep(inHome())).toEqual({ empty: true })
    })
  })

  test('a file of the plan has the mode and owner it asks for, and its literal text', async () => {
    const { tree } = await layerOf([world.rootfs], 'stat -c "%a %u:%g" /run/secret > /got; cat /run/secret >> /got', [
      ...['file', '/run/secret', 'literal', 'it is @HOSTNAME@', 'mode', '0440', 'owner', '1000:50'],
    ])
    expect(readFileSync(join(tree, 'got'), 'utf8')).toBe('440 1000:50\nit is @HOSTNAME@')
  })

  test('a removal that comes while something is copied waits for it, and leaves nothing', async () => {
    const workspace = await Workspace.open(session, [world.rootfs])
    const stalled = (async function* () {
      yield Buffer.from('partial')
      await new Promise((resolve) => setTimeout(resolve, 200))
    })()
    const copy = sendArchive(session, 'transfer', ['dir', world.rootfs, 'id', workspace.id], stalled, {
      verb: 'copy into',
      container: 'c',
    })
    const refused = expect(copy).rejects.toThrow(/malformed/)
    for (;;) {
      // The copy's own work directory shows that it has begun.
      if (readdirSync(join(session.facts.session, 'c')).some((name) => /\.x\d+$/.test(name))) break
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    await Promise.all([refused, workspace.remove()])
  })

  function sha256(bytes: string | Uint8Array): string {
    return createHash('sha256').update(bytes).digest('hex')
  }
})
