import { postgres } from 'mayfly/fixtures/postgres'
import { containers } from 'mayfly/vitest'
import { Client } from 'pg'
import { expect } from 'vitest'
import { addUser, listNames } from './users.js'

// Every test that asks for `client` has a Postgres of its own. The migrations run once; each further one begins with what they have made.
const test = containers({ db: postgres().withMigrations('./migrations') }).extend<{ client: Client }>({
  client: async ({ db }, use) => {
    const client = new Client({ connectionString: db.connectionUri })
    await client.connect()
    await use(client)
    await client.end()
  },
})

test('adds a user', async ({ client }) => {
  const user = await addUser(client, 'grace@example.com', 'Grace')
  expect(user).toMatchObject({ email: 'grace@example.com', name: 'Grace' })
  expect(await listNames(client)).toEqual(['Ada', 'Grace'])
})

test('sees nothing of the test before', async ({ client }) => {
  expect(await listNames(client)).toEqual(['Ada'])
})

test('refuses an address that is taken', async ({ client }) => {
  await expect(addUser(client, 'ada@example.com', 'Another')).rejects.toThrow('duplicate key')
})
