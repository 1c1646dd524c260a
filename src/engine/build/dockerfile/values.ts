/** Values that stand in words of a Dockerfile: durations, ports, owners. File modes have a file of their own. */

import { Problem, unlocated } from './problem.js'

const UNITS_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3, // U+00B5
  μs: 1e-3, // U+03BC
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
}

/**
 * A duration in Go's syntax, such as `1m30s`, `1.5h` or `0`, in milliseconds. Throws DOCKERFILE_INVALID.
 *
 * @param what name of the value in the error's message
 */
export function parseDuration(text: string, what = 'duration'): number {
  return unlocated(() => durationOf(text, what))
}

/** As `parseDuration`, but throws a Problem. */
export function durationOf(text: string, what: string): number {
  const [, sign, rest = ''] = /^([+-]?)(.*)$/s.exec(text)!
  if (rest === '0') return 0
  let total = 0
  // `\d+\.?\d*` would try every way to cut a long number in two.
  const part = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y
  let end = 0
  while (end < rest.length) {
    const [, number, unit] = part.exec(rest) ?? []
    if (number === undefined || unit === undefined) break
    total += Number(number) * UNITS_MS[unit]!
    end = part.lastIndex
  }
  // Go counts nanoseconds in 64 bits: some 292 years.
  if (rest === '' || end < rest.length || total * 1e6 > 2 ** 63)
    throw new Problem(`invalid ${what} "${text}"`, { value: text, expected: 'a duration such as 30s, 1m30s or 500ms' })
  return sign === '-' ? -total : total
}

export interface Port {
  readonly port: number
  readonly protocol: 'tcp' | 'udp' | 'sctp'
}

/**
 * `80`, `53/udp`, `7000-7010/tcp` → each port of it. What stands before a colon (host address and port, as of
 * `docker run -p`) is checked and left out, as Docker does. Throws DOCKERFILE_INVALID.
 */
export function parsePorts(text: string): readonly Port[] {
  return unlocated(() => portsOf(text))
}

/** As `parsePorts`, but throws a Problem. */
export function portsOf(text: string): readonly Port[] {
  const expected = 'a port such as 80, 53/udp or 7000-7010/tcp'
  const wrong = (why: string) => new Problem(`invalid port "${text}": ${why}`, { value: text, expected })
  const parts = text.split(':')
  const [range = '', protocol = 'tcp', ...more] = parts.at(-1)!.split('/')
  const name = protocol.toLowerCase() || 'tcp'
  if (more.length > 0 || (name !== 'tcp' && name !== 'udp' && name !== 'sctp'))
    throw wrong('the protocol is not tcp, udp or sctp')
  const [first, last] = rangeOf(range, wrong)
  const host = parts.at(-2) ?? ''
  if (host !== '') {
    const [hostFirst, hostLast] = rangeOf(host, wrong)
    if (last !== first && last - first !== hostLast - hostFirst) throw wrong('the two ranges differ in length')
  }
  return Array.from({ length: last - first + 1 }, (_, index) => Object.freeze({ port: first + index, protocol: name }))
}

function rangeOf(text: string, wrong: (why: string) => Problem): readonly [number, number] {
  const [, first, last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? []
  if (first === undefined) throw wrong('not a number')
  if (Number(first) > 65_535 || Number(last) > 65_535) throw wrong('more than 65535')
  if (Number(last) < Number(first)) throw wrong('the range ends before it begins')
  return [Number(first), Number(last)]
}

/** Of `--chown` and USER: names or numbers, to be looked up in the image. */
export interface Owner {
  /** Empty: root. */
  readonly user: string
  /**
   * undefined: not given. For `--chown` that means the number of the user, for USER the user's own group. Empty, as in `user:`, is root's group for
   * `--chown` and the user's own for USER.
   */
  readonly group: string | undefined
}

/** `user`, `user:group`, `1000:1000`, `:group`, `user:`. Throws DOCKERFILE_INVALID. */
export function parseOwner(text: string): Owner {
  return unlocated(() => ownerOf(text))
}

/** As `parseOwner`, but throws a Problem. */
export function ownerOf(text: string): Owner {
  const [user = '', group, ...more] = text.split(':')
  if (text === '' || more.length > 0 || /[\s/]/.test(text))
    throw new Problem(`invalid owner "${text}"`, { value: text, expected: 'user, user:group or their numbers' })
  return Object.freeze({ user, group })
}
