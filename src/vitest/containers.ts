/** Containers as fixtures of Vitest's `test`. */

import type { TestAPI } from 'vitest'
import type { GenericContainer } from '../generic-container.js'
import { ContainerGroup } from '../runner/group.js'
import { dependenciesOf, type Entry, type Member, membersOf, type StartedSet, setOptions } from '../runner/members.js'
import { describeTails } from '../runner/tails.js'
import type { StartedTestContainer } from '../started-container.js'
import { hasFailed, showWithFailure, type Task } from './failure.js'
import { withHook } from './hook.js'
import { vitest } from './runner.js'

/**
 * How long a container lives: for one test, for a test file, or for a worker of Vitest, which is a file too unless `isolate` is
 * false. `file` and `worker` need Vitest 3.2.
 */
export type ContainerScope = 'test' | 'file' | 'worker'

/** How one container lives. */
export interface ContainerOptions {
  /** @default 'test' */
  readonly scope?: ContainerScope
}

/** How the containers of a set live. */
export interface ContainersOptions extends ContainerOptions {
  /**
   * Milliseconds that the containers of one test have to start. Does not count as time of the test: the first start may have to
   * fetch an image. @default 300000
   */
  readonly timeoutMs?: number
}

/** Definitions by name, each alone or with options of its own: `[postgres(), { scope: 'file' }]`. */
export type ContainerSet = Readonly<Record<string, Entry<ContainerOptions>>>

/** From the shortest life to the longest. */
const SCOPES: readonly ContainerScope[] = ['test', 'file', 'worker']
const TIMEOUT_MS = 300_000

/**
 * Vitest's `test` with containers as fixtures. A container is started when the first test asks for it by name, those of one test side
 * by side, after what they depend on; it is gone after its scope. What it printed last is shown with a test that fails.
 *
 * @default scope: 'test'
 * @example
 * import { postgres } from 'mayfly/fixtures/postgres'
 * import { redis } from 'mayfly/fixtures/redis'
 * import { containers } from 'mayfly/vitest'
 *
 * const test = containers({ db: postgres(), cache: [redis(), { scope: 'file' }] })
 *
 * test('has a database of its own', async ({ db, cache }) => {
 *   await db.executeQuery('CREATE TABLE users (name text)')
 *   console.log(db.connectionUri, cache.connectionUri)
 * })
 */
export function containers<const Set extends ContainerSet>(
  set: Set,
  options: ContainersOptions = {},
): TestAPI<StartedSet<Set>> {
  const { scope = 'test', timeoutMs = TIMEOUT_MS }: ContainersOptions = setOptions(options, 'options')
  const members = membersOf(set, scope, SCOPES)
  const scopes = new Scopes(members)
  const fixtures = Object.fromEntries(members.map((member) => [member.name, fixtureOf(member, scopes)]))
  const extended = vitest.test.extend(fixtures as never) as unknown as TestAPI<StartedSet<Set>>
  const names = new Set(members.map(({ name }) => name))
  return withHook(
    extended,
    names,
    async (asked, { task, onTestFailed, onTestFinished }) => {
      const chosen = members.filter(({ name }) => asked.names.has(name))
      onTestFinished(() => scopes.group('test', task).close())
      // Of those that outlive it.
      onTestFinished(async () => {
        const lasting = members.filter(({ scope, name }) => scope !== 'test' && (asked.others || asked.names.has(name)))
        await Promise.all(scopes.running(lasting).map(([, container]) => container.heal()))
      })
      onTestFailed(async () => {
        const lasting = members.filter(({ scope, name }) => scope !== 'test' && (asked.others || asked.names.has(name)))
        showWithFailure(task, await describeTails(scopes.running(lasting)))
      })
      await Promise.all(chosen.map(({ definition, scope }) => scopes.group(scope, task).begin(definition)))
    },
    timeoutMs,
    () => scopes.file.closeIdle(),
  )
}

/** The groups of a set: one for each test, one for the file that runs and one for the worker. */
class Scopes {
  readonly #tests = new WeakMap<Task, ContainerGroup>()
  readonly #members: ReadonlyMap<GenericContainer, Member<ContainerScope>>
  readonly worker = new ContainerGroup()
  readonly file = new ContainerGroup((definition) => this.#longer(definition, 'file'))

  constructor(members: readonly Member<ContainerScope>[]) {
    this.#members = new Map(members.map((member) => [member.definition, member]))
  }

  /** How these definitions are called in the set; those that are not in it have no name. */
  names(definitions: readonly GenericContainer[]): string[] {
    return definitions.flatMap((definition) => this.#members.get(definition)?.name ?? [])
  }

  group(scope: ContainerScope, task: Task | undefined): ContainerGroup {
    if (scope !== 'test') return this[scope]
    const known = this.#tests.get(task!)
    if (known) return known
    const made = new ContainerGroup((definition) => this.#longer(definition, 'test'))
    this.#tests.set(task!, made)
    return made
  }

  running(members: readonly Member<ContainerScope>[]): [string, StartedTestContainer][] {
    return members.flatMap(({ name, definition, scope }) => {
      const started = this.group(scope, undefined).running.get(definition)
      return started ? [[name, started] as [string, StartedTestContainer]] : []
    })
  }

  #longer(definition: GenericContainer, than: ContainerScope): Promise<unknown> | undefined {
    const scope = this.#members.get(definition)?.scope
    if (scope === undefined || SCOPES.indexOf(scope) <= SCOPES.indexOf(than)) return undefined
    return this.group(scope, undefined).begin(definition)
  }
}

type Use = (value: unknown) => Promise<void>

/** A fixture as `test.extend` takes it. */
function fixtureOf({ name, definition, scope }: Member<ContainerScope>, scopes: Scopes): unknown {
  const fixture = async ({ task }: { readonly task?: Task }, use: Use): Promise<void> => {
    const group = scopes.group(scope, task)
    const started = await group.acquire(definition)
    try {
      await use(started)
      // Only now: the container is about to go, and its output with it.
      if (task && hasFailed(task)) showWithFailure(task, await describeTails([[name, started]]))
    } finally {
      await group.release(definition)
    }
  }
  // Vitest reads from a fixture's text what it depends on.
  const others = scopes.names(dependenciesOf(definition))
  const needs = [...(scope === 'test' ? ['task'] : []), ...others].join(', ')
  Object.defineProperty(fixture, 'toString', { value: () => `async ({ ${needs} }, use) => {}` })
  return scope === 'test' ? fixture : [fixture, { scope }]
}
