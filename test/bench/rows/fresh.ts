/** The next test's fresh database, without starting a server: reset, a database from the template, a container from the pool. */

import { postgres } from '../../../src/fixtures/postgres.ts'
import { pooled } from '../../../src/pool.ts'
import { alternate, type Contender, median, rest, timed } from '../measure.ts'
import { openRivalry, openServices, query } from '../services.ts'
import { milliseconds, type Row, times } from '../table.ts'
import type { Measurement } from './scene.ts'

const RESET_GOAL_MS = 80
const DATABASE_GOAL_MS = 30
const POOL_GOAL_MS = 5
const POOL_SIZE = 2

export const fresh: Measurement = async (scene) => {
  await using opened = await openServices()
  await using rivalry = await openRivalry(scene, opened)
  const definition = postgres(opened.postgres)
  await using db = await definition.start()
  const reset: Contender = {
    name: 'reset',
    async round() {
      const client = await query(db.connectionUri)
      client.on('error', () => {}) // its connection is cut
      await client.query('CREATE TABLE IF NOT EXISTS trace (n int); INSERT INTO trace VALUES (1)')
      const ms = await timed(() => db.reset())
      await client.end().catch(() => {})
      return ms
    },
  }
  await using server = await definition.start()
  const database: Contender = {
    name: 'database',
    async round() {
      let cleanUp = async () => {}
      const ms = await timed(async () => {
        const own = await server.createDatabase()
        cleanUp = () => own.drop()
      })
      await cleanUp()
      return ms
    },
  }
  const pool = definition.withPool(POOL_SIZE)
  const next: Contender = {
    name: 'pool',
    async round() {
      while (pooled(pool) < POOL_SIZE) await rest(5)
      let cleanUp = async () => {}
      const ms = await timed(async () => {
        const one = await pool.start()
        cleanUp = async () => {
          await one.stop()
        }
      })
      await cleanUp()
      return ms
    },
  }
  await (await pool.start()).stop() // fills the pool
  const rounds = { rounds: scene.quick ? 10 : 50, warmUp: 3, restMs: 20 }
  const turns = await alternate([reset, database, next], rounds)
  for (const [name, samples] of turns) scene.record(`Postgres, ${name}`, samples)
  const restore = rivalry?.driver.contender('restore')
  const theirs = restore && (await alternate([restore], { rounds: scene.quick ? 3 : 10, warmUp: 1, restMs: 20 }))
  const slower = theirs?.get(restore!.name)
  if (slower) scene.record('Postgres: restoreSnapshot of testcontainers', slower)
  const line = (name: string, what: string, goalMs: number, ratio = ''): Row => ({
    what,
    measured: milliseconds(turns.get(name)!),
    goal: `≤ ${goalMs} ms`,
    ratio,
    hit: median(turns.get(name)!) <= goalMs,
  })
  const beside = slower
    ? `testcontainers’ \`restoreSnapshot()\`: ${milliseconds(slower)}, ${times(median(slower) / median(turns.get('reset')!))}`
    : ''
  return [
    line('reset', '`reset()` of a Postgres that was written to, until it is ready again', RESET_GOAL_MS, beside),
    line('database', 'a database from the template, in a server that runs', DATABASE_GOAL_MS),
    line('pool', 'the next Postgres from a pool', POOL_GOAL_MS),
  ]
}
