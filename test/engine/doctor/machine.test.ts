import { expect, test } from 'vitest'
import { parseMount, parseRange, readMachine } from '../../../src/engine/doctor/machine.js'

test('reads a line of mountinfo, octal escapes and optional fields included', () => {
  const line = '36 35 98:0 /mnt1 /my\\040disk rw,nodev master:1 shared:2 - ext4 /dev/root rw,errors=continue'
  expect(parseMount(line)).toEqual({ target: '/my disk', options: ['rw', 'nodev'], fileSystem: 'ext4' })
})

test('finds the range of a user by name or number', () => {
  const text = 'ada:100000:65536\n1001:165536:65536\n# nothing\n'
  expect(parseRange(text, 'ada', 1000)).toBe('100000:65536')
  expect(parseRange(text, 'bob', 1001)).toBe('165536:65536')
  expect(parseRange(text, 'eve', 1002)).toBeUndefined()
})

test('describes this machine, and a store that does not exist yet by its nearest directory', () => {
  const machine = readMachine('/tmp/no-such-directory/mayfly')
  expect(machine.store).toMatchObject({ home: '/tmp/no-such-directory/mayfly', existing: '/tmp', isWritable: true })
  expect(machine.store.freeBytes).toBeGreaterThan(0)
  expect(machine.uid).toBe(process.geteuid!())
  expect(machine.nodeVersion).toBe(process.versions.node)
})
