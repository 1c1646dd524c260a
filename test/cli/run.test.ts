/** `mayfly run` with real containers, as root and as an ordinary user. */
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Bench, finished, PROGRAM, printed, whyNoContainers } from './command.js'

const why = whyNoContainers()
if (why) console.log(`skipped: mayfly run with real containers, because ${why}`)
const isRoot = process.getuid!() === 0
if (!isRoot) console.log('skipped: mayfly run as another user, because that takes root')

describe.skipIf(why)('mayfly run', () => {
  let bench: Bench
  beforeAll(() => {
    bench = new Bench()
  })
  afterAll(() => bench[Symbol.dispose]())
  const run = (words: readonly string[], input?: string) => bench.run(['--network', 'none', ...words], input)

  test('passes on both outputs and the exit code', async () => {
    const result = await run(['sh', '-c', 'echo out; echo err >&2; exit 3'])
    expect(result).toEqual({ code: 3, signal: null, stdout: 'out\n', stderr: 'err\n' })
  })

  test('exits with 127 for a program that is not there, 126 for one that cannot be run, 125 for its own errors', async () => {
    expect(await run(['no-such-program'])).toMatchObject({ code: 127, stdout: '' })
    expect(await run(['/etc/passwd'])).toMatchObject({ code: 126, stdout: '' })
    expect(await run(['--user', 'no-such-user', 'true'])).toMatchObject({ code: 125, stdout: '' })
    expect(await bench.call(['run', '--rootfs', '/no/such/directory', 'true'])).toMatchObject({ code: 125 })
  })

  test('prints errors as one line with a hint, without a stack', async () => {
    const { stderr, code } = await bench.call(['run', '--pull', 'never', 'alpine', 'true'])
    expect(stderr).toBe(
      'mayfly: There is no image alpine here\n' +
        '  Hint: `mayfly images` lists those that are; others are to be pulled, built, loaded or bootstrapped first\n',
    )
    expect(code).toBe(125)
    expect((await run(['no-such-program'])).stderr).toMatch(/^mayfly: Cannot start .*no-such-program/)
    expect((await bench.call(['run', '--no-such-flag'])).stderr).toMatch(/^mayfly: unknown option '--no-such-flag'/)
  })

  test('reports a program that a signal ended as 128 and its number', async () => {
    expect((await run(['--init', 'sh', '-c', 'kill -9 $$'])).code).toBe(137)
  })

  test('passes input on to its end, byte for byte', async () => {
    const text = Array.from({ length: 100_000 }, (_, index) => `line ${index}\n`).join('')
    const { stdout, code } = await run(['-i', 'cat'], text)
    expect(code).toBe(0)
    expect(stdout === text).toBe(true)
  })

  test('reads no input without --interactive', async () => {
    expect(await run(['cat'], 'nothing')).toMatchObject({ code: 0, stdout: '' })
  })

  test('ends with the container although input is still open', async () => {
    const child = bench.start(['run', '--network', 'none', '-i', '--rootfs', bench.rootfs, 'true'])
    expect(await finished(child)).toMatchObject({ code: 0 })
  })

  test('loses nothing when its reader is slow', async () => {
    const child = bench.start([
      'run',
      '--network',
      'none',
      '--rootfs',
      bench.rootfs,
      'head',
      '-c',
      '60000000',
      '/dev/zero',
    ])
    child.stdout!.pause()
    await sleep(1_000)
    let length = 0
    child.stdout!.on('data', (piece: Buffer) => {
      length += piece.length
    })
    child.stdout!.resume()
    const [code] = await once(child, 'close')
    expect([code, length]).toEqual([0, 60_000_000])
  })

  test('ends when its reader has gone away', async () => {
    const child = bench.start(['run', '--network', 'none', '--rootfs', bench.rootfs, 'yes'])
    await once(child.stdout!, 'data')
    child.stdout!.destroy()
    const [code] = await once(child, 'close')
    expect(code).toBe(141)
  })

  test.each(['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP', 'SIGUSR1'] as const)('passes %s on', async (signal) => {
    const script = `trap 'echo got ${signal}; exit 7' ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`
    const child = bench.start(['run', '--network', 'none', '--rootfs', bench.rootfs, 'sh', '-c', script])
    const result = finished(child)
    await printed(child, 'ready')
    child.kill(signal)
    expect(await result).toMatchObject({ code: 7, stdout: `ready\ngot ${signal}\n` })
  })

  test('kills a program that ignores the third request to end', async () => {
    const script = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done"
    const child = bench.start(['run', '--network', 'none', '--rootfs', bench.rootfs, 'sh', '-c', script])
    const result = finished(child)
    await printed(child, 'ready')
    for (const signal of ['SIGINT', 'SIGINT', 'SIGTERM'] as const) {
      child.kill(signal)
      await sleep(300) // two that come at once are one
    }
    expect(await result).toMatchObject({ code: 137 })
  })

  test('gives the container our terminal, raw and of our size, and puts it back', async () => {
    // script(1) makes a terminal; what we type goes through it to the container's.
    const command = `stty rows 33 cols 101; ${process.execPath} ${PROGRAM} run --network none -it --rootfs ${bench.rootfs} sh -c 'stty size; read line; echo "[$line]"; stty -a | grep -o "intr = ^C"'; stty -a`
    const { spawn } = await import('node:child_process')
    const child = spawn('script', ['-qec', command, '/dev/null'], { env: { ...process.env, MAYFLY_HOME: bench.home } })
    const result = finished(child)
    await printed(child, '33 101')
    child.stdin.end('typed\n')
    const { stdout } = await result
    expect(stdout).toContain('[typed]')
    expect(stdout).toContain('intr = ^C')
    // A raw terminal has -icanon and -echo.
    expect(stdout).toMatch(/(?<!-)icanon/)
    expect(stdout.slice(stdout.lastIndexOf('speed'))).toMatch(/(?<!-)\becho\b/)
  })

  test('refuses a terminal that is none', async () => {
    expect(await run(['-it', 'true'])).toMatchObject({ code: 125, stderr: expect.stringContaining('stdin is none') })
  })

  test('sets what the flags say', async () => {
    const words = ['-e', 'A=5', '-h', 'box', '-w', '/tmp', '-u', 'alice', '--read-only', '--tmpfs', '/t']
    const script = 'echo $A; hostname; pwd; id -un; touch /x 2>/dev/null || echo read-only; touch /t/x && echo writable'
    const { stdout, stderr } = await run([...words, 'sh', '-c', script])
    expect([stdout.split('\n'), stderr]).toEqual([['5', 'box', '/tmp', 'alice', 'read-only', 'writable', ''], ''])
  })

  test('makes a working directory that is missing', async () => {
    expect((await run(['-w', '/made/for/it', 'pwd'])).stdout).toBe('/made/for/it\n')
  })

  test('mounts host directories', async () => {
    const words = ['-v', '.:/here:ro', '--mount', `type=bind,source=${bench.rootfs}/etc,target=/there`]
    const { stdout } = await run([...words, 'sh', '-c', 'ls /here; touch /here/x 2>/dev/null || echo no; ls /there'])
    expect(stdout).toContain('rootfs')
    expect(stdout).toContain('no\n')
    expect(stdout).toContain('passwd')
  })

  test('publishes a port and tells the number that nobody chose', async () => {
    const words = [
      'run',
      '-p',
      '80',
      '--rootfs',
      bench.rootfs,
      'sh',
      '-c',
      'echo ready; exec nc -l -p 80 -e echo hello',
    ]
    const child = bench.start(words)
    const result = finished(child)
    let stderr = ''
    child.stderr!.on('data', (piece) => {
      stderr += piece
    })
    await printed(child, 'ready')
    await expect.poll(() => stderr).toContain('-> 80/tcp')
    const port = Number(/^mayfly: 127\.0\.0\.1:(\d+) -> 80\/tcp$/m.exec(stderr)?.[1])
    await expect.poll(() => firstBytes(port), { timeout: 10_000 }).toBe('hello\n')
    expect((await result).code).toBe(0)
  })

  test('says so when memory ran out', async () => {
    const { code, stderr } = await run([
      '--memory',
      '16m',
      '--memory-swap',
      '16m',
      'sh',
      '-c',
      'a=x; while :; do a=$a$a; done',
    ])
    if (/LIMIT|controller/.test(stderr) && code === 125) {
      console.log('skipped: the memory limit, because there is no memory controller for this user')
      return
    }
    expect([code, stderr]).toEqual([137, expect.stringMatching(/^mayfly: ".*" was killed because memory ran out\n$/)])
  })

  test('leaves no session behind, also when it is killed', async () => {
    const child = bench.start([
      'run',
      '--network',
      'none',
      '--rootfs',
      bench.rootfs,
      'sh',
      '-c',
      'echo ready; sleep 1000',
    ])
    const result = finished(child)
    await printed(child, 'ready')
    expect(readdirSync(join(bench.home, 'sessions')).filter((name) => /^[0-9a-f]{12}$/.test(name))).toHaveLength(1)
    child.kill('SIGKILL')
    expect(await result).toMatchObject({ signal: 'SIGKILL' })
    await expect
      .poll(() => readdirSync(join(bench.home, 'sessions')).filter((name) => /^[0-9a-f]{12}$/.test(name)), {
        timeout: 5_000,
      })
      .toEqual([])
  })
})

describe.skipIf(why || !isRoot)('mayfly run as an ordinary user', () => {
  let bench: Bench
  beforeAll(() => {
    bench = new Bench('nobody')
  })
  afterAll(() => bench[Symbol.dispose]())

  test('runs a container whose root is that user', async () => {
    const result = await bench.run(['sh', '-c', 'id -u; cut -c1-33 /proc/self/uid_map; touch /made && echo writable'])
    expect(result.stderr).toBe('')
    expect(result.stdout).toMatch(/^0\n\s+0\s+65534\s+1.*\nwritable\n$/)
    expect(result.code).toBe(0)
  })

  test('passes input, output and the exit code', async () => {
    expect(await bench.run(['-i', 'sh', '-c', 'cat; exit 5'], 'hello')).toMatchObject({ code: 5, stdout: 'hello' })
  })
})

/** What the other end sends first; '' while nobody answers. */
async function firstBytes(port: number): Promise<string> {
  const socket = createConnection({ host: '127.0.0.1', port })
  try {
    const [piece] = await Promise.race([once(socket, 'data'), once(socket, 'close')])
    return String(piece ?? '')
  } catch {
    return ''
  } finally {
    socket.destroy()
  }
}
