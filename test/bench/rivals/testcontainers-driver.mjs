// Runs beside a Docker daemon, with testcontainers-node installed: for each line of stdin that names something to do, does it
// and prints how many milliseconds it took. Cleaning up is not counted.
import { once } from 'node:events'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import { PostgreSqlContainer } from '@testcontainers/postgresql'
import { RedisContainer } from '@testcontainers/redis'
import pg from 'pg'
import { GenericContainer, Network } from 'testcontainers'

const [postgresImage, redisImage, applicationScript] = process.argv.slice(2)

async function query(uri) {
  const client = new pg.Client({ connectionString: uri })
  await client.connect()
  await client.query('SELECT 1')
  return client
}

/** How long the work took, once what is left of it has been cleaned away. */
async function timed(work, cleanUp) {
  const start = performance.now()
  const result = await work()
  const ms = performance.now() - start
  await cleanUp(result)
  return ms
}

let kept

const ORDERS = {
  postgres: () =>
    timed(
      async () => {
        const container = await new PostgreSqlContainer(postgresImage).start()
        return { container, client: await query(container.getConnectionUri()) }
      },
      async ({ container, client }) => {
        await client.end()
        await container.stop()
      },
    ),
  redis: () =>
    timed(
      async () => {
        const container = await new RedisContainer(redisImage).start()
        const client = connect(container.getPort(), container.getHost())
        client.write('PING\r\n')
        await once(client, 'data')
        return { container, client }
      },
      async ({ container, client }) => {
        client.destroy()
        await container.stop()
      },
    ),
  application: () =>
    timed(
      async () => {
        const network = await new Network().start()
        const services = await Promise.all([
          new PostgreSqlContainer(postgresImage).withNetwork(network).withNetworkAliases('db').start(),
          new RedisContainer(redisImage).withNetwork(network).withNetworkAliases('cache').start(),
        ])
        const app = await new GenericContainer(postgresImage)
          .withBindMounts([{ source: process.execPath, target: '/usr/local/bin/node', mode: 'ro' }])
          .withEntrypoint(['node'])
          .withCommand(['-e', applicationScript])
          .withNetwork(network)
          .withExposedPorts(3000)
          .start()
        return { network, containers: [...services, app] }
      },
      async ({ network, containers }) => {
        await Promise.all(containers.map((one) => one.stop()))
        await network.stop()
      },
    ),
  async restore() {
    if (!kept) {
      kept = await new PostgreSqlContainer(postgresImage).withDatabase('bench').start()
      await kept.snapshot()
    }
    return timed(
      () => kept.restoreSnapshot(),
      () => {},
    )
  },
}

for await (const order of createInterface({ input: process.stdin })) {
  console.log(await ORDERS[order]())
}
await kept?.stop()
