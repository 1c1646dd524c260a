import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { obstacle } from '../support/world.js'
import { type BuildWorld, openWorld } from './support/world.js'

describe.skipIf(obstacle())('COPY', () => {
  let world: BuildWorld
  let directory: string

  beforeAll(async () => {
    world = await openWorld()
    directory = world.fresh()
    for (const path of ['src/lib/deep', 'src/empty', 'other']) mkdirSync(join(directory, path), { recursive: true })
    for (const path of ['a.txt', 'b.txt', 'c.md', 'src/main.js', 'src/lib/x.js', 'src/lib/deep/y.js', 'other/z']) {
      writeFileSync(join(directory, path), `${path}\n`, { mode: 0o644 })
    }
    writeFileSync(join(directory, 'a[1].txt'), 'bracket')
    chmodSync(join(directory, 'src/main.js'), 0o4750)
    chownSync(join(directory, 'b.txt'), 1234, 1234)
    symlinkSync('a.txt', join(directory, 'link'))
    symlinkSync('src', join(directory, 'dirlink'))
    symlinkSync('main.js', join(directory, 'src/inner'))
    linkSync(join(directory, 'src/lib/x.js'), join(directory, 'src/lib/hard.js'))
  })
  afterAll(() => world[Symbol.asyncDispose]())

  /** Files that lie in /o after `lines`. */
  const after = async (lines: string, from = 'scratch') => {
    const result = await world.build({ context: { directory }, dockerfile: `FROM ${from}\n${lines}` })
    return world.files(result, '/o').catch(() => ({}))
  }
  const names = async (lines: string) => Object.keys(await after(lines))

  test('takes files under their names into a directory, which belongs to root like they do', async () => {
    expect(await after('COPY a.txt b.txt /o/')).toEqual({ 'a.txt': 'f 644 0:0', 'b.txt': 'f 644 0:0' })
  })

  test('takes one file under another name', async () => {
    const result = await world.build({ context: { directory }, dockerfile: 'FROM scratch\nCOPY a.txt /o/new' })
    expect(await world.read(result, '/o/new')).toBe('a.txt\n')
  })

  test('takes the contents of a directory, with modes, links and hard links', async () => {
    const result = await world.build({ context: { directory }, dockerfile: 'FROM scratch\nCOPY src /o' })
    expect(await world.files(result, '/o')).toEqual({
      empty: 'd 755 0:0',
      inner: 'l 777 0:0 main.js',
      lib: 'd 755 0:0',
      'lib/deep': 'd 755 0:0',
      'lib/deep/y.js': 'f 644 0:0',
      'lib/hard.js': 'f 644 0:0',
      'lib/x.js': 'f 644 0:0',
      'main.js': 'f 4750 0:0',
    })
    expect(await world.read(result, '/o/main.js')).toBe('src/main.js\n')
  })

  test('takes a file with further names once where two sources bring it to the same place', async () => {
    const lines = 'COPY src/lib src/lib/hard.js src/lib/x.js /o/'
    expect(Object.keys(await after(lines))).toEqual(['deep', 'deep/y.js', 'hard.js', 'x.js'])
  })

  test.each([
    ['COPY *.txt /o/', ['a.txt', 'a[1].txt', 'b.txt']],
    ['COPY ?.txt /o/', ['a.txt', 'b.txt']],
    ['COPY [a-b].txt /o/', ['a.txt', 'b.txt']],
    ['COPY a[[]1].txt /o/', ['a[1].txt']],
    ['COPY src/*/x.js /o/', ['x.js']],
    ['COPY sr* /o/', ['empty', 'inner', 'lib', 'lib/deep', 'lib/deep/y.js', 'lib/hard.js', 'lib/x.js', 'main.js']],
    ['COPY a.txt nothing* /o/', ['a.txt']],
  ])('%s takes what matches', async (line, expected) => {
    expect(await names(line)).toEqual(expected)
  })

  test('follows a link that is named, and none below', async () => {
    expect(await after('COPY link /o/')).toEqual({ link: 'f 644 0:0' })
    expect(await after('COPY dirlink /o/')).toMatchObject({ inner: 'l 777 0:0 main.js', 'main.js': 'f 4750 0:0' })
  })

  test('goes through a link at the destination, inside the root', async () => {
    const dockerfile =
      'FROM base\nRUN mkdir /real && ln -s /real /o2 && ln -s ../../../real /o3\nCOPY a.txt /o2/\nCOPY b.txt /o3\n'
    const result = await world.build({ context: { directory }, dockerfile })
    expect(await world.files(result, '/real')).toEqual({ 'a.txt': 'f 644 0:0', 'b.txt': 'f 644 0:0' })
  })

  test('merges into a directory that exists, which keeps its mode', async () => {
    const dockerfile = 'FROM base\nRUN mkdir -m 700 /o && mkdir -m 711 /o/lib && touch /o/lib/kept\nCOPY src /o\n'
    const result = await world.build({ context: { directory }, dockerfile })
    const files = await world.files(result, '/')
    expect(files).toMatchObject({
      o: 'd 700 0:0',
      'o/lib': 'd 755 0:0',
      'o/lib/kept': 'f 644 0:0',
      'o/lib/x.js': 'f 644 0:0',
    })
  })

  test('refuses a directory over a file and a file over a directory', async () => {
    await expect(after('RUN touch /o\nCOPY src /o', 'base')).rejects.toMatchObject({ code: 'COPY_CONFLICT', line: 3 })
    await expect(after('RUN mkdir -p /o/a.txt\nCOPY a.txt /o/', 'base')).rejects.toThrow(/Dockerfile:3.*a\.txt/s)
    await expect(after('COPY *.txt /o', 'scratch')).rejects.toThrow(/director/)
  })

  test('--chown takes names of the image, numbers, and no group for the number of the user', async () => {
    expect(await after('COPY --chown=alice:nogroup a.txt /o/', 'base')).toEqual({ 'a.txt': 'f 644 1000:65534' })
    expect(await after('COPY --chown=alice a.txt /o/', 'base')).toEqual({ 'a.txt': 'f 644 1000:1000' })
    expect(await after('COPY --chown=7:8 src/lib /o/', 'scratch')).toMatchObject({
      deep: 'd 755 7:8',
      'deep/y.js': 'f 644 7:8',
    })
    expect(
      await after(
        `COPY --chown=:nogroup a.txt /o/1
COPY --chown=alice: a.txt /o/2
COPY --chown=: a.txt /o/3
COPY --chown=$nobody --chmod=$nothing a.txt /o/4`,
        'base',
      ),
    ).toEqual({ 1: 'f 644 0:65534', 2: 'f 644 1000:0', 3: 'f 644 0:0', 4: 'f 644 0:0' })
    // Nothing says there that root is 0, and everybody knows it.
    expect(await after('COPY --chown=root:root a.txt /o/', 'scratch')).toEqual({ 'a.txt': 'f 644 0:0' })
    await expect(after('COPY --chown=stranger a.txt /o/', 'base')).rejects.toMatchObject({
      code: 'USER_NOT_FOUND',
      line: 2,
    })
  })

  test('--chmod takes octal and symbolic modes', async () => {
    expect(await after('COPY --chmod=600 a.txt /o/')).toEqual({ 'a.txt': 'f 600 0:0' })
    expect(await after('COPY --chmod=go-rwx,u+x src/lib /o/')).toMatchObject({ deep: 'd 700 0:0', 'x.js': 'f 700 0:0' })
  })

  test('--parents keeps the directories of names, from the pivot on', async () => {
    expect(await names('COPY --parents src/lib/deep/y.js a.txt /o/')).toEqual([
      'a.txt',
      'src',
      'src/lib',
      'src/lib/deep',
      'src/lib/deep/y.js',
    ])
    expect(await names('COPY --parents ./src/./lib/deep /o/')).toEqual(['lib', 'lib/deep', 'lib/deep/y.js'])
    expect(await names('COPY --parents **/*.js /o/')).toContain('src/lib/deep/y.js')
    await expect(names('COPY --parents src/absent /o/')).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND' })
  })

  test('--exclude leaves out', async () => {
    expect(await names('COPY --exclude=*.md --exclude=a* [a-c].* /o/')).toEqual(['b.txt'])
    expect(await names('COPY --exclude=lib --exclude=empty src /o/')).toEqual(['inner', 'main.js'])
    expect(await names('COPY --exclude=**/*.js src /o/')).toEqual(['empty', 'inner', 'lib', 'lib/deep'])
  })

  test('--link makes a layer of its own, which another base does not make anew', async () => {
    const build = (first: string) =>
      world.build({ context: { directory }, dockerfile: `FROM base\nRUN ${first}\nCOPY --link src /o/\n` })
    const one = await build('echo 1 > /one')
    const two = await build('echo 2 > /two')
    expect(two).toMatchObject({ executed: 1, cached: 1 })
    expect(two.image.layers.at(-1)!.diffId).toBe(one.image.layers.at(-1)!.diffId)
    expect(await world.files(two, '/o')).toMatchObject({ 'main.js': 'f 4750 0:0', 'lib/hard.js': 'f 644 0:0' })
    expect(await world.read(two, '/two')).toBe('2\n')
  })

  test('heredocs become files, with variables unless their name is quoted', async () => {
    const dockerfile = `FROM scratch
ENV v=value
COPY <<one.txt <<"two.txt" /o/
is $v
one.txt
is $v
two.txt
COPY --chmod=755 <<-EOF /o/script
	#!/bin/sh
EOF
`
    const result = await world.build({ context: { dockerfile } })
    expect(await world.read(result, '/o/one.txt')).toBe('is value\n')
    expect(await world.read(result, '/o/two.txt')).toBe('is $v\n')
    expect(await world.files(result, '/o')).toMatchObject({ script: 'f 755 0:0', 'one.txt': 'f 644 0:0' })
    const beside = await world.build({
      context: { directory },
      dockerfile: 'FROM scratch\nCOPY <<a.txt a.txt /o/\nmine\na.txt\n',
    })
    expect(await world.read(beside, '/o/a.txt')).toBe('mine\n')
  })

  test('--from takes from a stage, its number, an image and a named context', async () => {
    const result = await world.build({
      context: { directory },
      dockerfile: `FROM base AS Builder
RUN mkdir /out && echo made > /out/f && chown alice:nogroup /out/f && chmod 640 /out/f
FROM scratch
COPY --from=builder /out /o/name
COPY --from=0 /out/f /o/number
COPY --from=base /etc/passwd /o/
COPY --from=more z /o/
`,
      namedContexts: { more: join(directory, 'other') },
    })
    expect(await world.files(result, '/o')).toEqual({
      name: 'd 755 0:0',
      'name/f': 'f 640 1000:65534',
      number: 'f 640 1000:65534',
      passwd: 'f 644 0:0',
      z: 'f 644 0:0',
    })
  })

  test('.dockerignore leaves out, and the one of the Dockerfile takes its place', async () => {
    const context = world.fresh()
    mkdirSync(join(context, 'node_modules/dep'), { recursive: true })
    mkdirSync(join(context, 'docs'))
    for (const path of ['keep.txt', 'drop.log', 'node_modules/dep/i.js', 'docs/a.md', 'docs/README.md'])
      writeFileSync(join(context, path), path)
    writeFileSync(
      join(context, '.dockerignore'),
      '# comment\nnode_modules\n*.log\ndocs/*\n!docs/README.md\n.dockerignore\n',
    )
    const first = await world.build({ context: { directory: context }, dockerfile: 'FROM scratch\nCOPY . /o/' })
    expect(Object.keys(await world.files(first, '/o'))).toEqual(['docs', 'docs/README.md', 'keep.txt'])
    writeFileSync(join(context, 'Dockerfile'), 'FROM scratch\nCOPY . /o/')
    writeFileSync(join(context, 'Dockerfile.dockerignore'), '*\n!drop.log\n')
    const second = await world.build({ context: { directory: context } })
    expect(Object.keys(await world.files(second, '/o'))).toEqual(['drop.log'])
    const missing = world.build({
      context: { directory: context },
      dockerfile: 'FROM scratch\nCOPY keep.txt /',
    })
    await expect(missing).rejects.toThrow(/\.dockerignore/)
  })

  test('takes a tar as the context, plain and compressed', async () => {
    writeFileSync(join(directory, 'Dockerfile.tar'), 'FROM scratch\nCOPY src/lib /o/\n')
    for (const flags of ['-cf', '-czf']) {
      const tar = execFileSync('tar', ['-C', directory, flags, '-', '.'])
      const result = await world.build({ context: { tar }, file: 'Dockerfile.tar' })
      expect(Object.keys(await world.files(result, '/o'))).toEqual(['deep', 'deep/y.js', 'hard.js', 'x.js'])
    }
  })

  test('a tar says to whom its files belong, and that something is left out of it is not asked again', async () => {
    const context = world.fresh()
    writeFileSync(join(context, 'Dockerfile'), 'FROM scratch\nCOPY . /o/\nCOPY --chown=5:6 mine /p/\n')
    writeFileSync(join(context, '.dockerignore'), 'mine\n')
    writeFileSync(join(context, 'mine'), '')
    const tar = execFileSync('tar', ['-C', context, '--owner=a:7', '--group=b:8', '--mode=0640', '-cf', '-', '.'])
    const files = await world.files(await world.build({ context: { tar } }))
    expect(files).toMatchObject({ o: 'd 755 0:0', 'o/mine': 'f 640 7:8', 'p/mine': 'f 640 5:6' })
  })

  test('several sources need a directory as their destination, also when only one of them is there', async () => {
    const context = world.fresh()
    for (const name of ['a', 'b']) writeFileSync(join(context, name), name)
    const build = (step: string) =>
      world.build({ context: { directory: context }, dockerfile: `FROM base\nCOPY a /alone\n${step}\n` })
    for (const step of ['COPY a b /new', 'COPY a none* /alone', 'COPY ? /new', 'COPY a b /etc/passwd'])
      await expect(build(step), step).rejects.toMatchObject({
        code: 'COPY_CONFLICT',
        line: 3,
        message: expect.stringMatching(/Several files cannot all become (.*)\n[\s\S]*write \1\/ to copy them into/),
      })
    for (const step of ['COPY a b /new/', 'RUN mkdir /new\nCOPY a b /new', 'WORKDIR /new\nCOPY a b .'])
      expect(await world.files(await build(step), '/new')).toMatchObject({ a: 'f 644 0:0', b: 'f 644 0:0' })
  })
})
