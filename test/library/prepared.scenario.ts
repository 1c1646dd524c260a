/** Starts a Postgres whose migration notes that it was called; with `hang`, it does not come back from it. */

import { appendFileSync } from 'node:fs'
import { useBackend } from '../../src/backends/current.js'
import { EmbeddedBackend } from '../../src/backends/embedded.js'
import { postgres } from '../../src/fixtures/postgres.js'

const [home, image, key, counter, hang] = process.argv.slice(2) as [string, string, string, string, string?]
const backend = await EmbeddedBackend.open({ home })
useBackend(backend)
const migrate = async (at: { executeQuery(sql: string): Promise<string> }) => {
  await at.executeQuery('create table made as select 1 as one')
  appendFileSync(counter, 'once\n')
  if (hang) await new Promise((resolve) => setTimeout(resolve, 60_000))
}
const db = await postgres(image).withMigrations(migrate, { key }).start()
console.log(JSON.stringify({ output: await db.executeQuery('select one from made', ['-A', '-t']) }))
await backend.close()
