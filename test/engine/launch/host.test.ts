import { rmSync, symlinkSync } from 'node:fs'
import { hostname, release } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { boundingSet, countProcessors, readHost } from '../../../src/engine/launch/host.js'
import { temporaryDirectory } from '../../support/temporary.js'

describe('countProcessors', () => {
  it('counts up to the last possible one', () => {
    expect(['0', '0-3', '0-3,8-9\n', ''].map(countProcessors)).toEqual([1, 4, 10, 1])
  })
})

describe('boundingSet', () => {
  it('reads what the kernel says, and takes silence for no answer', () => {
    expect(boundingSet('Name:\tnode\nCapBnd:\t000001ffffffffff\n')).toBe((1n << 41n) - 1n)
    expect(boundingSet('CapBnd:\t0000000000000000\n')).toBe(0n)
    expect(() => boundingSet('')).toThrow(expect.objectContaining({ code: 'ENGINE_UNAVAILABLE' }))
  })
})

const reason = process.platform === 'linux' ? '' : 'needs Linux'

describe.skipIf(reason)(`readHost${reason && ` (skipped: ${reason})`}`, () => {
  const host = readHost()

  it('tells facts of this machine', () => {
    expect(host).toMatchObject({ kernel: release(), hostname: hostname(), arch: process.arch })
    expect(host.cpus).toBeGreaterThan(0)
    expect(host.kernelCapabilities >= (1n << 38n) - 1n).toBe(true)
  })

  it('finds a device by its path, and through a symbolic link', () => {
    expect(host.hostDevices('/dev/null')).toEqual([
      { path: '/dev/null', type: 'c', major: 1, minor: 3, mode: expect.any(Number) },
    ])
    const directory = temporaryDirectory('host')
    try {
      symlinkSync('/dev/zero', join(directory, 'z'))
      expect(host.hostDevices(join(directory, 'z'))).toMatchObject([{ type: 'c', major: 1, minor: 5 }])
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  it('finds the devices below a directory, without terminals', () => {
    const paths = host.hostDevices('/dev').map(({ path }) => path)
    expect(paths).toEqual(expect.arrayContaining(['/dev/null', '/dev/zero']))
    expect(paths.filter((path) => /^\/dev\/(pts|shm|mqueue|console|ptmx)/.test(path))).toEqual([])
  })

  it('finds nothing where there is no device', () => {
    expect(host.hostDevices('/no/such/device')).toEqual([])
    expect(host.hostDevices('/etc/passwd')).toEqual([])
  })
})
