import { describe, expect, test } from 'vitest'
import type { Descriptor } from '../../../src/engine/image/manifest.js'
import {
  choosePlatform,
  formatPlatform,
  hostPlatform,
  parsePlatform,
  platformMatches,
} from '../../../src/engine/image/platform.js'

describe('a platform', () => {
  test.each([
    ['linux/amd64', 'linux/amd64'],
    ['linux/x86_64', 'linux/amd64'],
    ['linux/amd64/v1', 'linux/amd64'],
    ['linux/amd64/v3', 'linux/amd64/v3'],
    ['arm64', 'linux/arm64'],
    ['aarch64', 'linux/arm64'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['linux/arm64/8', 'linux/arm64'],
    ['linux/arm', 'linux/arm/v7'],
    ['linux/armel', 'linux/arm/v6'],
    ['Linux/ARM64', 'linux/arm64'],
    ['linux', `linux/${hostPlatform().architecture}`],
  ])('%s is %s', (text, normal) => {
    expect(formatPlatform(parsePlatform(text))).toBe(normal)
  })

  test.each(['', '/', 'linux/', 'a/b/c/d', 'plan9000', 'linux/amd 64'])('is not %j', (text) => {
    expect(() => parsePlatform(text)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION', field: 'platform' }))
  })

  test('runs what is for an older variant, and nothing of another architecture', () => {
    const wants = (a: string, b: string) => platformMatches(parsePlatform(a), parsePlatform(b))
    expect(wants('linux/arm/v7', 'linux/arm/v6')).toBe(true)
    expect(wants('linux/arm/v6', 'linux/arm/v7')).toBe(false)
    expect(wants('linux/amd64/v3', 'linux/amd64')).toBe(true)
    expect(wants('linux/amd64', 'linux/amd64/v2')).toBe(false)
    expect(wants('linux/amd64', 'linux/386')).toBe(false)
    expect(wants('linux/arm64', 'linux/arm/v7')).toBe(false)
    expect(wants('linux/amd64', 'windows/amd64')).toBe(false)
  })
})

describe('of an index', () => {
  const entry = (platform: string | undefined, digit: string, more: Partial<Descriptor> = {}): Descriptor => {
    const [os, architecture, variant] = platform?.split('/') ?? []
    return {
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest: `sha256:${digit.repeat(64)}`,
      size: 1,
      ...(os && architecture ? { platform: { os, architecture, ...(variant ? { variant } : {}) } } : {}),
      ...more,
    }
  }
  const choose = (wanted: string, ...entries: Descriptor[]) =>
    choosePlatform(entries, parsePlatform(wanted), 'postgres:16').digest[7]

  test('the exact one is taken, wherever it stands', () => {
    const entries = [entry('linux/arm/v5', '1'), entry('linux/arm/v6', '2'), entry('linux/arm/v7', '3')]
    expect(choose('linux/arm/v7', ...entries)).toBe('3')
    expect(choose('linux/arm/v6', ...entries)).toBe('2')
  })

  test('else the newest of the older variants', () => {
    expect(choose('linux/arm/v7', entry('linux/arm/v5', '1'), entry('linux/arm/v6', '2'))).toBe('2')
  })

  test('arm64 and arm64/v8 are the same', () => {
    expect(choose('linux/arm64', entry('linux/arm64/v8', '1'))).toBe('1')
    expect(choose('linux/arm64/v8', entry('linux/arm64', '1'))).toBe('1')
  })

  test('of several equal ones the first', () => {
    expect(choose('linux/amd64', entry('linux/amd64', '1'), entry('linux/amd64', '2'))).toBe('1')
  })

  test('attestations are passed over', () => {
    const annotations = { 'vnd.docker.reference.type': 'attestation-manifest' }
    expect(
      choose(
        'linux/amd64',
        entry('unknown/unknown', '1'),
        entry('linux/amd64', '2', { annotations }),
        entry('linux/amd64', '3'),
      ),
    ).toBe('3')
  })

  test('the only image is taken if it does not say what it is for', () => {
    expect(choose('linux/amd64', entry(undefined, '1'), entry('unknown/unknown', '2'))).toBe('1')
  })

  test('it is said what there is when the platform is not', () => {
    expect(() =>
      choose('linux/s390x', entry('linux/amd64', '1'), entry('linux/arm64/v8', '2'), entry('unknown/unknown', '3')),
    ).toThrow(
      expect.objectContaining({
        code: 'PLATFORM_NOT_FOUND',
        value: 'linux/s390x',
        message: 'postgres:16 has no image for linux/s390x; it has linux/amd64, linux/arm64/v8',
      }),
    )
  })
})
