/** What tests of an engine share: one of their own with its world, containers that answer, and refusals as values. */

import { afterAll, afterEach, beforeAll } from 'vitest'
import { type Container, type ContainerOptions, Engine, type MayflyError } from '../../../src/index.js'
import { makeWorld, type World } from './world.js'

/**
 * Opens an engine in a world of its own before the tests of a block and closes it after them. What a test has left of containers, networks
 * and volumes must not disturb the next one, and goes after each.
 */
export function useEngine(
  opened: (own: { readonly world: World; readonly engine: Engine }) => void,
  prepare: (world: World) => void = () => {},
): void {
  let world: World | undefined
  let engine: Engine | undefined

  beforeAll(async () => {
    world = makeWorld()
    prepare(world)
    engine = await Engine.open({ home: world.home })
    opened({ world, engine })
  })

  afterAll(async () => {
    await engine?.close()
    world?.remove()
  })

  afterEach(async () => {
    if (!engine) return
    await Promise.all(engine.containers().map((container) => container.remove({ force: true })))
    const made = engine.networks.list().filter(({ id }) => id !== 'bridge')
    await Promise.all([...made.map((network) => network.remove()), engine.volumes.prune({ all: true })])
  })
}

/** A container that says its name to whoever connects to its port 80. */
export async function startNamed(engine: Engine, name: string, options: ContainerOptions): Promise<Container> {
  const container = await engine.start({ ...options, name, command: ['nc', '-ll', '-p', '80', '-e', 'echo', name] })
  await container.waitForPort(80)
  return container
}

/** What a server says to a container, or '' when it is not reached within a second. */
export async function ask(from: Container, host: string, port = 80): Promise<string> {
  return (await from.exec(['nc', '-w', '1', host, `${port}`])).stdout.trim()
}

/** The error that the work ends with; undefined when it succeeds. */
export function fault(work: Promise<unknown>): Promise<MayflyError | undefined> {
  return work.then(
    () => undefined,
    (error: MayflyError) => error,
  )
}
