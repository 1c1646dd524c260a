/**
 * Containers that live and die together: each started when it is first asked for, by whoever asks first, and stopped when the last
 * one who asked has let go of it. What a container depends on is asked for by it.
 */

import type { GenericContainer } from '../generic-container.js'
import { startAlone } from '../start-all.js'
import type { StartedTestContainer } from '../started-container.js'
import { dependenciesOf } from './members.js'

interface Kept {
  readonly definition: GenericContainer
  readonly starting: Promise<StartedTestContainer>
  /** Dependencies that it let start, to let go of after it. */
  readonly held: readonly Kept[]
  started: StartedTestContainer | undefined
  users: number
}

export class ContainerGroup {
  readonly #kept = new Map<GenericContainer, Kept>()
  readonly #elsewhere: (definition: GenericContainer) => Promise<unknown> | undefined
  #controller = new AbortController()

  /** `elsewhere` gives the start of a container that another group, which lives longer, has to start. */
  constructor(elsewhere: (definition: GenericContainer) => Promise<unknown> | undefined = () => undefined) {
    this.#elsewhere = elsewhere
  }

  /** Those that run now. */
  get running(): ReadonlyMap<GenericContainer, StartedTestContainer> {
    const pairs = [...this.#kept].flatMap(([definition, { started }]) =>
      started ? [[definition, started] as const] : [],
    )
    return new Map(pairs)
  }

  /** Begins a start without holding on to it: for who knows that somebody is about to `acquire`. */
  begin(definition: GenericContainer): Promise<StartedTestContainer> {
    const known = this.#kept.get(definition)
    if (known) return known.starting
    const held: Kept[] = []
    const kept: Kept = { definition, starting: this.#start(definition, held), held, started: undefined, users: 0 }
    this.#kept.set(definition, kept)
    kept.starting.then(
      (started) => {
        kept.started = started
      },
      () => {
        // The next one who asks tries again.
        if (this.#kept.get(definition) === kept) this.#kept.delete(definition)
      },
    )
    return kept.starting
  }

  /** Puts what it holds on to into `held`, before anything is awaited. */
  async #start(definition: GenericContainer, held: Kept[]): Promise<StartedTestContainer> {
    const { signal } = this.#controller
    const starting = dependenciesOf(definition).map((one) => {
      const elsewhere = this.#elsewhere(one)
      if (elsewhere) return elsewhere
      const kept = this.#hold(one)
      held.push(kept)
      return kept.starting
    })
    const outcomes = await Promise.allSettled(starting)
    try {
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
      return await startAlone(definition, signal)
    } catch (error) {
      await Promise.allSettled(held.map((one) => this.#letGo(one)))
      throw error
    }
  }

  /** Resolves to the started container, which stays until it is released as often as it was acquired. */
  async acquire(definition: GenericContainer): Promise<StartedTestContainer> {
    return this.#hold(definition).starting
  }

  #hold(definition: GenericContainer): Kept {
    this.begin(definition)
    const kept = this.#kept.get(definition)!
    kept.users++
    return kept
  }

  /** Stops it if nobody else holds on to it. Quiet when its start has failed. */
  async release(definition: GenericContainer): Promise<void> {
    const kept = this.#kept.get(definition)
    if (kept) await this.#letGo(kept)
  }

  async #letGo(kept: Kept): Promise<void> {
    // It may be gone, and its definition begun again since: that one is not ours.
    if (this.#kept.get(kept.definition) !== kept || --kept.users > 0) return
    await this.#end(kept)
  }

  async #end(kept: Kept): Promise<void> {
    this.#kept.delete(kept.definition)
    const started = await kept.starting.catch(() => undefined)
    try {
      await started?.stop()
    } finally {
      if (started) await Promise.all(kept.held.map((one) => this.#letGo(one)))
    }
  }

  /** Stops those that nobody holds on to. */
  async closeIdle(): Promise<void> {
    const idle = [...this.#kept.values()].filter(({ users }) => users <= 0)
    await Promise.all(idle.map((kept) => this.#end(kept)))
  }

  /** Gives up what is being started and stops what runs, whoever holds on to it. The group can be used again. */
  async close(): Promise<void> {
    this.#controller.abort()
    this.#controller = new AbortController()
    const all = [...this.#kept.values()]
    this.#kept.clear()
    const outcomes = await Promise.allSettled(
      all.map(async ({ starting }) => (await starting.catch(() => undefined))?.stop()),
    )
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
  }
}
