import { expect, test } from 'vitest'
import { mergeRuns } from './runs.ts'

const row = (what: string, measured: string) => ({ what, measured, goal: '', ratio: '' })

test('parts of a run make one, and what was measured again counts', () => {
  const first = { about: 'here', rows: [row('run', '4 ms'), row('exec', '1 ms')], samples: { run: [4], exec: [1] } }
  const second = { about: 'here', rows: [row('run', '3 ms')], samples: { run: [3] } }

  expect(mergeRuns([first, second])).toEqual({
    about: 'here',
    rows: [row('run', '3 ms'), row('exec', '1 ms')],
    samples: { run: [3], exec: [1] },
  })
})

test('runs of two machines are not put together', () => {
  const run = (about: string) => ({ about, rows: [], samples: {} })
  expect(() => mergeRuns([run('here'), run('there')])).toThrow('here / there')
})
