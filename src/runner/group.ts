/**
 * Containers that live and die together: each started when it is first asked for, by whoever asks first, and stopped when the last
 * one who asked has let go of it. What a container depends on is asked for by it.
 */

import type { GenericContainer } from '../generic-container.js'
import { startAlone } from '../start-all.js'
import type { StartedTestContainer } from '../started-container.js'
import { dependenciesOf } from './members.js'

interface Kept {
  readonly starting: Promise<StartedTestContainer>
  /** Dependencies that it let start, to let go of after it. */
  readonly held: readonly GenericContainer[]
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
    const others = dependenciesOf(definition)
    const held = others.filter((other) => !this.#elsewhere(other))
    const kept: Kept = { starting: this.#start(definition, others, held), held, started: undefined, users: 0 }
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

  async #start(
    definition: GenericContainer,
    others: readonly GenericContainer[],
    held: readonly GenericContainer[],
  ): Promise<StartedTestContainer> {
    const { signal } = this.#controller
    const outcomes = await Promise.allSettled(others.map((one) => this.#elsewhere(one) ?? this.acquire(one)))
    try {
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
      return await startAlone(definition, signal)
    } catch (error) {
      await Promise.allSettled(held.map((one) => this.release(one)))
      throw error
    }
  }

  /** Resolves to the started container, which stays until it is released as often as it was acquired. */
  async acquire(definition: GenericContainer): Promise<StartedTestContainer> {
    const starting = this.begin(definition)
    this.#kept.get(definition)!.users++
    return starting
  }

  /** Stops it if nobody else holds on to it. Quiet when its start has failed. */
  async release(definition: GenericContainer): Promise<void> {
    const kept = this.#kept.get(definition)
    if (!kept || --kept.users > 0) return
    await this.#end(definition, kept)
  }

  async #end(definition: GenericContainer, kept: Kept): Promise<void> {
    this.#kept.delete(definition)
    const started = await kept.starting.catch(() => undefined)
    try {
      await started?.stop()
    } finally {
      if (started) await Promise.all(kept.held.map((one) => this.release(one)))
    }
  }

  /** Stops those that nobody holds on to. */
  async closeIdle(): Promise<void> {
    const idle = [...this.#kept].filter(([, { users }]) => users <= 0)
    await Promise.all(idle.map(([definition, kept]) => this.#end(definition, kept)))
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
