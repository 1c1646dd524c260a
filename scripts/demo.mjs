// `npm run demo`: a Vitest suite (examples/demo) against a real Postgres and a real Redis, on a machine that has neither, nor Docker.
//
//   1. the images: from the store, from Docker Hub, or built here where that is out of reach
//   2. the suite
//   3. a test process that is killed with its containers running
//   4. what took how long, and what is left: the images, for the next time
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))

const SERVICES = [
  { name: 'postgres', reference: 'postgres:17' },
  { name: 'redis', reference: 'redis:8' },
]
const KILL_LIMIT_MS = 10_000

/** A line; one that is passing is shown on terminals only, until the next. */
function say(text = '', { isPassing = false } = {}) {
  const isTerminal = process.stdout.isTTY
  if (isPassing && !isTerminal) return
  const width = process.stdout.columns ?? 80
  const clear = isTerminal ? '\r\x1b[K' : ''
  process.stdout.write(
    isPassing ? clear + text.replaceAll(/[\x00-\x1f]/g, ' ').slice(0, width - 1) : `${clear}${text}\n`,
  )
}

function title(text) {
  say(process.stdout.isTTY && !process.env.NO_COLOR ? `\n\x1b[1m${text}\x1b[0m\n` : `\n${text}\n`)
}

function duration(value) {
  if (value >= 10_000) return `${Math.round(value / 1000)} s`
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`
}

const took = (value, what) => say(`  ${duration(value).padStart(8)}  ${what}`)

/** Resolves to the images' names and the store's directory. */
async function prepareImages() {
  const { Engine } = await import('mayfly')
  const { findImage } = await import('./demo/images.mjs')
  const engine = await Engine.open()
  try {
    const images = {}
    for (const service of SERVICES) images[service.name] = await findImage(engine, service, { say, took })
    return { images, home: engine.info.home }
  } finally {
    await engine.close()
  }
}

/** Resolves to the exit code. */
function runSuite(images, report) {
  const env = { ...process.env, DEMO_POSTGRES: images.postgres, DEMO_REDIS: images.redis, DEMO_REPORT: report }
  const args = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'examples/demo/vitest.config.ts']
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { stdio: 'inherit', env })
    child.on('close', (code) => resolve(code ?? 1))
  })
}

/** Starts a Redis in a process of its own, kills that with SIGKILL, and resolves to how long the port answered after it. Milliseconds. */
async function killATest(image) {
  const script = `import { redis } from 'mayfly/fixtures/redis'
    const cache = await redis(process.argv[1]).start()
    console.log(cache.port)
    setInterval(() => {}, 1000)`
  const args = ['--input-type=module', '-e', script, image]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise((_resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`The process with a Redis ended with code ${code}`)))
  })
  ended.catch(() => {})
  const { value: port } = await Promise.race([createInterface(child.stdout)[Symbol.asyncIterator]().next(), ended])
  if (!(await answers(port))) throw new Error(`Nothing answers on port ${port}`)
  const begin = performance.now()
  child.kill('SIGKILL')
  while (await answers(port)) {
    if (performance.now() - begin > KILL_LIMIT_MS)
      throw new Error(`Port ${port} still answers after ${KILL_LIMIT_MS} ms`)
  }
  return { pid: child.pid, tookMs: performance.now() - begin }
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(Number(port), '127.0.0.1')
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}

/** What the suite has written down. */
function readReport(file) {
  if (!existsSync(file)) return []
  const lines = readFileSync(file, 'utf8').trim().split('\n')
  return lines.map((line) => JSON.parse(line))
}

/** What failed, with everything that is known of it and what to do. */
function describe(error) {
  const { message, hint, logTail } = error
  return [message, logTail, hint && !message.includes(hint) && `Hint: ${hint}`].filter(Boolean).join('\n')
}

async function demo() {
  if (!existsSync('dist/esm/index.js')) throw new Error('The package is not built\nHint: npm ci')
  const { watchSessions } = await import('./demo/leftovers.mjs')
  say('mayfly: a Vitest suite against a real Postgres and a real Redis, without Docker and without a daemon.')

  title('The images')
  const { images, home } = await prepareImages()
  const directory = mkdtempSync(join(tmpdir(), 'mayfly-demo-'))
  try {
    const sessions = watchSessions(home)
    title('The suite: examples/demo/shop.spec.ts, run by Vitest')
    const report = join(directory, 'report')
    const code = await runSuite(images, report)

    title('A test process that is killed')
    const { pid, tookMs } = await killATest(images.redis)
    say(
      `  Process ${pid} started a Redis and got a kill -9, so it could not clean up. The kernel closed its end of a socket,`,
    )
    say('  and that is what the warden, which holds the containers, waits for.')

    title('What took how long')
    for (const line of readReport(report)) took(line.tookMs, line.what)
    took(tookMs, 'from kill -9 of the test process until its Redis was gone')

    title('What is left')
    const left = await sessions.left()
    const found = left.filter(([, things]) => things.length > 0)
    if (found.length === 0) say(`  Of the containers nothing: ${left.map(([kind]) => `no ${kind}`).join(', ')}.`)
    if (found.length > 0) say(`  Not nothing, unless other programs have containers in ${home} at this moment:`)
    for (const [kind, things] of found) say(`  A ${kind}, ${things.length} in all:\n    ${things.join('\n    ')}`)
    say(`  For the next time, in ${home}: the images, and the Postgres as it was when it was ready, so that`)
    say('  every later one begins there.')
    say('  `npx mayfly df` shows how large they are, and `npx mayfly prune --all --build-cache` removes them.')
    return code === 0 && found.length === 0 ? 0 : 1
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

try {
  process.exitCode = await demo()
} catch (error) {
  say(
    `\nThe demo cannot run here: ${describe(error)}\n\n\`npx mayfly doctor\` says what containers need on this machine.`,
  )
  process.exitCode = 1
}
