import { postgres } from 'mayfly/fixtures/postgres'
import { redis } from 'mayfly/fixtures/redis'
import { containers } from 'mayfly/vitest'
import { expect } from 'vitest'
import { startApp } from './app.js'

// Every test has the whole application for itself: Postgres and Redis start side by side, and the app on top of them.
const test = containers({ db: postgres().withMigrations('./migrations'), cache: redis() }).extend({
  url: async ({ db, cache }, use) => {
    const app = await startApp({ databaseUrl: db.connectionUri, cacheUrl: cache.connectionUri })
    await use(`http://localhost:${app.port}`)
    await app.close()
  },
})

test('keeps a note', async ({ url }) => {
  const added = await fetch(`${url}/notes`, { method: 'POST', body: 'buy milk' })
  expect(added.status).toBe(201)
  const found = await fetch(url + added.headers.get('location'))
  expect(await found.json()).toEqual({ id: 1, text: 'buy milk' })
})

test('answers from the cache the second time', async ({ url, cache }) => {
  await fetch(`${url}/notes`, { method: 'POST', body: 'buy milk' })
  const first = await fetch(`${url}/notes/1`)
  const second = await fetch(`${url}/notes/1`)
  expect([first.headers.get('x-cache'), second.headers.get('x-cache')]).toEqual(['miss', 'hit'])
  expect(await cache.executeCliCmd('EXISTS', ['note:1'])).toContain('1')
})

test('knows no note of another test', async ({ url }) => {
  expect((await fetch(`${url}/notes/1`)).status).toBe(404)
})

test('stays up when the database fails', async ({ url, db }) => {
  // What fails is the request, not the application.
  await db.executeQuery('DROP TABLE notes')
  const answer = await fetch(`${url}/notes`, { method: 'POST', body: 'lost' })
  expect(answer.status).toBe(500)
  expect((await fetch(`${url}/other`)).status).toBe(404)
})
