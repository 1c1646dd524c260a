import { expect, test } from 'vitest'
import { inventName } from '../../src/engine/names.js'
import { signalName } from '../../src/engine/signals.js'

test('invents two words', () => {
  for (let i = 0; i < 100; i++) expect(inventName(() => false)).toMatch(/^[a-z]+_[a-z]+$/)
})

test('never invents a name that is taken', () => {
  const taken = new Set<string>()
  for (let i = 0; i < 20_000; i++) {
    const name = inventName((candidate) => taken.has(candidate))
    expect(taken.has(name)).toBe(false)
    taken.add(name)
  }
})

test('names signals as everybody does', () => {
  expect([1, 2, 6, 9, 15, 29].map(signalName)).toEqual(['SIGHUP', 'SIGINT', 'SIGABRT', 'SIGKILL', 'SIGTERM', 'SIGIO'])
  expect(signalName(40)).toBe('SIG40')
})
