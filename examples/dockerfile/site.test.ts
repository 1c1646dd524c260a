import { GenericContainer, Wait } from 'mayfly'
import { containers } from 'mayfly/vitest'
import { expect } from 'vitest'

// Built once; what has not changed since the last run comes from the build cache.
const site = await GenericContainer.fromDockerfile('.').withBuildArgs({ VERSION: '1.2.3' }).build()

const test = containers(
  { web: site.withExposedPorts(80).withWaitStrategy(Wait.forHttp('/', 80).forStatusCode(200)) },
  { scope: 'file' },
)

test('serves the page that was built', async ({ web }) => {
  const answer = await fetch(`http://${web.getHost()}:${web.getMappedPort(80)}/`)
  expect(await answer.text()).toContain('Version 1.2.3')
})

test('has nothing in it that only the build needs', async ({ web }) => {
  const { exitCode } = await web.exec(['ls', '/pages'])
  expect(exitCode).not.toBe(0)
})
