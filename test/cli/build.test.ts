/** `mayfly build`, as somebody at a terminal, a script or a CI job uses it. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Bench, finished, PROGRAM, whyNoContainers } from './command.js'
import { display } from './emulator.js'
import { imageBench } from './image-bench.js'
import { missingTerminals, onTerminal, type Step } from './terminal.js'

const why = whyNoContainers() ?? (process.getuid!() === 0 ? undefined : 'the images here belong to root')
if (why) console.warn(`skipped: mayfly build, because ${why}`)

const ID = /^sha256:[0-9a-f]{64}\n$/

describe.skipIf(why)('mayfly build', () => {
  let bench: Bench
  beforeAll(async () => {
    bench = await imageBench()
  })
  afterAll(() => bench?.[Symbol.dispose]())

  let contexts = 0
  /** A context of its own: nothing is cached for it. */
  function context(dockerfile: string, files: Record<string, string> = {}): string {
    const directory = join(bench.directory, `context-${++contexts}`)
    mkdirSync(directory)
    for (const [name, text] of Object.entries({ Dockerfile: dockerfile, ...files })) {
      writeFileSync(join(directory, name), text)
    }
    return directory
  }
  const build = (words: readonly string[], input = '', env: NodeJS.ProcessEnv = {}) =>
    bench.call(['build', ...words], input, { env })

  test('tells each step in lines where there is no terminal, and prints the id alone on stdout', async () => {
    const directory = context(
      "FROM busy:1\nRUN printf '\\033[31mone\\033[0m\\ntwo\\r'; echo three >&2\nCOPY Dockerfile /\n",
    )
    const first = await build(['-t', 'lines:1', '-t', 'lines:latest', directory])
    expect(first).toMatchObject({ code: 0, stdout: expect.stringMatching(ID) })
    expect(first.stderr).toMatch(/^#\d+ \[1\/3\] FROM busy:1\n#\d+ CACHED\n\n/m)
    expect(first.stderr).toMatch(/^#\d+ \[2\/3\] RUN printf/m)
    expect(first.stderr).toMatch(/^#\d+ \d+\.\d{3} one\n/m)
    expect(first.stderr).toMatch(/^#\d+ \d+\.\d{3} three\n/m)
    expect(first.stderr).toMatch(/^#\d+ DONE \d+\.\ds\n\n/m)
    expect(first.stderr).not.toContain('\x1b')
    const second = await build(['--progress', 'plain', directory])
    expect(second.stdout).toBe(first.stdout)
    expect(second.stderr.match(/^#\d+ CACHED$/gm)).toHaveLength(3)
    expect((await bench.call(['images', '--format', '{{.Tag}}', 'lines'])).stdout.split('\n').sort()).toEqual([
      '',
      '1',
      'latest',
    ])
    expect(await bench.call(['run', 'lines:1', 'cat', '/Dockerfile'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('FROM busy:1'),
    })
  })

  test('prints nothing but the id with -q, and writes it to --iidfile', async () => {
    const file = join(bench.directory, 'id')
    const { code, stdout, stderr } = await build(['-q', '--iidfile', file, context('FROM busy:1\nRUN true\n')])
    expect([code, stderr, readFileSync(file, 'utf8')]).toEqual([0, '', stdout.trimEnd()])
    const failed = await build(['-q', '--iidfile', file, context('FROM busy:1\nRUN false\n')])
    expect([failed.code, failed.stdout, existsSync(file)]).toEqual([1, '', false])
  })

  test('shows the lines of the Dockerfile, the exit code and the output of a step that fails', async () => {
    const { code, stdout, stderr } = await build([context('FROM busy:1\nRUN echo told; exit 42\n')])
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(/^#\d+ ERROR: /m)
    expect(stderr).toMatch(
      /mayfly: Dockerfile:2: .*exit code 42\n[\s\S]*>>> RUN echo told; exit 42\n[\s\S]*\n {4}told\n/,
    )
    expect(stderr).not.toMatch(/\n\s+at |node:internal/)
  })

  test.each<[string, string, RegExp]>([
    [
      'an unknown instruction',
      'FROM busy:1\nRNU true\n',
      /Dockerfile:2: unknown instruction "RNU"[\s\S]*did you mean RUN\?/,
    ],
    ['a stage that is missing', 'FROM busy:1\nCOPY --from=nowhere /a /b\n', /Dockerfile:2: .*nowhere/],
    ['a file that is missing', 'FROM busy:1\nCOPY nothing /\n', /Dockerfile:2: .*nothing/],
    ['an image that is nowhere', 'FROM localhost:1/none\n', /localhost:1/],
  ])('says where the mistake is: %s', async (_name, dockerfile, saying) => {
    expect(await build([context(dockerfile)])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(saying),
    })
  })

  test.each<[string, string[], RegExp]>([
    ['a flag that is none', ['--taag', 'x', '.'], /--taag[\s\S]*Did you mean --tag\?/],
    ['no context', [], /context/],
    ['two things from stdin', ['-f', '-', '-'], /stdin/],
    ['a secret without an id', ['--secret', 'src=x', '.'], /--secret: id is missing/],
    ['a size that is none', ['--shm-size', 'big', '.'], /--shm-size/],
    ['a terminal that is none', ['--progress', 'tty', '.'], /terminal/],
    ['a kind of progress that is none', ['--progress', 'loud', '.'], /auto, plain, tty, quiet/],
  ])('exits 125 for %s', async (_name, words, saying) => {
    expect(await build(words)).toMatchObject({ code: 125, stdout: '', stderr: expect.stringMatching(saying) })
  })

  test('takes a Dockerfile, or a tar with one, from stdin', async () => {
    expect(await build(['-q', '-'], 'FROM busy:1\nRUN echo stdin > /from\n')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(ID),
    })
    const directory = context('FROM busy:1\nCOPY file /\n', {
      file: 'of a tar',
      Other: 'FROM busy:1\nCOPY file /other\n',
    })
    for (const [compression, file, path] of [
      ['--gzip', 'Dockerfile', '/file'],
      ['--no-auto-compress', 'Other', '/other'],
    ] as const) {
      const flags = compression === '--gzip' ? ['--gzip'] : []
      const tar = execFileSync('tar', ['-C', directory, ...flags, '-c', '.'])
      const child = bench.start(['build', '-q', '-f', file, '-t', 'tarred', '-'])
      child.stdin!.end(tar)
      expect(await finished(child)).toMatchObject({ code: 0, stderr: '' })
      expect((await bench.call(['run', 'tarred', 'cat', path])).stdout).toBe('of a tar')
    }
    const piped = await build(['-q', '-f', '-', '-t', 'piped', directory], 'FROM busy:1\nCOPY file /piped\n')
    expect(piped.code).toBe(0)
    expect((await bench.call(['run', 'piped', 'cat', '/piped'])).stdout).toBe('of a tar')
  })

  test('passes every flag on', async () => {
    const directory = context(
      `FROM busy:1 AS first
ARG GIVEN
ARG OWN
RUN --mount=type=secret,id=token cat /run/secrets/token > /dev/null && echo "$GIVEN $OWN" > /args
RUN grep pinned /etc/hosts && ulimit -n > /limit && df -k /dev/shm | tail -1 | awk '{print $2}' > /shm
COPY --from=more extra /
FROM busy:1
RUN false
`,
      { token: 'secret' },
    )
    const more = context('', { extra: 'from the other context' })
    const { code, stderr } = await build(
      [
        ...[
          '--target',
          'first',
          '--build-arg',
          'GIVEN=given',
          '--build-arg',
          'OWN',
          '--secret',
          `id=token,src=${directory}/token`,
        ],
        ...['--add-host', 'pinned:10.9.8.7', '--ulimit', 'nofile=77:88', '--shm-size', '4m', '--network', 'none'],
        ...['--build-context', `more=${more}`, '--label', 'who=me', '-t', 'flags', directory],
      ],
      '',
      { OWN: 'own' },
    )
    expect([code, stderr]).toEqual([0, expect.not.stringContaining('secret"')])
    const { stdout } = await bench.call(['run', 'flags', 'cat', '/args', '/limit', '/shm', '/extra'])
    expect(stdout).toBe('given own\n77\n4096\nfrom the other context')
    expect((await bench.call(['inspect', '-f', '{{index .Config.Labels "who"}}', 'flags'])).stdout).toBe('me\n')
    const again = await build([
      '--no-cache',
      '--target',
      'first',
      '--secret',
      `id=token,src=${directory}/token`,
      '--add-host',
      'pinned:10.9.8.7',
      '--build-context',
      `more=${more}`,
      directory,
    ])
    expect(again.stderr.match(/^#\d+ CACHED$/gm)).toHaveLength(1) // the base image
  })

  test('runs the steps of one stage anew', async () => {
    const directory = context(
      'FROM busy:1 AS one\nRUN echo one\nFROM busy:1 AS two\nRUN echo two\nCOPY --from=one /etc /e\n',
    )
    expect((await build([directory])).code).toBe(0)
    const { code, stderr } = await build(['--no-cache-filter', 'two', '--no-cache-filter', 'nowhere', directory])
    expect([code, stderr]).toEqual([0, expect.stringMatching(/RUN echo one\n#\d+ CACHED/)])
    expect(stderr).not.toMatch(/RUN echo two\n#\d+ CACHED/)
  })

  test('gives the host’s network to steps where it is asked for by flag', async () => {
    const directory = context(
      'FROM busy:1\nRUN readlink /proc/self/ns/net\nRUN --network=host readlink /proc/self/ns/net\n',
    )
    const { code, stderr } = await build(['--network', 'host', directory])
    expect([code, new Set(stderr.match(/net:\[\d+\]/g))]).toEqual([0, new Set([readlinkSync('/proc/self/ns/net')])])
    const denied = await build(['--no-cache', directory])
    expect([denied.code, denied.stderr]).toEqual([1, expect.stringContaining('--allow network.host')])
  })

  test('ends at once when it is told to, with nothing left of the step', async () => {
    const directory = context('FROM busy:1\nRUN echo ready; sleep 1000\n')
    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      const child = bench.start(['build', '-t', 'never', directory])
      const result = finished(child)
      let seen = ''
      child.stderr!.on('data', (piece) => {
        seen += piece
      })
      await expect.poll(() => seen, { timeout: 20_000 }).toMatch(/\d ready\n/)
      const begin = performance.now()
      child.kill(signal)
      expect(await result).toMatchObject({ code, stdout: '', stderr: expect.stringContaining('CANCELED') })
      expect(performance.now() - begin).toBeLessThan(5_000)
    }
    expect((await bench.call(['images', '-q', 'never'])).stdout).toBe('')
    const sessions = join(bench.home, 'sessions')
    await expect
      .poll(() => readdirSync(sessions).filter((name) => /^[0-9a-f]{12}$/.test(name)), { timeout: 5_000 })
      .toEqual([])
  })

  test('ends at once when it waits for its stdin', async () => {
    const child = bench.start(['build', '-'])
    const result = finished(child)
    // More than a pipe holds, so it is reading when this has been written.
    await new Promise((resolve) => child.stdin!.write('# not the end\n'.repeat(20_000), resolve))
    child.kill('SIGINT')
    expect(await result).toMatchObject({ code: 130, stdout: '' })
  })

  const noTerminals = missingTerminals()
  describe.skipIf(noTerminals)('on a terminal', () => {
    const onScreen = (words: readonly string[], steps: readonly Step[] = []) =>
      onTerminal([process.execPath, PROGRAM, 'build', ...words], steps, { MAYFLY_HOME: bench.home, NO_COLOR: '' })

    test('draws the steps anew while they run, and leaves them with their times', async () => {
      const directory = context(
        `FROM busy:1
RUN for i in 1 2 3 4 5 6 7 8 9; do printf '\\033]0;title\\007\\033[2Jline '; echo $i; done; echo ready; sleep 1
RUN echo ${'very-long-'.repeat(20)} > /dev/null
`,
      )
      const { seen, status, restored } = await onScreen(['-t', 'screen', directory], [{ wait: ' # ready' }])
      expect([status, restored]).toEqual([0, true])
      const { lines, isCursorShown, unknown } = display(seen, 90)
      expect([isCursorShown, unknown]).toEqual([true, []])
      expect(seen).not.toContain('\x1b]')
      expect(seen).not.toContain('\x1b[2J')
      // While it ran: the last lines of the step, below it.
      expect(seen).toMatch(/ => => # line 9/)
      expect(seen).toMatch(/\[\+\] Building \d\.\ds \(1\/2\)/)
      expect(lines[0]).toMatch(/^\[\+\] Building \d+\.\ds \(4\/4\) FINISHED$/)
      expect(lines[1]).toMatch(/^ => CACHED \[1\/3\] FROM busy:1 +0\.0s$/)
      expect(lines[2]).toMatch(/^ => \[2\/3\] RUN for i in .*… +\d\.\ds$/)
      expect(lines[3]).toMatch(/^ => \[3\/3\] RUN echo very-long.*… +0\.\ds$/)
      expect(lines[4]).toMatch(/^ => exporting to image +0\.\ds$/)
      expect(lines.slice(5)).toEqual(['Named screen:latest', expect.stringMatching(ID.source.replace('\\n', '')), ''])
      for (const line of lines.slice(0, 5)) expect(line.length).toBeLessThanOrEqual(89)
    })

    test('fits into a terminal that is made smaller', async () => {
      const script = 'for i in 1 2 3 4 5 6; do echo line $i; done; echo ready; sleep 1; echo smaller; sleep 1'
      const steps: Step[] = [{ wait: ' # ready' }, { size: [5, 50] }, { wait: ' # smaller' }]
      const { seen, status } = await onScreen([context(`FROM busy:1\nRUN ${script}\n`)], steps)
      expect(status).toBe(0)
      const drawings = seen
        .slice(seen.indexOf('# smaller'))
        .split(/\x1b\[\d+A/)
        .slice(1, -1)
      expect(drawings.length).toBeGreaterThan(1)
      for (const drawing of drawings) {
        const lines = drawing
          .replace(/\x1b\[[\d?]*[a-zA-Z]/g, '')
          .split(/\r?\n/)
          .slice(0, -1)
        expect(lines.length).toBeLessThanOrEqual(4)
        for (const line of lines) expect(line.replace('\r', '').length).toBeLessThan(50)
      }
    })

    test('shows the mistake below the steps', async () => {
      const { seen, status } = await onScreen([context('FROM busy:1\nRUN echo told; exit 3\n')])
      const { lines, isCursorShown } = display(seen, 90)
      expect([status, isCursorShown]).toEqual([1, true])
      expect(lines).toContainEqual(expect.stringMatching(/^ => ERROR \[2\/2\] RUN echo told; exit 3 +\d\.\ds$/))
      expect(lines.join('\n')).toMatch(/\nmayfly: Dockerfile:2: .*exit code 3\n/)
    })

    test('gives the cursor back when Ctrl-C ends it', async () => {
      const steps: Step[] = [{ wait: ' # ready' }, { send: '\x03' }]
      const { seen, status, restored } = await onScreen([context('FROM busy:1\nRUN echo ready; sleep 1000\n')], steps)
      expect([status, restored]).toEqual([130, true])
      const { lines, isCursorShown } = display(seen, 90)
      expect(isCursorShown).toBe(true)
      expect(lines.join('\n')).toMatch(/ => CANCELED \[2\/2\] RUN echo ready/)
    })
  })
})
