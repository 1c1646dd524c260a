/** One set of containers for all workers of a Vitest run. */

import type { TestAPI } from 'vitest'
import { MayflyError } from '../engine/errors.js'
import { type SharedSetOf, type SharedStarted, sharedMembersOf, shareOptions } from '../runner/members.js'
import { type AnyShared, containersOf, expectShared, rebuild, startShared } from '../runner/share.js'
import { describeTails } from '../runner/tails.js'
import { showWithFailure } from './failure.js'
import { withHook } from './hook.js'
import { vitest } from './runner.js'

/** How containers are shared. */
export interface ShareOptions {
  /** Tells two sets of one run apart. @default 'shared' */
  readonly name?: string
  /** Milliseconds that all of them have to start. @default 300000 */
  readonly timeoutMs?: number
}

/** The project as Vitest gives it to a global setup. */
interface Project {
  readonly provide: (key: never, value: never) => void
}

/** A global setup, and what tests have of it. */
export interface SharedContainers<Set extends SharedSetOf> {
  /** Starts them and resolves to what stops them: the form that Vitest wants of a `globalSetup` file's default export. */
  (project: Project): Promise<() => Promise<void>>
  /**
   * The started containers and networks, in a test file. All accessors of the containers work, and what can be done with a running one but
   * ending it. What a test starts on a shared network runs beside the shared containers, and belongs to the test all the same: it is gone with its
   * `stop()`, and with the worker at the latest, however that ends.
   *
   * Throws SETUP_MISSING when the global setup did not run.
   */
  inject(): SharedStarted<Set>
  /** Vitest's `test` with them as fixtures; what they printed last is shown with a test that fails. */
  readonly test: TestAPI<SharedStarted<Set>>
}

const TIMEOUT_MS = 300_000

/**
 * Containers that are started once for a whole run, before the first test, and used by all its workers. Put it into a file of its
 * own, which is the global setup and is imported by tests.
 *
 * @example
 * import { postgres } from 'mayfly/fixtures/postgres'
 * import { shareContainers } from 'mayfly/vitest'
 *
 * // containers.ts; in vitest.config.ts: test: { globalSetup: './containers.ts' }
 * const shared = shareContainers({ db: postgres() })
 * export default shared
 *
 * // and in a test file that imports it:
 * const { db } = shared.inject()
 * console.log(db.connectionUri)
 * @example
 * import { GenericContainer, Network } from 'mayfly'
 * import { postgres } from 'mayfly/fixtures/postgres'
 * import { shareContainers } from 'mayfly/vitest'
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
  const key = `mayfly:${name}`
  let injected: AnyShared | undefined
  let test: unknown

  const setup = async (project: Project) => {
    const shared = await startShared(members, AbortSignal.timeout(timeoutMs))
    project.provide(key as never, shared.told as never)
    return () => shared.stop()
  }

  const injectAll = (): AnyShared => {
    if (injected) return injected
    const told: unknown = vitest.inject(key as never)
    if (typeof told !== 'string') {
      throw new MayflyError('SETUP_MISSING', `The shared containers ${Object.keys(set).join(', ')} were not started`, {
        hint: "name the file that exports them by default in vitest.config.ts: test: { globalSetup: './containers.ts' }",
      })
    }
    injected = rebuild(members, told)
    return injected
  }

  expectShared(members, injectAll)

  const makeTest = () => {
    const fixtures = [...members.networks, ...members.containers].map((member) => {
      // biome-ignore lint/correctness/noEmptyPattern: Vitest reads from this text what the fixture needs
      const fixture = async ({}, use: (value: unknown) => Promise<void>) => use(injectAll()[member.name])
      return [member.name, fixture]
    })
    const names = new globalThis.Set(members.containers.map((member) => member.name))
    return withHook(
      vitest.test.extend(Object.fromEntries(fixtures)),
      names,
      async (asked, { task, onTestFailed }) => {
        onTestFailed(async () => {
          const shown = members.containers.filter((member) => asked.others || asked.names.has(member.name))
          showWithFailure(task, await describeTails(containersOf(injectAll(), shown)))
        })
      },
      timeoutMs,
    )
  }

  return Object.defineProperty(Object.assign(setup, { inject: injectAll }), 'test', {
    get: () => {
      test ??= makeTest()
      return test
    },
  }) as unknown as SharedContainers<Set>
}
