import { expect, test, vi } from 'vitest'
import { parseGitReference, resolveCommit } from '../../../src/engine/build/git.js'

test.each([
  ['https://host/a/b.git', { remote: 'https://host/a/b.git', ref: undefined, subdirectory: '' }],
  ['https://host/b.git#main', { ref: 'main', subdirectory: '' }],
  ['https://host/b.git#main:sub/dir', { ref: 'main', subdirectory: 'sub/dir' }],
  ['https://host/b.git#:sub', { ref: undefined, subdirectory: 'sub' }],
  ['https://host/b.git?branch=x&subdir=y', { remote: 'https://host/b.git', ref: 'x', subdirectory: 'y' }],
  ['https://host/b.git?tag=v1&checksum=abc', { ref: 'v1', checksum: 'abc' }],
  ['git@host:a/b', { remote: 'git@host:a/b' }],
  ['ssh://git@host/b', { remote: 'ssh://git@host/b' }],
  ['git://host/b', { remote: 'git://host/b' }],
])('%s is a repository', (text, expected) => {
  expect(parseGitReference(text)).toMatchObject(expected)
})

test.each(['https://host/file.txt', 'http://host/', './dir', 'file.git', '/a/b'])('%s is none', (text) => {
  expect(parseGitReference(text)).toBeUndefined()
})

test('a directory outside of the repository is refused', () => {
  expect(() => parseGitReference('https://host/b.git#main:../x')).toThrow(/outside/)
})

test('what git cannot do is told with its reason, not with the end of its advice', async () => {
  vi.stubEnv('GIT_SSH_COMMAND', 'echo "ssh: no way there" >&2; exit 255; :')
  try {
    const { signal } = new AbortController()
    await expect(resolveCommit(parseGitReference('git@127.0.0.1:a/b')!, signal)).rejects.toThrow(
      /ssh: no way there; fatal: Could not read from remote repository/,
    )
  } finally {
    vi.unstubAllEnvs()
  }
})
