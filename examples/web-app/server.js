import { startApp } from './app.js'

const { DATABASE_URL, CACHE_URL, PORT = '3000' } = process.env
const app = await startApp({ databaseUrl: DATABASE_URL, cacheUrl: CACHE_URL, port: Number(PORT) })
console.log(`http://localhost:${app.port}`)
