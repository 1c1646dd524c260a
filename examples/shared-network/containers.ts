import { Network } from 'mayfly'
import { RedisContainer } from 'mayfly/fixtures/redis'
import { shareContainers } from 'mayfly/vitest'

const network = new Network()

// Vitest's global setup: one network for all workers, and one Redis on it that containers find as primary:6379.
export default shareContainers({
  network,
  primary: new RedisContainer()
    .withNetwork(network, { aliases: ['primary'] })
    // Otherwise it waits five seconds for more replicas.
    .withCommand(['redis-server', '--repl-diskless-sync-delay', '0']),
})
