import { expect, test } from 'vitest'
import { newId } from '../../src/engine/ids.js'

test('ids are 64 hexadecimal digits, and no two are the same', () => {
  const ids = Array.from({ length: 10_000 }, newId)
  expect(new Set(ids).size).toBe(ids.length)
  expect(ids.filter((id) => !/^[0-9a-f]{64}$/.test(id))).toEqual([])
})

test('the first twelve digits, a container’s host name, are never a number', () => {
  // By chance alone every 280th would be one.
  const names = Array.from({ length: 10_000 }, () => newId().slice(0, 12))
  expect(names.filter((name) => /^\d+$/.test(name))).toEqual([])
})
