import { once } from 'node:events'
import { createServer } from 'node:http'
import pg from 'pg'
import { createClient } from 'redis'

/**
 * Notes over HTTP: `POST /notes` with a text keeps it in Postgres, `GET /notes/<id>` gives it back, through a cache in Redis.
 * Resolves when it listens; port 0 is one of the kernel's choice.
 */
export async function startApp({ databaseUrl, cacheUrl, port = 0 }) {
  const database = new pg.Pool({ connectionString: databaseUrl })
  const cache = await createClient({ url: cacheUrl }).connect()
  const server = createServer((request, response) => {
    answer(request, { database, cache }).then(
      ({ status = 200, headers = {}, body }) => {
        response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
      },
      (error) => response.writeHead(500).end(error.message),
    )
  })
  server.listen(port)
  await once(server, 'listening')
  return {
    port: server.address().port,
    async close() {
      server.closeAllConnections()
      server.close()
      await Promise.all([database.end(), cache.close()])
    },
  }
}

async function answer(request, services) {
  if (request.method === 'POST' && request.url === '/notes') return addNote(await readText(request), services)
  const [, id] = /^\/notes\/(\d+)$/.exec(request.url) ?? []
  if (request.method === 'GET' && id) return findNote(id, services)
  return { status: 404, body: { error: 'There is nothing here' } }
}

async function addNote(text, { database }) {
  if (text === '') return { status: 400, body: { error: 'A note needs a text' } }
  const { rows } = await database.query('INSERT INTO notes (text) VALUES ($1) RETURNING id, text', [text])
  return { status: 201, headers: { location: `/notes/${rows[0].id}` }, body: rows[0] }
}

async function findNote(id, { database, cache }) {
  const known = await cache.get(`note:${id}`)
  if (known) return { headers: { 'x-cache': 'hit' }, body: JSON.parse(known) }
  const { rows } = await database.query('SELECT id, text FROM notes WHERE id = $1', [id])
  if (rows.length === 0) return { status: 404, body: { error: `There is no note ${id}` } }
  await cache.set(`note:${id}`, JSON.stringify(rows[0]), { EX: 60 })
  return { headers: { 'x-cache': 'miss' }, body: rows[0] }
}

async function readText(request) {
  let text = ''
  for await (const piece of request.setEncoding('utf8')) text += piece
  return text
}
