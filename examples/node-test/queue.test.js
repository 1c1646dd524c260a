import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { redis } from 'mayfly/fixtures/redis'
import { createClient } from 'redis'
import { Queue } from './queue.js'

let cache
let client

before(async () => {
  cache = await redis().start()
  client = await createClient({ url: cache.connectionUri }).connect()
})
beforeEach(() => client.flushAll())
after(async () => {
  await client?.close()
  await cache?.stop()
})

test('gives back what has waited longest', async () => {
  const queue = new Queue(client, 'mail')
  await queue.put('first')
  await queue.put('second')
  assert.equal(await queue.take(), 'first')
  assert.equal(await queue.take(), 'second')
})

test('is empty at first', async () => {
  assert.equal(await new Queue(client, 'mail').take(), null)
})
