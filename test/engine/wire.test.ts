import { expect, test } from 'vitest'
import { encodeRequest } from '../../src/engine/wire.js'

test('counts bytes, not characters', () => {
  const request = encodeRequest('run', 7, ['name', 'grün'])
  const payload = 'run\x007\0name\0grün\0'
  expect(request).toBe(`${Buffer.byteLength(payload)}\0${payload}`)
})

test('counts what a lone surrogate becomes', () => {
  const request = encodeRequest('run', 1, ['\ud800'])
  const [length] = request.split('\0')
  expect(Buffer.from(request).length).toBe(Number(length) + length!.length + 1)
})

test('refuses a NUL byte, which would smuggle in further words', () => {
  expect(() => encodeRequest('run', 1, ['env', 'A=1\0caps\0ffff'])).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION' }),
  )
})

test('refuses what the warden would refuse as too long', () => {
  const long = expect.objectContaining({ code: 'ARGUMENTS_TOO_LONG' })
  expect(() => encodeRequest('run', 1, ['env', 'x'.repeat(9 * 1024 * 1024)])).toThrow(long)
  expect(() => encodeRequest('run', 1, Array(66_000).fill('a'))).toThrow(long)
})
