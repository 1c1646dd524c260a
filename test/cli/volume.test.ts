/** `mayfly volume`, and volumes in `mayfly run`. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Bench, whyNoContainers } from './command.js'

const why = whyNoContainers()
if (why) console.warn(`skipped: volumes of the command line, because ${why}`)

describe.skipIf(why)('mayfly volume', () => {
  let bench: Bench
  beforeAll(() => {
    bench = new Bench()
  })
  afterAll(() => bench?.[Symbol.dispose]())

  const call = async (...words: string[]) => {
    const { code, stdout, stderr } = await bench.call(words)
    expect(stderr).toBe('')
    expect(code).toBe(0)
    return stdout
  }

  test('makes, lists, shows and removes volumes', async () => {
    expect(await call('volume', 'create', '--label', 'a=b', 'data')).toBe('data\n')
    expect(await call('volume', 'create', 'data')).toBe('data\n')
    const nameless = (await call('volume', 'create')).trim()
    expect(nameless).toMatch(/^[0-9a-f]{64}$/)
    expect(await call('volume', 'ls')).toMatch(/^DRIVER +VOLUME NAME\nlocal/)
    expect((await call('volume', 'ls', '-q')).split('\n').filter(Boolean).sort()).toEqual(['data', nameless].sort())
    expect(await call('volume', 'ls', '-q', '--filter', 'label=a=b')).toBe('data\n')
    expect(await call('volume', 'ls', '--filter', 'name=dat*', '--format', '{{.Name}} {{.Labels}}')).toBe('data a=b\n')
    const [shown] = JSON.parse(await call('volume', 'inspect', 'data'))
    expect(shown).toMatchObject({ Name: 'data', Driver: 'local', Labels: { a: 'b' }, Anonymous: false })
    expect(existsSync(shown.Mountpoint)).toBe(true)
    expect(await call('volume', 'prune', '--force')).toBe(`deleted: ${nameless}\n`)
    expect(await call('volume', 'rm', 'data')).toBe('data\n')
    const { code, stderr } = await bench.call(['volume', 'rm', 'data'])
    expect([code, stderr]).toEqual([1, expect.stringContaining('There is no volume "data"')])
    expect(await call('volume', 'rm', '--force', 'data')).toBe('data\n')
    const refused = await bench.call(['volume', 'create', '--driver', 'nfs', 'far'])
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("the only driver here is 'local'")])
  })

  test('is what run mounts, and keeps what is written', async () => {
    const run = async (...words: string[]) => {
      const { stdout, stderr } = await bench.run(words)
      return stdout + stderr
    }
    expect(await run('-v', 'kept:/v', 'sh', '-c', 'echo 1 >/v/a')).toBe('')
    expect(await run('--mount', 'source=kept,target=/w,readonly', 'sh', '-c', 'cat /w/a; touch /w/b')).toMatch(
      /^1\n.*Read-only file system\n$/,
    )
    expect(await run('-v', '/v', 'sh', '-c', 'ls /v')).toBe('')
    expect(await run('-v', './made/here:/m', 'sh', '-c', 'echo 2 >/m/a')).toBe('')
    expect(readFileSync(join(bench.directory, 'made/here/a'), 'utf8')).toBe('2\n')
    expect(await run('--mount', 'type=bind,source=./missing,target=/m', 'true')).toContain('does not exist')
    expect(await call('volume', 'prune', '--force')).toBe('')
    expect(await call('volume', 'prune', '--force', '--all')).toBe('deleted: kept\n')
  })

  test('is pruned with the store where that is asked for', async () => {
    const nameless = (await call('volume', 'create')).trim()
    await call('volume', 'create', 'named')
    expect(await call('prune', '--volumes', '--dry-run')).toContain(`would delete: volume ${nameless}\n`)
    expect(await call('prune', '--volumes', '--force')).toContain(`deleted: volume ${nameless}\n`)
    expect(await call('volume', 'ls', '-q')).toBe('named\n')
  })

  test('has a disk of limited size in run', async () => {
    const fill = ['dd', 'if=/dev/zero', 'of=/file', 'bs=1048576', 'count=4']
    const { code, stderr } = await bench.run(['--storage-opt', 'size=1m', ...fill])
    expect([code, stderr]).toEqual([1, expect.stringContaining('No space left')])
    expect((await bench.run(['--storage-opt', 'colour=1', ...fill])).stderr).toContain('--storage-opt colour')
    expect((await bench.run(['--volumes-from', 'db', 'true'])).stderr).toContain('--volumes-from is not available')
  })
})
