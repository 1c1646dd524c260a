import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { directoryHeader, END_OF_ARCHIVE, fileHeader, padding } from '../../../src/engine/archive-formats/tar-writer.js'

function list(archive: Buffer): string {
  return execFileSync('tar', ['--list', '--verbose', '--utc', '--file=-'], { input: archive, encoding: 'utf8' })
}

describe('a tar that we write', () => {
  it('is read by GNU tar, and always has the same bytes', () => {
    const content = Buffer.from('hello')
    const write = () =>
      Buffer.concat([directoryHeader('d/'), fileHeader('d/file', 5), content, padding(5), END_OF_ARCHIVE])
    expect(list(write())).toBe(
      'drwxr-xr-x 0/0               0 1970-01-01 00:00 d/\n-rw-r--r-- 0/0               5 1970-01-01 00:00 d/file\n',
    )
    expect(write()).toEqual(write())
    expect(write().length % 512).toBe(0)
  })

  it('has names and sizes that do not fit a header', () => {
    const long = `blobs/sha512/${'a'.repeat(128)}`
    expect(list(Buffer.concat([fileHeader(long, 0), END_OF_ARCHIVE]))).toContain(` ${long}\n`)
    const size = 9 * 1024 ** 3
    const text = fileHeader('large', size).toString('latin1')
    expect(text).toContain(`19 size=${size}\n`)
    // GNU tar reads the record, and then misses what it announces.
    expect(() => list(fileHeader('large', size))).toThrow(/Unexpected EOF|exit|Command failed/)
  })
})
