import { expect, test } from 'vitest'
import { Gatherer } from '../../src/engine/gather.js'
import { formatTime, LineReader, splitAfterNewlines } from '../../src/engine/logs.js'

const bytes = (text: string) => Buffer.from(text)

test('puts lines together across pieces, carriage returns and split characters', () => {
  const reader = new LineReader()
  const euro = bytes('€')
  expect(reader.push(bytes('one\ntw'))).toEqual(['one'])
  expect(reader.push(bytes('o\r\n'))).toEqual(['two'])
  expect(reader.push(euro.subarray(0, 1))).toEqual([])
  expect(reader.push(euro.subarray(1))).toEqual([])
  expect(reader.rest()).toBe('€')
  expect(reader.rest()).toBeUndefined()
})

test('takes a line that never ends in parts', () => {
  const reader = new LineReader()
  let lines = 0
  for (let i = 0; i < 100; i++) lines += reader.push(Buffer.alloc(10_000, 0x61)).length
  expect(lines).toBeGreaterThan(10)
})

test('formats nanoseconds as RFC 3339', () => {
  expect(formatTime(0n)).toBe('1970-01-01T00:00:00.000000000Z')
  expect(formatTime(1_795_257_900_000_000_001n)).toBe('2026-11-21T10:45:00.000000001Z')
})

test('splits after newlines and keeps every byte', () => {
  expect([...splitAfterNewlines(bytes('a\n\nb'))].map(String)).toEqual(['a\n', '\n', 'b'])
  expect([...splitAfterNewlines(bytes(''))]).toEqual([])
})

test('gathers up to the limit and says that there was more', () => {
  const gatherer = new Gatherer(5)
  gatherer.push(bytes('abc'))
  expect(gatherer.isCut).toBe(false)
  gatherer.push(bytes('defg'))
  gatherer.push(bytes('h'))
  expect(gatherer.text()).toBe('abcde')
  expect(gatherer.isCut).toBe(true)
})

test('gathers the part of a shared buffer that it was given', () => {
  const gatherer = new Gatherer(100)
  gatherer.push(bytes('xxhelloxx').subarray(2, 7))
  expect(gatherer.text()).toBe('hello')
})
