/** As it is resolved where `exports` are not known: by `tsc --init` until TypeScript 5, and by what follows it, such as ts-jest. */

import { GenericContainer, type StartedTestContainer } from 'mayfly'
import { postgres, type StartedPostgreSqlContainer } from 'mayfly/fixtures/postgres'
import { redis } from 'mayfly/fixtures/redis'
import { shareContainers, useContainer } from 'mayfly/jest'

export const cache = useContainer(redis())
export const shared = shareContainers({ db: postgres() })

export async function example(image: string): Promise<string> {
  // @ts-expect-error: there is no such method
  postgres().withColour('red')
  const started: StartedTestContainer = await new GenericContainer(image).withExposedPorts(8080).start()
  const db: StartedPostgreSqlContainer = await postgres().withDatabase('orders').start()
  return `${db.connectionUri} ${started.getMappedPort(8080)} ${cache.connectionUri}`
}
