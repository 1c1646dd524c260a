import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { loadOf, machineOf, mergeRuns, readRun } from './runs.ts'

const row = (what: string, measured: string) => ({ what, measured, goal: '', ratio: '' })

test('parts of a run make one, row by row', () => {
  // Rows that are told apart by what stands above them.
  const first = { about: 'here', rows: [row('run', '4 ms'), row('the same', '9 ms')], samples: { run: [4] } }
  const second = { about: 'here', rows: [row('exec', '1 ms'), row('the same', '3 ms')], samples: { exec: [1] } }

  expect(mergeRuns([first, second])).toEqual({
    about: 'here',
    rows: [...first.rows, ...second.rows],
    samples: { run: [4], exec: [1] },
  })
})

test('runs of two machines are not put together', () => {
  const run = (about: string) => ({ about, rows: [], samples: {} })
  expect(() => mergeRuns([run('here'), run('there')])).toThrow('here / there')
})

test('parts of a run on a busy machine make one, of which the busiest is told', () => {
  const busy = (load: number) => ({
    about: `here, node v20${load ? `, **not a quiet machine: load ${load} before**` : ''}. Beside it: Docker 20.10.`,
    rows: [],
    samples: {},
  })
  expect(mergeRuns([busy(0), busy(2.5), busy(1.5)]).about).toBe(busy(2.5).about)
  expect([busy(0), busy(2.5)].map(loadOf)).toEqual([0, 2.5])
  expect([busy(0), busy(2.5)].map(machineOf)).toEqual(['here, node v20', 'here, node v20'])
})

test('what is no result is refused by name', () => {
  expect(() => readRun('/no/such.json')).toThrow(RangeError)
  expect(() => readRun(fileURLToPath(import.meta.url))).toThrow('runs.test.ts')
})
