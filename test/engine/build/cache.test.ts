import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { wardenProgram } from '../../../src/engine/where.js'
import { bundleScenario, startScenario } from '../../support/scenario.js'
import { obstacle } from '../support/world.js'
import { type BuildWorld, openWorld } from './support/world.js'

describe.skipIf(obstacle())('the build cache', () => {
  let world: BuildWorld

  beforeAll(async () => {
    world = await openWorld()
  })
  afterAll(() => world[Symbol.asyncDispose]())

  const makeContext = () => {
    const directory = world.fresh()
    mkdirSync(join(directory, 'd'))
    for (const name of ['a', 'b', 'd/c']) writeFileSync(join(directory, name), `${directory} ${name}`, { mode: 0o644 })
    symlinkSync('c', join(directory, 'd/link'))
    return directory
  }

  test('remembers nothing of a context that no other build can have', async () => {
    const known = () => readdirSync(join(world.home, 'cache', 'digests'))
    const before = known()
    const dockerfile = 'FROM base\nCOPY file /'
    for (const content of ['one', 'two'])
      await world.build({ context: { dockerfile, files: { file: content } }, tags: ['memory:1'] })
    expect(known()).toEqual(before)
  })

  const later = new Date(Date.now() + 100_000)
  test.each<[string, (directory: string) => void, 0 | 1]>([
    ['nothing changed', () => {}, 0],
    ['a time changed', (directory) => utimesSync(join(directory, 'd/c'), later, later), 0],
    ['a file that is not copied changed', (directory) => writeFileSync(join(directory, 'b'), 'new'), 0],
    [
      'a file was replaced by an equal one',
      (directory) => {
        const content = readFileSync(join(directory, 'a'))
        unlinkSync(join(directory, 'a'))
        writeFileSync(join(directory, 'a'), content, { mode: 0o644 })
      },
      0,
    ],
    ['a content changed', (directory) => writeFileSync(join(directory, 'd/c'), 'new'), 1],
    [
      'a content of the same length and time changed',
      (directory) => {
        const path = join(directory, 'a')
        const old = readFileSync(path, 'utf8')
        utimesSync(path, later, later)
        writeFileSync(path, old.replace(/.$/, '!'))
        utimesSync(path, later, later)
      },
      1,
    ],
    ['a mode changed', (directory) => chmodSync(join(directory, 'a'), 0o600), 1],
    ['a name changed', (directory) => renameSync(join(directory, 'd/c'), join(directory, 'd/e')), 1],
    [
      'a link points elsewhere',
      (directory) => {
        unlinkSync(join(directory, 'd/link'))
        symlinkSync('x', join(directory, 'd/link'))
      },
      1,
    ],
    ['a file was added', (directory) => writeFileSync(join(directory, 'd/more'), ''), 1],
    ['a file was removed', (directory) => unlinkSync(join(directory, 'd/c')), 1],
    ['an empty directory was added', (directory) => mkdirSync(join(directory, 'd/empty')), 1],
  ])('when %s, COPY is executed %#', async (_what, change, executed) => {
    const directory = makeContext()
    const options = { context: { directory }, dockerfile: 'FROM scratch\nCOPY a d /o/' }
    const first = await world.build(options)
    change(directory)
    const second = await world.build(options)
    expect(second.executed).toBe(executed)
    expect(second.image.id === first.image.id).toBe(executed === 0)
  })

  test.each([
    ['ARG a\nRUN echo arg', 1],
    ['RUN echo before\nARG a', 0],
    ['ARG a\nCOPY x /x', 0],
    ['ARG a\nENV e=$a\nRUN echo env', 1],
    ['ARG a\nLABEL l=$a', 0],
  ])('another value of an ARG in %j', async (lines, executed) => {
    const build = (a: string) =>
      world.build({ context: { dockerfile: `FROM base\n${lines}`, files: { x: 'x' } }, buildArgs: { a } })
    await build('1')
    expect((await build('2')).executed).toBe(executed)
  })

  test.each([
    ['RUN echo k', 'USER alice\nRUN echo k'],
    ['RUN echo k', 'WORKDIR /tmp\nRUN echo k'],
    ['RUN echo k', 'ENV K=1\nRUN echo k'],
    ['RUN echo k', 'SHELL ["/bin/busybox","sh","-c"]\nRUN echo k'],
    ['RUN echo k', 'RUN --network=none --mount=type=tmpfs,target=/k echo k'],
    ['COPY x /k', 'COPY --chmod=600 x /k'],
    ['COPY x /k', 'COPY --chown=1 x /k'],
    ['COPY x /k', 'COPY x /k2'],
    ['COPY x /k', 'RUN echo below\nCOPY x /k'],
  ])('%j is not taken for %j', async (one, other) => {
    const build = (lines: string) => world.build({ context: { dockerfile: `FROM base\n${lines}`, files: { x: 'k' } } })
    await build(one)
    expect((await build(other)).executed).toBeGreaterThan(0)
    expect((await build(one)).executed).toBe(0)
  })

  test('what only the config says is never taken from the cache (CVE-2024-24557)', async () => {
    await world.build({
      context: { dockerfile: 'FROM base\nRUN echo p > /p\nHEALTHCHECK CMD evil\nONBUILD RUN evil\nCMD ["evil"]' },
    })
    const { image, executed } = await world.build({ context: { dockerfile: 'FROM base\nRUN echo p > /p' } })
    expect(executed).toBe(0)
    expect(JSON.stringify(image.config)).not.toContain('evil')
  })

  test('noCache executes everything, or the steps of the stages it names', async () => {
    const dockerfile = 'FROM base AS one\nRUN echo 1 > /n\nFROM base AS two\nRUN echo 2\nCOPY --from=one /n /n'
    const options = { context: { dockerfile } }
    await world.build(options)
    expect(await world.build({ ...options, noCache: true })).toMatchObject({ executed: 3, cached: 0 })
    expect((await world.build({ ...options, noCache: ['two'] })).executed).toBe(2)
    expect((await world.build(options)).executed).toBe(0)
  })

  test('a stage that was made anew with the same files does not make anew what copies from it', async () => {
    const build = (n: number) =>
      world.build({
        context: {
          dockerfile: `FROM base AS one\nRUN echo ${n} > /dev/null; echo same > /f; touch -d @0 /f /\nFROM base\nCOPY --from=one /f /f`,
        },
      })
    await build(1)
    expect(await build(2)).toMatchObject({ executed: 1, cached: 1 })
  })

  test('an entry whose layer is gone counts as absent', async () => {
    const options = { context: { dockerfile: 'FROM base\nRUN echo gone > /gone' } }
    const { image } = await world.build(options)
    await world.context.store.layers.remove(image.layers.at(-1)!.chainId)
    const again = await world.build(options)
    expect(again.executed).toBe(1)
    expect(await world.read(again, '/gone')).toBe('gone\n')
  })

  test('a damaged entry counts as absent', async () => {
    const options = { context: { dockerfile: 'FROM base\nRUN echo torn > /torn' } }
    await world.build(options)
    const entries = join(world.home, 'cache/build')
    for (const name of readdirSync(entries)) writeFileSync(join(entries, name), '{"version":1,"layer":"../../x"')
    expect((await world.build(options)).executed).toBe(1)
  })

  test('two builds at once in one process execute a step once', async () => {
    const options = { context: { dockerfile: 'FROM base\nRUN sleep 0.2; date +%s%N > /time' } }
    const both = await Promise.all([world.build(options), world.build(options)])
    expect(both.map(({ executed }) => executed).sort()).toEqual([0, 1])
    expect(both[0].image.id).toBe(both[1].image.id)
  })

  test('a COPY of many files that is done again shares those that are the same with the layer of before', async () => {
    const directory = world.fresh()
    mkdirSync(join(directory, 'src'))
    for (let i = 0; i < 300; i++) writeFileSync(join(directory, 'src', `f${i}`), `file ${i}\n`)
    const build = (more = '') =>
      world.build({ context: { directory }, dockerfile: `FROM base\nCOPY src /many\n${more}` })
    const file = (result: Awaited<ReturnType<typeof build>>, name: string) =>
      statSync(join(result.image.layers[1]!.tree, 'many', name))
    const first = await build()
    writeFileSync(join(directory, 'src/f7'), 'FILE 7\n')
    const second = await build()
    expect(second.executed).toBe(1)
    expect(file(second, 'f8').ino).toBe(file(first, 'f8').ino)
    expect(file(second, 'f7').ino).not.toBe(file(first, 'f7').ino)
    expect(await world.read(second, '/many/f7')).toBe('FILE 7\n')
    expect(await world.read(first, '/many/f7')).toBe('file 7\n')
    // Its archive says nothing of names in other layers.
    const fresh = await build('# another key\n')
    expect(fresh.image.id).toBe(second.image.id)
    expect(await world.context.store.layers.verify(second.image.layers[1]!.chainId)).toBe('whole')
    const changed = await world.build({
      context: { directory },
      dockerfile: 'FROM base\nCOPY src /many\nRUN echo changed > /many/f8',
    })
    expect(await world.read(changed, '/many/f8')).toBe('changed\n')
    expect(await world.read(first, '/many/f8')).toBe('file 8\n')
    // What is left when the layer of before is gone is whole.
    await world.context.store.layers.remove(first.image.layers[1]!.chainId)
    expect(await world.read(second, '/many/f8')).toBe('file 8\n')
    expect(file(second, 'f8').nlink).toBe(1)
  })

  test('a file whose content changes under the same size and time is copied', async () => {
    const directory = world.fresh()
    mkdirSync(join(directory, 'src'))
    const paths = Array.from({ length: 250 }, (_, i) => join(directory, 'src', `f${i}`))
    const write = (content: string) => {
      for (const path of paths) {
        writeFileSync(path, content)
        utimesSync(path, 1000, 1000)
      }
    }
    const build = () => world.build({ context: { directory }, dockerfile: 'FROM base\nCOPY src /sly\n' })
    write('one')
    await build()
    write('two')
    expect(await world.read(await build(), '/sly/f9')).toBe('two')
  })

  /** Builds two steps from a directory, which is the context and the named context `nc`, and changes it between them. */
  const changing = async (before: string, after: string, change: (directory: string) => void) => {
    const directory = world.fresh()
    for (const name of ['f', 'g']) writeFileSync(join(directory, name), directory)
    await setTimeout(200) // digests of files that have just been written are not remembered
    const dockerfile = `FROM base\n${before}\nRUN echo ${directory}\n${after}`
    const options = { context: { directory }, dockerfile, namedContexts: { nc: directory } }
    const first = await world.build({
      ...options,
      onEvent: ({ type }) => {
        if (type === 'output') change(directory)
      },
    })
    return { directory, options, first }
  }

  test.each(['', '--from=nc '])('a COPY %sof what changed meanwhile is not remembered', async (from) => {
    const { directory, options, first } = await changing(`COPY ${from}f g /`, `COPY ${from}f /b`, (context) =>
      writeFileSync(join(context, 'f'), 'NEW'),
    )
    expect(await world.read(first, '/b')).toBe('NEW')
    writeFileSync(join(directory, 'f'), directory)
    const second = await world.build(options)
    expect(second).toMatchObject({ executed: 1, cached: 2 })
    expect(await world.read(second, '/b')).toBe(directory)
  })

  test.each(['', '--from=nc '])('a file that is gone meanwhile ends no COPY %sof another', async (from) => {
    const { directory, first } = await changing(`COPY ${from}f g /`, `COPY ${from}f /b`, (context) =>
      unlinkSync(join(context, 'g')),
    )
    expect(await world.read(first, '/b')).toBe(directory)
  })

  test.each([
    ['bind,target=/c', 'COPY f g /'],
    ['bind,target=/c,from=nc', 'COPY --from=nc f g /'],
    ['cache,target=/c,id=seeded-meanwhile,from=nc', 'COPY --from=nc f g /'],
  ])('a RUN with a mount of %s, of what changed meanwhile, is not remembered', async (mount, before) => {
    const { directory, options, first } = await changing(before, `RUN --mount=type=${mount} cat /c/f >/b`, (context) =>
      writeFileSync(join(context, 'f'), 'NEW'),
    )
    expect(await world.read(first, '/b')).toBe('NEW')
    writeFileSync(join(directory, 'f'), directory)
    const second = await world.build(options)
    expect(second).toMatchObject({ executed: 1, cached: 2 })
    expect(await world.read(second, '/b')).toBe(directory)
  })

  test('a RUN is remembered although what it binds changes while it runs', async () => {
    const directory = world.fresh()
    writeFileSync(join(directory, 'f'), directory)
    const dockerfile = 'FROM base\nRUN --mount=target=/c echo begun; sleep 0.2; cat /c/f >/b'
    const options = { context: { directory }, dockerfile }
    const first = await world.build({
      ...options,
      onEvent: ({ type }) => {
        if (type === 'output') writeFileSync(join(directory, 'f'), 'NEW')
      },
    })
    expect(await world.read(first, '/b')).toBe(directory)
    writeFileSync(join(directory, 'f'), directory)
    expect((await world.build(options)).executed).toBe(0)
  })

  test('a base that is a directory which changed meanwhile is not remembered', async () => {
    const directory = world.fresh()
    writeFileSync(join(directory, 'f'), directory)
    await setTimeout(200)
    const namedContexts = { nc: directory }
    await world.build({ context: { dockerfile: 'FROM scratch\nCOPY --from=nc f /' }, namedContexts }) // its digest is known
    const options = { context: { dockerfile: 'FROM nc' }, namedContexts }
    const first = await world.build({
      ...options,
      onEvent: (event) => {
        if (event.type === 'started' && event.text.includes('FROM nc')) writeFileSync(join(directory, 'f'), 'NEW')
      },
    })
    expect(await world.read(first, '/f')).toBe('NEW')
    writeFileSync(join(directory, 'f'), directory)
    const second = await world.build(options)
    expect(second.executed).toBe(1)
    expect(await world.read(second, '/f')).toBe(directory)
  })

  test('a build that is killed leaves nothing half-made, and the next one goes on from what it had', async () => {
    const script = join(world.directory, 'build.mjs')
    await bundleScenario(join(import.meta.dirname, 'support/build.scenario.ts'), script)
    const dockerfile = 'FROM base\nRUN echo whole > /whole\nRUN echo half > /half; echo begun; sleep 30\n'
    const killed = startScenario([process.execPath, script, world.directory, dockerfile], {
      MAYFLY_WARDEN: wardenProgram(),
    })
    expect(await killed.fact()).toEqual({ output: 'begun\n' })
    process.kill(killed.pid, 'SIGKILL')
    await killed.ended
    const again = await world.build({ context: { dockerfile: dockerfile.replace('sleep 30', 'sleep 0') } })
    expect(again).toMatchObject({ executed: 1, cached: 1 })
    expect(await world.read(again, '/half')).toBe('half\n')
    expect(readdirSync(join(world.home, 'layers')).every((name) => /^(tar-)?[0-9a-f]{64}$/.test(name))).toBe(true)
  })

  test('another session finds what this one has made', async () => {
    const options = { context: { dockerfile: 'FROM base\nRUN echo shared > /shared' } }
    await world.build(options)
    await using other = await openWorld(world.directory)
    expect(await other.build(options)).toMatchObject({ executed: 0, cached: 1 })
  })

  test('two sessions at once execute a step once', async () => {
    const options = { context: { dockerfile: 'FROM base\nRUN sleep 0.3; date +%s%N > /both' } }
    await using other = await openWorld(world.directory)
    const both = await Promise.all([world.build(options), other.build(options)])
    expect(both.map(({ executed }) => executed).sort()).toEqual([0, 1])
  })
})
