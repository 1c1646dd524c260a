/** Several containers at once: each as soon as those that it depends on are ready. */

import { abortSignal } from './checks.js'
import { optional, refuse, sparse } from './engine/launch/check.js'
import type { GenericContainer } from './generic-container.js'
import type { StartedTestContainer } from './started-container.js'

/** What the `start()` of each of these gives. */
type AllStarted<Containers extends readonly GenericContainer[]> = {
  -readonly [Index in keyof Containers]: Awaited<ReturnType<Containers[Index]['start']>>
}

const startAllOptions = sparse({ signal: optional(abortSignal) })

/** What is not for users of a container. */
interface Insides {
  readonly dependencies: readonly GenericContainer[]
}

/**
 * Starts containers side by side, and those that they depend on before them; each once, however many depend on it. Resolves to the
 * started ones in the order given. Stopping the last that needs a dependency stops it too.
 *
 * If one fails, those under way are given up, those that run are stopped, and the first error is thrown.
 *
 * @example
 * import { GenericContainer, startAll } from 'mayfly'
 *
 * const db = new GenericContainer('postgres:17').withExposedPorts(5432)
 * const web = new GenericContainer('example/web').withExposedPorts(80).dependsOn(db)
 * const [startedDb, startedWeb] = await startAll([db, web])
 */
export async function startAll<const Containers extends readonly GenericContainer[]>(
  containers: Containers,
  options: { readonly signal?: AbortSignal } = {},
): Promise<AllStarted<Containers>> {
  if (!Array.isArray(containers)) refuse('containers', containers, 'expected an array of definitions')
  for (const [index, container] of containers.entries()) {
    // By what it has, for this module is loaded by that of the class.
    if (!Array.isArray((container as unknown as Insides | undefined)?.dependencies)) {
      refuse(`containers[${index}]`, container, 'expected the definition of a container')
    }
  }
  const { signal = new AbortController().signal } = startAllOptions(options, 'startAll')
  return (await startGraph(containers, signal, startAlone)) as AllStarted<Containers>
}

/** Starts one container whose dependencies are ready. */
type Starter = (container: GenericContainer, signal: AbortSignal) => Promise<StartedTestContainer>

/** As `startAll`, with a way to start those that were asked for; dependencies start by their own `start()`. */
export async function startGraph(
  containers: readonly GenericContainer[],
  signal: AbortSignal,
  startAsked: Starter,
): Promise<StartedTestContainer[]> {
  signal.throwIfAborted()
  const controller = new AbortController()
  const onAbort = () => controller.abort(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  const starts = new Map<GenericContainer, Promise<StartedTestContainer>>()
  const users = new Map<GenericContainer, number>()
  let firstError: { readonly error: unknown } | undefined

  const start = (container: GenericContainer): Promise<StartedTestContainer> => {
    const known = starts.get(container)
    if (known) return known
    const { dependencies } = container as unknown as Insides
    const starting = Promise.all(dependencies.map(start)).then(async (ready) => {
      controller.signal.throwIfAborted()
      const starter = containers.includes(container) ? startAsked : startAlone
      const started = await starter(container, controller.signal)
      releaseAfter(started, dependencies, ready)
      return started
    })
    starts.set(container, starting)
    starting.catch((error) => {
      firstError ??= { error }
      controller.abort(error)
    })
    return starting
  }

  /** A dependency that nobody asked for by itself goes with the last of those that need it. */
  const releaseAfter = (
    started: StartedTestContainer,
    dependencies: readonly GenericContainer[],
    ready: readonly StartedTestContainer[],
  ) => {
    for (const [index, dependency] of dependencies.entries()) {
      if (containers.includes(dependency)) continue
      users.set(dependency, (users.get(dependency) ?? 0) + 1)
      insides(started).afterStop.push(async () => {
        const left = users.get(dependency)! - 1
        users.set(dependency, left)
        if (left === 0) await ready[index]!.stop()
      })
    }
  }

  try {
    return await Promise.all(containers.map(start))
  } catch (error) {
    const outcomes = await Promise.allSettled(starts.values())
    const running = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
    await Promise.allSettled(running.map((started) => started.stop()))
    throw firstError ? firstError.error : error
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** The container's own `start()`, which may be a subclass's, without the dependencies that are ready by now. */
export function startAlone(container: GenericContainer, signal: AbortSignal): Promise<StartedTestContainer> {
  const alone: GenericContainer = Object.assign(Object.create(Object.getPrototypeOf(container)), container)
  // Of a pool, another test's dependencies would be the dependencies.
  const { dependencies } = container as unknown as Insides
  Object.assign(alone, { dependencies: [], ...(dependencies.length > 0 ? { poolSize: 0 } : {}) })
  return alone.start({ signal })
}

function insides(started: StartedTestContainer): { readonly afterStop: (() => Promise<unknown>)[] } {
  return (started as unknown as { running: { readonly afterStop: (() => Promise<unknown>)[] } }).running
}
