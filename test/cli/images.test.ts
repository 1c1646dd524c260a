/** The commands about images that need no registry. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Bench, finished, PROGRAM, whyNoContainers } from './command.js'
import { imageBench } from './image-bench.js'
import { missingTerminals, onTerminal } from './terminal.js'

const why = whyNoContainers() ?? (process.getuid!() === 0 ? undefined : 'the images here belong to root')
if (why) console.warn(`skipped: commands about images, because ${why}`)

describe.skipIf(why)('mayfly', () => {
  let bench: Bench
  let id: string
  beforeAll(async () => {
    bench = await imageBench()
    id = (await bench.call(['images', '-q', '--no-trunc', 'busy'])).stdout.trim()
  })
  afterAll(() => bench?.[Symbol.dispose]())

  test('--help names every command in its group', async () => {
    const { code, stdout } = await bench.call(['--help'])
    expect(code).toBe(0)
    const groups = [
      ['Containers', ['run', 'commit']],
      ['Making images', ['build', 'bootstrap', 'import']],
      ['Registries', ['pull', 'push', 'login', 'logout']],
      ['Images of this machine', ['images', 'inspect', 'history', 'tag', 'rmi', 'save', 'load', 'export']],
      ['This machine', ['df', 'prune', 'doctor']],
    ] as const
    for (const [group, names] of groups) {
      const section = stdout.split(`\n${group}:\n`)[1]?.split('\n\n')[0] ?? ''
      for (const name of names) expect(section).toMatch(new RegExp(`^ {2}${name}\\b`, 'm'))
    }
  })

  describe('run IMAGE', () => {
    beforeAll(async () => {
      const changes = [
        'ENV PATH=/bin',
        'ENV WHO=image',
        'ENTRYPOINT ["echo", "entry"]',
        'CMD ["default"]',
        'WORKDIR /srv',
      ]
      const flags = changes.flatMap((change) => ['-c', change])
      const { code } = await bench.call(['import', ...flags, join(bench.directory, 'root.tar'), 'entry:1'])
      expect(code).toBe(0)
    })

    test.each<[string, string[], string]>([
      ['as the image says', ['entry:1'], 'entry default\n'],
      ['with other arguments', ['entry:1', 'given', '--rm'], 'entry given --rm\n'],
      ['with another program, without the image’s arguments', ['--entrypoint', 'pwd', 'entry:1'], '/srv\n'],
      ['without the image’s entrypoint', ['--entrypoint', '', 'entry:1', 'echo', 'plain'], 'plain\n'],
      [
        'with variables of both',
        ['--entrypoint', 'sh', '-e', 'MORE=flag', 'entry:1', '-c', 'echo $WHO $MORE'],
        'image flag\n',
      ],
      ['by the beginning of its id', ['--pull', 'never', 'ID', 'echo', 'found'], 'found\n'],
    ])('runs %s', async (_name, words, stdout) => {
      const named = words.map((word) => (word === 'ID' ? id.slice('sha256:'.length, 19) : word))
      expect(await bench.call(['run', '--rm', '--network', 'none', ...named])).toEqual({
        code: 0,
        signal: null,
        stdout,
        stderr: '',
      })
    })

    test.each<[string, string[], number, RegExp]>([
      ['the code of the program', ['busy:1', 'sh', '-c', 'exit 42'], 42, /^$/],
      ['125 for an image that is nowhere', ['--pull', 'never', 'none:1'], 125, /none:1/],
      ['125 for a name that is none', ['UPPER/Case'], 125, /UPPER/],
      ['125 for a platform that it is not', ['--pull', 'never', '--platform', 'linux/s390x', 'busy:1'], 125, /./],
      ['125 for no image', [], 125, /name an image/],
      ['126 for a directory', ['busy:1', '/bin'], 126, /not executable/],
      ['127 for a program that is missing', ['busy:1', 'no-such'], 127, /no-such.*PATH/],
    ])('exits with %s', async (_name, words, code, saying) => {
      const result = await bench.call(['run', '--network', 'none', ...words])
      expect(result).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(saying) })
    })

    test('--commit keeps what the command changed, however it ends', async () => {
      const flags = ['--network', 'none', '--commit', 'kept:1', '--commit-change', 'CMD ["cat", "/new"]']
      const first = await bench.call(['run', ...flags, 'busy:1', 'sh', '-c', 'echo fresh > /new; echo out; exit 3'])
      expect(first).toMatchObject({
        code: 3,
        stdout: 'out\n',
        stderr: expect.stringMatching(/^mayfly: kept as kept:1: sha256:/),
      })
      expect(await bench.call(['run', '--network', 'none', 'kept:1'])).toMatchObject({ code: 0, stdout: 'fresh\n' })
      const wrong = await bench.call(['run', '--commit', 'Not A Name', 'busy:1', 'true'])
      expect(wrong).toMatchObject({ code: 125, stderr: expect.stringContaining('Not A Name') })
    })

    test('commit alone says what to do instead', async () => {
      expect(await bench.call(['commit', '-m', 'x', 'web', 'image'])).toMatchObject({
        code: 125,
        stderr: expect.stringContaining('run --commit'),
      })
      expect((await bench.call(['commit', '--help'])).stdout).toContain('mayfly run --commit NAME')
    })
  })

  describe('lists', () => {
    beforeAll(async () => {
      for (const name of ['team/app:1', 'team/app:2', 'localhost:5000/team/app:1'])
        await bench.call(['tag', 'busy:1', name])
      await bench.call(['import', '-c', 'LABEL kind=loose', join(bench.directory, 'root.tar')])
    })
    const names = async (...words: string[]) =>
      (await bench.call(['images', '--format', '{{.Repository}}:{{.Tag}}', ...words])).stdout.trim().split('\n').sort()

    test('a row for each name, in columns', async () => {
      const { stdout } = await bench.call(['images', 'busy'])
      const [heading, row, end] = stdout.split('\n')
      expect(heading).toMatch(/^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE$/)
      expect(row).toMatch(/^busy +1 +[0-9a-f]{12} +.* ago +[\d.]+[kMG]?B$/)
      expect(end).toBe('')
      expect(heading!.indexOf('SIZE')).toBe(/[\d.]+[kMG]?B$/.exec(row!)!.index)
    })

    test('what is filtered for', async () => {
      expect(await names('--filter', 'reference=team/*')).toEqual(['team/app:1', 'team/app:2'])
      expect(await names('--filter', 'reference=*/team/app:1')).toEqual(['localhost:5000/team/app:1'])
      expect(await names('team/app')).toEqual(['team/app:1', 'team/app:2'])
      expect(await names('team/app:2')).toEqual(['team/app:2'])
      expect(await names('--filter', 'dangling=true')).toEqual(['<none>:<none>'])
      expect(await names('--filter', 'label=kind=loose')).toEqual(['<none>:<none>'])
      expect(await names('--filter', 'label=kind=other')).toEqual([''])
      expect(await bench.call(['images', '--filter', 'size=1'])).toMatchObject({
        code: 125,
        stderr: expect.stringContaining('size=1'),
      })
    })

    test('ids once each, short and whole', async () => {
      const short = (await bench.call(['images', '-q'])).stdout.trim().split('\n')
      expect(new Set(short).size).toBe(short.length)
      expect(short).toContain(id.slice('sha256:'.length, 19))
      expect((await bench.call(['images', '-q', '--no-trunc', '--digests'])).stdout).toContain(id)
    })

    test('JSON, one object a line, and templates', async () => {
      const { stdout } = await bench.call(['images', '--format', 'json', 'busy'])
      expect((await bench.call(['images', '--format', '{{.Repository}}:{{.Tag}}', 'b?s*'])).stdout).toBe('busy:1\n')
      expect((await bench.call(['images', '-q', 'b?'])).stdout).toBe('')
      expect(JSON.parse(stdout)).toMatchObject({ Repository: 'busy', Tag: '1' })
      const table = await bench.call(['images', '--format', 'table {{.Tag}}\\t{{.Repository}}', 'busy'])
      expect(table.stdout).toBe('TAG   REPOSITORY\n1     busy\n')
      for (const template of ['{{.Nothing}}', '{{range .}}', '{{.Tag'])
        expect(await bench.call(['images', '--format', template])).toMatchObject({
          code: 125,
          stdout: '',
          stderr: expect.stringMatching(/^mayfly: --format/),
        })
    })
  })

  test('inspects as docker does, and tells what is missing', async () => {
    const both = await bench.call(['inspect', 'busy:1', 'nowhere:1'])
    expect(both).toMatchObject({ code: 1, stderr: expect.stringContaining('nowhere:1') })
    expect(JSON.parse(both.stdout)).toMatchObject([{ Id: id, Config: { Cmd: ['sh'] }, Os: 'linux' }])
    const template = '{{json .Config.Env}} {{.Config.Cmd}} {{index .Config.Cmd 0}} {{len .RootFS.Layers}}'
    expect((await bench.call(['inspect', '-f', template, 'busy:1'])).stdout).toBe('["PATH=/bin"] [sh] sh 1\n')
  })

  test('shows a history that cannot steer the terminal', async () => {
    const message = 'evil \x1b]0;title\x07\x1b[2Jtext\x9b31m'
    await bench.call(['import', '-m', message, join(bench.directory, 'root.tar'), 'evil:1'])
    for (const words of [
      ['history', 'evil:1'],
      ['history', '--format', 'json', 'evil:1'],
      ['inspect', 'evil:1'],
      ['inspect', '-f', '{{.Comment}}', 'evil:1'],
    ]) {
      const { code, stdout } = await bench.call(words)
      expect([code, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/.test(stdout)]).toEqual([0, false])
      expect(stdout).toMatch(/evil .*text/)
    }
    const { stderr } = await bench.call(['inspect', '\x1b[31mred'])
    expect(stderr).toMatch(/^mayfly: [^\x00-\x09\x0b-\x1f]*\n/)
    expect((await bench.call(['history', '-q', '--no-trunc', 'busy:1'])).stdout).toBe(`${id}\n`)
  })

  describe('files:', () => {
    test('what is saved can be loaded, in both formats, through files and pipes', async () => {
      await bench.call(['tag', 'busy:1', 'moved:1'])
      for (const format of ['docker', 'oci']) {
        const file = join(bench.directory, `${format}.tar`)
        expect(await bench.call(['save', '--format', format, '-o', file, 'moved:1', 'busy:1'])).toMatchObject({
          code: 0,
          stdout: '',
          stderr: '',
        })
        expect(await bench.call(['rmi', 'moved:1'])).toMatchObject({ code: 0, stdout: 'Untagged: moved:1\n' })
        const loaded = await bench.call(['load', '-q', '-i', file])
        expect([loaded.code, loaded.stderr, loaded.stdout.trim().split('\n').sort()]).toEqual([
          0,
          '',
          ['Loaded image: busy:1', 'Loaded image: moved:1'],
        ])
        expect((await bench.call(['images', '-q', '--no-trunc', 'moved'])).stdout).toBe(`${id}\n`)
      }
      const pipe = `${process.execPath} ${PROGRAM} save moved:1 | ${process.execPath} ${PROGRAM} load`
      const env = { ...process.env, MAYFLY_HOME: bench.home }
      expect(execFileSync('sh', ['-c', pipe], { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })).toBe(
        'Loaded image: moved:1\n',
      )
      const directory = join(bench.directory, 'layout')
      mkdirSync(directory)
      execFileSync('tar', ['-C', directory, '-xf', join(bench.directory, 'oci.tar')])
      expect(await bench.call(['load', '-q', '-i', directory])).toMatchObject({
        code: 0,
        stdout: expect.stringContaining('moved:1'),
      })
    })

    test('a file that cannot be written or read leaves nothing', async () => {
      const missing = await bench.call(['save', '-o', join(bench.directory, 'none/at/all.tar'), 'busy:1'])
      expect(missing).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/Cannot write .*all\.tar: there is no such directory/),
      })
      const before = join(bench.directory, 'before.tar')
      writeFileSync(before, 'precious')
      expect((await bench.call(['save', '-o', before, 'nowhere:1'])).code).toBe(1)
      expect(readFileSync(before, 'utf8')).toBe('precious')
      expect(readdirSync(bench.directory).filter((name) => name.includes('.partial'))).toEqual([])
      for (const words of [
        ['load', '-i', 'no.tar'],
        ['import', 'no.tar'],
      ])
        expect(await bench.call(words)).toMatchObject({
          code: 1,
          stderr: expect.stringContaining('Cannot read no.tar'),
        })
      expect(await bench.call(['load'], 'this is no archive at all')).toMatchObject({ code: 1, stdout: '' })
    })

    test('whoever mistakes an archive of images for a root file system, or the other way round, is told what takes it', async () => {
      for (const format of ['docker', 'oci']) {
        const file = join(bench.directory, `${format}-images.tar`)
        expect((await bench.call(['save', '--format', format, '-o', file, 'busy:1'])).code).toBe(0)
        expect(await bench.call(['import', file])).toMatchObject({
          code: 1,
          stdout: '',
          stderr: expect.stringMatching(/and no root file system\n {2}Hint: `load` takes/),
        })
      }
      const loaded = await bench.call(['load', '-i', join(bench.directory, 'root.tar')])
      expect(loaded).toMatchObject({ code: 1, stderr: expect.stringContaining('`import` takes') })
    })

    test('the root file system of an image, with all its layers in one tar', async () => {
      const built = await bench.call(
        ['build', '-q', '-t', 'layers:1', '-'],
        'FROM busy:1\nRUN echo new > /new && rm /etc/passwd\n',
      )
      expect(built.code).toBe(0)
      const file = join(bench.directory, 'flat.tar')
      expect(await bench.call(['export', '-o', file, 'layers:1'])).toMatchObject({ code: 0, stdout: '', stderr: '' })
      const list = execFileSync('tar', ['-tf', file], { encoding: 'utf8' })
      expect(list).toMatch(/^\.\/new$/m)
      expect(list).toMatch(/^\.\/bin\/busybox$/m)
      expect(list).not.toContain('etc/passwd')
      expect(list).not.toContain('.wh.')
    })

    test('imports from an address', async () => {
      const tar = readFileSync(join(bench.directory, 'root.tar'))
      const server: Server = createServer((request, response) => {
        if (request.headers.authorization !== `Basic ${btoa('me:pass word')}`) response.writeHead(403).end()
        else response.end(tar)
      })
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      const { port } = server.address() as AddressInfo
      try {
        const good = await bench.call(['import', `http://me:pass%20word@127.0.0.1:${port}/root.tar`, 'fetched:1'])
        expect(good).toMatchObject({ code: 0, stdout: expect.stringMatching(/^sha256:/) })
        const bad = await bench.call(['import', `http://me:wrong@127.0.0.1:${port}/root.tar?token=hidden`])
        expect(bad).toMatchObject({ code: 1, stderr: expect.stringContaining('the server answers 403') })
        expect(bad.stderr).not.toMatch(/wrong|hidden/)
      } finally {
        server.close()
      }
    })
  })

  test('removes names, then the image, and goes on after one that is missing', async () => {
    const built = await bench.call(['build', '-q', '-t', 'gone:1', '-'], 'FROM busy:1\nLABEL gone=1\n')
    const result = await bench.call(['rmi', 'nowhere:1', 'gone:1'])
    expect(result).toMatchObject({ code: 1, stderr: expect.stringContaining('nowhere:1') })
    expect(result.stdout).toBe(`Untagged: gone:1\nDeleted: ${built.stdout}`)
    // With -f it is enough that it is gone, as with docker.
    expect(await bench.call(['rmi', '-f', 'gone:1'])).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('gone:1'),
    })
    expect((await bench.call(['tag', 'gone:1', 'back:1'])).code).toBe(1)
  })

  test('finishes what was begun when nobody reads what it says', async () => {
    const names = Array.from({ length: 6 }, (_, i) => `unread:${i}`)
    for (const name of names) expect((await bench.call(['tag', 'busy:1', name])).code).toBe(0)
    const child = bench.start(['rmi', ...names])
    child.stdout!.destroy()
    expect(await finished(child)).toMatchObject({ code: 0, stderr: '' })
    expect((await bench.call(['images', '-q', 'unread'])).stdout).toBe('')
  })

  test('finds and removes what is damaged', async () => {
    const built = await bench.call(['build', '-q', '-t', 'broken:1', '-'], 'FROM busy:1\nLABEL broken=1\n')
    const blob = join(bench.home, 'blobs/sha256', built.stdout.trim().slice('sha256:'.length))
    writeFileSync(blob, readFileSync(blob, 'utf8').replace('broken', 'BROKEN'))
    const result = await bench.call(['prune', '--force', '--verify'])
    expect(result).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/^damaged: .*\n[\s\S]*: [1-9]\d* damaged\n/),
    })
    expect((await bench.call(['prune', '--force', '--verify'])).stdout).toMatch(/: 0 damaged\n/)
  })

  test('prunes when it is sure, and tells what is freed', async () => {
    await bench.call(['import', '-c', 'LABEL dangling=1', join(bench.directory, 'root.tar')])
    for (const answer of ['', 'n\n', 'perhaps\n'])
      expect(await bench.call(['prune'], answer)).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringContaining('nothing was removed'),
      })
    const dry = await bench.call(['prune', '--dry-run', '--all', '--build-cache'])
    expect(dry).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/would delete: sha256:[\s\S]*Space that would be freed: /),
    })
    expect(await bench.call(['prune'], 'y\n')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/deleted: sha256:[\s\S]*Total reclaimed space: /),
    })
    expect((await bench.call(['images', '-q', '--filter', 'dangling=true'])).stdout).toBe('')
    expect((await bench.call(['df'])).stdout).toMatch(/^TYPE +TOTAL +SIZE +RECLAIMABLE\nImages +[1-9]/)
    expect(await bench.call(['prune', '-af', '--build-cache'])).toMatchObject({ code: 0 })
    expect((await bench.call(['images', '-q'])).stdout).toBe('')
    expect((await bench.call(['df', '--format', '{{.Type}} {{.TotalCount}}'])).stdout).toContain('Images 0\n')
    const tar = join(bench.directory, 'root.tar')
    expect(await bench.call(['import', '-c', 'ENV PATH=/bin', '-c', 'CMD ["sh"]', tar, 'busy:1'])).toMatchObject({
      code: 0,
    })
  })

  test('gives up waiting for stdin when it is told to', async () => {
    for (const words of [['load'], ['import', '-'], ['login', '-u', 'me', '--password-stdin', 'localhost:1']]) {
      const child = bench.start(words)
      const result = finished(child)
      // More than a pipe holds is gone once it is read from; by then Ctrl-C is ours. The archive is one of a file that never ends.
      await new Promise((resolve) => child.stdin!.write(startOfArchive(), resolve))
      child.kill('SIGINT')
      expect(await result).toMatchObject({ code: 130, stdout: '' })
    }
  })

  const noTerminals = missingTerminals()
  test.skipIf(noTerminals)('neither writes an archive to a terminal nor reads one from it', async () => {
    for (const words of [['save', 'busy:1'], ['export', 'busy:1'], ['load'], ['import', '-'], ['build', '-']]) {
      const { seen, status } = await onTerminal([process.execPath, PROGRAM, ...words], [], { MAYFLY_HOME: bench.home })
      expect([status, seen.length < 400]).toEqual([125, true])
      expect(seen).toMatch(/^mayfly: .*terminal/)
    }
  })
})

/** The header of a file of a gibibyte, and some of the file. */
function startOfArchive(): Buffer {
  const header = Buffer.alloc(512)
  header.write('endless')
  const fields = ['0000644', '0000000', '0000000', '10000000000', '00000000000', `${' '.repeat(8)}0`]
  header.write(fields.join('\0'), 100, 'latin1')
  header.write('ustar\x0000', 257, 'latin1')
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return Buffer.concat([header, Buffer.alloc(1024 * 1024)])
}
