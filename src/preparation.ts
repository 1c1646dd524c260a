/**
 * Prepared states: what a service has made of an empty container, kept so that later starts begin with it.
 *
 * The first start of a database initialises, runs the init scripts and the migrations. That is done once, in a container of its own, which is
 * then stopped cleanly and whose files are kept under a key of everything they depend on: the image, what runs in it and how, the files
 * copied in, the migrations, the fixture's version. Whoever starts the same finds the state, in any process.
 */

import { createHash } from 'node:crypto'
import type { Backend, BackendContainer, BackendState, ContainerSpec, ImageFacts } from './backends/backend.js'
import { entriesOf, isReadOnce } from './copy.js'
import type { Definition } from './definition.js'
import { Once } from './engine/once.js'
import { migrationKey } from './migration-key.js'
import type { Migration } from './migrations.js'
import type { Preparable } from './preparation-options.js'
import { CompositeWaitStrategy } from './wait/composite.js'
import { LogMessageWaitStrategy } from './wait/log-message.js'
import type { WaitStrategy } from './wait/strategy.js'

/** What is prepared, and how. */
export interface PreparationRequest {
  readonly backend: Backend
  readonly definition: Definition
  readonly spec: ContainerSpec
  readonly image: ImageFacts
  readonly preparable: Preparable
  /** Makes a container ready, with the files copied in, upon a state if there is one, and runs these migrations. */
  readonly bringUp: (
    spec: ContainerSpec,
    from: BackendState | undefined,
    migrations: readonly Migration[],
    signal: AbortSignal,
  ) => Promise<BackendContainer>
}

/**
 * Whether starts of this definition begin with a prepared state. Not if what happens in it is not all known, or does not happen in its own
 * files: mounts, streams that can be read once, hooks that see the container before it is ready; nor where a line of the log is
 * waited for, which a server that begins with its data may not print.
 */
export function isPrepared(definition: Definition, preparable: Preparable, isHooked: boolean): boolean {
  const { isOn, key, migrations } = definition.preparation
  if (!(isOn ?? (preparable.byDefault || key !== undefined || migrations.length > 0))) return false
  const { copies, mounts, volumesFrom, hooks, waitStrategy } = definition
  const isOnce = copies.archives.length > 0 || copies.contents.some(({ content }) => isReadOnce(content))
  const areHooked = isHooked || hooks.some(({ created, starting }) => created !== undefined || starting !== undefined)
  return mounts.length === 0 && volumesFrom.length === 0 && !isOnce && !areHooked && !readsLog(waitStrategy)
}

function readsLog(strategy: WaitStrategy | undefined): boolean {
  if (strategy instanceof CompositeWaitStrategy) return strategy.parts.some(readsLog)
  return strategy instanceof LogMessageWaitStrategy
}

interface SessionStates {
  readonly made: Map<string, BackendState>
  readonly making: Once<BackendState>
}

/** States that only this process may use, since functions without a key made them. */
const ofSession = new WeakMap<Backend, SessionStates>()

/** The state to begin with: found, or made now. Throws what making it throws; then nothing is kept. */
export async function preparedState(request: PreparationRequest, signal: AbortSignal): Promise<BackendState> {
  const { migrations } = request.definition.preparation
  const keys = await Promise.all(migrations.map(migrationKey))
  const key = await keyOf(
    request,
    keys.map(({ text }) => text),
  )
  if (keys.every(({ isLasting }) => isLasting)) return lastingState(request, key, migrations, signal)
  const states = ofSession.get(request.backend) ?? { made: new Map(), making: new Once() }
  ofSession.set(request.backend, states)
  const make = async () => {
    const state = await sessionState(request, signal)
    states.made.set(key, state)
    return state
  }
  return states.making.run(key, async () => states.made.get(key), make, signal)
}

async function lastingState(
  request: PreparationRequest,
  key: string,
  migrations: readonly Migration[],
  signal: AbortSignal,
): Promise<BackendState> {
  const { backend, preparable, bringUp } = request
  const found = await backend.findState(key)
  if (found) return found
  const spec = specToPrepare(request)
  const make = (own: AbortSignal) => bringUp(spec, undefined, migrations, own)
  return backend.prepareState(key, make, { timeoutMs: preparable.stopTimeoutMs, signal })
}

/** Upon the lasting state without migrations, so that at least that is shared. */
async function sessionState(request: PreparationRequest, signal: AbortSignal): Promise<BackendState> {
  const { preparable, bringUp, definition } = request
  const from = await lastingState(request, await keyOf(request, []), [], signal)
  const container = await bringUp(specToPrepare(request), from, definition.preparation.migrations, signal)
  let state: BackendState
  try {
    state = await container.keepState({ timeoutMs: preparable.stopTimeoutMs, stay: false, signal })
  } catch (error) {
    // The first error is the one that is told; what stays is the session's to remove.
    await container.remove({ force: true, volumes: true }).catch(() => {})
    throw error
  }
  await container.remove({ force: true, volumes: true })
  return state
}

/** Nobody is to find it, and no port of the host is to be taken from who wants it. */
function specToPrepare({ spec, preparable, image }: PreparationRequest): ContainerSpec {
  const { name: _name, clockOffsetMs: _clock, ...rest } = preparable.first?.(spec, image) ?? spec
  // What it writes is to be kept, so it must not be in memory.
  const { diskBytes: _disk, ...limits } = rest.limits ?? {}
  const stopSignal = spec.stopSignal ?? preparable.stopSignal
  return Object.freeze({
    ...rest,
    limits,
    ...(stopSignal === undefined ? {} : { stopSignal }),
    ports: spec.ports.map(({ host: _host, ...port }) => port),
    networks: spec.networks.map(({ network }) => ({ network, aliases: [] })),
  })
}

/** Everything that the state depends on. What only the outside sees is not in it: name, labels, ports, networks. */
async function keyOf({ definition, spec, image, preparable }: PreparationRequest, migrations: readonly string[]) {
  const { name: _name, labels: _labels, ports: _ports, networks: _networks, image: _image, ...inside } = spec
  const facts = { preparable: preparable.version, image: image.id, inside, key: definition.preparation.key, migrations }
  const hash = createHash('sha256').update(JSON.stringify(sorted(facts)))
  for await (const { path, type, mode, link, content } of entriesOf(definition.copies)) {
    hash.update(`\0${path}\0${type}\0${mode}\0${link ?? ''}\0`)
    const own = createHash('sha256')
    for await (const piece of content?.() ?? []) own.update(piece)
    hash.update(own.digest())
  }
  return hash.digest('hex')
}

/** With keys in order: what is equal is to have one text. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([name, one]) => [name, sorted(one)]))
}
