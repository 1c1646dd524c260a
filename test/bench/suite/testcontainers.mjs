// Each test has a Postgres of its own, with the schema: with testcontainers-node.
import { readdirSync, readFileSync } from 'node:fs'
import { PostgreSqlContainer } from '@testcontainers/postgresql'
import pg from 'pg'
import { test } from 'vitest'
import { placeOrder, TESTS } from './shop.mjs'

const MIGRATIONS = new URL('migrations/', import.meta.url)

async function migrate(uri) {
  const client = new pg.Client({ connectionString: uri })
  await client.connect()
  for (const file of readdirSync(MIGRATIONS).sort()) {
    await client.query(readFileSync(new URL(file, MIGRATIONS), 'utf8'))
  }
  await client.end()
}

for (const number of TESTS) {
  test(`order ${number}`, async () => {
    const container = await new PostgreSqlContainer(process.env.BENCH_IMAGE).start()
    try {
      await migrate(container.getConnectionUri())
      await placeOrder(container.getConnectionUri(), number)
    } finally {
      await container.stop()
    }
  })
}
