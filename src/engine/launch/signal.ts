/** Signal numbers of Linux, which are the same on x64 and arm64; node's own list is that of the machine it runs on. */

import { refuse } from './check.js'

const NAMES =
  `HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU
  XFSZ VTALRM PROF WINCH IO PWR SYS`.split(/\s+/)
const NUMBERS: ReadonlyMap<string, number> = new Map([
  ...NAMES.map((name, index): [string, number] => [name, index + 1]),
  ['IOT', 6],
  ['CLD', 17],
  ['POLL', 29],
])
const RTMIN = 34
const RTMAX = 64

/**
 * `SIGINT`, `INT`, `int`, `2` and 2 → 2; `RTMIN+3` → 37. Throws INVALID_OPTION for what is no signal.
 *
 * @param field name of the option in the error's message
 */
export function parseSignal(value: unknown, field = 'signal'): number {
  const plain = typeof value === 'string' && /^\d{1,2}$/.test(value) ? Number(value) : value
  if (typeof plain === 'number' && Number.isInteger(plain) && plain >= 1 && plain <= RTMAX) return plain
  if (typeof value !== 'string') return refuse(field, value, `expected a signal's name or a number from 1 to ${RTMAX}`)
  const name = value.toUpperCase().replace(/^SIG/, '')
  const [, base, sign, distance] = /^(RTMIN|RTMAX)(?:([+-])(\d{1,2}))?$/.exec(name) ?? []
  const number = base
    ? (base === 'RTMIN' ? RTMIN : RTMAX) + Number(`${sign ?? ''}${distance ?? 0}`)
    : (NUMBERS.get(name) ?? 0)
  if (number < (base ? RTMIN : 1) || number > RTMAX) return refuse(field, value, 'expected a signal such as SIGTERM')
  return number
}
