import { expect, test } from 'vitest'
import { mergeRuns } from './runs.ts'

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
