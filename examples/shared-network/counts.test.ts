import { Wait } from 'mayfly'
import { RedisContainer } from 'mayfly/fixtures/redis'
import { containers } from 'mayfly/vitest'
import { expect } from 'vitest'
import shared from './containers.js'

const { network, primary } = shared.inject()

// Each test has a replica of its own. It runs beside the primary that all share, on the same network, and goes with the test.
const test = containers({
  replica: new RedisContainer()
    .withNetwork(network)
    .withCommand(['redis-server', '--replicaof', 'primary', '6379'])
    .withWaitStrategy(Wait.forLogMessage(/MASTER <-> REPLICA sync: Finished with success/)),
})

test('counts: what is written to the shared primary arrives', async ({ replica }) => {
  await primary.executeCliCmd('SET', ['count', '42'])
  // It follows a moment behind.
  await expect.poll(() => replica.executeCliCmd('GET', ['count']), { timeout: 4_000 }).toContain('42')
})
