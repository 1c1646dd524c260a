import { GenericContainer } from 'mayfly'
import { containers } from 'mayfly/vitest'
import { expect } from 'vitest'

const definition = new GenericContainer(process.env.IMAGE!)
  .withCommand(['httpd', '-f', '-p', '8080'])
  .withExposedPorts(8080)

const test = containers({ server: definition }, { scope: 'file' })

test('a server answers', async ({ server }) => {
  const { status } = await fetch(`http://${server.getHost()}:${server.getMappedPort(8080)}/`)
  expect(status).toBe(404)
})

test('a program runs in it', async ({ server }) => {
  await expect(server.exec(['echo', 'hello'])).resolves.toMatchObject({ exitCode: 0, output: 'hello\n' })
})
