import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type SavedImage, saveImages } from '../../../src/engine/archive-formats/save.js'
import { build } from '../../../src/engine/build/build.js'
import { parseReference } from '../../../src/engine/image/reference.js'
import { obstacle } from '../support/world.js'
import { type BuildWorld, openWorld } from './support/world.js'

describe.skipIf(obstacle())('stages', () => {
  let world: BuildWorld

  beforeAll(async () => {
    world = await openWorld()
  })
  afterAll(() => world[Symbol.asyncDispose]())

  const of = (dockerfile: string, options: object = {}) => world.build({ context: { dockerfile }, ...options })

  test('that nobody needs are not built', async () => {
    const { output } = await of(
      'FROM base AS unused\nRUN echo unused\nFROM base AS used\nRUN echo used\nFROM used\nRUN echo last',
    )
    expect(output).toBe('used\nlast\n')
  })

  test('target builds up to a stage, by name in any case or by number', async () => {
    const dockerfile = 'FROM base AS one\nRUN echo one\nFROM base AS two\nRUN echo two'
    expect((await of(dockerfile, { target: 'ONE' })).output).toBe('one\n')
    expect((await of(dockerfile, { target: '1', noCache: true })).output).toBe('two\n')
    await expect(of(dockerfile, { target: 'onf' })).rejects.toMatchObject({
      code: 'STAGE_NOT_FOUND',
      hint: expect.stringContaining('one'),
    })
  })

  test('that do not depend on each other run at the same time', async () => {
    const side = (n: number) =>
      `FROM base AS s${n}\nRUN --mount=type=cache,id=meet,target=/m touch /m/${n} && for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do test -e /m/${3 - n} && exit 0; sleep 0.1; done; exit 1\n`
    await of(`${side(1)}${side(2)}FROM base\nCOPY --from=s1 /etc/group /1\nCOPY --from=s2 /etc/group /2`)
  })

  test('are described as BuildKit does', async () => {
    const { events } = await of('FROM base AS one\nRUN echo a\nFROM base\nWORKDIR /w\nCOPY --from=one /etc/group ./')
    const texts = events.flatMap((event) => (event.type === 'started' ? [event.text] : []))
    expect(texts).toEqual(
      expect.arrayContaining([
        '[one 2/2] RUN echo a',
        '[stage-1 2/3] WORKDIR /w',
        '[stage-1 3/3] COPY --from=one /etc/group ./',
        'exporting to image',
      ]),
    )
    const kinds = new Map<number, string[]>()
    for (const event of events)
      if ('vertex' in event) kinds.set(event.vertex, [...(kinds.get(event.vertex) ?? []), event.type])
    for (const kind of kinds.values()) {
      expect(kind[0]).toBe('started')
      expect(kind.at(-1)).toBe('done')
    }
  })

  test('a named context takes the place of an image, a stage, and is found by --from', async () => {
    const directory = world.fresh()
    mkdirSync(join(directory, 'bin'))
    writeFileSync(join(directory, 'marker'), 'from the directory')
    const result = await of(
      'FROM alpine AS one\nFROM scratch\nCOPY --from=one /etc/group /g\nCOPY --from=files marker /m',
      {
        namedContexts: { alpine: 'docker-image://base', files: directory },
      },
    )
    expect(await world.read(result, '/m')).toBe('from the directory')
    const based = await of('FROM files\nCOPY <<EOF /more\nEOF', { namedContexts: { files: directory } })
    expect(Object.keys(await world.files(based))).toEqual(['bin', 'marker', 'more'])
  })

  test.each([
    ['foo', 'foo:latest'],
    ['foo', 'docker.io/library/foo'],
    ['foo', 'library/foo:latest'],
    ['foo:latest', 'foo'],
    ['docker.io/library/foo', 'foo'],
    ['Foo', 'foo:latest'],
    ['foo:1', 'docker.io/library/foo:1'],
    ['foo_', 'Foo_'],
  ])('the named context %s is found as %s', async (given, name) => {
    const directory = world.fresh()
    writeFileSync(join(directory, 'marker'), 'from the directory')
    const namedContexts = { [given]: directory }
    const copied = await of(`FROM scratch\nCOPY --from=${name} marker /m`, { namedContexts })
    expect(await world.read(copied, '/m')).toBe('from the directory')
    const based = await of(`FROM ${name}`, { namedContexts })
    expect(await world.read(based, '/marker')).toBe('from the directory')
  })

  test('a named context is not found under another tag or registry', async () => {
    const namedContexts = { base: world.fresh(), 'base:2': world.fresh(), 'localhost/base': world.fresh() }
    for (const name of ['base:1', 'localhost:5000/base', 'other/base']) {
      await expect(of(`FROM ${name}`, { namedContexts })).rejects.toThrow('there is no registry')
    }
  })

  test('a named context may be an image of an OCI layout, the only one or one by its name', async () => {
    const layout = join(world.fresh(), 'layout')
    mkdirSync(layout)
    await of('FROM base\nRUN echo one > /which\nLABEL which=one', { tags: ['layout/one:1'] })
    await of('FROM base\nRUN echo two > /which\nLABEL which=two', { tags: ['layout/two:2'] })
    const images = await Promise.all(
      ['layout/one:1', 'layout/two:2'].map(async (name) => ({
        image: (await world.context.store.images.resolve(name))!,
        references: [parseReference(name)],
      })),
    )
    const save = async (saved: readonly SavedImage[], to: string) => {
      const tar = join(world.fresh(), 'layout.tar')
      writeFileSync(tar, await buffer(Readable.from(saveImages(world.context, saved, { format: 'oci' }))))
      execFileSync('tar', ['-C', to, '-xf', tar])
    }
    const which = async (source: string, dockerfile: string) => {
      const result = await of(dockerfile, { namedContexts: { outside: source } })
      return (await world.read(result, '/which')).trim()
    }
    await save(images, layout)
    expect(await which(`oci-layout://${layout}:2`, 'FROM outside\nRUN true')).toBe('two')
    expect(await which(`oci-layout:${layout}:1`, 'FROM scratch\nCOPY --from=outside /which /')).toBe('one')
    const { manifests } = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8'))
    expect(await which(`oci-layout://${layout}@${manifests[1].digest}`, 'FROM outside')).toBe('two')
    await expect(which(`oci-layout://${layout}`, 'FROM outside')).rejects.toMatchObject({
      code: 'CONTEXT_INVALID',
      message: expect.stringContaining(':tag or @digest'),
    })
    await expect(which(`oci-layout://${layout}/blobs`, 'FROM outside')).rejects.toThrow('is no OCI layout')
    const alone = world.fresh()
    await save([images[0]!], alone)
    expect(await which(`oci-layout://${alone}`, 'FROM outside')).toBe('one')
  })

  test('a git repository is a context, with branch and directory', async () => {
    const repository = join(world.fresh(), 'project.git')
    mkdirSync(join(repository, 'sub'), { recursive: true })
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', repository, '-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args], {
        encoding: 'utf8',
      }).trim()
    git('init', '-q', '-b', 'main')
    writeFileSync(join(repository, 'sub/Dockerfile'), 'FROM scratch\nCOPY . /o/\n')
    writeFileSync(join(repository, 'sub/f'), 'one')
    symlinkSync('/etc', join(repository, 'out'))
    git('add', '.')
    git('commit', '-qm', 'one')
    git('tag', 'v1')
    writeFileSync(join(repository, 'sub/f'), 'two')
    git('commit', '-qam', 'two')
    const context = await world.build({ context: { git: `file://${repository}#v1:sub` } })
    expect(await world.read(context, '/o/f')).toBe('one')
    await expect(world.build({ context: { git: `file://${repository}#main:out` } })).rejects.toMatchObject({
      code: 'CONTEXT_INVALID',
    })
    await expect(world.build({ context: { git: `file://${repository}#nobranch` } })).rejects.toMatchObject({
      code: 'FETCH_FAILED',
    })
  })

  test('RUN of a foreign platform is refused, copying is not', async () => {
    const platform = process.arch === 'x64' ? 'linux/arm64' : 'linux/amd64'
    const { image } = await of('FROM scratch\nCOPY <<EOF /f\nEOF', { platform })
    expect(image.config.architecture).toBe(platform.split('/')[1])
    await expect(of('FROM scratch\nRUN ["/x"]', { platform })).rejects.toMatchObject({ code: 'NOT_SUPPORTED', line: 2 })
  })

  test('the base image is fetched when it is not here, and asked for again with pull', async () => {
    const asked: string[] = []
    const context = {
      ...world.context,
      pull: async (reference: string) => {
        asked.push(reference)
        return (await world.context.store.images.resolve('base'))!
      },
    }
    await build(context, { context: { dockerfile: 'FROM nowhere:1\nRUN echo pulled' } })
    await build(context, { context: { dockerfile: 'FROM base\nRUN echo pulled' } })
    await build(context, { context: { dockerfile: 'FROM base\nRUN echo pulled' }, pull: true })
    expect(asked).toEqual(['docker.io/library/nowhere:1', 'docker.io/library/base:latest'])
  })
})
