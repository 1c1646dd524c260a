/** From a definition to a container that is ready. */

import type {
  Backend,
  BackendContainer,
  BackendState,
  ContainerSpec,
  ImageFacts,
  Inspection,
} from './backends/backend.js'
import { backendUpon } from './backends/current.js'
import { isReadOnce } from './copy.js'
import { copyArchives, copyEntries } from './copy-in.js'
import { type Definition, modifiedSpec, toSpec, upon } from './definition.js'
import { unlessAborted } from './engine/deadline.js'
import { MayflyError } from './engine/errors.js'
import { describeExit } from './engine/exit.js'
import { callHook } from './hooks.js'
import { hostAccess } from './host-ports.js'
import { substituteImage } from './image-substitution.js'
import { LogStream } from './log-stream.js'
import type { Migration } from './migrations.js'
import type { PreparationRequest } from './preparation.js'
import { ANY_CONTAINER, NO_PREPARATION, type Preparable } from './preparation-options.js'
import { RunningContainer } from './running-container.js'
import { readTail, withContainerFacts } from './wait/explain.js'
import { HealthCheckWaitStrategy } from './wait/health-check.js'
import { ListeningPortsWaitStrategy } from './wait/listening-ports.js'
import { pause } from './wait/retry.js'
import { runStrategy } from './wait/run.js'
import type { WaitStrategy } from './wait/strategy.js'

/** What the start of a container asks of its definition's class. */
export interface Launchable {
  /** Called for each attempt. */
  define(): Promise<Definition>
  created(containerId: string): Promise<void>
  starting(inspection: Inspection): Promise<void>
  started(running: RunningContainer): Promise<void>
  /** What it is to begin with. */
  readonly from: BackendState | undefined
  /** What is known of the state of its service. */
  preparable(): Preparable | undefined
  /** It has a say before the container is ready. */
  isHooked(): boolean
  migrate(running: RunningContainer, migrations: readonly Migration[]): Promise<void>
}

/**
 * A program that ends at once has ended within this time, mostly. Only for containers for which there is nothing else to wait
 * for.
 */
const SETTLING_MS = 10

/** Starts it, as often as its definition allows. A failed attempt leaves no container behind. */
export async function startContainer(source: Launchable, signal: AbortSignal): Promise<RunningContainer> {
  signal.throwIfAborted()
  for (let attempt = 1; ; attempt++) {
    const definition = await source.define()
    const backend = await unlessAborted(backendUpon(upon(definition)), signal)
    try {
      return await startOnce(backend, definition, source, signal)
    } catch (error) {
      if (signal.aborted) throw error
      if (attempt >= definition.startupAttempts || !isWorthAnother(error)) throw withImage(error, definition)
    }
  }
}

/** A name that was made up tells nobody which container it is. */
function withImage(error: unknown, { name, image }: Definition): unknown {
  if (name === undefined && error instanceof MayflyError && error.container && !error.message.includes(image)) {
    const made = `"${error.container}"`
    // Read first: where stacks are written by Jest, that is done at the first look, with the message as it is then.
    const { stack } = error
    // In place, so that whoever handles it has the same object, cause and facts.
    error.message = error.message.replace(made, `${made} (${image})`)
    if (stack) error.stack = stack.replace(made, `${made} (${image})`)
  }
  return error
}

/** What the definition itself is to blame for is the same the next time. */
function isWorthAnother(error: unknown): boolean {
  return !(
    error instanceof MayflyError &&
    /^(INVALID_|NOT_SUPPORTED|IMAGE_NOT_FOUND|NAME_TAKEN|WAIT_IMPOSSIBLE|MIGRATION_FAILED)/.test(error.code)
  )
}

async function startOnce(
  backend: Backend,
  definition: Definition,
  source: Launchable,
  signal: AbortSignal,
): Promise<RunningContainer> {
  const { reference, image } = await prepareImage(backend, definition, signal)
  const extraHosts = await hostAccess(backend, definition.hostPorts, signal)
  let spec: ContainerSpec = toSpec(definition, reference, extraHosts)
  for (const modifier of definition.modifiers) {
    const given = spec
    spec = modifiedSpec(await callHook('createModifier', definition, () => modifier(given)))
  }
  for (const hooks of definition.hooks) await callHook('beforeCreate', definition, () => hooks.beforeCreate?.(spec))
  const { from, own, container } = await create({ backend, definition, image, spec }, source, signal)
  return orRemoved(
    container,
    bringUp({ backend, definition, image, spec: own }, container, source, from, signal),
    signal,
  )
}

/** What a start is of. */
interface Scene {
  readonly backend: Backend
  readonly definition: Definition
  readonly image: ImageFacts
  readonly spec: ContainerSpec
}

async function create(
  scene: Scene,
  source: Launchable,
  signal: AbortSignal,
  isAgain = false,
): Promise<Awaited<ReturnType<typeof beginning>> & { readonly container: BackendContainer }> {
  const begun = await beginning(scene, source, signal)
  const { from, own } = begun
  try {
    const container = await scene.backend.createContainer(own, { signal, ...(from ? { from } : {}) })
    return { ...begun, container }
  } catch (error) {
    const isGone = error instanceof MayflyError && error.code === 'ROOTFS_NOT_FOUND'
    // Somebody has pruned since it was found. It is made again.
    if (isGone && from && !source.from && !isAgain) return create(scene, source, signal, true)
    throw error
  }
}

/** The state that it begins with, if there is one, and the spec for that. */
async function beginning(
  scene: Scene,
  source: Launchable,
  signal: AbortSignal,
): Promise<{ from: BackendState | undefined; own: ContainerSpec }> {
  const { definition, image, spec } = scene
  const preparable = source.preparable()
  const again = (from: BackendState) => ({ from, own: preparable?.again?.(spec, image) ?? spec })
  if (source.from) return again(source.from)
  if (!preparable && definition.preparation === NO_PREPARATION) return { from: undefined, own: spec }
  const { isPrepared, preparedState } = await import('./preparation.js')
  const known = preparable ?? ANY_CONTAINER
  if (!isPrepared(definition, known, source.isHooked())) return { from: undefined, own: spec }
  const bringUp: PreparationRequest['bringUp'] = async (own, from, migrations, ownSignal) => {
    const state = from ? { signal: ownSignal, from } : { signal: ownSignal }
    const container = await scene.backend.createContainer(own, state)
    return orRemoved(
      container,
      prepareContainer({ ...scene, spec: own }, container, source, from, migrations, ownSignal),
      ownSignal,
    )
  }
  return again(await preparedState({ ...scene, preparable: known, bringUp }, signal))
}

/** Without the hooks, which are for the containers that are handed out. */
async function prepareContainer(
  scene: Scene,
  container: BackendContainer,
  source: Launchable,
  from: BackendState | undefined,
  migrations: readonly Migration[],
  signal: AbortSignal,
): Promise<BackendContainer> {
  const running = await launch(scene, container, from, signal)
  await awaitReady(running, signal)
  if (migrations.length > 0) await source.migrate(running, migrations)
  return container
}

/** What the work comes to. If it fails, the container is gone, and the error says what is known of it. */
async function orRemoved<T>(container: BackendContainer, work: Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    // A hook may hang, and so may a stream that is copied: the signal ends the wait for them too.
    return await unlessAborted(work, signal)
  } catch (error) {
    const explained = signal.aborted ? signal.reason : await withContainerFacts(error, container)
    // The first error is the one that is told; what stays is the session's to remove.
    await container.remove({ force: true, volumes: true }).catch(() => {})
    throw explained
  }
}

/** Copies in what is to be there, and starts it. */
async function launch(
  { backend, definition, image, spec }: Scene,
  container: BackendContainer,
  from: BackendState | undefined,
  signal: AbortSignal,
): Promise<RunningContainer> {
  if (!from) await copyAll(container, definition, signal)
  await container.start({ signal })
  const healthCheck = definition.healthCheck ?? image.healthCheck
  const running = new RunningContainer(backend, container, definition, healthCheck, await container.inspect())
  running.isUponState = from !== undefined
  if (spec.user !== definition.user) running.programUser = definition.user ?? image.user
  await running.refresh()
  return running
}

async function copyAll(container: BackendContainer, definition: Definition, signal: AbortSignal): Promise<void> {
  const { copies, copyOptions } = definition
  await copyEntries({ container, definition }, copies, copyOptions, signal)
  await copyArchives({ container, definition }, copies.archives, copyOptions, signal)
}

async function bringUp(
  scene: Scene,
  container: BackendContainer,
  source: Launchable,
  from: BackendState | undefined,
  signal: AbortSignal,
): Promise<RunningContainer> {
  const { hooks, logConsumers, preparation } = scene.definition
  const { id, name } = container
  await callHook('containerCreated', name, () => source.created(id))
  for (const one of hooks) await callHook('created', name, () => one.created?.(id))
  const running = await launch(scene, container, from, signal)
  for (const consumer of logConsumers) {
    const log = new LogStream(container.logs({ follow: true, background: true }))
    log.on('error', () => {}) // the log ends with the container or the session; whoever consumes it may listen too
    await consumer(log)
  }
  const { inspection } = running
  await callHook('containerStarting', name, () => source.starting(inspection))
  for (const one of hooks) await callHook('starting', name, () => one.starting?.(inspection))
  await awaitReady(running, signal)
  if (preparation.migrations.length > 0) running.migrate = () => source.migrate(running, preparation.migrations)
  if (!from) await running.migrate()
  await source.started(running)
  return running
}

/** Back to the state that it began with, or that was kept of it last; without one, to its image. */
export async function resetContainer(running: RunningContainer, signal: AbortSignal): Promise<void> {
  const { container, definition, isUponState } = running
  const { archives, contents } = definition.copies
  if (!isUponState && (archives.length > 0 || contents.some(({ content }) => isReadOnce(content)))) {
    throw new MayflyError('NOT_SUPPORTED', `Cannot reset "${container.name}": what was copied in came as a stream`, {
      container: container.name,
      hint: 'take a snapshot() first: reset() goes back to that',
    })
  }
  await container.reset({ signal, ...(isUponState ? {} : { prepare: () => copyAll(container, definition, signal) }) })
  await running.refresh()
  await awaitReady(running, signal)
  if (!isUponState) await running.migrate()
}

async function prepareImage(
  backend: Backend,
  definition: Definition,
  signal: AbortSignal,
): Promise<{ reference: string; image: ImageFacts }> {
  const { isBuilt, platform, pullPolicy } = definition
  const reference = isBuilt ? definition.image : await substituteImage(definition)
  const control = { signal, ...(platform === undefined ? {} : { platform }) }
  if (isBuilt) return { reference, image: await backend.ensureImage(reference, { pull: 'never', ...control }) }
  // Only a policy that looks at its argument needs to know what is here.
  const local = pullPolicy.shouldPull.length > 0 ? await backend.findImage(reference, platform) : undefined
  const decision = await callHook('shouldPull', definition, () => pullPolicy.shouldPull(local))
  const pull = decision === 'never' ? 'never' : decision ? 'always' : 'missing'
  return { reference, image: await backend.ensureImage(reference, { pull, ...control }) }
}

/** Until the container is ready, by its wait strategy or the default one. */
export async function awaitReady(running: RunningContainer, signal: AbortSignal): Promise<void> {
  const { definition, healthCheck, container } = running
  const { waitStrategy, startupTimeoutMs, ports } = definition
  const hasHealthCheck = healthCheck !== undefined && healthCheck.test.length > 0 && healthCheck.test[0] !== 'NONE'
  if (!waitStrategy && !hasHealthCheck && !ports.some(({ protocol }) => protocol !== 'udp')) {
    await settle(container, signal)
    return
  }
  const own = running.isUponState ? (waitStrategy?.again?.() ?? waitStrategy) : waitStrategy
  const chosen: WaitStrategy =
    own ?? (hasHealthCheck ? new HealthCheckWaitStrategy() : new ListeningPortsWaitStrategy())
  // The container's timeout comes before that of its strategy, as in testcontainers.
  const timed = startupTimeoutMs === undefined ? chosen : (chosen.withStartupTimeout?.(startupTimeoutMs) ?? chosen)
  await runStrategy(timed, running.target(), {
    signal,
    ...(startupTimeoutMs === undefined ? {} : { timeoutMs: startupTimeoutMs }),
  })
}

/** There is nothing to wait for but that it does not end at once. */
async function settle(container: BackendContainer, signal: AbortSignal): Promise<void> {
  const controller = new AbortController()
  const end = container.wait({ signal: controller.signal }).catch(() => undefined)
  const exit = await Promise.race([end, pause(SETTLING_MS, signal).then(() => undefined)]).finally(() =>
    controller.abort(),
  )
  if (!exit) return
  const logTail = await readTail(container)
  throw new MayflyError('CONTAINER_EXITED', `"${container.name}" ${describeExit(exit)} at once`, {
    container: container.name,
    exitCode: exit.exitCode,
    hint:
      exit.exitCode === 0
        ? "if it is meant to do one thing and end, wait for that: withWaitStrategy(Wait.forOneShotStartup()); if it is meant to stay, give it something to do: withCommand(['sleep', 'infinity'])"
        : 'see its last output',
    ...(logTail ? { logTail } : {}),
  })
}
