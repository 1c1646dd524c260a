/**
 * A test environment for Jest: `testEnvironment: 'mayfly/jest/environment'`, which is Jest's own for node, or
 * `withContainers(…)` around another.
 */

import { createRequire } from 'node:module'
import { join } from 'node:path'
import { AT_END } from '../backends/current.js'
import { MayflyError } from '../engine/errors.js'
import { type Held, KEEPER, type Keeper } from './keeper.js'

/** What is needed of an environment. */
interface JestEnvironment {
  global: object
  /** Before a test file. */
  setup(): Promise<void>
  /** After a test file. */
  teardown(): Promise<void>
  /** At every turn of a test. */
  handleTestEvent?(event: TestEvent, state: TestState): unknown
}

/** Of jest-circus. */
interface TestEvent {
  readonly name: string
  readonly error?: unknown
  readonly describeBlock?: object
  readonly test?: { readonly errors: unknown[] }
}

interface TestState {
  readonly currentDescribeBlock?: { readonly parent?: unknown }
}

// biome-ignore lint/suspicious/noExplicitAny: TypeScript wants just this of the base of a mixin
type EnvironmentClass = new (...args: any[]) => JestEnvironment

/**
 * An environment that looks after the containers of its test file: it shows what they printed last with a test that fails, and stops
 * them after all hooks of the file, in whatever order those were written.
 *
 * @example
 * import { TestEnvironment } from 'jest-environment-jsdom'
 * import { withContainers } from 'mayfly/jest/environment'
 *
 * export default withContainers(TestEnvironment)
 */
export function withContainers<Base extends EnvironmentClass>(Environment: Base): Base {
  return class extends Environment {
    readonly #held = new Map<Held, object | undefined>()
    readonly #atEnd = new Set<() => Promise<void>>()
    #block: object | undefined

    override async setup(): Promise<void> {
      await super.setup()
      const keeper: Keeper = {
        hold: (held) => this.#held.set(held, this.#block),
        atEnd: (close) => this.#atEnd.add(close),
      }
      Object.defineProperty(this.global, KEEPER, { value: keeper, configurable: true })
      // Also for containers that the file has started by itself.
      Object.defineProperty(this.global, AT_END, { value: keeper.atEnd, configurable: true })
    }

    override async handleTestEvent(event: TestEvent, state: TestState): Promise<void> {
      // Before anything that waits: some of these events are not waited for.
      this.#block = state.currentDescribeBlock
      await super.handleTestEvent?.(event, state)
      const isFailure = event.name === 'test_fn_failure' || event.name === 'hook_failure'
      if (isFailure) await this.#explain(event.error)
      else if (event.name === 'test_done') await this.#close('test', undefined, event.test?.errors)
      else if (event.name === 'run_describe_finish') await this.#close('file', event.describeBlock)
    }

    async #explain(error: unknown): Promise<void> {
      if (typeof error !== 'object' || error === null) return
      const tails = await Promise.all([...this.#held.keys()].map((held) => held.tails()))
      addToMessage(error, tails.join(''))
    }

    async #close(scope: 'test' | 'file', block: object | undefined, errors?: unknown[]): Promise<void> {
      const ended = [...this.#held].filter(([held, own]) => held.scope === scope && (!block || own === block))
      for (const [held] of ended) {
        await held.close().catch((error) => {
          if (errors) errors.push(error)
          else console.error(error)
        })
        if (block) this.#held.delete(held)
      }
    }

    override async teardown(): Promise<void> {
      try {
        for (const held of this.#held.keys()) await held.close()
        for (const close of this.#atEnd) await close()
      } finally {
        this.#held.clear()
        this.#atEnd.clear()
        this.#block = undefined
        await super.teardown()
      }
    }
  }
}

/** Jest shows the stack, whose first lines are the message as it was when the error was made. */
function addToMessage(error: { message?: unknown; stack?: unknown }, text: string): void {
  if (text === '' || typeof error.message !== 'string') return
  const { message, stack } = error
  error.message = message + text
  if (typeof stack !== 'string') return
  const end = stack.indexOf(message) + message.length
  error.stack = stack.includes(message) ? stack.slice(0, end) + text + stack.slice(end) : `${message}${text}\n${stack}`
}

/** Jest's environment for node, from wherever Jest is. */
function nodeEnvironment(): EnvironmentClass {
  const places = [import.meta.url, join(process.cwd(), 'package.json'), ...(process.argv[1] ? [process.argv[1]] : [])]
  for (const place of places) {
    try {
      return createRequire(place)('jest-environment-node').TestEnvironment
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error
    }
  }
  // Told only to who wants it: others bring an environment of their own.
  return class {
    constructor() {
      throw new MayflyError('NOT_SUPPORTED', 'Cannot find jest-environment-node, which comes with Jest', {
        hint: 'npm install --save-dev jest-environment-node',
      })
    }
  } as unknown as EnvironmentClass
}

/** Jest takes an environment from here. */
export default class extends withContainers(nodeEnvironment()) {}
