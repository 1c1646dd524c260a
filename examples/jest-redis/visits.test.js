const { redis } = require('mayfly/fixtures/redis')
const { useContainer } = require('mayfly/jest')
const { createClient } = require('redis')
const { countVisit } = require('./visits.js')

// One Redis for this file; `{ scope: 'test' }` would be one for each test.
const cache = useContainer(redis())
let client

beforeAll(async () => {
  client = await createClient({ url: cache.connectionUri }).connect()
})
beforeEach(() => client.flushAll())
afterAll(() => client.close())

test('counts visits', async () => {
  expect(await countVisit(client, '/')).toBe(1)
  expect(await countVisit(client, '/')).toBe(2)
})

test('counts each page for itself', async () => {
  await countVisit(client, '/')
  expect(await countVisit(client, '/about')).toBe(1)
})

test('forgets after a day', async () => {
  await countVisit(client, '/')
  expect(await client.ttl('visits:/')).toBeGreaterThan(23 * 60 * 60)
})
