/**
 * Snapshots: what a container has written, kept by a rename as a layer that others are started from.
 *
 * A snapshot of a container is of its session and goes with it. A prepared state has a key, lies in the store, and serves all processes.
 */

import type { Container, ContainerContext } from './container.js'
import { unlessAborted } from './deadline.js'
import { MayflyError } from './errors.js'
import { describeExit } from './exit.js'
import type { Life } from './life.js'
import type { ContainerOptions, Snapshot } from './options.js'
import { refusalError } from './refusal.js'
import { removeDirectory } from './store/layer-place.js'
import { listTree } from './tree.js'
import { logTail } from './wait.js'

export interface SnapshotOptions {
  /** Milliseconds that it is given to end by itself; -1 waits for ever. @default 60000 */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

/** A clean end may have much to write. */
export const CLEAN_STOP_MS = 60_000

/** Throws NOT_SUPPORTED for what is written to memory: it cannot become a layer on disk. */
export function requireKeepable({ name, options }: Life): void {
  const refuse = (field: string, hint: string) => {
    const message = `Cannot keep the state of "${name}": what it has written is in memory`
    throw new MayflyError('NOT_SUPPORTED', message, { container: name, field, hint })
  }
  // A disk quota comes first: with one, `scratch` makes no difference.
  if (options.limits.diskBytes !== undefined) refuse('limits.diskBytes', 'leave out its disk quota')
  if (options.scratch === 'memory') refuse('scratch', "leave out scratch: 'memory'")
}

/** Throws NOT_SUPPORTED for a container that cannot get other files. */
export function requireRenewable({ name, options }: Life, verb: string): void {
  if (options.pid !== 'host') return
  throw new MayflyError('NOT_SUPPORTED', `Cannot ${verb} "${name}": it is among the host's processes`, {
    container: name,
    field: 'pid',
    hint: "leave out pid: 'host'",
  })
}

/** The container has ended. What it has written moves to `target`, or is nothing; it has no root file system afterwards. */
async function keepWritten({ session }: ContainerContext, life: Life, target: string): Promise<{ empty: boolean }> {
  const reply = await session.request('keep', ['id', life.id, 'target', target, 'stay', '1'])
  if (!reply.ok) throw refusalError(reply, { verb: 'keep the state of', container: life.name })
  return { empty: (reply as { empty?: boolean }).empty === true }
}

/** What it has written goes, and it stands on these layers. */
export async function renew({ session }: ContainerContext, life: Life, layers: readonly string[]): Promise<void> {
  const reply = await session.request('renew', ['id', life.id, ...layers.flatMap((layer) => ['layer', layer])])
  if (!reply.ok) throw refusalError(reply, { verb: 'reset', container: life.name })
  life.layers = layers
}

/** Keeps the state of a container that has ended, and puts it upon that state. The caller starts it again if it ran. */
export async function takeSnapshot(context: ContainerContext, life: Life): Promise<Snapshot> {
  const { store } = context
  const target = await store.temporary()
  const below = life.layers
  // While the container still has them mounted: later, nobody might, and another process could find them useless.
  const letGo = await store.prepared.hold(below)
  try {
    const { empty } = await keepWritten(context, life, target)
    const layers = empty ? below : [`${target}/tree`, ...below]
    await renew(context, life, layers)
    const remove = async () => {
      // In use: it goes with the session.
      if (!empty && (await removeDirectory(store.disk, target)) === 'busy') return
      letGo()
    }
    return Object.freeze({
      key: undefined,
      layers: Object.freeze(layers),
      options: life.given,
      remove,
      [Symbol.asyncDispose]: remove,
    })
  } catch (error) {
    letGo()
    throw error
  }
}

/**
 * Stops it so that its files are whole. Throws CONTAINER_EXITED, with the last output, when it failed before or something else has killed it,
 * and TIMEOUT when its time was over. On abort it may still run: whoever made it is to remove it.
 */
export async function endCleanly(
  context: ContainerContext,
  container: Container,
  life: Life,
  { timeoutMs = CLEAN_STOP_MS, signal }: SnapshotOptions,
): Promise<void> {
  const wasRunning = life.isRunning
  const askedAt = performance.now()
  const exit = await unlessAborted(container.stop({ timeoutMs }, signal ? { signal } : {}), signal)
  signal?.throwIfAborted()
  if (wasRunning ? exit.signal !== 'SIGKILL' : exit.exitCode === 0) return
  if (wasRunning && timeoutMs !== -1 && performance.now() - askedAt >= timeoutMs) {
    throw new MayflyError('TIMEOUT', `"${life.name}" did not end within ${timeoutMs / 1000} s when asked to`, {
      container: life.name,
      hint: 'its state would not be whole; give it more time, or the right stopSignal',
    })
  }
  const tail = await logTail(context, life)
  throw new MayflyError('CONTAINER_EXITED', `"${life.name}" ${describeExit(exit)} before its state was kept`, {
    container: life.name,
    exitCode: exit.exitCode,
    ...(tail ? { logTail: tail } : {}),
  })
}

/** Prepared states of the store, by key. */
export class PreparedSnapshots {
  readonly #context: ContainerContext
  readonly #life: (container: Container) => Life

  /** @internal */
  constructor(context: ContainerContext, life: (container: Container) => Life) {
    this.#context = context
    this.#life = life
  }

  /** The state with this key, or undefined. Takes less than a tenth of a millisecond. */
  find(key: string): Snapshot | undefined {
    const state = this.#context.store.prepared.get(checkKey(key))
    return state && this.#snapshot(key, state.layers)
  }

  /**
   * The state with this key. Where there is none, `make` starts a container and makes it what it is to be; that is then stopped,
   * kept and removed. In all processes that ask at the same time, `make` runs once; where it fails, nothing is kept.
   *
   * The key has to name everything that the state depends on.
   *
   * Throws what `make` throws, NOT_SUPPORTED for what is written to memory (`scratch: 'memory'`, or the disk quota `limits.diskBytes`),
   * CONTAINER_EXITED when the container was killed or has failed, and TIMEOUT when it does not end by itself: its files could be torn.
   *
   * @example
   * const from = await engine.prepared.ensure('postgres 17, schema 3', async (signal) => {
   *   const container = await engine.start({ image: 'postgres:17', env: { POSTGRES_PASSWORD: 'test' } }, { signal })
   *   await container.waitForPort(5432, { signal })
   *   return container
   * })
   * await using container = await engine.start({ from, image: 'postgres:17', env: { POSTGRES_PASSWORD: 'test' } })
   */
  async ensure(
    key: string,
    make: (signal: AbortSignal) => Promise<Container>,
    options: SnapshotOptions = {},
  ): Promise<Snapshot> {
    const { timeoutMs = CLEAN_STOP_MS, signal = new AbortController().signal } = options
    const { store } = this.#context
    const { layers } = await store.writing(signal, () =>
      store.prepared.ensure(
        checkKey(key),
        async (target) => {
          const container = await make(signal)
          try {
            return await this.#keep(container, target, timeoutMs, signal)
          } finally {
            await container.remove({ force: true })
          }
        },
        signal,
      ),
    )
    return this.#snapshot(key, layers)
  }

  async #keep(container: Container, target: string, timeoutMs: number, signal: AbortSignal) {
    const life = this.#life(container)
    const { home, sessions } = places(this.#context)
    if (life.layers.some((layer) => layer.startsWith(sessions) || !layer.startsWith(home))) {
      throw new MayflyError('NOT_SUPPORTED', `"${life.name}" stands on what goes with the session`, {
        container: life.name,
        hint: 'start it from an image, or from a state with a key',
      })
    }
    requireKeepable(life)
    life.isRestarting = true // its exit does not remove it
    await endCleanly(this.#context, container, life, { timeoutMs, signal })
    const below = life.layers
    const { empty } = await keepWritten(this.#context, life, target)
    return { below, sizeBytes: empty ? 0 : await this.#sizeOf(`${target}/tree`, signal) }
  }

  async #sizeOf(tree: string, signal: AbortSignal): Promise<number> {
    let bytes = 0
    for await (const { type, size } of listTree(this.#context.session, { directory: tree }, '/', { signal })) {
      if (type === 'f') bytes += size
    }
    return bytes
  }

  #snapshot(key: string, layers: readonly string[]): Snapshot {
    const remove = async () => {
      await this.#context.store.prepared.removeKey(key)
    }
    return Object.freeze({ key, layers, options: undefined, remove, [Symbol.asyncDispose]: async () => {} })
  }
}

function places({ store }: ContainerContext): { home: string; sessions: string } {
  return { home: `${store.home}/`, sessions: `${store.home}/sessions/` }
}

function checkKey(key: unknown): string {
  if (typeof key === 'string' && key !== '') return key
  throw new MayflyError('INVALID_OPTION', `key: expected a text, got ${typeof key}`, { field: 'key', value: key })
}

/** Options of a start from a snapshot: those of the container it was made of, with what is given now. */
export function withSnapshot(options: ContainerOptions): ContainerOptions {
  const { from, ...given } = options
  const before: ContainerOptions = from?.options ?? {}
  const { name: _name, rootfs, image, ...rest } = before
  const hasRoot = given.image !== undefined || given.rootfs !== undefined
  return { ...rest, ...(hasRoot || !rootfs ? {} : { rootfs }), ...(hasRoot || !image ? {} : { image }), ...given }
}

/** The layers of a container that is started from a snapshot. Throws INVALID_OPTION when that is of another root file system. */
export function layersFrom(from: Snapshot, layers: readonly string[]): readonly string[] {
  const below = from.layers.slice(from.layers.length - layers.length)
  if (below.length === layers.length && below.every((layer, index) => layer === layers[index])) return from.layers
  throw new MayflyError('INVALID_OPTION', 'from: the snapshot was made of another image or root file system', {
    field: 'from',
    value: from.key ?? 'a snapshot',
  })
}

/** Throws INVALID_OPTION for what is no snapshot. */
export function checkSnapshot(from: unknown): asserts from is Snapshot {
  if (typeof from === 'object' && from !== null && Array.isArray((from as Snapshot).layers)) return
  throw new MayflyError('INVALID_OPTION', 'from: expected a snapshot, as container.snapshot() gives it', {
    field: 'from',
    value: from,
  })
}
