import { createRequire } from 'node:module'
import { GenericContainer } from 'mayfly'
import { RedisContainer } from 'mayfly/fixtures/redis'

// Whoever requires and whoever imports have one library between them.
const { GenericContainer: Required } = createRequire(import.meta.url)('mayfly')
const server = await new GenericContainer(process.env.IMAGE)
  .withCommand(['httpd', '-f', '-p', '8080'])
  .withExposedPorts(8080)
  .start()
const { status } = await fetch(`http://${server.getHost()}:${server.getMappedPort(8080)}/`)
const { output, exitCode } = await server.exec(['echo', 'hello'])
await server.stop()
console.log(JSON.stringify([status, output, exitCode, new RedisContainer() instanceof Required]))
