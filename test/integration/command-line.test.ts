/** `mayfly` as somebody at a terminal, a shell script or a CI job uses it: by what its flags do, not by how they are parsed. */

import { execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Bench, finished, PROGRAM, printed, whyNoContainers } from '../cli/command.js'
import { onTerminal as callOnTerminal, missingTerminals, type Seen, type Step } from '../cli/terminal.js'

const why = whyNoContainers() ?? (process.getuid!() === 0 ? undefined : 'limits and mounts are tested as root')
if (why) console.warn(`skipped: mayfly run with real containers, because ${why}`)
const noTerminals = missingTerminals()
if (noTerminals) console.warn(`skipped: terminals, because ${noTerminals}`)

describe.skipIf(why)('mayfly', () => {
  let bench: Bench
  beforeAll(() => {
    bench = new Bench()
  })
  afterAll(() => bench?.[Symbol.dispose]())

  const run = (words: readonly string[], input?: string) => bench.run(['--network', 'none', ...words], input)
  const sh = (flags: readonly string[], script: string) => run([...flags, 'sh', '-c', script])

  describe('exits', () => {
    test.each<[string, string[], number, RegExp]>([
      ['0', ['true'], 0, /^$/],
      ['with the code of the program', ['sh', '-c', 'exit 42'], 42, /^$/],
      ['with 255', ['sh', '-c', 'exit 255'], 255, /^$/],
      ['125 for a user that is missing', ['-u', 'nobody-here', 'true'], 125, /nobody-here.*\/etc\/passwd/],
      [
        '125 for a mount source that is missing',
        ['--mount', 'type=bind,source=/no/such,target=/m', 'true'],
        125,
        /\/no\/such/,
      ],
      ['125 for a limit that cannot be', ['-m', '1k', 'true'], 125, /524288.*1024/],
      ['125 for a port beyond', ['-p', '99999:80', 'true'], 125, /99999/],
      ['125 for a capability that is none', ['--cap-add', 'NET_ADMIM', 'true'], 125, /NET_ADMIM/],
      ['125 for a sysctl of the host', ['--sysctl', 'kernel.panic=1', 'true'], 125, /kernel\.panic/],
      ['125 for nothing to run', [], 125, /command is missing/i],
      ['126 for a directory', ['/etc'], 126, /\/etc is not executable/],
      ['126 for a file', ['/etc/passwd'], 126, /not executable/],
      ['127 for a path', ['/no/such'], 127, /\/no\/such/],
      ['127 for a name', ['no-such'], 127, /no-such.*PATH/],
    ])('%s', async (_name, words, code, saying) => {
      const result = await run(words)
      expect(result).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(saying) })
      if (code >= 125 && code <= 127) expect(result.stderr).toMatch(/^mayfly: /)
      expect(result.stderr).not.toMatch(/\n\s+at |node:internal|\[object/)
    })

    test('as the shell has it when a signal ends the program', async () => {
      for (const [signal, code] of [
        ['KILL', 137],
        ['TERM', 143],
        ['SEGV', 139],
        ['INT', 130],
      ] as const)
        expect((await sh(['--init'], `kill -${signal} $$`)).code).toBe(code)
    })

    test('0 for help and version, which go to stdout', async () => {
      expect(await bench.call(['--version'])).toMatchObject({ code: 0, stdout: '0.1.0\n', stderr: '' })
      for (const words of [['--help'], ['run', '--help'], ['doctor', '--help']])
        expect(await bench.call(words)).toMatchObject({
          code: 0,
          stdout: expect.stringContaining('Usage: mayfly'),
          stderr: '',
        })
    })
  })

  test('suggests what was meant', async () => {
    const cases: [string[], RegExp][] = [
      [['run', '--memroy', '1g'], /--memroy.*\n?.*Did you mean --memory\?/],
      [['run', '--rootsf', '/'], /--rootsf.*\n?.*Did you mean --rootfs\?/],
      [['rnu'], /rnu.*\n?.*Did you mean run\?/],
      [['doctor', '--jsno'], /--jsno.*\n?.*Did you mean --json\?/],
    ]
    for (const [words, saying] of cases)
      expect(await bench.call(words)).toMatchObject({ code: 125, stdout: '', stderr: expect.stringMatching(saying) })
  })

  test('leaves what follows the command to the command', async () => {
    expect((await run(['echo', '-e', '--memory', '-it', '--help'])).stdout).toBe('--memory -it --help\n')
    expect((await run(['--', 'echo', '-n', 'x'])).stdout).toBe('x')
    expect((await run(['--entrypoint', 'echo', 'a', '-b'])).stdout).toBe('a -b\n')
  })

  test('pipes bytes through a program unchanged', async () => {
    const input = randomBytes(20 * 1024 * 1024)
    const child = bench.start(['run', '--network', 'none', '-i', '--rootfs', bench.rootfs, 'cat'])
    const hash = createHash('sha256')
    child.stdout!.on('data', (piece) => hash.update(piece))
    child.stdin!.end(input)
    const [code] = await once(child, 'close')
    expect([code, hash.digest('hex')]).toEqual([0, createHash('sha256').update(input).digest('hex')])
  })

  test('is one of a pipeline: ends when the next has enough, and the one before sees it', async () => {
    const mayfly = `${process.execPath} ${PROGRAM} run --network none --rootfs ${bench.rootfs}`
    const script = `yes | ${mayfly} -i cat | head -n 3; ${mayfly} seq 3 | ${mayfly} -i sh -c 'sort -rn'`
    const child = spawn('sh', ['-c', script], { env: { ...process.env, MAYFLY_HOME: bench.home } })
    expect(await finished(child)).toMatchObject({ stdout: 'y\ny\ny\n3\n2\n1\n', code: 0 })
  })

  describe('flags:', () => {
    test('variables from files and from here', async () => {
      writeFileSync(
        join(bench.directory, 'one.env'),
        '# comment\nA=1\nSPACES=a  b \nEMPTY=\nQUOTED="x"\nFROM_HERE\nNOT_HERE\n',
      )
      writeFileSync(join(bench.directory, 'two.env'), 'A=2\r\nB=two\n')
      const flags = [
        '--env-file',
        'one.env',
        '--env-file',
        'two.env',
        '-e',
        'B=flag',
        '-e',
        'FROM_HERE_TOO',
        '-e',
        'EQUAL=a=b',
      ]
      // As it is installed: by its own first line. Node itself must not take --env-file for one of its own flags.
      const call = (words: readonly string[]) =>
        finished(
          spawn(PROGRAM, ['run', '--network', 'none', '--rootfs', bench.rootfs, ...words], {
            cwd: bench.directory,
            env: { ...process.env, MAYFLY_HOME: bench.home, FROM_HERE: 'yes', FROM_HERE_TOO: 'too' },
          }),
        )
      const { stdout, code } = await call([...flags, 'env'])
      expect(code).toBe(0)
      const lines = stdout.split('\n')
      for (const line of [
        'A=2',
        'SPACES=a  b ',
        'EMPTY=',
        'QUOTED="x"',
        'FROM_HERE=yes',
        'FROM_HERE_TOO=too',
        'B=flag',
        'EQUAL=a=b',
      ])
        expect(lines).toContain(line)
      expect(stdout).not.toContain('NOT_HERE')
      expect(await call(['--env-file', 'none.env', 'env'])).toMatchObject({
        code: 125,
        stderr: 'mayfly: --env-file none.env: ENOENT\n',
      })
      writeFileSync(join(bench.directory, 'node.env'), 'NODE_OPTIONS=--no-such-option\nMAYFLY_HOME=/no/such/home\n')
      expect((await call(['--env-file', 'node.env', 'env'])).stdout).toContain('NODE_OPTIONS=--no-such-option\n')
    })

    test('volumes, read-only and not, files and directories', async () => {
      mkdirSync(join(bench.directory, 'data/deep'), { recursive: true })
      writeFileSync(join(bench.directory, 'data/file'), 'from the host\n')
      const flags = ['-v', './data:/rw', '-v', './data:/ro:ro', '-v', `${bench.directory}/data/file:/etc/one-file:ro`]
      const script = `cat /ro/file /etc/one-file; echo in > /rw/made; cat /ro/made
        for path in /ro/file /ro/deep/x /etc/one-file; do (echo x > $path) 2>/dev/null && echo "wrote $path"; done; true`
      expect(await sh(flags, script)).toMatchObject({ stdout: 'from the host\nfrom the host\nin\n', code: 0 })
      expect(readdirSync(join(bench.directory, 'data')).sort()).toEqual(['deep', 'file', 'made'])
    })

    test('limits that hold', async () => {
      const files = `cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null
        cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; ulimit -n; df -k /dev/shm | tail -1 | awk '{print $2}'`
      const flags = ['-m', '48m', '--pids-limit', '20', '--ulimit', 'nofile=123:456', '--shm-size', '8m']
      const { stdout, stderr } = await sh(flags, files)
      expect([stderr, stdout]).toEqual(['', '50331648\n20\n123\n8192\n'])
      const many = await sh(['--pids-limit', '5'], 'for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done')
      expect(many.stderr).toMatch(/fork/)
    })

    test('an out-of-memory kill told as such, and only then', async () => {
      const { code, stderr } = await run([
        '-m',
        '32m',
        '--memory-swap',
        '32m',
        '--name',
        'hungry',
        'tail',
        '-c',
        '200m',
        '/dev/zero',
      ])
      expect([code, stderr]).toEqual([137, 'mayfly: "hungry" was killed because memory ran out\n'])
      expect((await sh(['-m', '64m', '--init'], 'kill -9 $$')).stderr).toBe('')
    })

    test('ports, with clients of both protocols', async () => {
      const free = createServer().listen(0, '127.0.0.1')
      await once(free, 'listening')
      const { port } = free.address() as { port: number }
      free.close()
      await once(free, 'close')
      execFileSync('gcc', [
        '-static',
        '-o',
        join(bench.rootfs, 'bin/peer'),
        fileURLToPath(new URL('peer.c', import.meta.url)),
      ])
      const script = 'echo up; exec peer serve 80'
      const child = bench.start([
        'run',
        '--init',
        '-p',
        `${port}:80`,
        '-p',
        '80/udp',
        '--rootfs',
        bench.rootfs,
        'sh',
        '-c',
        script,
      ])
      const result = finished(child)
      let stderr = ''
      child.stderr!.on('data', (piece) => {
        stderr += piece
      })
      await printed(child, 'up')
      for (const host of ['127.0.0.1', '::1'])
        await expect.poll(() => echoed(host, port), { timeout: 10_000 }).toBe('ping')
      // Only the port that nobody chose is told.
      expect(stderr).not.toContain(`:${port} ->`)
      const [, chosen] = /127\.0\.0\.1:(\d+) -> 80\/udp/.exec(stderr)!
      const socket = createSocket('udp4')
      const answer = once(socket, 'message')
      const asking = setInterval(() => socket.send('datagram', Number(chosen), '127.0.0.1'), 100)
      expect(String((await answer)[0])).toBe('datagram')
      clearInterval(asking)
      socket.close()
      const second = await bench.run(['-p', `${port}:80`, 'true'])
      expect(second).toMatchObject({ code: 125, stderr: expect.stringMatching(new RegExp(`port ${port}.*in use`)) })
      child.kill('SIGTERM')
      expect((await result).code).toBe(143)
      await expect(echoed('127.0.0.1', port)).rejects.toThrow('ECONNREFUSED')
    })

    test('two with one name do not meet: each command has a session of its own', async () => {
      const both = await Promise.all([run(['--name', 'same', 'echo', '1']), run(['--name', 'same', 'echo', '2'])])
      expect(both.map(({ code }) => code)).toEqual([0, 0])
    })
  })

  describe.skipIf(noTerminals)('on a terminal', () => {
    const onTerminal = (
      flags: readonly string[],
      command: readonly string[],
      steps: readonly Step[],
    ): Promise<Seen> => {
      const run = ['run', '--network', 'none', '--rootfs', bench.rootfs]
      return callOnTerminal([process.execPath, PROGRAM, ...run, ...flags, ...command], steps, {
        MAYFLY_HOME: bench.home,
      })
    }

    test('gives its size on, and every change of it, and restores the mode', async () => {
      const script =
        // A trapped signal ends ash's read with an error, so that is no end of the input.
        'trap "stty size" WINCH; stty size; echo ready; while :; do read line; [ "$line" = end ] && exit 3; done'
      const seen = await onTerminal(['-it'], ['bash-is-not-there'], [])
      expect(seen).toMatchObject({ status: 127, restored: true })
      const {
        seen: text,
        status,
        restored,
      } = await onTerminal(
        ['-it'],
        ['sh', '-c', script],
        [
          { wait: '30 90' },
          { wait: 'ready' },
          { size: [41, 142] },
          { send: '\r' },
          { wait: '41 142' },
          { send: 'end\r' },
        ],
      )
      expect(text).toContain('41 142')
      expect([status, restored]).toEqual([3, true])
    })

    test('is raw: keys are the container’s, Ctrl-C too', async () => {
      const script = 'trap "echo interrupted; exit 5" INT; echo ready; while :; do sleep 0.1; done'
      const seen = await onTerminal(['-it'], ['sh', '-c', script], [{ wait: 'ready' }, { send: '\x03' }])
      expect(seen).toMatchObject({ status: 5, restored: true, seen: expect.stringContaining('interrupted') })
      const echo = await onTerminal(
        ['-it'],
        ['sh', '-c', 'echo ready; read line; echo "got:$line"'],
        [{ wait: 'ready' }, { send: 'tést\r' }, { wait: 'got:' }],
      )
      expect(echo.seen).toContain('got:tést')
      // Typed once, echoed once: by the container's terminal, not by ours as well.
      expect(echo.seen.split('tést')).toHaveLength(3)
    })

    test('is restored when it is killed by a signal', async () => {
      const script = 'trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done'
      const seen = await onTerminal(['-it'], ['sh', '-c', script], [{ wait: 'ready' }, { signal: 15 }])
      expect(seen).toMatchObject({ status: 9, restored: true })
    })

    test('passes Ctrl-C on without -t', async () => {
      const script = 'trap "echo interrupted; exit 6" INT; echo ready; while :; do sleep 0.1; done'
      const seen = await onTerminal([], ['sh', '-c', script], [{ wait: 'ready' }, { send: '\x03' }])
      expect(seen).toMatchObject({ status: 6, restored: true, seen: expect.stringContaining('interrupted') })
    })

    test('tells nothing of ours between the lines of the program', async () => {
      const seen = await onTerminal(['-t'], ['sh', '-c', 'tty -s && echo yes; [ -t 1 ] && echo and out'], [])
      expect(seen).toMatchObject({ status: 0, restored: true })
      expect(seen.seen.replaceAll('\r', '')).toBe('yes\nand out\n')
    })
  })

  describe('doctor', () => {
    test('agrees with itself and with what runs', async () => {
      const [text, json] = await Promise.all([bench.call(['doctor']), bench.call(['doctor', '--json'])])
      const diagnosis = JSON.parse(json.stdout)
      expect([text.code, json.code]).toEqual([0, 0])
      expect(diagnosis.canRun).toBe(true)
      expect(diagnosis.findings.length).toBeGreaterThan(10)
      for (const finding of diagnosis.findings) {
        expect(Object.keys(finding)).toEqual(expect.arrayContaining(['name', 'verdict', 'group']))
        expect(text.stdout).toContain(finding.name)
        // What does not work says why.
        if (finding.verdict === 'fails') expect(finding.why).toBeTruthy()
      }
      expect(text.stdout).not.toMatch(/undefined|\[object/)
    })

    test('refuses what it does not know', async () => {
      expect(await bench.call(['doctor', '--xml'])).toMatchObject({
        code: 125,
        stderr: expect.stringContaining('--xml'),
      })
    })
  })

  test('leaves nothing in its home', async () => {
    await sleep(100)
    const sessions = join(bench.home, 'sessions')
    const left = () => (existsSync(sessions) ? readdirSync(sessions).filter((name) => /^[0-9a-f]{12}$/.test(name)) : [])
    await expect.poll(left, { timeout: 5_000 }).toEqual([])
  })
})

/** What comes back for a word. */
async function echoed(host: string, port: number): Promise<string> {
  const socket = connect({ host, port })
  try {
    socket.write('ping')
    const [piece] = await once(socket, 'data')
    return String(piece)
  } finally {
    socket.destroy()
  }
}
