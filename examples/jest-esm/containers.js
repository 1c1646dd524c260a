import { postgres } from 'mayfly/fixtures/postgres'
import { shareContainers } from 'mayfly/jest'

// Jest's global setup: one Postgres for all workers, with the schema that every test begins with.
export default shareContainers({
  server: postgres().withMigrations((started) =>
    started.executeQuery(
      'CREATE TABLE orders (id serial PRIMARY KEY, item text NOT NULL, sent boolean NOT NULL DEFAULT false)',
    ),
  ),
})
