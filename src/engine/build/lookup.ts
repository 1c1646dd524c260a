/** One step: from the cache, or made, and by nobody else at the same time. */

import type { Layer } from '../store/layers.js'
import { type BuildCache, cacheKey, type KeyPart, type StepResult } from './cache.js'
import type { Vertex } from './events.js'
import type { ContextTree } from './source-tree.js'

/** How a step is looked up and done. */
export interface Task {
  readonly kind: string
  /** Executed whatever the cache has. */
  readonly isFresh: boolean
  /** Undefined for a key that does not contain what is below. */
  readonly parent: Layer | undefined
  key(byContent: boolean): Promise<{ readonly part: KeyPart; readonly hasContent: boolean }>
  execute(vertex: Vertex): Promise<Layer | undefined>
  /** Called after it was executed, when the context is still what it was before. */
  remember?(): Promise<void>
}

export class Lookup {
  readonly #cache: BuildCache
  readonly #mainTree: ContextTree
  readonly #signal: AbortSignal
  executed = 0
  cached = 0

  constructor(cache: BuildCache, mainTree: ContextTree, signal: AbortSignal) {
    this.#cache = cache
    this.#mainTree = mainTree
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
        const layer = await task.execute(vertex)
        this.executed++
        const result: StepResult = { layer, createdAt: new Date() }
        // What has changed while it was copied may not be what the key says.
        if (kind !== 'copy' || (await this.#mainTree.isUnchanged())) {
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
