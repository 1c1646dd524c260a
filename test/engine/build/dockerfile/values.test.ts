import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseMode } from '../../../../src/engine/build/dockerfile/mode.js'
import { didYouMean, editDistance, nearest } from '../../../../src/engine/build/dockerfile/nearest.js'
import { PREDEFINED_ARGS } from '../../../../src/engine/build/dockerfile/predefined.js'
import { parseDuration, parseOwner, parsePorts } from '../../../../src/engine/build/dockerfile/values.js'

test.each<[string, number | undefined]>([
  ['0', 0],
  ['30s', 30_000],
  ['1m30s', 90_000],
  ['1.5h', 5_400_000],
  ['.5s', 500],
  ['1.s', 1000],
  ['100ms', 100],
  ['1us', 0.001],
  ['1µs', 0.001],
  ['2ns', 2e-6],
  ['-1s', -1000],
  ['+1s', 1000],
  ['', undefined],
  ['5', undefined],
  ['s', undefined],
  ['.s', undefined],
  ['1d', undefined],
  ['1s ', undefined],
  ['1 s', undefined],
  ['--1s', undefined],
  ['99999999h', undefined],
])('the duration %j is %s ms', (text, duration) => {
  if (duration === undefined) expect(() => parseDuration(text)).toThrow(/invalid duration/)
  else expect(parseDuration(text)).toBeCloseTo(duration, 9)
})

test.each<[string, string[] | undefined]>([
  ['80', ['80/tcp']],
  ['80/tcp', ['80/tcp']],
  ['53/UDP', ['53/udp']],
  ['80/', ['80/tcp']],
  ['132/sctp', ['132/sctp']],
  ['7000-7002/udp', ['7000/udp', '7001/udp', '7002/udp']],
  ['8080:80', ['80/tcp']],
  ['127.0.0.1:8080:80/tcp', ['80/tcp']],
  ['[::1]:8080:80', ['80/tcp']],
  ['8000-8001:80-81', ['80/tcp', '81/tcp']],
  ['8000-8005:80', ['80/tcp']],
  ['8000-8005:80-81', undefined],
  ['', undefined],
  ['/tcp', undefined],
  ['80/tcp/udp', undefined],
  ['80/http', undefined],
  ['65536', undefined],
  ['2-1', undefined],
  ['1-2-3', undefined],
  ['-1', undefined],
  ['x:80', undefined],
])('the port %j is %j', (text, ports) => {
  if (ports === undefined) expect(() => parsePorts(text)).toThrow(/invalid port/)
  else expect(parsePorts(text).map(({ port, protocol }) => `${port}/${protocol}`)).toEqual(ports)
})

test.each([
  ['a', { user: 'a', group: undefined }],
  ['a:b', { user: 'a', group: 'b' }],
  ['1000:0', { user: '1000', group: '0' }],
  [':b', { user: '', group: 'b' }],
  ['a:', { user: 'a', group: '' }],
])('the owner %s', (text, owner) => {
  expect(parseOwner(text)).toEqual(owner)
})

test.each(['', 'a:b:c', 'a b'])('the owner %j is refused', (text) => {
  expect(() => parseOwner(text)).toThrow(/invalid owner/)
})

/** Mode, of what, gives. */
test.each<[string, number, number, 'file' | 'directory']>([
  ['755', 0o644, 0o755, 'file'],
  ['0644', 0o777, 0o644, 'file'],
  ['4755', 0, 0o4755, 'file'],
  ['07777', 0, 0o7777, 'file'],
  ['0', 0o777, 0, 'file'],
  ['+x', 0o644, 0o755, 'file'],
  ['a+x', 0o644, 0o755, 'file'],
  ['u+x', 0o644, 0o744, 'file'],
  ['go-rwx', 0o755, 0o700, 'file'],
  ['u=rwX,go=rX', 0o600, 0o644, 'file'],
  ['u=rwX,go=rX', 0o700, 0o755, 'file'],
  ['u=rwX,go=rX', 0o600, 0o755, 'directory'],
  ['a+X', 0o644, 0o644, 'file'],
  ['a+X', 0o744, 0o755, 'file'],
  ['go=u-w', 0o640, 0o644, 'file'],
  ['go=u', 0o750, 0o777, 'file'],
  ['o=g', 0o750, 0o755, 'file'],
  ['g=', 0o777, 0o707, 'file'],
  ['u+s', 0o755, 0o4755, 'file'],
  ['g+s', 0o755, 0o2755, 'file'],
  ['+t', 0o777, 0o1777, 'directory'],
  ['u+s-x', 0o755, 0o4655, 'file'],
  ['=rx', 0o2700, 0o2555, 'directory'],
  ['=rx', 0o2700, 0o555, 'file'],
  ['ug+rw,o-r', 0o444, 0o660, 'file'],
])('%s on %o gives %o to a %s of it', (text, old, mode, kind) => {
  expect(parseMode(text)(old, kind === 'directory').toString(8)).toBe(mode.toString(8))
})

test.each(['', '8', '888', '10000', '77777', 'x', 'u', 'u+', 'rwx', 'u+q', 'u+x,', 'u=rg', '-1', 'u+x go-r'])(
  'the mode %j',
  (text) => {
    if (text === 'u+') expect(parseMode(text)(0o644, false)).toBe(0o644)
    else expect(() => parseMode(text)).toThrow(/invalid mode/)
  },
)

test('modes stay within their bits', () => {
  const clause = fc.stringMatching(/^[ugoa]{0,3}[-+=]([rwxXst]{0,4}|[ugo])$/)
  fc.assert(
    fc.property(
      fc.array(clause, { minLength: 1, maxLength: 3 }),
      fc.nat(0o7777),
      fc.boolean(),
      (clauses, old, isDirectory) => {
        const mode = parseMode(clauses.join(','))(old | 0o100000, isDirectory)
        expect(mode & ~0o7777).toBe(0)
      },
    ),
  )
})

test('guesses what was meant, and does not guess wildly', () => {
  expect(editDistance('kitten', 'sitting')).toBe(3)
  expect(editDistance('ab', 'ba')).toBe(1)
  expect(nearest('RNU', ['ENV', 'RUN'])).toBe('RUN')
  expect(nearest('banana', ['ENV', 'RUN'])).toBeUndefined()
  expect(didYouMean('banana', ['ENV', 'RUN'])).toBe('known are ENV, RUN')
})

test('the predefined arguments', () => {
  expect(PREDEFINED_ARGS).toEqual(
    expect.arrayContaining([
      'HTTP_PROXY',
      'http_proxy',
      'all_proxy',
      'TARGETVARIANT',
      'BUILDPLATFORM',
      'SOURCE_DATE_EPOCH',
    ]),
  )
})
