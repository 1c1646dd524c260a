/** Containers made ahead: while a test works with one, the next are started. */

import { backendUpon } from './backends/current.js'
import { upon } from './definition.js'
import type { RunningContainer } from './running-container.js'
import type { StartedTestContainer } from './started-container.js'

/** Starts one. */
type Starter = () => Promise<StartedTestContainer>

/** Containers of one definition that wait for somebody to ask. They end with the session. */
export class Pool {
  readonly #size: number
  readonly #start: Starter
  readonly #isUsable: (started: StartedTestContainer) => Promise<boolean>
  readonly #ready: StartedTestContainer[] = []
  #isFilling = false

  constructor(size: number, start: Starter, isUsable: (started: StartedTestContainer) => Promise<boolean>) {
    this.#size = size
    this.#start = start
    this.#isUsable = isUsable
  }

  /** One that is ready, if there is one, and otherwise one that is started now. In the background the pool is filled again. */
  async take(start: Starter): Promise<StartedTestContainer> {
    for (let found = this.#ready.shift(); found; found = this.#ready.shift()) {
      if (await this.#isUsable(found)) {
        this.#fill()
        return found
      }
      await found.stop().catch(() => {})
    }
    const started = await start()
    this.#fill()
    return started
  }

  /** How many are ready. */
  get ready(): number {
    return this.#ready.length
  }

  /** One after the other: whoever works meanwhile needs the processor too. */
  #fill(): void {
    if (this.#isFilling || this.#ready.length >= this.#size) return
    this.#isFilling = true
    this.#start().then(
      (started) => {
        this.#isFilling = false
        this.#ready.push(started)
        this.#fill()
      },
      () => {
        this.#isFilling = false // whoever asks next starts one and hears why it fails
      },
    )
  }
}

const pools = new WeakMap<object, Pool>()

/** What is not for users of a container. */
interface Insides {
  readonly running: RunningContainer
}

/** A container out of the pool of the definition with this identity, which is made with the first. */
export function takeFromPool(
  identity: object,
  size: number,
  start: (signal: AbortSignal) => Promise<StartedTestContainer>,
  signal: AbortSignal,
): Promise<StartedTestContainer> {
  const known = pools.get(identity)
  const pool = known ?? new Pool(size, () => start(new AbortController().signal), isUsable)
  if (!known) pools.set(identity, pool)
  return pool.take(() => start(signal))
}

/** How many are ready in the pool of this definition. */
export function pooled(definition: object): number {
  return pools.get((definition as { readonly identity: object }).identity)?.ready ?? 0
}

/** It runs still, in the backend that is used now. */
async function isUsable(started: StartedTestContainer): Promise<boolean> {
  const { running } = started as unknown as Insides
  if (running.backend !== (await backendUpon(upon(running.definition)))) return false
  return (await running.container.inspect()).status === 'running'
}
