const { appendFileSync } = require('node:fs')
const { GenericContainer } = require('mayfly')
const { redis } = require('mayfly/fixtures/redis')
const { useContainer } = require('mayfly/jest')
const shared = require('./shared.js')

const own = useContainer(
  new GenericContainer(process.env.IMAGE).withCommand(['httpd', '-f', '-p', '8080']).withExposedPorts(8080),
  { scope: 'test' },
)
const cache = useContainer(redis(process.env.REDIS))

test('has a container of an image', async () => {
  const { status } = await fetch(`http://${own.getHost()}:${own.getMappedPort(8080)}/`)
  expect(status).toBe(404)
  expect(await own.exec(['echo', 'hello'])).toMatchObject({ exitCode: 0, output: 'hello\n' })
})

test('has a service', async () => {
  expect(await cache.executeCliCmd('PING')).toBe('PONG\n')
})

test('shares a container', async () => {
  const { web } = shared.inject()
  appendFileSync(process.env.NOTES, `${web.getId()}\n`)
  expect((await web.exec(['echo', 'hello'])).stdout).toBe('hello\n')
})
