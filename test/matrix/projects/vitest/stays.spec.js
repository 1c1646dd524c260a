import { redis } from 'mayfly/fixtures/redis'
import { containers } from 'mayfly/vitest'

const test = containers({ cache: redis(process.env.REDIS) })

test('stays until it is killed', { timeout: 120_000 }, async ({ cache }) => {
  process.stderr.write(`it runs with ${cache.getId()}\n`)
  await new Promise((resolve) => setTimeout(resolve, 100_000))
})
