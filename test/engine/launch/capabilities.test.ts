import { describe, expect, it } from 'vitest'
import {
  ALL_CAPABILITIES,
  capabilityNames,
  DEFAULT_CAPABILITIES,
  limitCapabilities,
  maskOf,
  normalizeCapability,
  resolveCapabilities,
} from '../../../src/engine/launch/capabilities.js'

const CHOWN = maskOf(['CAP_CHOWN'])
const SYS_ADMIN = maskOf(['CAP_SYS_ADMIN'])

describe('capabilities', () => {
  it('have the bits of capability.h', () => {
    expect(CHOWN).toBe(1n)
    expect(maskOf(['CAP_NET_ADMIN'])).toBe(1n << 12n)
    expect(SYS_ADMIN).toBe(1n << 21n)
    expect(maskOf(['CAP_AUDIT_WRITE'])).toBe(1n << 29n)
    expect(maskOf(['CAP_CHECKPOINT_RESTORE'])).toBe(1n << 40n)
    expect(ALL_CAPABILITIES).toBe((1n << 41n) - 1n)
  })

  it('are Docker’s 14 by default', () => {
    expect(DEFAULT_CAPABILITIES).toBe(0xa80425fbn)
    expect(capabilityNames(DEFAULT_CAPABILITIES)).toHaveLength(14)
  })

  it('are known with and without CAP_, in any case', () => {
    expect(['kill', 'CAP_KILL', 'cap_kill', 'Kill'].map(normalizeCapability)).toEqual(Array(4).fill('CAP_KILL'))
    expect(normalizeCapability('all')).toBe('ALL')
    expect(normalizeCapability('CAP_NONSENSE')).toBeUndefined()
    expect(normalizeCapability('')).toBeUndefined()
  })
})

describe('resolveCapabilities', () => {
  it('gives the default ones when nothing is said', () => {
    expect(resolveCapabilities([], [], false)).toBe(DEFAULT_CAPABILITIES)
  })

  it('gives all to a privileged container whatever is dropped', () => {
    expect(resolveCapabilities([], ['ALL'], true)).toBe(ALL_CAPABILITIES)
  })

  it('gives all but those dropped by name when ALL is added', () => {
    expect(resolveCapabilities(['ALL'], ['CAP_SYS_ADMIN'], false)).toBe(ALL_CAPABILITIES & ~SYS_ADMIN)
  })

  it('gives only those added by name when ALL is dropped', () => {
    expect(resolveCapabilities(['CAP_CHOWN'], ['ALL'], false)).toBe(CHOWN)
    expect(resolveCapabilities([], ['ALL'], false)).toBe(0n)
  })

  it('prefers adding ALL to dropping ALL', () => {
    expect(resolveCapabilities(['ALL'], ['ALL'], false)).toBe(ALL_CAPABILITIES)
  })

  it('adds to and drops from the default ones', () => {
    expect(resolveCapabilities(['CAP_SYS_ADMIN'], ['CAP_CHOWN'], false)).toBe(
      (DEFAULT_CAPABILITIES | SYS_ADMIN) & ~CHOWN,
    )
  })

  it('adds what is in both lists', () => {
    expect(resolveCapabilities(['CAP_CHOWN'], ['CAP_CHOWN'], false)).toBe(DEFAULT_CAPABILITIES)
  })
})

describe('limitCapabilities', () => {
  it('silently leaves out what came with ALL', () => {
    expect(limitCapabilities(ALL_CAPABILITIES, ~SYS_ADMIN, ['ALL'])).toBe(ALL_CAPABILITIES & ~SYS_ADMIN)
  })

  it('throws for one that was added by name, and names it', () => {
    expect(() => limitCapabilities(CHOWN | SYS_ADMIN, CHOWN, ['CAP_CHOWN', 'CAP_SYS_ADMIN'])).toThrow(
      expect.objectContaining({ code: 'CAPABILITY_UNAVAILABLE', field: 'capAdd[1]', value: 'CAP_SYS_ADMIN' }),
    )
  })
})
