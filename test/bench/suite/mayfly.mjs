// Each test has a Postgres of its own, with the schema: with mayfly.
import { fileURLToPath } from 'node:url'
import { postgres } from 'mayfly/fixtures/postgres'
import { containers } from 'mayfly/vitest'
import { placeOrder, TESTS } from './shop.mjs'

const test = containers({
  db: postgres(process.env.BENCH_IMAGE).withMigrations(fileURLToPath(new URL('migrations', import.meta.url))),
})

for (const number of TESTS) test(`order ${number}`, ({ db }) => placeOrder(db.connectionUri, number))
