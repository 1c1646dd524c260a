import { describe, expect, test } from 'vitest'
import { parseChallenges } from '../../../src/engine/registry/challenge.js'

describe('parseChallenges', () => {
  test('reads the form that registries use', () => {
    expect(
      parseChallenges('Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push"'),
    ).toEqual([
      {
        scheme: 'bearer',
        parameters: { realm: 'https://auth.example/token', service: 'reg', scope: 'repository:a/b:pull,push' },
      },
    ])
  })

  test('reads several challenges, words without quotes, escapes and any case', () => {
    expect(parseChallenges('BASIC Realm=plain , Bearer REALM = "a \\"b\\"", error="x"')).toEqual([
      { scheme: 'basic', parameters: { realm: 'plain' } },
      { scheme: 'bearer', parameters: { realm: 'a "b"', error: 'x' } },
    ])
  })

  test.each(['', '  ,, ', '"', '=', 'Bearer realm="unfinished', 'Bearer "', ',='.repeat(10_000)])(
    'ends and makes nothing up for %j',
    (header) => {
      expect(parseChallenges(header).every(({ scheme }) => /^\w+$/.test(scheme))).toBe(true)
    },
  )
})
