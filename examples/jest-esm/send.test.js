import pg from 'pg'
import shared from './containers.js'
import { listWaiting, order, send } from './orders.js'

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

test('an order that was sent waits no more', async () => {
  const id = await order(client, 'a lamp')
  await send(client, id)
  expect(await listWaiting(client)).toEqual([])
})

test('an order is not sent twice', async () => {
  const id = await order(client, 'a lamp')
  await send(client, id)
  await expect(send(client, id)).rejects.toThrow('There is no order 1 to be sent')
})
