import pg from 'pg'
import shared from './containers.js'
import { listWaiting, order } from './orders.js'

let database
let client

// The server is everyone's; each test has a database of its own in it, a copy of the migrated one.
beforeEach(async () => {
  database = await shared.inject().server.createDatabase()
  client = new pg.Client(database.connectionUri)
  await client.connect()
})
afterEach(async () => {
  await client.end()
  await database.drop()
})

test('an order waits', async () => {
  await order(client, 'a lamp')
  await order(client, 'a chair')
  expect(await listWaiting(client)).toEqual(['a lamp', 'a chair'])
})

test('nothing is there of other tests', async () => {
  expect(await listWaiting(client)).toEqual([])
})
