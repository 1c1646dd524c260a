import { redis } from 'mayfly/fixtures/redis'
import { containers } from 'mayfly/vitest'
import { expect } from 'vitest'

const test = containers({ cache: redis() })

test('a Redis answers', async ({ cache }) => {
  expect(await cache.executeCliCmd('PING')).toContain('PONG')
})
