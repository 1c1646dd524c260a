/** Containers in a test file of Jest, as hooks. */

import { closeBackend } from '../backends/current.js'
import type { Definition } from '../definition.js'
import { MayflyError } from '../engine/errors.js'
import type { GenericContainer } from '../generic-container.js'
import { ContainerGroup } from '../runner/group.js'
import { type Member, membersOf, type StartedOf, type StartedSet, setOptions } from '../runner/members.js'
import { describeTails } from '../runner/tails.js'
import type { StartedTestContainer } from '../started-container.js'
import { currentKeeper } from './keeper.js'

/** How long a container lives: for one test, or for the file or describe block in which it is asked for. */
export type ContainerScope = 'test' | 'file'

/** How containers live. */
export interface ContainerOptions {
  /** @default 'file' */
  readonly scope?: ContainerScope
  /** Milliseconds to start in: the first start may have to fetch an image. @default 300000 */
  readonly timeoutMs?: number
}

/** Jest's own functions, as far as they are needed. */
type Hook = (work: () => Promise<void>, timeoutMs: number) => void
type HookName = 'beforeAll' | 'afterAll' | 'beforeEach' | 'afterEach'

const TIMEOUT_MS = 300_000
/** Jest's timeout must not come before ours, which says more. */
const MARGIN_MS = 10_000

/** Files and describe blocks that are under way and have containers. */
let blocks = 0

/**
 * A container for the tests of this file or describe block, or for each test one. It is started before them and gone after them. The
 * value can be used in tests and hooks.
 *
 * Without `mayfly/jest/environment` it is stopped by an `afterAll` hook of its own, and Jest calls those in the order in which they
 * are written: close clients in an `afterAll` above this call. With the environment it is stopped after all of them.
 *
 * @default scope: 'file'
 * @example
 * import { redis } from 'mayfly/fixtures/redis'
 * import { useContainer } from 'mayfly/jest'
 *
 * const cache = useContainer(redis())
 *
 * test('is there', async () => {
 *   expect(await cache.executeCliCmd('PING')).toBe('PONG\n')
 * })
 */
export function useContainer<Container extends GenericContainer>(
  container: Container,
  options: ContainerOptions = {},
): StartedOf<Container> {
  // What it printed is shown under the name of its image.
  const { image } = (container as unknown as { readonly definition?: Definition })?.definition ?? { image: 'container' }
  return (useContainers({ [image]: container }, options) as Record<string, unknown>)[image] as StartedOf<Container>
}

/**
 * Several containers, started side by side, each after what it depends on.
 *
 * @default scope: 'file'
 * @example
 * import { postgres } from 'mayfly/fixtures/postgres'
 * import { redis } from 'mayfly/fixtures/redis'
 * import { useContainers } from 'mayfly/jest'
 *
 * const { db, cache } = useContainers({ db: postgres(), cache: redis() }, { scope: 'test' })
 */
export function useContainers<const Set extends Readonly<Record<string, GenericContainer>>>(
  set: Set,
  options: ContainerOptions = {},
): StartedSet<Set> {
  const { scope = 'file', timeoutMs = TIMEOUT_MS }: ContainerOptions = setOptions(options, 'options')
  const members = membersOf(set, scope, ['test', 'file'])
  const group = new ContainerGroup()
  const started = new Map<string, StartedTestContainer>()

  const start = async () => {
    const late = setTimeout(() => void group.close().catch(() => {}), timeoutMs)
    try {
      const outcomes = await Promise.allSettled(
        members.map(async ({ name, definition }) => started.set(name, await group.acquire(definition))),
      )
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    } catch (error) {
      await close()
      throw error
    } finally {
      clearTimeout(late)
    }
  }
  const close = async () => {
    started.clear()
    await group.close()
  }
  register(scope, start, close, () => describeTails(started), timeoutMs + MARGIN_MS)
  const heal = () => Promise.all([...started.values()].map((container) => container.heal())).then(() => {})
  if (scope === 'file') hook('afterEach')(heal, timeoutMs)
  return Object.fromEntries(members.map((member) => [member.name, later(member, started)])) as StartedSet<Set>
}

function register(
  scope: ContainerScope,
  start: () => Promise<void>,
  close: () => Promise<void>,
  tails: () => Promise<string>,
  timeoutMs: number,
): void {
  const keeper = currentKeeper()
  if (scope === 'test') hook('beforeEach')(start, timeoutMs)
  else hook('beforeAll')(start, timeoutMs)
  if (keeper) {
    keeper.hold({ scope, close, tails })
    keeper.atEnd(closeBackend)
    return
  }
  if (scope === 'test') hook('afterEach')(close, timeoutMs)
  hook('beforeAll')(async () => void blocks++, timeoutMs)
  hook('afterAll')(async () => {
    await close()
    // Jest loads us anew for the next file: nothing of this one must stay in the process.
    if (--blocks === 0) await closeBackend()
  }, timeoutMs)
}

function hook(name: HookName): Hook {
  const found = (globalThis as unknown as Record<string, Hook | undefined>)[name]
  if (found) return found
  throw new MayflyError('NOT_SUPPORTED', `There is no ${name} here: containers are used in a test file of Jest`, {
    hint: 'it needs the option injectGlobals, which is on by default',
  })
}

/** Stands for the container that is started later, and for the next one after it. */
function later({ name, definition }: Member<string>, started: ReadonlyMap<string, StartedTestContainer>): object {
  const current = () => {
    const found = started.get(name)
    if (found) return found
    throw new MayflyError('CONTAINER_NOT_RUNNING', `The container of useContainer is not started here`, {
      hint: 'use it in tests and hooks, not while the file is loaded',
    })
  }
  return new Proxy(Object.create(Object.getPrototypeOf(definition)), {
    get(_target, key) {
      // Whoever looks whether this is a promise, or prints it, must not fail.
      if (!started.has(name) && (key === 'then' || typeof key === 'symbol')) return undefined
      const container = current()
      const value = Reflect.get(container, key, container)
      return typeof value === 'function' ? value.bind(container) : value
    },
    set(_target, key, value) {
      return Reflect.set(current(), key, value)
    },
    has: (_target, key) => started.has(name) && Reflect.has(current(), key),
    getPrototypeOf: () => (started.has(name) ? Object.getPrototypeOf(current()) : Object.prototype),
  })
}
