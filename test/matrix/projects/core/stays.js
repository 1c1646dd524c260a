// To be killed with a service running, and with a child that would hold whatever it had inherited.
import { spawn } from 'node:child_process'
import { redis } from 'mayfly/fixtures/redis'

const cache = await redis(process.env.REDIS).start()
spawn('sleep', ['601'], { stdio: 'ignore', detached: true })
console.log(`it runs with ${cache.getId()}`)
setTimeout(() => {}, 100_000)
