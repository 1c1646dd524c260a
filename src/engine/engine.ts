/** The engine: what every door of mayfly (library, REST, command line) calls. */

import { Container } from './container.js'
import type { EngineContext } from './context.js'
import { MayflyError } from './errors.js'
import { type EngineEvent, EventBus, type EventDetail } from './events.js'
import { STDERR } from './frames.js'
import { Gatherer } from './gather.js'
import { newId } from './ids.js'
import type { CompleteContainerOptions } from './launch/complete.js'
import type { SessionFacts } from './launch/facts.js'
import { readHost } from './launch/host.js'
import { planLaunch } from './launch/plan.js'
import { validateContainer } from './launch/validate.js'
import { type ContainerExit, Life } from './life.js'
import { gatherLogs } from './logs.js'
import { inventName } from './names.js'
import type { ContainerOptions } from './options.js'
import { refusalError } from './refusal.js'
import { RootFilesystems } from './rootfs.js'
import { Session } from './session.js'
import { Store, storeHome } from './store.js'
import { wardenProgram } from './where.js'
import type { ExitEvent, ListenEvent, Refusal, WarningEvent } from './wire.js'

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

export interface StartOptions {
  /** Gives up; what was begun is removed. */
  readonly signal?: AbortSignal
}

export interface RunOptions extends StartOptions {
  /** Called with output as it comes. It is collected for the result all the same. */
  readonly onStdout?: (piece: Uint8Array) => void
  readonly onStderr?: (piece: Uint8Array) => void
  /** Bytes kept of each of stdout and stderr for the result; `logBytes` limits both together. @default 16777216 */
  readonly maxBytes?: number
}

/** What a run container has left behind. */
export interface RunResult extends ContainerExit {
  /** As UTF-8. */
  readonly stdout: string
  readonly stderr: string
  /** There was more output than `maxBytes`. */
  readonly isTruncated: boolean
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

const DEFAULT_MAX_BYTES = 16 * 1024 * 1024
/** Containers that were removed at their exit and whose logs are still kept. */
const KEPT_LOGS = 32

interface Entry {
  readonly life: Life
  container: Container | undefined
}

interface Launch {
  readonly life: Life
  readonly words: readonly string[]
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
  readonly #context: EngineContext
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
    const session = await Session.open({ home: store.home, program, network })
    if (signal?.aborted) {
      await session.close()
      throw signal.reason
    }
    return new Engine(session, store, network)
  }

  private constructor(session: Session, store: Store, hasNetwork: boolean) {
    this.#session = session
    this.#store = store
    this.#hasNetwork = hasNetwork
    this.#rootfs = new RootFilesystems(session, store)
    this.#facts = {
      ...readHost(),
      rootless: session.facts.rootless,
      cgroups: session.facts.cgroups.mode,
      container: (reference) => this.#find(reference).life,
    }
    this.#context = {
      session,
      facts: this.#facts,
      emit: (life, detail) => this.#emit(life, detail),
      remove: (life, force) => this.#remove(life, force),
      forgetLog: (life) => this.#forgetLog(life),
      rename: (life, name) => this.#rename(life, name),
    }
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
    const preparing = this.#prepare(options, true)
    // Most often there is nothing to wait for, and an await costs a turn of the queue.
    const launch = preparing instanceof Promise ? await preparing : preparing
    if (signal?.aborted) this.#drop(launch.life)
    signal?.throwIfAborted()
    return this.#run(launch, runOptions)
  }

  #run(
    { life, words }: Launch,
    { signal, onStdout, onStderr, maxBytes = DEFAULT_MAX_BYTES }: RunOptions,
  ): Promise<RunResult> {
    const session = this.#session
    const { id } = life
    return new Promise((resolve, reject) => {
      const stdout = new Gatherer(maxBytes)
      const stderr = new Gatherer(maxBytes)
      const isLive = onStdout !== undefined || onStderr !== undefined
      let isLogDone = !isLive
      let isOver = false
      let isGivenUp = false

      const onData = (stream: number, piece: Uint8Array) => {
        if (isOver || isGivenUp) return
        const [gatherer, tell] = stream === STDERR ? [stderr, onStderr] : [stdout, onStdout]
        gatherer.push(piece)
        try {
          tell?.(piece)
        } catch (error) {
          giveUp(error)
        }
      }
      const over = () => {
        isOver = true
        session.release()
        unwatch()
        signal?.removeEventListener('abort', onAbort)
        this.#drop(life)
      }
      const fail = (error: unknown) => {
        if (isOver) return
        over()
        reject(error)
      }
      const finish = () => {
        const { exit } = life
        if (isOver || isGivenUp || !exit || !isLogDone) return
        over()
        this.#forget(id)
        resolve({
          exitCode: exit.exitCode,
          signal: exit.signal,
          oomKilled: exit.oomKilled,
          stdout: stdout.text(),
          stderr: stderr.text(),
          isTruncated: stdout.isCut || stderr.isCut,
          startedAt: exit.startedAt,
          finishedAt: exit.finishedAt,
          durationMs: exit.durationMs,
        })
      }
      const readLog = (follow: boolean) => {
        const done = (error: unknown) => {
          isLogDone = true
          if (error === undefined) finish()
          else giveUp(error)
        }
        try {
          gatherLogs(session, id, { follow }, onData, done)
        } catch (error) {
          fail(error) // the session has failed
        }
      }
      /** Rejects when the container is gone. */
      const giveUp = (reason: unknown) => {
        if (isOver || isGivenUp) return
        isGivenUp = true
        session.send('remove', ['id', id, 'force', '1'], () => {
          this.#forget(id)
          fail(reason)
        })
      }
      const onAbort = () => giveUp(signal?.reason)
      const afterRemoval = () => {
        this.#emit(life, { type: 'remove' })
        if (life.logBytes > 0 && !isLive) {
          isLogDone = false
          readLog(false)
        } else finish()
      }

      session.hold()
      const unwatch = life.watch({
        exited: () => {
          if (isGivenUp) return
          if (life.state === 'removed') afterRemoval()
          // The warden could not remove everything by itself: let it say why.
          else this.#remove(life, true).then(afterRemoval, fail)
        },
        failed: fail,
      })
      signal?.addEventListener('abort', onAbort, { once: true })
      try {
        session.send('run', words, (error, reply) => {
          if (error !== undefined) {
            fail(error)
            return
          }
          if (!reply.ok) {
            fail(this.#launchError(reply, life))
            return
          }
          life.started()
          life.learn(reply)
          this.#emit(life, { type: 'create' })
          this.#emit(life, { type: 'start' })
          if (isLive) readLog(true)
        })
      } catch (error) {
        fail(error)
      }
    })
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
  async start(options: ContainerOptions, { signal }: StartOptions = {}): Promise<Container> {
    return this.#launch('run', options, signal)
  }

  /** Makes a container without starting it; files can be copied in. Throws as `run`. */
  async create(options: ContainerOptions, { signal }: StartOptions = {}): Promise<Container> {
    return this.#launch('create', options, signal)
  }

  async #launch(
    verb: 'create' | 'run',
    options: ContainerOptions,
    signal: AbortSignal | undefined,
  ): Promise<Container> {
    signal?.throwIfAborted()
    const { life, words } = await this.#prepare(options, false)
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
            reject(this.#launchError(reply, life))
            return
          }
          // At once: the next line from the warden may be its exit.
          if (verb === 'run') life.started()
          life.learn(reply)
          resolve()
        })
      })
    } catch (error) {
      this.#drop(life)
      throw error
    }
    this.#emit(life, { type: 'create' })
    if (verb === 'run') this.#emit(life, { type: 'start' })
    if (signal?.aborted) {
      await container.remove({ force: true })
      throw signal.reason
    }
    return container
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
  #prepare(options: ContainerOptions, isRun: boolean): Launch | Promise<Launch> {
    if (this.#session.failure) throw this.#session.failure
    const complete = this.#complete(options)
    if (complete.name !== undefined) this.#requireFree(complete.name)
    const layers = this.#rootfs.layers(complete.rootfs)
    return layers instanceof Promise
      ? layers.then((directories) => this.#plan(complete, directories, isRun))
      : this.#plan(complete, layers, isRun)
  }

  #plan(complete: CompleteContainerOptions, layers: readonly string[], isRun: boolean): Launch | Promise<Launch> {
    const id = newId()
    const name = complete.name ?? inventName((candidate) => this.#names.has(candidate))
    this.#requireFree(name)
    // The warden removes what `run` leaves. Others may be started again, so the engine decides when they exit.
    const planned = complete.remove === isRun ? complete : { ...complete, remove: isRun }
    const { words, programs, identity, warnings } = planLaunch(planned, this.#facts, { id, name, layers })
    for (const message of warnings) this.#warned({ event: 'warning', container: id, message })
    const life = new Life(id, name, complete, identity)
    life.isRun = isRun
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

  #complete(options: ContainerOptions): CompleteContainerOptions {
    if (this.#hasNetwork || typeof options !== 'object' || options === null) return validateContainer(options)
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
    return validateContainer({ ...options, network })
  }

  #requireFree(name: string): void {
    if (!this.#names.has(name)) return
    throw new MayflyError('NAME_TAKEN', `The name "${name}" is taken by another container`, {
      field: 'name',
      value: name,
      container: name,
    })
  }

  #launchError(refusal: Refusal, life: Life): MayflyError {
    return refusalError(refusal, { verb: 'start', container: life.name, options: life.options })
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
