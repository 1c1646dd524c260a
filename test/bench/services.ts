/**
 * The library with a real Postgres and a real Redis, in the images that our own builder makes of Debian's packages. They lie in
 * the store that the tests use, so they are built once on a machine, in some minutes.
 */

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { Client } from 'pg'
import { useBackend } from '../../src/backends/current.ts'
import { EmbeddedBackend } from '../../src/backends/embedded.ts'
import { Engine } from '../../src/engine/engine.ts'
import { missingServiceImages, SERVICE_HOME, serviceImage } from '../support/service-images.ts'
import type { Driver, Testcontainers } from './rivals/testcontainers.ts'
import type { Measurement, Scene } from './rows/scene.ts'

export const APPLICATION_PORT = 3000
/** A program for node, which an image gets by a bind mount: listens once its database and its cache have let it connect. */
export const APPLICATION = `
const { connect, createServer } = require('node:net')
const reach = (port, host) => new Promise((resolve, reject) => connect(port, host, resolve).on('error', reject))
Promise.all([reach(5432, 'db'), reach(6379, 'cache')]).then(() => createServer().listen(${APPLICATION_PORT}))`

export interface Services extends AsyncDisposable {
  readonly engine: Engine
  /** References of the images. */
  readonly postgres: string
  readonly redis: string
}

/** A measurement that is left out, with a line on stderr, where the images cannot be built. */
export function needsServices(measurement: Measurement): Measurement {
  return async (scene) => {
    const missing = missingServiceImages()
    if (!missing) return measurement(scene)
    console.error(`left out, for the images of the services cannot be built here: ${missing}`)
    return []
  }
}

/** The library works on this store until it is disposed of. */
export async function openServices(): Promise<Services> {
  const [postgres, redis] = await Promise.all([serviceImage('postgres'), serviceImage('redis')])
  const engine = await Engine.open({ home: SERVICE_HOME })
  useBackend(new EmbeddedBackend(engine))
  return {
    engine,
    postgres,
    redis,
    async [Symbol.asyncDispose]() {
      useBackend(undefined)
      await engine.close()
    },
  }
}

/** A client whose first query has been answered. */
export async function query(uri: string): Promise<Client> {
  const client = new Client({ connectionString: uri })
  await client.connect()
  await client.query('SELECT 1')
  return client
}

/**
 * A connection to a Redis that has answered. By hand: for each new address the usual client builds a class of some hundred commands, which
 * takes five times as long as everything else here.
 */
export async function ping(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.write('PING\r\n')
  const [answer] = await once(socket, 'data')
  if (String(answer) !== '+PONG\r\n') throw new Error(`a Redis answers ${answer}`)
  return socket
}

export interface Rivalry extends AsyncDisposable {
  readonly testcontainers: Testcontainers
  readonly driver: Driver
}

/** testcontainers-node on Docker with the same images, if it was asked for. */
export async function openRivalry({ rivals }: Scene, services: Services): Promise<Rivalry | undefined> {
  const testcontainers = await rivals.find((rival) => rival.testcontainers)?.testcontainers?.()
  if (!testcontainers) return undefined
  const { engine, postgres, redis } = services
  await testcontainers.load(engine, [postgres, redis])
  const driver = testcontainers.open({ postgres, redis })
  return { testcontainers, driver, [Symbol.asyncDispose]: () => driver[Symbol.asyncDispose]() }
}
