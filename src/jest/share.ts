/** One set of containers for all workers of a Jest run. */

import { MayflyError } from '../engine/errors.js'
import { type SharedSetOf, type SharedStarted, sharedMembersOf, shareOptions } from '../runner/members.js'
import { type AnyShared, containersOf, expectShared, rebuild, type SharedSet, startShared } from '../runner/share.js'
import { describeTails } from '../runner/tails.js'
import { currentKeeper } from './keeper.js'

/** How containers are shared. */
export interface ShareOptions {
  /** Tells two sets of one run apart. @default 'shared' */
  readonly name?: string
  /** Milliseconds that all of them have to start. @default 300000 */
  readonly timeoutMs?: number
}

/** A global setup, and what tests have of it. */
export interface SharedContainers<Set extends SharedSetOf> {
  /** Starts them unless they run: the form that Jest wants of a `globalSetup` module. In watch mode they stay between runs. */
  (): Promise<void>
  /** Stops them, for a `globalTeardown` module. Without one they end with Jest. */
  teardown(): Promise<void>
  /**
   * The started containers and networks, in a test file. All accessors of the containers work, and what can be done with a running one but
   * ending it. What a test starts on a shared network runs beside the shared containers, and belongs to the test all the same: it is gone with its
   * `stop()`, and with the worker at the latest, however that ends.
   *
   * Throws SETUP_MISSING when the global setup did not run.
   */
  inject(): SharedStarted<Set>
}

const TIMEOUT_MS = 300_000
/** By name, in Jest's main process: the teardown is another module than the setup. */
const RUNNING = Symbol.for('mayfly.jest.running')

/**
 * Containers that are started once for a whole run, before the first test, and used by all its workers. Put it into a module of its
 * own, which is the global setup and is loaded by tests.
 *
 * @example
 * import { postgres } from 'mayfly/fixtures/postgres'
 * import { shareContainers } from 'mayfly/jest'
 *
 * // containers.ts; in jest.config: globalSetup: './containers.ts'. In CommonJS: module.exports = shareContainers(…)
 * const shared = shareContainers({ db: postgres() })
 * export default shared
 *
 * // and in a test file that imports it:
 * const { db } = shared.inject()
 * console.log(db.connectionUri)
 * @example
 * import { GenericContainer, Network } from 'mayfly'
 * import { postgres } from 'mayfly/fixtures/postgres'
 * import { shareContainers } from 'mayfly/jest'
 *
 * // With a network, tests start containers of their own beside the shared ones.
 * const network = new Network()
 * const shared = shareContainers({ network, db: postgres().withNetwork(network, { aliases: ['db'] }) })
 * export default shared
 *
 * // In a test: it finds the database as db:5432.
 * await using app = await new GenericContainer('example/app').withNetwork(shared.inject().network).start()
 */
export function shareContainers<const Set extends SharedSetOf>(
  set: Set,
  options: ShareOptions = {},
): SharedContainers<Set> {
  const { name = 'shared', timeoutMs = TIMEOUT_MS } = shareOptions(options, 'options')
  const members = sharedMembersOf(set)
  // Jest gives its workers, also those in threads and in its own process, the environment as it is after the setup.
  const variable = `JEST_MAYFLY_${name}`
  let injected: AnyShared | undefined

  const setup = async () => {
    const running = runningSets()
    running[name] ??= startShared(members, AbortSignal.timeout(timeoutMs))
    try {
      process.env[variable] = (await running[name]).told
    } catch (error) {
      delete running[name]
      throw error
    }
  }
  const teardown = async () => {
    const running = runningSets()
    const shared = await running[name]
    delete running[name]
    delete process.env[variable]
    await shared?.stop()
  }
  const inject = (): AnyShared => {
    if (injected) return injected
    const told = process.env[variable]
    if (told === undefined) {
      throw new MayflyError('SETUP_MISSING', `The shared containers ${Object.keys(set).join(', ')} were not started`, {
        hint: "name the module that exports them in Jest's configuration: globalSetup: './containers.js'",
      })
    }
    const rebuilt = rebuild(members, told)
    injected = rebuilt
    currentKeeper()?.hold({
      scope: 'file',
      tails: () => describeTails(containersOf(rebuilt, members.containers)),
      close: async () => {},
    })
    return rebuilt
  }
  expectShared(members, inject)
  return Object.assign(setup, { teardown, inject }) as unknown as SharedContainers<Set>
}

function runningSets(): Record<string, Promise<SharedSet>> {
  const global = globalThis as { [RUNNING]?: Record<string, Promise<SharedSet>> }
  global[RUNNING] ??= {}
  return global[RUNNING]
}
