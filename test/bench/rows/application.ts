/** An application, its Postgres and its Redis on one network: until the application has reached both and listens. */

import { postgres } from '../../../src/fixtures/postgres.ts'
import { redis } from '../../../src/fixtures/redis.ts'
import { GenericContainer, Network, startAll } from '../../../src/index.ts'
import { alternate, type Contender, median, timed } from '../measure.ts'
import { APPLICATION, APPLICATION_PORT, openRivalry, openServices, type Services } from '../services.ts'
import { duration, milliseconds, type Row, times } from '../table.ts'
import type { Measurement } from './scene.ts'

const FASTER = 15

export const application: Measurement = async (scene) => {
  await using opened = await openServices()
  await using rivalry = await openRivalry(scene, opened)
  const ours = ourApplication(opened)
  const samples = (await alternate([ours], { rounds: scene.quick ? 5 : 20, warmUp: 3, restMs: 50 })).get(ours.name)!
  scene.record('application with two services: mayfly', samples)
  const what = 'an application, its Postgres and its Redis on one network'
  if (!rivalry) return [{ what, measured: milliseconds(samples), goal: '', ratio: '' }]

  const theirs = rivalry.driver.contender('application')
  const both = await alternate([ours, theirs], { rounds: scene.quick ? 2 : 7, warmUp: 1, restMs: 50 })
  const [beside, slower] = [both.get(ours.name)!, both.get(theirs.name)!]
  scene.record('application with two services: testcontainers', slower)
  const advantage = median(slower) / median(beside)
  const row: Row = {
    what: `${what}, beside ${rivalry.testcontainers.description} on Docker`,
    measured: `${milliseconds(samples)}; side by side ${duration(median(beside))}, testcontainers ${milliseconds(slower)}`,
    goal: `≥ ${FASTER} × faster`,
    ratio: `${times(advantage)} faster`,
    hit: advantage >= FASTER,
  }
  return [row]
}

function ourApplication({ postgres: databaseImage, redis: cacheImage }: Services): Contender {
  return {
    name: 'mayfly',
    async round() {
      let cleanUp = async () => {}
      const ms = await timed(async () => {
        const network = await new Network().start()
        const db = postgres(databaseImage).withNetwork(network).withNetworkAliases('db')
        const cache = redis(cacheImage).withNetwork(network).withNetworkAliases('cache')
        const app = new GenericContainer(databaseImage)
          .withBindMounts([{ source: process.execPath, target: '/usr/local/bin/node', mode: 'ro' }])
          .withEntrypoint(['node'])
          .withCommand(['-e', APPLICATION])
          .withNetwork(network)
          .withExposedPorts(APPLICATION_PORT)
          .dependsOn(db, cache)
        const started = await startAll([db, cache, app])
        cleanUp = async () => {
          await Promise.all(started.map((one) => one.stop()))
          await network.stop()
        }
      })
      await cleanUp()
      return ms
    },
  }
}
