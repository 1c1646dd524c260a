/** One step: from the cache, or made, and by nobody else at the same time. */

import type { Layer } from '../store/layers.js'
import { type BuildCache, cacheKey, type KeyPart, type StepResult } from './cache.js'
import type { Vertex } from './events.js'

/** What executing a step has made. */
export interface Executed {
  readonly layer: Layer | undefined
  /** False when a context that was copied from has changed since it was listed: the layer may hold something else than the key says. */
  readonly matchesKey: boolean
}

/** How a step is looked up and done. */
export interface Task {
  readonly kind: string
  /** Executed whatever the cache has. */
  readonly isFresh: boolean
  /** Undefined for a key that does not contain what is below. */
  readonly parent: Layer | undefined
  key(byContent: boolean): Promise<{ readonly part: KeyPart; readonly hasContent: boolean }>
  execute(vertex: Vertex): Promise<Executed>
  /** Called after it was executed, when what it made matches the key. */
  remember?(): Promise<void>
}

export class Lookup {
  readonly #cache: BuildCache
  readonly #signal: AbortSignal
  executed = 0
  cached = 0

  constructor(cache: BuildCache, signal: AbortSignal) {
    this.#cache = cache
    this.#signal = signal
  }

  async find(vertex: Vertex, task: Task): Promise<StepResult> {
    const { kind, isFresh } = task
    const below = task.parent?.chainId ?? null
    const { part } = await task.key(false)
    const key = cacheKey(kind, [below, part])
    const found = isFresh ? undefined : await this.#cache.get(key)
    if (found) return this.#hit(vertex, found)
    return this.#cache.alone(
      key,
      async () => {
        const keys = [key]
        if (!isFresh) {
          const meanwhile = await this.#cache.get(key)
          if (meanwhile) return this.#hit(vertex, meanwhile)
          const content = await task.key(true)
          if (content.hasContent) {
            const contentKey = cacheKey(`${kind} by content`, [below, content.part])
            const same = await this.#cache.get(contentKey)
            if (same) {
              await this.#cache.set(key, same)
              return this.#hit(vertex, same)
            }
            keys.push(contentKey)
          }
        }
        const { layer, matchesKey } = await task.execute(vertex)
        this.executed++
        const result: StepResult = { layer, createdAt: new Date() }
        if (matchesKey) {
          for (const one of keys) await this.#cache.set(one, result)
          await task.remember?.()
        }
        return result
      },
      this.#signal,
    )
  }

  #hit(vertex: Vertex, result: StepResult): StepResult {
    vertex.cached()
    this.cached++
    return result
  }
}
