import { appendFileSync } from 'node:fs'
import { GenericContainer } from 'mayfly'
import { redis } from 'mayfly/fixtures/redis'
import { containers } from 'mayfly/vitest'
import { expect } from 'vitest'
import shared from './shared.js'

const own = new GenericContainer(process.env.IMAGE).withCommand(['httpd', '-f', '-p', '8080']).withExposedPorts(8080)
const test = containers({ own, cache: [redis(process.env.REDIS), { scope: 'file' }] })

test('has a container of an image', async ({ own }) => {
  const { status } = await fetch(`http://${own.getHost()}:${own.getMappedPort(8080)}/`)
  expect(status).toBe(404)
  expect(await own.exec(['echo', 'hello'])).toMatchObject({ exitCode: 0, output: 'hello\n' })
})

test('has a service', async ({ cache }) => {
  expect(await cache.executeCliCmd('PING')).toBe('PONG\n')
})

shared.test('shares a container', async ({ web }) => {
  appendFileSync(process.env.NOTES, `${web.getId()}\n`)
  expect((await web.exec(['echo', 'hello'])).stdout).toBe('hello\n')
})
