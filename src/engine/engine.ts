/** The engine: what every door of mayfly (library, REST, command line) calls. */

import { Container, type ContainerContext } from './container.js'
import { MayflyError } from './errors.js'
import { type EngineEvent, EventBus, type EventDetail } from './events.js'
import { newId } from './ids.js'
import { ImageService } from './images.js'
import type { CompleteContainerOptions } from './launch/complete.js'
import type { HostFacts, SessionFacts } from './launch/facts.js'
import { readHost } from './launch/host.js'
import { type ImageFacts, imageFault } from './launch/image.js'
import { planLaunch } from './launch/plan.js'
import { checkContainer, validateContainer } from './launch/validate.js'
import { Life } from './life.js'
import { settleMounts } from './mounts.js'
import { inventName } from './names.js'
import { Networks } from './networks.js'
import type { ContainerOptions, Snapshot } from './options.js'
import { refusalError } from './refusal.js'
import { RootFilesystems } from './rootfs.js'
import { type Launch, launchError, type RunOptions, type RunResult, runToEnd, type StartOptions } from './run.js'
import { Session } from './session.js'
import { checkSnapshot, layersFrom, PreparedSnapshots, withSnapshot } from './snapshot.js'
import { Store, storeHome } from './store/store.js'
import { Volumes, volumesDirectory } from './volumes.js'
import { wardenProgram } from './where.js'
import type { ExitEvent, ListenEvent, WarningEvent } from './wire.js'

/** Where an engine keeps its things, and what it does without. */
export interface EngineOptions {
  /** The store's directory. @default MAYFLY_HOME, else /var/lib/mayfly as root, else $XDG_DATA_HOME/mayfly */
  readonly home?: string
  /**
   * Whether the session has a network. Without one it opens faster, and containers have `network: 'none'` unless told `host`.
   *
   * @default true
   */
  readonly network?: boolean
  /** Gives up opening. */
  readonly signal?: AbortSignal
}

/** What the engine found out about this machine. */
export interface EngineInfo {
  /** Of the native program. */
  readonly version: string
  /** Process id of the warden on the host. */
  readonly pid: number
  /** Process id of its parent, which cleans up after it. */
  readonly launcher: number
  /** The store's directory. */
  readonly home: string
  /** Directory of this session, gone with it. */
  readonly session: string
  readonly rootless: boolean
  /** Which user ids containers have: all, one, or a delegated range. */
  readonly ids: 'root' | 'single' | 'range'
  readonly cgroups: 'v1' | 'v2' | 'hybrid' | 'none'
  /** '' without a network. */
  readonly subnet: string
  readonly gateway: string
  /** Containers reach the outside. */
  readonly hasEgress: boolean
  /** This host reaches the containers' addresses. */
  readonly isHostReachable: boolean
  readonly warnings: readonly string[]
}

/** Containers that were removed at their exit and whose logs are still kept. */
const KEPT_LOGS = 32

interface Entry {
  readonly life: Life
  container: Container | undefined
}

/**
 * Containers, held by one native process that dies with this one: whatever happens, nothing stays behind.
 *
 * @example
 * await using engine = await Engine.open()
 * const { exitCode, stdout } = await engine.run({ rootfs: { directory: '/srv/rootfs' }, command: ['uname', '-s'] })
 */
export class Engine implements AsyncDisposable {
  readonly #session: Session
  readonly #store: Store
  readonly #hasNetwork: boolean
  readonly #facts: SessionFacts
  readonly #rootfs: RootFilesystems
  readonly #context: ContainerContext
  /** Networks of this session, beside the default one. */
  readonly networks: Networks
  /** Volumes of the store. */
  readonly volumes: Volumes
  /** What can be done with images. */
  readonly images: ImageService
  /** States of containers in the store, by key: shared by all processes, gone with `prune`. */
  readonly prepared: PreparedSnapshots
  readonly #bus = new EventBus()
  /** By id: until the log is forgotten. */
  readonly #entries = new Map<string, Entry>()
  /** By name: until they are removed. */
  readonly #names = new Map<string, Life>()
  #keptLogs: Life[] = []

  /**
   * Starts the native process. One engine serves a whole process: open it once.
   *
   * Throws ENGINE_UNAVAILABLE with the reason, INVALID_OPTION for the home.
   */
  static async open(options: EngineOptions = {}): Promise<Engine> {
    const { signal, network = true } = options
    signal?.throwIfAborted()
    const store = new Store(storeHome(options.home))
    const program = wardenProgram()
    await store.prepare().catch((error) => {
      const message = `Cannot make the store ${store.home}: ${(error as Error).message}`
      throw new MayflyError(
        'ENGINE_UNAVAILABLE',
        message,
        { hint: 'MAYFLY_HOME names another directory' },
        { cause: error },
      )
    })
    const host = readHost()
    const session = await Session.open({ home: store.home, program, network })
    if (signal?.aborted) {
      await session.close()
      throw signal.reason
    }
    return new Engine(session, new Store(store.home, session), host, network)
  }

  private constructor(session: Session, store: Store, host: HostFacts, hasNetwork: boolean) {
    this.#session = session
    this.#store = store
    this.#hasNetwork = hasNetwork
    this.#rootfs = new RootFilesystems(session, store)
    this.#facts = {
      ...host,
      rootless: session.facts.rootless,
      cgroups: session.facts.cgroups.mode,
      container: (reference) => this.#find(reference).life,
      network: (reference, field) => this.networks.facts(reference, field),
      volumes: volumesDirectory(store.home),
    }
    this.networks = new Networks({
      session,
      lives: () => this.#names.values(),
      find: (reference) => this.#find(reference).life,
    })
    this.volumes = new Volumes(session, store)
    this.images = new ImageService({ session, store, facts: this.#facts, user: (id) => this.#imageUser(id) })
    this.#context = {
      session,
      store,
      facts: this.#facts,
      emit: (life, detail) => this.#emit(life, detail),
      remove: (life, force) => this.#remove(life, force),
      forgetLog: (life) => this.#forgetLog(life),
      forget: (id) => this.#forget(id),
      drop: (life) => this.#drop(life),
      rename: (life, name) => this.#rename(life, name),
    }
    this.prepared = new PreparedSnapshots(this.#context, ({ id }) => this.#find(id).life)
    session.listen({
      exited: (event) => this.#exited(event),
      listening: (event) => this.#listening(event),
      warned: (event) => this.#warned(event),
      failed: (error) => this.#failed(error),
    })
  }

  get info(): EngineInfo {
    const { facts } = this.#session
    return {
      version: facts.version,
      pid: facts.pid,
      launcher: facts.launcher,
      home: this.#store.home,
      session: facts.session,
      rootless: facts.rootless,
      ids: facts.ids,
      cgroups: facts.cgroups.mode,
      subnet: facts.subnet ?? '',
      gateway: facts.gateway ?? '',
      hasEgress: facts.egress ?? false,
      isHostReachable: facts.hostReachable ?? false,
      warnings: facts.warnings ?? [],
    }
  }

  /**
   * Runs a container to its end and resolves when it is gone, to how it ended and what it printed.
   *
   * A program that fails is a result, not an error. Throws when it could not be started: INVALID_OPTION, PROGRAM_NOT_FOUND,
   * ROOTFS_NOT_FOUND and so on.
   *
   * @example
   * const { exitCode } = await engine.run({ rootfs: { directory: '/srv/rootfs' }, command: ['test', '-d', '/etc'] })
   */
  async run(options: ContainerOptions, runOptions: RunOptions = {}): Promise<RunResult> {
    const { signal } = runOptions
    signal?.throwIfAborted()
    const preparing = this.#prepare(options, true, runOptions)
    // Most often there is nothing to wait for, and an await costs a turn of the queue.
    const launch = preparing instanceof Promise ? await preparing : preparing
    if (signal?.aborted) this.#drop(launch.life)
    signal?.throwIfAborted()
    return runToEnd(this.#context, launch, runOptions)
  }

  /**
   * Makes a container and starts it.
   *
   * It is removed at its exit unless `remove` is false. Throws as `run`.
   *
   * @example
   * await using container = await engine.start({ rootfs: { directory: '/srv/rootfs' }, command: ['httpd', '-f'], ports: [80] })
   * await container.waitForPort(80)
   * await fetch(`http://127.0.0.1:${container.port(80)}/`)
   */
  async start(options: ContainerOptions, startOptions: StartOptions = {}): Promise<Container> {
    return this.#launch('run', options, startOptions)
  }

  /** Makes a container without starting it; files can be copied in. Throws as `run`. */
  async create(options: ContainerOptions, startOptions: StartOptions = {}): Promise<Container> {
    return this.#launch('create', options, startOptions)
  }

  async #launch(verb: 'create' | 'run', options: ContainerOptions, startOptions: StartOptions): Promise<Container> {
    const { signal } = startOptions
    signal?.throwIfAborted()
    const { life, words } = await this.#prepare(options, false, startOptions)
    const container = this.#container(life)
    try {
      signal?.throwIfAborted()
      await new Promise<void>((resolve, reject) => {
        this.#session.send(verb, words, (error, reply) => {
          if (error !== undefined) {
            reject(error)
            return
          }
          if (!reply.ok) {
            reject(launchError(reply, life, this.#facts))
            return
          }
          // At once: the next line from the warden may be its exit.
          if (verb === 'run') life.started()
          life.learn(reply)
          this.#emit(life, { type: 'create' })
          if (verb === 'run') this.#emit(life, { type: 'start' })
          resolve()
        })
      })
    } catch (error) {
      this.#drop(life)
      throw error
    }
    if (signal?.aborted) {
      await container.remove({ force: true })
      throw signal.reason
    }
    return container
  }

  /**
   * Lets containers of this engine reach these TCP ports of the host's loopback, at the gateway's address (`host-gateway` of
   * `extraHosts`). May be called twice for one port; ends with the engine.
   *
   * Throws INVALID_OPTION, and PORT_IN_USE for a port that the gateway itself has, such as 53.
   *
   * @example
   * await engine.exposeHostPorts([8080])
   */
  async exposeHostPorts(ports: readonly number[]): Promise<void> {
    for (const port of ports) {
      if (!Number.isInteger(port) || port < 1 || port > 65_535) {
        const message = `ports: expected numbers from 1 to 65535, got ${port}`
        throw new MayflyError('INVALID_OPTION', message, { field: 'ports', value: port })
      }
    }
    await Promise.all(
      ports.map(async (port) => {
        const reply = await this.#session.request('expose', ['port', String(port)])
        if (reply.ok) return
        const { errno, message } = reply
        const code = errno === 'EADDRINUSE' ? 'PORT_IN_USE' : errno === 'EOPNOTSUPP' ? 'NOT_SUPPORTED' : 'LAUNCH_FAILED'
        throw new MayflyError(code, `Cannot let containers reach port ${port} of the host: ${message || errno}`, {
          value: port,
          step: reply.step,
          errno,
        })
      }),
    )
  }

  /** Containers that are not removed, running or not. */
  containers(): Container[] {
    return [...this.#names.values()].map((life) => this.#container(life))
  }

  /**
   * The container with this name, id, or start of an id.
   *
   * Throws NO_SUCH_CONTAINER when there is none, or more than one.
   */
  get(reference: string): Container {
    return this.#container(this.#find(reference).life)
  }

  /**
   * What happens to containers from now on.
   *
   * A reader that lags more than 1000 events behind loses some, and is told how many by an event of type `lost`.
   *
   * @example
   * for await (const event of engine.events({ signal })) console.log(event.type)
   */
  events({ signal }: { readonly signal?: AbortSignal } = {}): AsyncIterableIterator<EngineEvent> {
    const session = this.#session
    return this.#bus.subscribe((waiting) => (waiting ? session.hold() : session.release()), signal)
  }

  /**
   * Ends the native process: every container dies, every trace goes. Resolves when that has happened, within 10 seconds. May
   * be called twice.
   */
  close(): Promise<void> {
    return this.#session.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** From options to the words for the warden, with the name taken. A promise only where something has to be waited for. */
  #prepare(options: ContainerOptions, isRun: boolean, startOptions: StartOptions): Launch | Promise<Launch> {
    if (this.#session.failure) throw this.#session.failure
    const from = options?.from
    if (from !== undefined) {
      checkSnapshot(from)
      return this.#prepareOf(withSnapshot(options), isRun, startOptions, from)
    }
    return this.#prepareOf(options, isRun, startOptions)
  }

  #prepareOf(
    options: ContainerOptions,
    isRun: boolean,
    startOptions: StartOptions,
    from?: Snapshot,
  ): Launch | Promise<Launch> {
    const { image, pull, platform } = options ?? {}
    if (image === undefined) return this.#prepareFound(options, isRun, startOptions, undefined, from)
    const request = { image, pull, platform }
    const known = this.images.recall(request)
    if (known) return this.#prepareFound(options, isRun, startOptions, known, from)
    checkContainer(this.#networked(options))
    return this.images
      .resolve(request, startOptions)
      .then((found) => this.#prepareFound(options, isRun, startOptions, found, from))
  }

  #prepareFound(
    options: ContainerOptions,
    isRun: boolean,
    startOptions: StartOptions,
    image: ImageFacts | undefined,
    from: Snapshot | undefined,
  ): Launch | Promise<Launch> {
    const complete = this.#complete(options, image)
    if (complete.name !== undefined) this.#requireFree(complete.name)
    const layers = this.#rootfs.layers(complete.rootfs)
    const settled = settleMounts(complete, {
      ensureVolumes: (wanted) => this.volumes.ensure(wanted),
      resolveImage: (image) => this.images.resolve({ image }, startOptions),
      find: (reference) => this.#find(reference).life,
    })
    const plan = (ready: CompleteContainerOptions, found: readonly string[]) =>
      this.#plan(ready, from ? layersFrom(from, found) : found, isRun, options)
    if (!(settled instanceof Promise) && !(layers instanceof Promise)) return plan(settled, layers)
    return Promise.all([settled, layers]).then(([ready, found]) => plan(ready, found))
  }

  #plan(
    complete: CompleteContainerOptions,
    layers: readonly string[],
    isRun: boolean,
    given: ContainerOptions,
  ): Launch | Promise<Launch> {
    const id = newId()
    const name = complete.name ?? inventName((candidate) => this.#names.has(candidate))
    this.#requireFree(name)
    // The warden removes what `run` leaves. Others may be started again, so the engine decides when they exit.
    const planned = complete.remove === isRun ? complete : { ...complete, remove: isRun }
    const { words, programs, identity, warnings } = planLaunch(planned, this.#facts, { id, name, layers })
    for (const message of warnings) this.#warned({ event: 'warning', container: id, message })
    const life = new Life(id, name, complete, identity)
    life.isRun = isRun
    life.layers = layers
    life.given = given
    this.#entries.set(id, { life, container: undefined })
    this.#names.set(name, life)
    const launch = { life, words }
    const sending = this.#session.sendPrograms(programs)
    if (!sending) return launch
    return sending.then(
      () => launch,
      (error) => {
        this.#drop(life)
        throw error
      },
    )
  }

  #complete(options: ContainerOptions, image: ImageFacts | undefined): CompleteContainerOptions {
    const given = this.#networked(options)
    if (!image) return validateContainer(given)
    try {
      return validateContainer(given, image)
    } catch (error) {
      checkContainer(given) // what the caller is to blame for
      throw imageFault(image.reference, error, options)
    }
  }

  /** The options with the network that this engine has. */
  #networked(options: ContainerOptions): ContainerOptions {
    if (this.#hasNetwork || typeof options !== 'object' || options === null) return options
    const { network = 'none' } = options
    if (network === 'bridge') {
      throw new MayflyError(
        'NOT_SUPPORTED',
        "This engine was opened without a network, so `network: 'bridge'` is not possible",
        {
          field: 'network',
          value: network,
        },
      )
    }
    return { ...options, network }
  }

  /** A container that was made from the image; one that runs, if there is one. */
  #imageUser(id: string): { name: string; isRunning: boolean } | undefined {
    const mountsIt = ({ mounts }: CompleteContainerOptions) =>
      mounts.some((mount) => mount.type === 'image' && mount.id === id)
    const users = [...this.#names.values()].filter(({ options }) => options.image?.id === id || mountsIt(options))
    return users.find(({ isRunning }) => isRunning) ?? users[0]
  }

  #requireFree(name: string): void {
    if (!this.#names.has(name)) return
    throw new MayflyError('NAME_TAKEN', `The name "${name}" is taken by another container`, {
      field: 'name',
      value: name,
      container: name,
    })
  }

  #container(life: Life): Container {
    const entry = this.#entries.get(life.id)
    if (!entry) return new Container(this.#context, life)
    entry.container ??= new Container(this.#context, life)
    return entry.container
  }

  #find(reference: string): Entry {
    const id = this.#names.get(reference)?.id ?? reference
    const exact = this.#entries.get(id)
    if (exact) return exact
    const matches: Entry[] = []
    if (/^[0-9a-f]+$/.test(reference)) {
      for (const named of this.#names.values())
        if (named.id.startsWith(reference)) matches.push(this.#entries.get(named.id)!)
    }
    if (matches.length === 1) return matches[0]!
    const message =
      matches.length > 1 ? `${matches.length} containers have ids that begin with` : 'There is no container'
    throw new MayflyError('NO_SUCH_CONTAINER', `${message} "${reference}"`, { value: reference })
  }

  #exited(event: ExitEvent): void {
    const life = this.#entries.get(event.container)?.life
    if (!life) return
    const exit = life.exited(event)
    if (this.#bus.isHeard) {
      if (exit.oomKilled) this.#emit(life, { type: 'oom' })
      this.#emit(life, { type: 'die', exitCode: exit.exitCode, signal: exit.signal })
    }
    if (life.isRun || life.isRestarting || !life.options.remove || life.removal) return
    this.#remove(life, true).then(
      () => this.#keepLog(life),
      (error: MayflyError) => this.#warned({ event: 'warning', container: life.id, message: error.message }),
    )
  }

  #listening(event: ListenEvent): void {
    const life = this.#entries.get(event.container)?.life
    if (!life) return
    life.listening(event)
    this.#emit(life, { type: 'listen', port: event.port, address: event.address })
  }

  #warned({ container, message }: WarningEvent): void {
    this.#bus.emit({ type: 'warning', message, ...(container ? { container } : {}), time: new Date() })
  }

  #failed(error: MayflyError): void {
    for (const { life } of this.#entries.values()) life.failed(error)
    this.#bus.close()
  }

  #emit(life: Life, detail: EventDetail): void {
    if (!this.#bus.isHeard) return
    this.#bus.emit({ ...detail, container: life.id, name: life.name, time: new Date() })
  }

  #remove(life: Life, force: boolean): Promise<void> {
    if (life.removal) return life.removal
    if (this.#session.failure) return Promise.reject(this.#session.failure)
    if (life.isRunning && !force) {
      const message = `Cannot remove "${life.name}": it is ${life.state}`
      const hint = 'stop it first, or remove it with force'
      return Promise.reject(new MayflyError('CONTAINER_RUNNING', message, { container: life.name, hint }))
    }
    life.end()
    const removal = this.#session.request('remove', ['id', life.id, 'force', force ? '1' : '0']).then((reply) => {
      // No such container: it is gone already, which is what was wanted.
      if (!reply.ok && reply.step !== 'id') throw refusalError(reply, { verb: 'remove', container: life.name })
      life.state = 'removed'
      this.#freeName(life)
      this.#emit(life, { type: 'remove' })
    })
    life.removal = removal
    removal.catch(() => {
      life.removal = undefined // it may be tried again
    })
    return removal
  }

  /** Lets the log of a container that was removed at its exit be read for a while. */
  #keepLog(life: Life): void {
    this.#keptLogs.push(life)
    if (this.#keptLogs.length > KEPT_LOGS) this.#forgetLog(this.#keptLogs[0]!)
  }

  #forgetLog(life: Life): void {
    if (!this.#entries.delete(life.id)) return
    this.#keptLogs = this.#keptLogs.filter((kept) => kept !== life)
    this.#forget(life.id)
  }

  #forget(id: string): void {
    this.#session.post('forget', ['id', id]) // nobody waits for it, and it goes with the session at the latest
  }

  /** No such container, as far as the engine is concerned. */
  #drop(life: Life): void {
    this.#freeName(life)
    this.#entries.delete(life.id)
  }

  #freeName(life: Life): void {
    if (this.#names.get(life.name) === life) this.#names.delete(life.name)
  }

  async #rename(life: Life, name: string): Promise<void> {
    if (typeof name !== 'string' || !/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,252}$/.test(name)) {
      throw new MayflyError('INVALID_OPTION', `"${name}" is no name for a container`, {
        field: 'name',
        value: name,
        hint: 'letters, digits and _.- after a first letter or digit, at most 253',
      })
    }
    this.#requireFree(name)
    const oldName = life.name
    this.#names.set(name, life) // at once: nobody may take it in the meantime
    try {
      const reply = await this.#session.request('rename', ['id', life.id, 'name', name])
      if (!reply.ok) throw refusalError(reply, { verb: 'rename', container: oldName })
    } catch (error) {
      this.#names.delete(name)
      throw error
    }
    this.#freeName(life)
    life.name = name
    this.#emit(life, { type: 'rename', oldName })
  }
}
