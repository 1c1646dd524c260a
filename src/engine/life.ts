/**
 * The life of one container as the engine sees it: its state and what the warden told of it.
 *
 * Events of the warden go in through `launched`, `exited`, `listening` and `failed`, in the order they came. Whoever waits
 * watches; a watcher hears the present first, so that nothing can slip between looking and listening.
 */

import { MayflyError } from './errors.js'
import { DEFAULT_NETWORK } from './launch/attachment.js'
import type { CompleteContainerOptions } from './launch/complete.js'
import type { NetworkIdentity } from './launch/facts.js'
import type { ContainerOptions } from './options.js'
import { signalName } from './signals.js'
import type { ExitEvent, LaunchFacts, LinkFact, ListenEvent, PublishedFact } from './wire.js'

/** `removed`: every trace is gone; only this record, and for a while the log, is left. */
export type ContainerState = 'created' | 'running' | 'paused' | 'exited' | 'removed'

/** How a container's first process ended. */
export interface ContainerExit {
  /** 0 to 255; 128 and the signal's number when a signal ended it, as shells have it. */
  readonly exitCode: number
  /** Such as `SIGKILL`; null when it ended by itself. */
  readonly signal: string | null
  /** The kernel killed something in it because memory ran out. */
  readonly oomKilled: boolean
  readonly startedAt: Date
  readonly finishedAt: Date
  /** From start to finish, to the nanosecond. */
  readonly durationMs: number
}

/** A port on which a process of the container listens. */
export interface ListeningPort {
  readonly port: number
  /** Address inside the container, such as `0.0.0.0`, `::` or `127.0.0.1`. */
  readonly address: string
}

export interface Watcher {
  exited?(exit: ContainerExit): void
  listening?(port: ListeningPort): void
  /** The session has ended; nothing comes any more. */
  failed(error: Error): void
}

export class Life {
  readonly id: string
  readonly options: CompleteContainerOptions
  readonly identity: NetworkIdentity
  readonly createdAt = new Date()
  name: string
  state: ContainerState = 'created'
  address = ''
  gateway = ''
  ports: readonly PublishedFact[] = []
  /** Its place on each of its networks, by their ids. */
  networks: readonly LinkFact[] = []
  /** In the session's PID namespace. */
  pid: number | undefined
  startedAt: Date | undefined
  exit: ContainerExit | undefined
  /** Bytes of output in the log, known at the exit. */
  logBytes = 0
  /** It belongs to `Engine.run`, which removes it itself. */
  isRun = false
  /** While set, an exit is part of a restart and removes nothing. */
  isRestarting = false
  /** Settles when all is over that was called until now and starts or ends it: one such work waits for the other. */
  turns: Promise<void> | undefined
  /** Directories that it stands on, uppermost first. */
  layers: readonly string[] = []
  /** Its options as they were given. */
  given: ContainerOptions | undefined
  /** The removal under way or done. */
  removal: Promise<void> | undefined
  failure: Error | undefined
  #listening: ListeningPort[] = []
  #ending: AbortController | undefined
  readonly #watchers = new Set<Watcher>()

  constructor(id: string, name: string, options: CompleteContainerOptions, identity: NetworkIdentity) {
    this.id = id
    this.name = name
    this.options = options
    this.identity = identity
  }

  get isRunning(): boolean {
    return this.state === 'running' || this.state === 'paused'
  }

  /** Ports on which something has listened since the start. */
  get listeningPorts(): readonly ListeningPort[] {
    return this.#listening
  }

  /** Aborted when it is being removed: a copy that stalls must not hold that up. */
  get ending(): AbortSignal {
    this.#ending ??= new AbortController()
    return this.#ending.signal
  }

  /** Its removal begins. */
  end(): void {
    const message = `"${this.name}" was removed`
    this.#ending?.abort(new MayflyError('NO_SUCH_CONTAINER', message, { container: this.name }))
  }

  /** Facts of `create`, `start` or `run`. */
  learn(facts: LaunchFacts): void {
    if (facts.address !== undefined) this.address = facts.address
    if (facts.gateway !== undefined) this.gateway = facts.gateway
    if (facts.ports !== undefined) this.ports = facts.ports
    if (facts.networks !== undefined) this.networks = facts.networks
    else if (facts.address) {
      this.networks = [{ network: DEFAULT_NETWORK, address: facts.address, gateway: facts.gateway ?? '' }]
    }
    if (facts.pid !== undefined) this.pid = facts.pid
    if (facts.startedAt !== undefined) this.startedAt = toDate(facts.startedAt)
  }

  /** It runs: called before its first event can come. */
  started(): void {
    this.state = 'running'
    this.exit = undefined
    this.#listening = []
  }

  exited(event: ExitEvent): ContainerExit {
    const exit = toExit(event)
    this.state = event.removed ? 'removed' : 'exited'
    this.exit = exit
    this.startedAt = exit.startedAt
    this.logBytes = event.logBytes
    for (const watcher of [...this.#watchers]) watcher.exited?.(exit)
    return exit
  }

  listening(event: ListenEvent): void {
    const port = { port: event.port, address: event.address }
    this.#listening.push(port)
    for (const watcher of [...this.#watchers]) watcher.listening?.(port)
  }

  failed(error: Error): void {
    this.failure = error
    for (const watcher of [...this.#watchers]) watcher.failed(error)
    this.#watchers.clear()
  }

  /** Tells the watcher what is already so, then what happens. Returns how to stop. */
  watch(watcher: Watcher): () => void {
    const stop = () => {
      this.#watchers.delete(watcher)
    }
    if (this.failure) {
      watcher.failed(this.failure)
      return stop
    }
    this.#watchers.add(watcher)
    if (watcher.listening) for (const port of [...this.#listening]) watcher.listening(port)
    if (!this.isRunning && this.exit && !this.isRestarting) watcher.exited?.(this.exit)
    return stop
  }
}

function toExit(event: ExitEvent): ContainerExit {
  const { signal } = event
  return {
    exitCode: signal === undefined ? (event.code ?? 0) : 128 + signal,
    signal: signal === undefined ? null : signalName(signal),
    oomKilled: event.oom,
    startedAt: toDate(event.startedAt),
    finishedAt: toDate(event.finishedAt),
    durationMs: elapsedMs(event.startedAt, event.finishedAt),
  }
}

function toDate(nanoseconds: string): Date {
  return new Date(Math.floor(Number(nanoseconds) / 1e6))
}

/** Numbers of this size are exact to a quarter of a microsecond only, so the difference is taken first. */
function elapsedMs(from: string, to: string): number {
  return Number(BigInt(to) - BigInt(from)) / 1e6
}
