import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { temporaryDirectory } from '../support/temporary.ts'
import { alternate, median, quantile } from './measure.ts'
import { markdownTable, milliseconds, type Row, writeBetweenMarkers } from './table.ts'

const directory = temporaryDirectory('table')
afterAll(() => rmSync(directory, { recursive: true, force: true }))

test('contenders take turns, and warm-up rounds do not count', async () => {
  const order: string[] = []
  const contender = (name: string) => ({ name, round: async () => order.push(name) })

  const samples = await alternate([contender('a'), contender('b')], { rounds: 2, warmUp: 1, restMs: 0 })

  expect(order.join('')).toBe('ababab')
  expect([...samples]).toEqual([
    ['a', [3, 5]],
    ['b', [4, 6]],
  ])
})

test('a quantile is one of the samples, whatever their order', () => {
  const samples = [5, 1, 4, 2, 3]

  expect(median(samples)).toBe(3)
  expect(quantile(samples, 0.95)).toBe(5)
  expect(quantile(samples, 1)).toBe(5)
  expect(() => median([])).toThrow(RangeError)
})

test('a missed goal stands out in the table as a goal that is met does', () => {
  const row: Row = { what: 'run', measured: milliseconds([0.5]), goal: '≤ 1 ms', ratio: '' }

  const table = markdownTable([row, { ...row, hit: true }, { ...row, hit: false }])

  expect(table.split('\n').slice(2)).toEqual([
    '| run | 0.50 ms | ≤ 1 ms |  |  |',
    '| run | 0.50 ms | ≤ 1 ms |  | hit |',
    '| run | 0.50 ms | ≤ 1 ms |  | **miss** |',
  ])
})

test('what is outside the markers stays, and a file without them is an error', () => {
  const path = join(directory, 'README.md')
  writeFileSync(path, 'before\n<!-- bench:start -->\nold\n<!-- bench:end -->\nafter\n')

  writeBetweenMarkers(path, 'new')

  expect(readFileSync(path, 'utf8')).toBe('before\n<!-- bench:start -->\nnew\n<!-- bench:end -->\nafter\n')
  writeFileSync(path, 'no markers')
  expect(() => writeBetweenMarkers(path, 'new')).toThrow('bench:start')
})
