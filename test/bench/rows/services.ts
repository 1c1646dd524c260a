/** A database and a cache for a test: from `start()` to the first answer, when the image has been started here before. */

import { postgres } from '../../../src/fixtures/postgres.ts'
import { redis } from '../../../src/fixtures/redis.ts'
import { Bare } from '../bare.ts'
import { alternate, type Contender, median, timed } from '../measure.ts'
import { openRivalry, openServices, ping, query, type Rivalry, type Services } from '../services.ts'
import { duration, milliseconds, type Row, times } from '../table.ts'
import type { Measurement, Scene } from './scene.ts'

interface Goals {
  readonly what: string
  readonly order: 'postgres' | 'redis'
  readonly goalMs: number
  readonly faster: number
  /** Times as long as the bare server. */
  readonly overBare?: number
}

export const services: Measurement = async (scene) => {
  await using opened = await openServices()
  await using rivalry = await openRivalry(scene, opened)
  const database = { what: 'Postgres', order: 'postgres', goalMs: 80, faster: 20, overBare: 2 } as const
  const cache = { what: 'Redis', order: 'redis', goalMs: 15, faster: 15 } as const
  return [
    ...(await measure(scene, rivalry, database, ourPostgres(opened), await barePostgres(scene, opened))),
    ...(await measure(scene, rivalry, cache, ourRedis(opened), await bareRedis(scene, opened))),
  ]
}

async function measure(
  scene: Scene,
  rivalry: Rivalry | undefined,
  { what, order, goalMs, faster, overBare }: Goals,
  ours: Contender,
  bare: Contender,
): Promise<Row[]> {
  // Warm, so that these are second and later times.
  const rounds = { rounds: scene.quick ? 10 : 50, warmUp: 3, restMs: 50 }
  const turns = await alternate([ours, bare], rounds)
  for (const [name, samples] of turns) scene.record(`${what}: ${name}`, samples)
  const [samples, least] = [turns.get(ours.name)!, turns.get(bare.name)!]
  const ratio = median(samples) / median(least)
  const isFast = median(samples) <= goalMs
  const rows: Row[] = [
    {
      what: `${what}: \`start()\` → first answer, second and later times`,
      measured: milliseconds(samples),
      goal: `≤ ${goalMs} ms${overBare ? `, ≤ ${overBare} × bare` : ''}`,
      ratio: `${times(ratio)} a bare server on the same files (${milliseconds(least)})`,
      hit: isFast && (overBare === undefined || ratio <= overBare),
    },
  ]
  if (!rivalry) return rows
  const theirs = rivalry.driver.contender(order)
  const both = await alternate([ours, theirs], { rounds: scene.quick ? 2 : 10, warmUp: 1, restMs: 50 })
  const [beside, slower] = [both.get(ours.name)!, both.get(theirs.name)!]
  scene.record(`${what}: testcontainers`, slower)
  const advantage = median(slower) / median(beside)
  rows.push({
    what: `the same, beside ${rivalry.testcontainers.description} on Docker`,
    measured: `${duration(median(beside))}, testcontainers ${milliseconds(slower)}`,
    goal: `≥ ${faster} × faster`,
    ratio: `${times(advantage)} faster`,
    hit: advantage >= faster,
  })
  return rows
}

function ourPostgres({ postgres: image }: Services): Contender {
  const definition = postgres(image)
  return {
    name: 'mayfly',
    async round() {
      let cleanUp = async () => {}
      const ms = await timed(async () => {
        const db = await definition.start()
        const client = await query(db.connectionUri)
        cleanUp = async () => {
          await client.end()
          await db.stop()
        }
      })
      await cleanUp()
      return ms
    },
  }
}

function ourRedis({ redis: image }: Services): Contender {
  const definition = redis(image)
  return {
    name: 'mayfly',
    async round() {
      let cleanUp = async () => {}
      const ms = await timed(async () => {
        const cache = await definition.start()
        const client = await ping(cache.port)
        cleanUp = async () => {
          client.destroy()
          await cache.stop()
        }
      })
      await cleanUp()
      return ms
    },
  }
}

async function barePostgres({ world }: Scene, { postgres: image }: Services): Promise<Contender> {
  // The server's own arguments, as the fixture gives them.
  let words: readonly string[] = []
  const definition = postgres(image).withCreateModifier((spec) => {
    words = spec.command ?? []
    return spec
  })
  const server = await Bare.open(world, {
    definition,
    user: 'postgres',
    command: (port) => [...words, '-p', String(port), '-c', 'listen_addresses=127.0.0.1'],
    env: { PATH: '/usr/lib/postgresql/15/bin', PGDATA: '/var/lib/postgresql/data', LANG: 'en_US.utf8' },
    ready: /ready to accept connections/,
    stopSignal: 'SIGINT',
  })
  return {
    name: 'bare postgres',
    async round() {
      let cleanUp = async () => {}
      const ms = await timed(async () => {
        const running = await server.start()
        const client = await query(`postgres://test:test@127.0.0.1:${running.port}/test`)
        cleanUp = async () => {
          await client.end()
          await running[Symbol.asyncDispose]()
        }
      })
      await cleanUp()
      return ms
    },
  }
}

async function bareRedis({ world }: Scene, { redis: image }: Services): Promise<Contender> {
  const server = await Bare.open(world, {
    definition: redis(image),
    user: 'redis',
    command: (port) => ['redis-server', '--dir', '/data', '--bind', '127.0.0.1', '--port', String(port)],
    env: {},
    ready: /Ready to accept connections/,
    stopSignal: 'SIGTERM',
  })
  return {
    name: 'bare redis',
    async round() {
      let cleanUp = async () => {}
      const ms = await timed(async () => {
        const running = await server.start()
        const client = await ping(running.port)
        cleanUp = async () => {
          client.destroy()
          await running[Symbol.asyncDispose]()
        }
      })
      await cleanUp()
      return ms
    },
  }
}
