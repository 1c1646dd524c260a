import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  familiarName,
  familiarReference,
  formatReference,
  type ImageReference,
  parseReference,
} from '../../../src/engine/image/reference.js'

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`

describe('a reference', () => {
  test.each([
    ['postgres', 'docker.io/library/postgres:latest', 'postgres:latest'],
    ['postgres:16', 'docker.io/library/postgres:16', 'postgres:16'],
    ['bitnami/redis:7', 'docker.io/bitnami/redis:7', 'bitnami/redis:7'],
    ['index.docker.io/library/postgres', 'docker.io/library/postgres:latest', 'postgres:latest'],
    ['index.docker.io/postgres', 'docker.io/library/postgres:latest', 'postgres:latest'],
    ['docker.io/postgres', 'docker.io/library/postgres:latest', 'postgres:latest'],
    ['localhost/app', 'localhost/app:latest', 'localhost/app:latest'],
    ['localhost:5000/a/b:tag', 'localhost:5000/a/b:tag', 'localhost:5000/a/b:tag'],
    [`host:5000/a/b:tag@${DIGEST}`, `host:5000/a/b:tag@${DIGEST}`, `host:5000/a/b:tag@${DIGEST}`],
    [`postgres@${DIGEST}`, `docker.io/library/postgres@${DIGEST}`, `postgres@${DIGEST}`],
    ['ghcr.io/Foo'.toLowerCase(), 'ghcr.io/foo:latest', 'ghcr.io/foo:latest'],
    ['[2001:db8::1]:5000/app', '[2001:db8::1]:5000/app:latest', '[2001:db8::1]:5000/app:latest'],
    ['[::1]/app', '[::1]/app:latest', '[::1]/app:latest'],
    ['HOST/app', 'HOST/app:latest', 'HOST/app:latest'],
    ['a--b/c__d.e_f', 'docker.io/a--b/c__d.e_f:latest', 'a--b/c__d.e_f:latest'],
    ['docker.io/localhost/app', 'docker.io/localhost/app:latest', 'docker.io/localhost/app:latest'],
    ['docker.io/a.b/app', 'docker.io/a.b/app:latest', 'docker.io/a.b/app:latest'],
    [`${'a'.repeat(64)}:tag`, `docker.io/library/${'a'.repeat(64)}:tag`, `${'a'.repeat(64)}:tag`],
    ['app:_x', 'docker.io/library/app:_x', 'app:_x'],
  ])('%s is %s, written %s', (text, canonical, familiar) => {
    const reference = parseReference(text)
    expect(formatReference(reference)).toBe(canonical)
    expect(familiarReference(reference)).toBe(familiar)
    expect(parseReference(familiar)).toEqual(reference)
  })

  test.each([
    ['', '', /empty/],
    ['Postgres', 'Postgres', /lower case/],
    ['foo/Bar:1', 'Bar', /lower case/],
    ['a'.repeat(64), 'a'.repeat(64), /image id/],
    ['app:', '', /tag/],
    ['app:-x', '-x', /tag/],
    [`app:${'x'.repeat(129)}`, 'x'.repeat(129), /1 to 128/],
    ['app@sha256:abc', 'sha256:abc', /64 hexadecimal digits, these are 3/],
    [`app@sha256:${'A'.repeat(64)}`, `sha256:${'A'.repeat(64)}`, /lower case/],
    [`app@md5:${'a'.repeat(32)}`, `md5:${'a'.repeat(32)}`, /sha256, sha384, sha512/],
    ['app@sha256:../../x', 'sha256:../../x', /hexadecimal/],
    ['app@', '', /digest is expected/],
    ['a//b', 'a//b', /empty/],
    ['/app', '/app', /empty/],
    ['app/', 'app/', /empty/],
    ['host:port/app', 'host:port', /registry/],
    ['-host.example/app', '-host.example', /registry/],
    ['host.example/../etc', '..', /separated/],
    ['a___b', 'a___b', /separated/],
    ['.a', '.a', /separated/],
    ['a..b', 'a..b', /separated/],
    ['https://registry.example/app', 'https:', /registry/],
    ['app:1:2', '1:2', /tag/],
    [' app', ' app', /separated/],
    ['app\0', 'app\0', /separated/],
    [`registry.example/${'a'.repeat(250)}`, 'a'.repeat(250), /255 characters/],
    ['x'.repeat(100_000), `${'x'.repeat(40)}…`, /100000 characters/],
  ])('is not %j', (text, value, message) => {
    expect(() => parseReference(text)).toThrow(
      expect.objectContaining({
        code: 'INVALID_REFERENCE',
        field: 'reference',
        value,
        message: expect.stringMatching(message),
      }),
    )
  })

  test('may be 255 characters long without tag and digest', () => {
    expect(parseReference(`a.b/${'c'.repeat(251)}`).repository).toHaveLength(251)
    expect(() => parseReference(`a.b/${'c'.repeat(252)}`)).toThrow(/255/)
    // docker.io/library/ counts although nobody has written it.
    expect(() => parseReference('c'.repeat(250))).toThrow(/255/)
  })

  test('of every kind is the same after it was written and read', () => {
    fc.assert(
      fc.property(reference(), (value) => {
        expect(parseReference(formatReference(value))).toEqual(value)
        expect(parseReference(familiarReference(value))).toEqual(value)
        expect(familiarReference(value).startsWith(familiarName(value))).toBe(true)
      }),
    )
  })

  test('is either read or refused with a code, whatever is given', () => {
    const texts = fc.oneof(fc.string(), fc.stringMatching(/^[a-zA-Z0-9.:/@_[\]-]{0,40}$/))
    fc.assert(
      fc.property(texts, (text) => {
        let parsed: ImageReference
        try {
          parsed = parseReference(text)
        } catch (error) {
          expect(error).toMatchObject({ code: 'INVALID_REFERENCE' })
          return
        }
        expect(parseReference(formatReference(parsed))).toEqual(parsed)
        expect(formatReference(parsed).split('/')).not.toContain('..')
      }),
    )
  })
})

function reference(): fc.Arbitrary<ImageReference> {
  const word = fc.stringMatching(/^[a-z0-9]{1,8}$/)
  const separator = fc.constantFrom('.', '_', '__', '-', '---')
  const component = fc
    .tuple(word, fc.array(fc.tuple(separator, word), { maxLength: 2 }))
    .map(([first, rest]) => first + rest.map(([between, next]) => between + next).join(''))
  const port = fc.option(fc.integer({ min: 1, max: 65535 }), { nil: undefined })
  const host = fc.oneof(
    fc.constant('docker.io'),
    fc.constant('localhost'),
    fc
      .tuple(fc.constantFrom('registry.example', '10.0.0.1', '[::1]'), port)
      .map(([name, n]) => (n ? `${name}:${n}` : name)),
    fc.tuple(word, fc.integer({ min: 1, max: 65535 })).map(([name, n]) => `${name}:${n}`),
  )
  const name = fc.tuple(host, fc.array(component, { minLength: 1, maxLength: 3 })).map(([registry, path]) => ({
    registry,
    repository: (registry === 'docker.io' && path.length === 1 ? ['library', ...path] : path).join('/'),
  }))
  const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/)
  const digest = fc.stringMatching(/^[0-9a-f]{64}$/).map((hex) => `sha256:${hex}`)
  const suffix = fc.oneof(
    fc.record({ tag, digest: fc.constant(undefined) }),
    fc.record({ tag: fc.constant(undefined), digest }),
    fc.record({ tag, digest }),
  )
  return fc.tuple(name, suffix).map(([a, b]) => ({ ...a, ...b }))
}
