import { expect, test } from 'vitest'
import { splitWildcards } from '../../../src/engine/build/glob.js'

test.each([
  ['a/b', { fixed: 'a/b', pattern: '' }],
  ['a/*/b', { fixed: 'a', pattern: '*/b' }],
  ['*', { fixed: '', pattern: '*' }],
  ['a/b?/c/[d]', { fixed: 'a', pattern: 'b?/c/[d]' }],
  ['a\\*/b', { fixed: 'a*/b', pattern: '' }],
  ['./a//b/', { fixed: 'a/b', pattern: '' }],
])('%s is parted in front of its first wildcard', (path, expected) => {
  expect(splitWildcards(path)).toEqual(expected)
})
