/** What `npm run demo` runs: orders in a Postgres, and a Redis in front of it. */

import { appendFileSync } from 'node:fs'
import { postgres, type StartedPostgreSqlContainer } from 'mayfly/fixtures/postgres'
import { redis, type StartedRedisContainer } from 'mayfly/fixtures/redis'
import { Client } from 'pg'
import { createClient } from 'redis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const POSTGRES = process.env.DEMO_POSTGRES ?? 'postgres:17'
const REDIS = process.env.DEMO_REDIS ?? 'redis:8'

/** Does the work, and writes down for the demo how long it took. */
async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const begin = performance.now()
  const result = await work()
  const line = JSON.stringify({ what, tookMs: performance.now() - begin })
  if (process.env.DEMO_REPORT) appendFileSync(process.env.DEMO_REPORT, `${line}\n`)
  return result
}

async function connect(db: StartedPostgreSqlContainer): Promise<Client> {
  const client = new Client({ connectionString: db.connectionUri })
  await client.connect()
  return client
}

describe('a Postgres for a test', () => {
  test.each([
    'the first Postgres, from start() until it has answered a query',
    'the second, the same',
    'the third, the same',
  ])('%s', async (what) => {
    const { db, client } = await timed(what, async () => {
      const db = await postgres(POSTGRES).start()
      const client = await connect(db)
      await client.query('SELECT 1')
      return { db, client }
    })
    // Nobody has been here before.
    await client.query('CREATE TABLE visits (at timestamptz)')
    await client.end()
    await db.stop()
  })
})

describe('orders', () => {
  let db: StartedPostgreSqlContainer
  let cache: StartedRedisContainer
  let sql: Client
  let keys: ReturnType<typeof createClient>

  beforeAll(async () => {
    ;[db, cache] = await timed('a Postgres and a Redis, started together', () =>
      Promise.all([postgres(POSTGRES).start(), redis(REDIS).start()]),
    )
    sql = await connect(db)
    keys = createClient({ url: cache.connectionUri })
    await keys.connect()
    await sql.query("CREATE TABLE orders (id int PRIMARY KEY, item text); INSERT INTO orders VALUES (1, 'a lamp')")
  })
  afterAll(async () => {
    keys.destroy()
    await sql.end()
    await Promise.all([db.stop(), cache.stop()])
  })

  async function findOrder(id: number): Promise<string> {
    const known = await keys.get(`order:${id}`)
    if (known !== null) return `${known}, from Redis`
    const { rows } = await sql.query('SELECT item FROM orders WHERE id = $1', [id])
    await keys.set(`order:${id}`, rows[0].item)
    return `${rows[0].item}, from Postgres`
  }

  test('the first time an order comes from Postgres, then from Redis', async () => {
    expect(await findOrder(1)).toBe('a lamp, from Postgres')
    expect(await findOrder(1)).toBe('a lamp, from Redis')
  })

  test('another Redis knows nothing of it', async () => {
    const other = await timed('another Redis', () => redis(REDIS).start())
    expect(await other.executeCliCmd('EXISTS order:1')).toBe('0\n')
    await other.stop()
  })
})
