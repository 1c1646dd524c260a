import { type ErrorCode, GenericContainer, MayflyError, type StartedTestContainer, Wait } from 'mayfly'
import { postgres, type StartedPostgreSqlContainer } from 'mayfly/fixtures/postgres'
import { redis } from 'mayfly/fixtures/redis'

async function main(): Promise<void> {
  const started: StartedTestContainer = await new GenericContainer(process.env.IMAGE!)
    .withCommand(['httpd', '-f', '-p', '8080'])
    .withExposedPorts(8080)
    .withWaitStrategy(Wait.forListeningPorts())
    .start()
  const { status } = await fetch(`http://${started.getHost()}:${started.getMappedPort(8080)}/`)
  await started.stop()
  console.log(JSON.stringify([status, code]))
}

/** Not called: that it compiles is what counts. */
export async function example(): Promise<string> {
  // @ts-expect-error: there is no such method
  postgres().withColour('red')
  const db: StartedPostgreSqlContainer = await postgres().withDatabase('orders').start()
  const cache = await redis().start()
  return db.connectionUri + cache.getConnectionUrl()
}

const code: ErrorCode = new MayflyError('INVALID_OPTION', 'wrong').code

void main()
