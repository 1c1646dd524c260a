import { Wait } from 'mayfly'
import { RedisContainer } from 'mayfly/fixtures/redis'
import { containers } from 'mayfly/vitest'
import shared from './containers.js'

const { network, primary } = shared.inject()

export { primary }

// Each test has a replica of its own. It runs beside the primary that all share, on the same network, and goes with the test.
export const test = containers({
  replica: new RedisContainer()
    .withNetwork(network)
    .withCommand(['redis-server', '--replicaof', 'primary', '6379'])
    .withWaitStrategy(Wait.forLogMessage(/MASTER <-> REPLICA sync: Finished with success/)),
})
