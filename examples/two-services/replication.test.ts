import { Network, type StartedNetwork, Wait } from 'mayfly'
import { RedisContainer, type StartedRedisContainer } from 'mayfly/fixtures/redis'
import { afterAll, beforeAll, expect, test } from 'vitest'

let network: StartedNetwork
let primary: StartedRedisContainer
let replica: StartedRedisContainer

// Two Redis servers on a network of their own, on which the second finds the first by its name.
beforeAll(async () => {
  network = await new Network().start()
  primary = await new RedisContainer()
    .withNetwork(network)
    .withNetworkAliases('primary')
    // Otherwise it waits five seconds for more replicas.
    .withCommand(['redis-server', '--repl-diskless-sync-delay', '0'])
    .start()
  replica = await new RedisContainer()
    .withNetwork(network)
    .withCommand(['redis-server', '--replicaof', 'primary', '6379'])
    .withWaitStrategy(Wait.forLogMessage(/MASTER <-> REPLICA sync: Finished with success/))
    .start()
}, 120_000)

// Without this they would end with the test process.
afterAll(async () => {
  await Promise.all([primary?.stop(), replica?.stop()])
  await network?.stop()
})

test('what is written to the primary can be read from the replica', async () => {
  await primary.executeCliCmd('SET', ['greeting', 'hello'])
  // It follows a moment behind.
  await expect.poll(() => replica.executeCliCmd('GET', ['greeting']), { timeout: 4_000 }).toContain('hello')
})

test('the replica is not written to', async () => {
  expect(await replica.executeCliCmd('SET', ['greeting', 'goodbye'])).toContain('READONLY')
})
