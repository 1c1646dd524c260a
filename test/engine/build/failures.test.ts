import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildEvent } from '../../../src/engine/build/events.js'
import { obstacle } from '../support/world.js'
import { type BuildWorld, openWorld } from './support/world.js'

describe.skipIf(obstacle())('a build that fails', () => {
  let world: BuildWorld

  beforeAll(async () => {
    world = await openWorld()
  })
  afterAll(() => world[Symbol.asyncDispose]())

  const failure = (dockerfile: string, options: object = {}) =>
    world.build({ context: { dockerfile }, ...options } as never).then(
      () => {
        throw new Error('it did not fail')
      },
      (error) => error,
    )

  test('shows the lines of the Dockerfile, the command, its exit code and its last output', async () => {
    const error = await failure('FROM base\nRUN echo first\nRUN echo some output && \\\n    exit 7\nRUN echo never')
    expect(error).toMatchObject({
      code: 'BUILD_FAILED',
      exitCode: 7,
      file: 'Dockerfile',
      line: 3,
      logTail: 'some output',
    })
    expect(error.message).toContain('failed with exit code 7')
    expect(error.message).toContain('   3 | >>> RUN echo some output && \\\n   4 | >>>     exit 7')
  })

  test('ends what runs beside it', async () => {
    const begin = performance.now()
    const error = await failure(
      'FROM base AS slow\nRUN sleep 20\nFROM base\nRUN sleep 0.1; exit 3\nCOPY --from=slow /etc/group /',
    )
    expect(error).toMatchObject({ code: 'BUILD_FAILED', exitCode: 3 })
    expect(performance.now() - begin).toBeLessThan(5000)
  })

  test('tells the failure of the step that failed, and of what waited for it that it was stopped', async () => {
    const events: BuildEvent[] = []
    const dockerfile =
      'FROM base AS a\nRUN exit 3\nFROM base AS b\nRUN sleep 20\nFROM base\nCOPY --from=a /etc /a\nCOPY --from=b / /b'
    await world.build({ context: { dockerfile }, onEvent: (event) => events.push(event) }).catch(() => {})
    const texts = new Map(events.flatMap((event) => (event.type === 'started' ? [[event.vertex, event.text]] : [])))
    const failed = events.flatMap((event) => (event.type === 'failed' ? [event] : []))
    expect(failed.filter(({ isCancelled }) => !isCancelled).map(({ vertex }) => texts.get(vertex))).toEqual([
      '[a 2/2] RUN exit 3',
    ])
    expect(failed.length).toBeGreaterThan(1)
  })

  test.each([
    ['FROM base\nCOPY missing /', 'SOURCE_NOT_FOUND', 2],
    ['FROM base\nCOPY --from=base /missing /', 'SOURCE_NOT_FOUND', 2],
    ['FROM base\nCOPY ../outside /', 'SOURCE_OUTSIDE', 2],
    ['FROM base\nCOPY a/../../outside /', 'SOURCE_OUTSIDE', 2],
    ['FROM base\nCOPY --from=1 / /', 'STAGE_NOT_FOUND', 2],
    [
      'FROM base\nCOPY --from=later / /\nFROM base AS later\nFROM base\nCOPY --from=0 /etc/group /',
      'STAGE_NOT_FOUND',
      2,
    ],
    ['FROM base\nRUN --mount=type=bind,source=missing,target=/m true', 'SOURCE_NOT_FOUND', 2],
    ['FROM $nothing', 'DOCKERFILE_INVALID', 1],
    [`FROM base\nARG v\nRUN true\nENV a=\${v:?is needed}`, 'DOCKERFILE_INVALID', 4],
    // A mount's propagation is not the Dockerfile's to choose (CVE-2024-9407 of buildah).
    ['FROM base\nRUN --mount=type=bind,bind-propagation=shared,target=/m true', 'DOCKERFILE_INVALID', 2],
    ['FROM base\nRUNN true', 'DOCKERFILE_INVALID', 2],
    ['FROM Not/A/Reference', 'INVALID_REFERENCE', 1],
    ['FROM base\nUSER stranger\nRUN true', 'USER_NOT_FOUND', 3],
    ['FROM base\nRUN ["/no/such/program"]', 'PROGRAM_NOT_FOUND', 2],
    ['FROM base\nRUN touch /f\nWORKDIR /f', 'COPY_CONFLICT', 3],
  ])('%j tells %s and the line', async (dockerfile, code, line) => {
    expect(await failure(dockerfile)).toMatchObject({ code, line })
  })

  test('names wrong options, and the nearest right one', async () => {
    expect(await failure('FROM base', { buildArg: {} })).toMatchObject({
      code: 'INVALID_OPTION',
      field: 'buildArg',
      hint: 'did you mean buildArgs?',
    })
    expect(await failure('FROM base', { tags: 'x' })).toMatchObject({ code: 'INVALID_OPTION', field: 'tags' })
    expect(await failure('FROM base', { tags: ['UPPER'] })).toMatchObject({ code: 'INVALID_REFERENCE' })
    expect(await failure('FROM base', { context: { directory: '/no/such' } })).toMatchObject({
      code: 'CONTEXT_INVALID',
    })
    expect(await failure('FROM base', { context: { directory: world.fresh() } })).toMatchObject({
      code: 'CONTEXT_INVALID',
      field: 'file',
    })
    expect(await failure('FROM base', { tags: [`x@sha256:${'a'.repeat(64)}`] })).toMatchObject({
      code: 'INVALID_REFERENCE',
    })
  })

  test.each([
    ['../x', { '../x': '' }],
    ['a/b', { a: 'x', 'a/b': 'y' }],
    ['a/b', { 'a/b': 'x', a: 'y' }],
    ['a//b', { 'a/b': 'x', 'a//b': 'y' }],
    ['x'.repeat(300), { ['x'.repeat(300)]: 'x' }],
    ['deep/'.repeat(1000), { [`${'deep/'.repeat(1000)}x`]: 'x' }],
    ['a', { a: { content: 'x', mode: -1 } }],
    ['a', { a: { content: 'x', mode: 1.5 } }],
    ['a', { a: { content: 'x', mode: '755' } }],
    ['a', { a: { mode: 0o644 } }],
    ['a', { a: 5 }],
    ['a', { a: null }],
  ])('names a file of a context that cannot be: %.40s', async (value, files) => {
    const error = await failure('', { context: { dockerfile: 'FROM base', files: files as never } })
    expect(error).toMatchObject({ code: 'INVALID_OPTION', field: 'context.files' })
    expect(error.value).toContain(value)
  })

  test('names the place of an ARG before the first FROM', async () => {
    for (const line of ['ARG X=${Y:?need}', 'ARG X="${Y"'])
      expect(await failure(`# first\n${line}\nFROM scratch`)).toMatchObject({
        code: 'DOCKERFILE_INVALID',
        line: 2,
        message: expect.stringMatching(/^Dockerfile:2: .*\n(.*\n)*.*ARG X/),
      })
  })

  test('a link of the context that leads out of it is not followed', async () => {
    const directory = world.fresh()
    symlinkSync('/etc/passwd', join(directory, 'absolute'))
    symlinkSync('../../../../etc/passwd', join(directory, 'relative'))
    symlinkSync('/etc', join(directory, 'dir'))
    for (const source of ['absolute', 'relative', 'dir', 'dir/passwd']) {
      const error = await failure('', { context: { directory }, dockerfile: `FROM scratch\nCOPY ${source} /o\n` })
      expect([error.code, source]).toEqual([source === 'dir/passwd' ? 'SOURCE_NOT_FOUND' : 'SOURCE_OUTSIDE', source])
    }
    const result = await world.build({ context: { directory }, dockerfile: 'FROM scratch\nCOPY . /o/' })
    expect(await world.files(result, '/o')).toMatchObject({ absolute: 'l 777 0:0 /etc/passwd' })
  })

  test('a hostile tar as context touches nothing outside', async () => {
    const directory = world.fresh()
    mkdirSync(join(directory, 'in'))
    const outside = join(directory, 'outside')
    writeFileSync(join(directory, 'evil'), 'evil')
    writeFileSync(join(directory, 'in/Dockerfile'), 'FROM scratch\nCOPY evil /\n')
    const up = execFileSync('tar', [
      '-C',
      join(directory, 'in'),
      '-P',
      '-cf',
      '-',
      'Dockerfile',
      '../evil',
      `--transform=s,^\\.\\./evil,../../../../../../..${outside},`,
    ])
    const error = await failure('', { context: { tar: up } })
    expect(error.code).toMatch(/CONTEXT_INVALID|SOURCE_NOT_FOUND/)
    expect(existsSync(outside)).toBe(false)
    symlinkSync('/etc/passwd', join(directory, 'in/link'))
    symlinkSync('/etc/passwd', join(directory, 'in/Linkfile'))
    const link = execFileSync('tar', ['-C', join(directory, 'in'), '-cf', '-', '.'])
    expect(await failure('', { context: { tar: link }, file: 'Linkfile' })).toMatchObject({ code: 'CONTEXT_INVALID' })
    expect((await failure('', { context: { tar: Buffer.from('no tar at all') } })).code).toBe('CONTEXT_INVALID')
  })

  test('a foreign frontend is refused', async () => {
    expect(await failure('# syntax=evil/frontend\nFROM base')).toMatchObject({ code: 'NOT_SUPPORTED' })
    await world.build({ context: { dockerfile: '# syntax=docker/dockerfile:1\nFROM base' } })
  })

  test('keeps secrets out of messages', async () => {
    const secrets = { s: { value: 'hidden-4712' } }
    const error = await failure('FROM base\nRUN --mount=type=secret,id=s false', { secrets })
    expect(JSON.stringify(error) + error.message + error.stack).not.toContain('hidden-4712')
  })
})
