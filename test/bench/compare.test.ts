import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { temporaryDirectory } from '../support/temporary.ts'
import { compareRuns } from './compare.ts'

const directory = temporaryDirectory('compare')
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** Thirty samples that scatter by a tenth around a value. */
const around = (value: number) => Array.from({ length: 30 }, (_, i) => value * (0.95 + ((i * 7) % 30) / 300))
const run = (samples: Record<string, readonly number[]>) => ({ about: 'a machine', rows: [], samples })
const verdicts = (...[before, after, margin]: Parameters<typeof compareRuns>) =>
  Object.fromEntries(compareRuns(before, after, margin).changes.map(({ name, verdict }) => [name, verdict]))

describe('two runs of the benchmark', () => {
  test('differ when the difference exceeds the scatter of both', () => {
    const before = run({ 'a: mayfly': around(10), 'b: mayfly': around(10), 'c: mayfly': around(10) })
    const after = run({ 'a: mayfly': around(13), 'b: mayfly': around(10.1), 'c: mayfly': around(7) })

    expect(verdicts(before, after)).toEqual({ 'a: mayfly': 'slower', 'b: mayfly': 'same', 'c: mayfly': 'faster' })
  })

  test('do not differ by less than the margin, however certain', () => {
    const [before, after] = [run({ 'a: mayfly': Array(50).fill(10) }), run({ 'a: mayfly': Array(50).fill(10.4) })]

    expect(verdicts(before, after)).toEqual({ 'a: mayfly': 'same' })
    expect(verdicts(before, after, 0.01)).toEqual({ 'a: mayfly': 'slower' })
  })

  test('on a machine that has become slower are compared as if it had not', () => {
    const machine = (factor: number, own: number) =>
      run({
        'run: docker': around(300 * factor),
        'run: floor': around(4 * factor),
        'exec: docker': around(40 * factor),
        'run: mayfly': around(own),
      })

    expect(verdicts(machine(1, 4), machine(1.5, 6))).toEqual({ 'run: mayfly': 'same' })
    expect(verdicts(machine(1, 4), machine(1.5, 8))).toEqual({ 'run: mayfly': 'slower' })
  })

  test('are worse with fewer a second, and with more bytes', () => {
    const before = run({ 'bytes, a second: mayfly': around(100), 'memory: warden, bytes': [1000] })
    const after = run({ 'bytes, a second: mayfly': around(60), 'memory: warden, bytes': [1500] })

    expect(verdicts(before, after)).toEqual({ 'bytes, a second: mayfly': 'slower', 'memory: warden, bytes': 'slower' })
  })

  test('name what only one of them has', () => {
    expect(compareRuns(run({ 'a: mayfly': [1] }), run({ 'b: mayfly': [1] })).unmatched).toEqual([
      'a: mayfly',
      'b: mayfly',
    ])
  })
})

describe('npm run bench:compare', () => {
  const call = (...args: string[]) => {
    const program = fileURLToPath(new URL('compare.mjs', import.meta.url))
    return spawnSync(process.execPath, [program, ...args], { encoding: 'utf8' })
  }
  const file = (name: string, content: unknown) => {
    const path = join(directory, name)
    writeFileSync(path, JSON.stringify(content))
    return path
  }

  test('fails on a regression, and names it', () => {
    const before = file('before.json', run({ 'run: mayfly': around(4) }))
    const after = file('after.json', run({ 'run: mayfly': around(6) }))

    expect(call(before, before).status).toBe(0)
    const { status, stdout } = call(before, after)
    expect(status).toBe(1)
    expect(stdout).toContain('Nothing is taken out for the machine')
    expect(stdout).toMatch(/^slower {2}1\.50 × .*run: mayfly/m)
  })

  test('says when the machines are not the same, or were busy', () => {
    const here = { about: 'AMD, node v20. Beside it: Docker.', rows: [], samples: { 'run: mayfly': around(4) } }
    const there = { ...here, about: 'AMD, node v22, **not a quiet machine: load 3.5 before**.' }

    expect(call(file('here.json', here), file('same.json', { ...here, about: 'AMD, node v20.' })).stdout).not.toMatch(
      /Not (one|a quiet) machine/,
    )
    const { status, stdout } = call(file('here.json', here), file('there.json', there))
    expect(stdout).toContain("Not one machine, so a difference may be the machine's: AMD, node v20 / AMD, node v22")
    expect(stdout).toContain('load 0 before the first run, 3.5 before the second')
    expect(status).toBe(0)
  })

  test('says what it wants', () => {
    const apart = [file('run.json', run({ 'run: mayfly': [1] })), file('exec.json', run({ 'exec: mayfly': [1] }))]
    expect(call(...apart)).toMatchObject({ status: 2, stderr: expect.stringContaining('nothing in common') })
    expect(call().status).toBe(2)
    expect(call(file('other.json', []), file('other.json', [])).stderr).toContain('other.json is no result')
    expect(call('/no/such.json', '/no/such.json').stderr).toContain('/no/such.json')
  })
})
