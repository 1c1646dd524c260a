/** What counts as a defect of a process that was tormented, and what does not. */

import { describe, expect, test } from 'vitest'
import type { Torment } from './torments.ts'
import { complaintsAbout } from './witness.ts'
import type { Fact } from './workload.ts'

const when = { atMs: 0, forMs: 0, of: 0 }
const died = (code: number | null, signal: NodeJS.Signals | null = null, stderr = '') => ({ code, signal, stderr })
const about = (facts: readonly Fact[], end = died(0), torments: readonly Torment[] = []) =>
  complaintsAbout({ facts: [...facts], end, number: 0, wasKilled: false }, torments)
const ends = (code: string, error = ''): Fact[] => [
  { fact: 'begins', deed: 'run', number: 1 },
  { fact: 'ends', number: 1, code, error },
]

describe('of a process, it is a defect', () => {
  test.each<[string, string[]]>([
    ['to answer wrongly', about([{ fact: 'wrong', what: 'x' }])],
    ['to leave a rejection to nobody', about([{ fact: 'broken', what: 'x' }])],
    ['to throw what has no code of ours', about(ends('unnamed TypeError'))],
    ['that its warden crashes', about(ends('ENGINE_UNAVAILABLE', 'The warden was killed by SIGSEGV'))],
    ['to end by an error', about([], died(1, null, 'Error: x'))],
    ['to be killed by nobody', about([], died(null, 'SIGKILL'))],
    [
      'to be killed where another one should be',
      about([], died(null, 'SIGKILL'), [{ ...when, of: 1, kind: 'kill', victims: ['node'] }]),
    ],
    ['to abort where nothing is short', about([], died(null, 'SIGABRT'))],
    ['to warn', about([], died(0, null, '(node:1) MaxListenersExceededWarning: Possible memory leak'))],
  ])('%s', (_what, complaints) => expect(complaints).toHaveLength(1))
})

describe('of a process, it is none', () => {
  test.each<[string, string[]]>([
    ['to end', about(ends('LAUNCH_FAILED'))],
    ['that its warden is killed', about(ends('ENGINE_UNAVAILABLE', 'The warden was killed by SIGKILL'))],
    ['to be killed', about([], died(null, 'SIGKILL'), [{ ...when, kind: 'kill', victims: ['node'] }])],
    ['to abort for want of threads', about([], died(null, 'SIGABRT'), [{ ...when, kind: 'few processes', more: 0 }])],
  ])('%s', (_what, complaints) => expect(complaints).toEqual([]))
})
