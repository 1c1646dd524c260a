import { describe, expect, test } from 'vitest'
import { redis } from '../../src/fixtures/redis.js'
import { GenericContainer } from '../../src/index.js'
import { useContainer, useContainers } from '../../src/jest/index.js'
import { containers, shareContainers } from '../../src/vitest/index.js'

// biome-ignore lint/suspicious/noExplicitAny: what the compiler would not let through
const wrong = (value: unknown): any => value
const cache = redis()

describe('a set of containers', () => {
  test.each<[string, () => unknown, string, RegExp?]>([
    [
      'an unknown option of useContainer',
      () => useContainer(cache, wrong({ scop: 'test' })),
      'options.scop',
      /scope\?/,
    ],
    ['no container', () => useContainer(wrong(undefined)), 'containers.container'],
    [
      'an unknown scope',
      () => useContainer(cache, wrong({ scope: 'worker' })),
      'containers.redis:8.scope',
      /test, file/,
    ],
    [
      'one that was started',
      () => useContainers(wrong({ cache: { stop() {} } })),
      'containers.cache',
      /not one that was/,
    ],
    [
      'an unknown option of containers',
      () => containers({ cache }, wrong({ timeout: 1 })),
      'options.timeout',
      /timeoutMs\?/,
    ],
    ['a timeout as text', () => containers({ cache }, wrong({ timeoutMs: '1s' })), 'options.timeoutMs'],
    [
      'an unknown option of one',
      () => containers({ cache: [cache, wrong({ scop: 'file' })] }),
      'containers.cache.scop',
    ],
    ['options of one as text', () => containers({ cache: [cache, wrong('file')] }), 'containers.cache'],
    ['an unknown option of sharing', () => shareContainers({ cache }, wrong({ nam: 'x' })), 'options.nam', /name\?/],
    ['no names', () => shareContainers(wrong(new GenericContainer('alpine'))), 'containers', /by name/],
  ])('is refused with %s', (_what, work, field, message = /expected|no such option/) => {
    expect(work).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', field, message: expect.stringMatching(message) }),
    )
  })
})
