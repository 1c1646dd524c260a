import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cleanPath, IgnorePatterns, matchGlob, parseIgnoreFile } from '../../../src/engine/build/ignore.js'
import { MayflyError } from '../../../src/engine/errors.js'

describe('the file', () => {
  test('is read as Docker reads it', () => {
    const text =
      '\ufeff# comment\n  # no comment\r\n\n*/temp*\n/rooted/\n! /kept \n!\ndir//sub/../x\n/\n..\n#late\n a b \n'
    expect(parseIgnoreFile(text)).toEqual([
      '# no comment',
      '*/temp*',
      'rooted',
      '!kept',
      '!',
      'dir/x',
      '/',
      '..',
      'a b',
    ])
  })

  test('may be bytes', () => {
    expect(parseIgnoreFile(new Uint8Array([0xef, 0xbb, 0xbf, 0x23, 0x0a, 0x61]))).toEqual(['a'])
  })
})

/** Pattern, path, whether the path is excluded. */
const ROWS: readonly [string | readonly string[], string, boolean][] = [
  ['**', 'file', true],
  ['**', 'dir/file', true],
  ['**/', 'file', true],
  ['**/**', 'dir/file', true],
  ['dir/**', 'dir/file', true],
  ['dir/**', 'dir/dir2/file', true],
  ['dir/**', 'dir', false],
  ['dir/**', 'dirx/file', false],
  ['dir**', 'dirx/file', true],
  ['**/dir', 'dir', true],
  ['**/dir', 'dir/file', true],
  ['**/dir', 'a/dir', true],
  ['**/dir', 'adir', false],
  ['**/dir2/*', 'dir/dir2/file', true],
  ['**/dir2/**', 'dir/dir2/dir3/file', true],
  ['**file', 'file', true],
  ['**file', 'dir/file', true],
  ['**file', 'dir/afile', true], // odd, but so it is
  ['**fi?e', 'dir/afile', false], // with a wildcard in it, not
  ['**/file*.txt', 'dir/dir/file.txt', true],
  ['**/**/*.txt', 'file.txt', true],
  ['**/**/*.txt2', 'dir/dir/file.txt', false],
  ['a**/*.txt', 'a/dir/dir/file.txt', true],
  ['a**/*.txt', 'a/file.txt', true],
  ['a/*.txt', 'a/dir/file.txt', false],
  ['a/*.txt**', 'a/file.txt.gz', true],
  ['a[b-d]e', 'ace', true],
  ['a[b-d]e', 'aae', false],
  ['a[^b-d]e', 'aze', true],
  ['a[^b]e', 'abe', false],
  ['.*', '.foo', true],
  ['.*', 'foo', false],
  ['abc.def', 'abcZdef', false],
  ['abc?def', 'abcZdef', true],
  ['a?b', 'a/b', false],
  ['a.|)$(}+{bc', 'a.|)$(}+{bc', true],
  ['a\\*b', 'a*b', true],
  ['a\\*b', 'axb', false],
  ['a\\\\', 'a\\', true],
  ['*', 'a/b/c', true], // by its parent
  ['*/temp*', 'somedir/temporary.txt', true],
  ['*/*/temp*', 'a/b/temporary', true],
  ['temp?', 'tempa', true],
  ['temp?', 'x/tempa', false],
  ['./a/../b', 'b', true],
  ['b', './b', true],
  ['*', '.', false], // never the context itself
  ['☺?', '☺𝒳', true],
  [['*.md', '!README.md'], 'README.md', false],
  [['*.md', '!README*.md', 'README-secret.md'], 'README-secret.md', true],
  [['*.md', 'README-secret.md', '!README*.md'], 'README-secret.md', false],
  [['!fileutils.go', '*.go'], 'fileutils.go', true],
  [['docs', '!docs/README.md'], 'docs/README.md', false],
  [['docs', '!docs/README.md'], 'docs/other.md', true],
  [['docs/', '!docs/README.md'], 'docs/README.md', false],
  [['**', '!util/docker/web'], 'util/docker/web/foo', false],
  [['**', '!util/docker/web', 'util/docker/web/foo'], 'util/docker/web/foo', true],
  [['**', '!dist/*.whl'], 'dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl', false],
  [[' docs ', '  !docs/a  '], 'docs/a', false],
  [['', 'x'], 'y', false],
]

test.each(ROWS)('%j on %s: %s', (patterns, path, excluded) => {
  expect(new IgnorePatterns(typeof patterns === 'string' ? [patterns] : patterns).excludes(path)).toBe(excluded)
})

test('no patterns exclude nothing', () => {
  expect(new IgnorePatterns([]).excludes('/any/path')).toBe(false)
})

test.each(['!', '[', 'a[', '[^', '[]a]', '[-]', '[x-]', '[-x]', '[a-b-c]', '[^bc', '\\', '**/[', 'a\\'])(
  'the malformed pattern %s is refused',
  (pattern) => {
    const error = catchError(() => new IgnorePatterns(['ok', pattern], 'x.dockerignore'))
    expect(error).toMatchObject({ code: 'DOCKERFILE_INVALID', file: 'x.dockerignore', value: pattern })
    expect(error.message).toContain('malformed pattern')
  },
)

test('tells where an exception may bring something back', () => {
  const plain = new IgnorePatterns(['a'])
  expect([plain.hasExceptions, plain.mayReincludeBelow('a')]).toEqual([false, false])
  const exact = new IgnorePatterns(['*', '!a/b/c'])
  expect(['a', 'a/b', 'a/b/c', 'ab', 'x'].map((path) => exact.mayReincludeBelow(path))).toEqual([
    true,
    true,
    false,
    false,
    false,
  ])
  const wild = new IgnorePatterns(['*', '!src/*/keep'])
  expect(['src', 'src/x', 'src/x/y', 'lib'].map((path) => wild.mayReincludeBelow(path))).toEqual([
    true,
    true,
    true,
    false,
  ])
  expect(new IgnorePatterns(['*', '!**/keep']).mayReincludeBelow('any/where')).toBe(true)
})

/** Pattern, path, match of Go's filepath.Match; undefined: malformed. */
const GLOBS: readonly [string, string, boolean | undefined][] = [
  ['abc', 'abc', true],
  ['*', 'abc', true],
  ['*c', 'abc', true],
  ['a*', 'a', true],
  ['a*', 'ab/c', false],
  ['a*/b', 'abc/b', true],
  ['a*/b', 'a/c/b', false],
  ['a*b*c*d*e*/f', 'axbxcxdxexxx/f', true],
  ['a*b*c*d*e*/f', 'axbxcxdxe/xxx/f', false],
  ['a*b?c*x', 'abxbbxdbxebxczzx', true],
  ['a*b?c*x', 'abxbbxdbxebxczzy', false],
  ['ab[b-d]', 'abc', true],
  ['ab[^b-d]', 'abc', false],
  ['a\\*b', 'ab', false],
  ['a?b', 'a☺b', true],
  ['a[^a]b', 'a☺b', true],
  ['a???b', 'a☺b', false],
  ['[a-ζ]*', 'α', true],
  ['*[a-ζ]', 'A', false],
  ['[\\]a]', ']', true],
  ['[x\\-]', '-', true],
  ['[\\-x]', 'a', false],
  ['[]a]', ']', undefined],
  ['[x-]', 'z', undefined],
  ['\\', 'a', undefined],
  ['a[', 'ab', undefined],
  ['*x', 'xxx', true],
  ['**', 'a/b', false],
  ['', '', true],
  ['', 'a', false],
]

test.each(GLOBS)('matchGlob(%j, %j): %s', (pattern, path, match) => {
  if (match === undefined) expect(catchError(() => matchGlob(pattern, path)).code).toBe('DOCKERFILE_INVALID')
  else expect(matchGlob(pattern, path)).toBe(match)
})

test.each([
  ['', '.'],
  ['a//b/./c/', 'a/b/c'],
  ['../../a/..', '../..'],
  ['/../a', '/a'],
  ['/', '/'],
  ['a/../..', '..'],
])('cleans %j to %j', (path, cleaned) => {
  expect(cleanPath(path)).toBe(cleaned)
})

test('patterns never throw but MayflyError, and never hang', () => {
  const pattern = fc.stringMatching(/^[ab*?[\]^!\\/.-]{0,24}$/)
  fc.assert(
    fc.property(fc.array(pattern, { maxLength: 5 }), fc.stringMatching(/^[ab/]{0,60}$/), (patterns, path) => {
      try {
        new IgnorePatterns(patterns).excludes(path)
        for (const one of patterns) matchGlob(one, path)
      } catch (error) {
        expect(error).toBeInstanceOf(MayflyError)
      }
    }),
    { numRuns: 500 },
  )
  const start = performance.now()
  expect(matchGlob(`${'a*'.repeat(60)}b`, 'a'.repeat(2000))).toBe(false)
  expect(new IgnorePatterns([`${'**/a*'.repeat(30)}b`]).excludes('a/'.repeat(300))).toBe(false)
  expect(performance.now() - start).toBeLessThan(2000)
})

function catchError(work: () => unknown): MayflyError {
  try {
    work()
  } catch (error) {
    if (error instanceof MayflyError) return error
    throw error
  }
  throw new Error('expected an error')
}
