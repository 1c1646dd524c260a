const { GenericContainer } = require('mayfly')

let server

beforeAll(async () => {
  server = await new GenericContainer(process.env.IMAGE)
    .withCommand(['httpd', '-f', '-p', '8080'])
    .withExposedPorts(8080)
    .start()
})

test('a server answers', async () => {
  const { status } = await fetch(`http://${server.getHost()}:${server.getMappedPort(8080)}/`)
  expect(status).toBe(404)
})

test('a program runs in it', async () => {
  await expect(server.exec(['echo', 'hello'])).resolves.toMatchObject({ exitCode: 0, output: 'hello\n' })
})
