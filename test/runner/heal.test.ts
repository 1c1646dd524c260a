/** Faults of a container that outlives a test end with the test. */

import { describe, expect } from 'vitest'
import { GenericContainer } from '../../src/index.js'
import { containers } from '../../src/vitest/index.js'
import { IMAGE, libraryWorld, obstacle } from '../library/support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

const sleeper = new GenericContainer(IMAGE).withCommand(['sleep', '600'])
const test = containers({
  server: [sleeper.withName('server').withDiskQuota(2 ** 20), { scope: 'file' }],
  client: [sleeper, { scope: 'file' }],
})

describe.skipIf(why)('a container of the file', () => {
  libraryWorld()

  test('is paused, cut off and has its disk filled by one test', async ({ server, client }) => {
    await server.cutOff()
    expect((await client.exec(['ping', '-c', '1', '-W', '1', 'server'])).exitCode).toBe(1)
    await server.fillDisk()
    await server.pause()
    expect(await server.state()).toBe('paused')
  })

  test('is as it was in the next one', async ({ server, client }) => {
    expect(await server.state()).toBe('running')
    expect((await client.exec(['ping', '-c', '1', '-W', '5', 'server'])).exitCode).toBe(0)
    expect((await server.exec(['sh', '-c', 'echo something >/file'])).exitCode).toBe(0)
  })
})
