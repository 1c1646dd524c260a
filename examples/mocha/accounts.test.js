const assert = require('node:assert/strict')
const { postgres } = require('mayfly/fixtures/postgres')
const { Client } = require('pg')
const { transfer } = require('./accounts.js')

const SCHEMA = `
  CREATE TABLE accounts (owner text PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0));
  INSERT INTO accounts VALUES ('ada', 100), ('grace', 0);
`

describe('transfer', () => {
  let server
  let database
  let client

  before(async () => {
    server = await postgres()
      .withMigrations((started) => started.executeQuery(SCHEMA))
      .start()
  })
  after(() => server?.stop())

  // One server for all, and for each test a database of its own in it.
  beforeEach(async () => {
    database = await server.createDatabase()
    client = new Client(database.connectionUri)
    await client.connect()
  })
  afterEach(async () => {
    await client.end()
    await database.drop()
  })

  const balances = async () => {
    const { rows } = await client.query('SELECT balance FROM accounts ORDER BY owner')
    return rows.map(({ balance }) => balance)
  }

  it('moves money', async () => {
    await transfer(client, 'ada', 'grace', 30)
    assert.deepEqual(await balances(), [70, 30])
  })

  it('moves nothing when there is not enough', async () => {
    await assert.rejects(transfer(client, 'ada', 'grace', 130), /violates check constraint/)
    assert.deepEqual(await balances(), [100, 0])
  })
})
