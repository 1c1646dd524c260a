/** One container of an engine. */

import type { Writable } from 'node:stream'
import { type ByteSource, receiveArchive, sendArchive } from './archive.js'
import type { Bulk } from './bulk.js'
import type { CommitOptions } from './commit.js'
import type { EngineContext } from './context.js'
import { unlessAborted, type WaitOptions, waitUntil } from './deadline.js'
import { MayflyError } from './errors.js'
import {
  type ExecBufferedOptions,
  type ExecProcess,
  type ExecResult,
  execBuffered,
  execStream,
  resizeTerminal,
} from './exec.js'
import { cutOff, type Fault, fillDisk, heal, impair, type NetworkFault } from './faults.js'
import { type ContainerInspection, inspectLife } from './inspect.js'
import type { ExposedPort } from './launch/complete.js'
import { parseSignal } from './launch/validate.js'
import type { ContainerExit, ContainerState, Life, ListeningPort } from './life.js'
import { type LogEntry, type LogOptions, type LogSource, type LogTextOptions, openLogs, readLogText } from './logs.js'
import type { ExecOptions, Snapshot } from './options.js'
import { refusalError } from './refusal.js'
import { launchError } from './run.js'
import { signalName } from './signals.js'
import {
  CLEAN_STOP_MS,
  endCleanly,
  renew,
  requireKeepable,
  requireRenewable,
  type SnapshotOptions,
  takeSnapshot,
} from './snapshot.js'
import { type ContainerStats, readStats } from './stats.js'
import type { StoredImage } from './store/images.js'
import type { Store } from './store/store.js'
import { ProcessStreams } from './streams.js'
import { type WaitForLogOptions, waitForExit, waitForLog, waitForPort } from './wait.js'
import type { PublishedFact, Reply } from './wire.js'

/** How a container is asked to end. */
export interface StopOptions {
  /** Signal that asks it to end. @default the container's `stopSignal` */
  readonly signal?: string | number
  /** Milliseconds until SIGKILL follows; -1 waits for ever. @default the container's `stopTimeoutMs` */
  readonly timeoutMs?: number
}

/** How long something waits for a start, stop, restart, snapshot or reset of the same container that was called before. */
export interface TurnOptions {
  /** Ends that wait with its reason. What has begun goes on. */
  readonly signal?: AbortSignal
}

/** What kills at once is over by then, so that a stop comes after it, not into it. */
const LEAST_TURN_MS = 1_000

/** How long a copy may take. */
export interface CopyOptions {
  /** Gives up with its reason. What was copied in until then stays. */
  readonly signal?: AbortSignal
}

/** How what is copied in arrives. */
export interface CopyInOptions extends CopyOptions {
  /** Keeps the owners that the archive names; otherwise everything belongs to root. @default true */
  readonly keepOwners?: boolean
}

/** What a container needs beyond what its programs do. Inside the engine only. */
export interface ContainerContext extends EngineContext {
  readonly store: Store
}

/** The streams of a container's first process. */
export interface Attachment {
  /** Its stdin, when the container has `stdin`. Ending it ends the container's. */
  readonly stdin: Writable
  /** Output, read once. Whoever does not read it stops nobody: it stays in the log. */
  readonly stdout: AsyncIterableIterator<Uint8Array>
  readonly stderr: AsyncIterableIterator<Uint8Array>
  /** Changes the size of its terminal. */
  resize(columns: number, rows: number): Promise<void>
  /** Leaves; the container goes on. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * A container: made by `Engine.create`, or made and started by `Engine.start`.
 *
 * A start, stop, restart, snapshot or reset waits for those that were called before. A stop that would wait for longer than its time of grace
 * kills; `kill` and `remove` wait for nothing.
 *
 * @example
 * await using container = await engine.start({ rootfs: { directory: '/srv/rootfs' }, command: ['sleep', '60'] })
 * const { stdout } = await container.exec(['id', '-u'])
 */
export class Container implements AsyncDisposable {
  readonly #context: ContainerContext
  readonly #life: Life

  /** @internal */
  constructor(context: ContainerContext, life: Life) {
    this.#context = context
    this.#life = life
  }

  /** 64 hexadecimal digits. */
  get id(): string {
    return this.#life.id
  }

  get name(): string {
    return this.#life.name
  }

  get state(): ContainerState {
    return this.#life.state
  }

  /** Its address on the network that is its way out, or on the first; '' when it has none of its own. */
  get address(): string {
    return this.#life.address
  }

  /** Its address on a network of its own, by the network's id or name; '' when it is not on it. */
  addressOn(network: string): string {
    const { id } = this.#context.facts.network(network)
    return this.#life.networks.find((one) => one.network === id)?.address ?? ''
  }

  /** Its IPv6 address on that network; '' when the network has no IPv6, or it is not on it. */
  ipv6AddressOn(network: string): string {
    const { id } = this.#context.facts.network(network)
    return this.#life.networks.find((one) => one.network === id)?.ipv6?.address ?? ''
  }

  /** The network's gateway and name server; '' when it has none. */
  get gateway(): string {
    return this.#life.gateway
  }

  /** Published ports. */
  get ports(): readonly PublishedFact[] {
    return this.#life.ports
  }

  /** Ports on which something in it has listened since its start. */
  get listeningPorts(): readonly ListeningPort[] {
    return this.#life.listeningPorts
  }

  /** How it ended the last time, if it has. */
  get exit(): ContainerExit | undefined {
    return this.#life.exit
  }

  /**
   * Port of the host that leads to this port of the container.
   *
   * Throws `RangeError` when the port is not published.
   */
  port(container: number, protocol: 'tcp' | 'udp' = 'tcp'): number {
    const { ports, name } = this.#life
    const found = ports.find((port) => port.container === container && port.protocol === protocol)
    if (found) return found.host
    const known = ports.map((port) => `${port.container}/${port.protocol}`).join(', ') || 'none'
    throw new RangeError(`Port ${container}/${protocol} of "${name}" is not published (published: ${known})`)
  }

  /** Ports that its program listens on, as its image and its options say; whether they are published or not. */
  get exposedPorts(): readonly ExposedPort[] {
    return this.#life.options.exposedPorts
  }

  /**
   * Starts it, for the first time or after it has exited.
   *
   * Throws CONTAINER_RUNNING, and what is wrong with its options as far as only a start can tell.
   */
  async start(turn: TurnOptions = {}): Promise<void> {
    await this.#inTurn(turn, async () => {
      const life = this.#life
      if (life.isRunning) {
        throw new MayflyError('CONTAINER_RUNNING', `Cannot start "${life.name}": it is ${life.state}`, {
          container: life.name,
        })
      }
      await this.#launch(() => this.#context.emit(life, { type: 'start' }))
    })
  }

  /** Runs the work when what was called before is over. Rejects when the wait ends before, by its options or since the session has ended. */
  async #inTurn<T>(wait: WaitOptions, work: () => Promise<T>): Promise<T> {
    const life = this.#life
    const before = life.turns
    let finish = () => {}
    const own = new Promise<void>((resolve) => {
      finish = resolve
    })
    const turns = before ? before.then(() => own) : own
    life.turns = turns
    void turns.then(() => {
      if (life.turns === turns) life.turns = undefined
    })
    try {
      if (before) await this.#isOver(before, wait)
      return await work()
    } finally {
      finish()
    }
  }

  /** There is nothing to wait for where the container is being removed: the work itself says so. */
  async #isOver(before: Promise<void>, { signal, ...rest }: WaitOptions): Promise<void> {
    const life = this.#life
    if (life.removal) return
    const options = { timeoutMs: Number.POSITIVE_INFINITY, ...rest, signal: this.#untilRemoved(signal) }
    const message = `"${life.name}" is being started or ended`
    const timedOut = () => new MayflyError('TIMEOUT', message, { container: life.name })
    await waitUntil<void>(options, timedOut, (resolve, reject) => {
      before.then(resolve)
      return life.watch({ failed: reject })
    })
  }

  /** `begun` is called with the reply, before anything that the warden says after it is read: events keep their order. */
  async #launch(begun: () => void): Promise<void> {
    const life = this.#life
    if (life.removal) {
      throw new MayflyError('NO_SUCH_CONTAINER', `Cannot start "${life.name}": it was removed`, {
        container: life.name,
      })
    }
    const before = { state: life.state, exit: life.exit }
    const reply = await new Promise<Reply>((resolve, reject) => {
      this.#context.session.send('start', ['id', life.id], (error, answer) => {
        if (error !== undefined) {
          reject(error)
          return
        }
        // At once: the next line from the warden may be its exit.
        if (answer.ok) {
          life.started()
          life.learn(answer)
          begun()
        }
        resolve(answer)
      })
    })
    if (reply.ok) return
    Object.assign(life, before)
    throw launchError(reply, life, this.#context.facts)
  }

  /**
   * Asks it to end and waits until it has: the stop signal first, SIGKILL after the time of grace. With `remove` (the
   * default of containers), everything of it is gone then.
   *
   * Resolves to how it ended; at once when it had ended before.
   */
  async stop(options: StopOptions = {}, { signal }: TurnOptions = {}): Promise<ContainerExit> {
    const life = this.#life
    const { graceMs } = this.#stopRequest(options)
    const timeoutMs = graceMs === -1 ? Number.POSITIVE_INFINITY : Math.max(graceMs, LEAST_TURN_MS)
    let hasTurn = false
    const exit = await this.#inTurn({ timeoutMs, ...(signal ? { signal } : {}) }, () => {
      hasTurn = true
      return this.#end(options)
    }).catch((error) => {
      signal?.throwIfAborted()
      if (hasTurn) throw error
      return this.#end({ ...options, timeoutMs: 0 })
    })
    this.#context.emit(life, { type: 'stop' })
    if (!life.isRestarting) await life.removal
    return exit
  }

  /** Throws `RangeError` for what is no signal or no time. */
  #stopRequest({ signal, timeoutMs }: StopOptions): { readonly number: number; readonly graceMs: number } {
    const { stopSignal, stopTimeoutMs } = this.#life.options
    const number = signal === undefined ? stopSignal : parseSignal(signal, 'signal')
    const graceMs = timeoutMs ?? stopTimeoutMs
    if (!Number.isFinite(graceMs) || (graceMs < 0 && graceMs !== -1)) {
      throw new RangeError(`timeoutMs must be a number of milliseconds from 0 on, or -1, not ${timeoutMs}`)
    }
    return { number, graceMs }
  }

  /** As `#end`. On abort it is killed at once, and the reason is thrown when it has ended. */
  async #endUnlessAborted(stop: StopOptions, signal: AbortSignal | undefined): Promise<ContainerExit> {
    const end = this.#end(stop)
    try {
      return await unlessAborted(end, signal)
    } catch (error) {
      if (signal?.aborted) await this.#end({ signal: 'SIGKILL', timeoutMs: 0 })
      throw error
    }
  }

  async #end(options: StopOptions): Promise<ContainerExit> {
    const life = this.#life
    const { number, graceMs } = this.#stopRequest(options)
    if (life.isRunning) {
      const words = ['id', life.id, 'signal', String(number), 'grace', String(Math.round(graceMs))]
      const reply = await this.#context.session.request('stop', words)
      // It may have ended by itself in the meantime.
      if (!reply.ok && life.isRunning) throw refusalError(reply, { verb: 'stop', container: life.name })
    }
    if (life.exit && !life.isRunning) return life.exit
    return waitForExit(life, { timeoutMs: Number.POSITIVE_INFINITY })
  }

  /**
   * Sends a signal to its first process.
   *
   * @default 'SIGKILL'
   */
  async kill(signal: string | number = 'SIGKILL'): Promise<void> {
    const number = parseSignal(signal, 'signal')
    await this.#request('signal', 'signal', ['signal', String(number)], () => {
      this.#context.emit(this.#life, { type: 'kill', signal: signalName(number) })
    })
  }

  /** Freezes every process in it. */
  async pause(): Promise<void> {
    await this.#request('pause', 'pause', [], () => {
      if (this.#life.state === 'running') this.#life.state = 'paused'
      this.#context.emit(this.#life, { type: 'pause' })
    })
  }

  /** Lets it go on. */
  async unpause(): Promise<void> {
    await this.#request('unpause', 'unpause', [], () => {
      if (this.#life.state === 'paused') this.#life.state = 'running'
      this.#context.emit(this.#life, { type: 'unpause' })
    })
  }

  /**
   * How it ends, or has ended. A signal or a timeout ends the wait, not the container.
   *
   * @default timeoutMs: as long as it takes
   */
  wait(options: WaitOptions = {}): Promise<ContainerExit> {
    const wait = waitForExit(this.#life, { timeoutMs: Number.POSITIVE_INFINITY, ...options })
    // A promise that somebody awaits should not die with an idle event loop.
    this.#context.session.hold()
    return wait.finally(() => this.#context.session.release())
  }

  /** As `wait`, with an end: throws TIMEOUT after 60 s unless told otherwise. */
  waitForExit(options: WaitOptions = {}): Promise<ContainerExit> {
    return waitForExit(this.#life, options)
  }

  /**
   * Waits until something in it listens on a TCP port, on an address that is reachable from outside.
   *
   * It is told by the kernel, not polled. A port that was opened before the call counts too.
   *
   * Throws CONTAINER_EXITED, at once, with the last output, when the container ends before; TIMEOUT after 60 s unless
   * told otherwise.
   *
   * @example
   * await container.waitForPort(5432, { timeoutMs: 10_000 })
   */
  waitForPort(port: number, options: WaitOptions = {}): Promise<ListeningPort> {
    return waitForPort(this.#context, this.#life, port, options)
  }

  /**
   * Waits until the container prints a line that matches, and resolves to it.
   *
   * Output from before the call counts too, so there is no race with a fast service. Throws as `waitForPort`.
   *
   * @default times: 1
   * @example
   * await container.waitForLog(/ready to accept connections/, { times: 2 })
   */
  waitForLog(pattern: RegExp | string, options: WaitForLogOptions = {}): Promise<string> {
    return waitForLog(this.#context, this.#life, this.#logSource('read the log of'), pattern, options)
  }

  /** Stops it, if it runs, and starts it again: same id, name, files and address; published ports stay open. */
  async restart(options: StopOptions = {}, turn: TurnOptions = {}): Promise<void> {
    const life = this.#life
    await this.#inTurn(turn, () =>
      this.#asRestart(async () => {
        if (life.isRunning) await this.#end(options)
        await this.#launch(() => {})
      }),
    )
    this.#context.emit(life, { type: 'restart' })
  }

  /** An exit in the course of the work removes nothing. */
  async #asRestart<T>(work: () => Promise<T>): Promise<T> {
    const life = this.#life
    life.isRestarting = true
    try {
      return await work()
    } finally {
      life.isRestarting = false
    }
  }

  /**
   * Keeps what it has written, as a layer from which others are started (`from`) and to which `reset` returns. It is stopped for that, cleanly,
   * and started again if it ran, also when keeping it fails; without a copy, so the size does not matter. What is mounted in it is not part of
   * that, but what lies in the image's volumes is.
   *
   * Aborted while it is being stopped, it is killed and started again.
   *
   * Throws NOT_SUPPORTED, before it is stopped, for what is written to memory (`scratch: 'memory'`, or the disk quota `limits.diskBytes`) and
   * for a container among the host's processes (`pid: 'host'`).
   *
   * @example
   * await using snapshot = await container.snapshot()
   * await using other = await engine.start({ from: snapshot })
   */
  async snapshot({ timeoutMs = CLEAN_STOP_MS, signal }: SnapshotOptions = {}): Promise<Snapshot> {
    signal?.throwIfAborted()
    const life = this.#life
    requireKeepable(life)
    requireRenewable(life, 'keep the state of')
    return this.#inTurn(signal ? { signal } : {}, () =>
      this.#asRestart(async () => {
        const wasRunning = life.isRunning
        const snapshot = await this.#whileEnded({ timeoutMs }, () => takeSnapshot(this.#context, life), signal)
        if (wasRunning) await this.#launch(() => {})
        return snapshot
      }),
    )
  }

  /** Stops it for a snapshot after which it is not needed; throws CONTAINER_EXITED and TIMEOUT when that would not be whole. @internal */
  endCleanly(options: SnapshotOptions): Promise<void> {
    return endCleanly(this.#context, this, this.#life, options)
  }

  /**
   * Throws away what it has written since its last snapshot, or since the one that it was started from, or since it was made, and starts
   * it again. Id, name, address and published ports stay; connections are cut. Its program is killed: nothing of it is wanted.
   *
   * Throws NOT_SUPPORTED, before it is killed, for a container among the host's processes (`pid: 'host'`).
   *
   * @param prepare is called before it starts; it must not wait for a start, stop, restart, snapshot or reset of the same container
   */
  async reset(prepare?: () => Promise<void>, turn: TurnOptions = {}): Promise<void> {
    const life = this.#life
    requireRenewable(life, 'reset')
    await this.#inTurn(turn, () =>
      this.#asRestart(async () => {
        await this.#whileEnded({ signal: 'SIGKILL', timeoutMs: 0 }, () => renew(this.#context, life, life.layers))
        await prepare?.()
        await this.#launch(() => {})
      }),
    )
    this.#context.emit(life, { type: 'restart' })
  }

  /** Ends it and works on its files. To start it again is up to the caller; only where the work fails, that is done here, if it ran. */
  async #whileEnded<T>(stop: StopOptions, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const life = this.#life
    const wasRunning = life.isRunning
    try {
      if (wasRunning) await this.#endUnlessAborted(stop, signal)
      return await work()
    } catch (error) {
      // Whoever is told why the work failed sees in its state whether it came up again.
      if (wasRunning && !life.isRunning && !life.removal) await this.#launch(() => {}).catch(() => {})
      throw error
    }
  }

  /**
   * Disturbs its network, running or not: packets are lost, late, or slow, all of them or those between it and one other container. Of
   * several faults that concern the same packets the latest holds; when that is undone, the one before it does again.
   *
   * Throws INVALID_OPTION, NO_SUCH_CONTAINER for the peer, and NOT_SUPPORTED where it has no network of its own.
   *
   * @example
   * await using slow = await container.impair({ latencyMs: 50, loss: 0.01 })
   */
  impair(fault: NetworkFault): Promise<Fault> {
    return impair(this.#context, this.#life, fault)
  }

  /**
   * Cuts it off from everything, or from one other container: packets vanish, as with a cable that is pulled. Connections stay, and go on
   * when it is healed soon enough. Names are answered still. Throws as `impair`.
   */
  cutOff(options: { readonly from?: string } = {}): Promise<Fault> {
    return cutOff(this.#context, this.#life, options)
  }

  /** Ends all faults of its network. */
  heal(): Promise<void> {
    return heal(this.#context, this.#life)
  }

  /**
   * Makes its disk full: who writes more to its root file system is told that no space is left. Throws NOT_SUPPORTED when its disk has no size
   * of its own (`limits.diskBytes`).
   */
  fillDisk(): Promise<Fault> {
    return fillDisk(this.#context, this.#life)
  }

  /**
   * Removes it with every trace. May be called twice.
   *
   * Throws CONTAINER_RUNNING when it runs, unless `force` kills it first.
   *
   * @default force: false
   */
  async remove({ force = false }: { readonly force?: boolean } = {}): Promise<void> {
    await this.#context.remove(this.#life, force)
    this.#context.forgetLog(this.#life)
  }

  /** Gives it another name, under which the other containers find it at once. Throws NAME_TAKEN. */
  rename(name: string): Promise<void> {
    return this.#context.rename(this.#life, name)
  }

  /** Everything known about it, as plain data. */
  inspect(): ContainerInspection {
    return inspectLife(this.#life)
  }

  /** What it uses now. */
  async stats(): Promise<ContainerStats> {
    return readStats(await this.#request('stats', 'read the stats of'))
  }

  /**
   * What it uses, again and again, until it exits or the loop is left.
   *
   * @default intervalMs: 1000
   */
  async *statsStream({
    intervalMs = 1000,
    signal,
  }: {
    readonly intervalMs?: number
    readonly signal?: AbortSignal
  } = {}): AsyncGenerator<ContainerStats, void, undefined> {
    while (this.#life.isRunning) {
      signal?.throwIfAborted()
      let stats: ContainerStats
      try {
        stats = await this.stats()
      } catch (error) {
        if (!this.#life.isRunning) return // it exited before the warden read the request
        throw error
      }
      yield stats
      await waitForExit(this.#life, { timeoutMs: intervalMs, ...(signal ? { signal } : {}) }).catch((error) => {
        if (!(error instanceof MayflyError && error.code === 'TIMEOUT')) throw error
      })
    }
  }

  /**
   * Runs a program in it and collects what it prints.
   *
   * A program that fails is a result, not an error: look at `exitCode`. Throws PROGRAM_NOT_FOUND,
   * PROGRAM_NOT_EXECUTABLE, USER_NOT_FOUND, CONTAINER_NOT_RUNNING and so on when it could not run.
   *
   * @example
   * const { exitCode, stdout } = await container.exec(['psql', '-U', 'postgres', '-c', 'select 1'])
   */
  exec(options: ExecOptions | readonly string[], buffered: ExecBufferedOptions = {}): Promise<ExecResult> {
    return execBuffered(this.#context, this.#life, options, buffered)
  }

  /**
   * Runs a program in it with its streams in hand: for input, for long output, for terminals.
   *
   * @example
   * await using shell = await container.execStream({ command: ['cat'], stdin: true })
   * shell.stdin.end('hello')
   * for await (const piece of shell.stdout) process.stdout.write(piece)
   */
  execStream(options: ExecOptions | readonly string[]): Promise<ExecProcess> {
    return execStream(this.#context, this.#life, options)
  }

  /**
   * Its output from the first byte on, as far as the log goes back; with `follow` until it exits.
   *
   * @example
   * for await (const { stream, data } of container.logs({ follow: true })) process[stream].write(data)
   */
  logs(options: LogOptions = {}): AsyncIterableIterator<LogEntry> {
    return openLogs(this.#logSource('read the log of'), options)
  }

  /** Its output so far as text: stdout and stderr in the order they were written. */
  logText(options: LogTextOptions = {}): Promise<string> {
    return readLogText(this.#logSource('read the log of'), options)
  }

  /**
   * Connects to its first process: output from now on, or with `replay` from the first byte, and stdin.
   *
   * @default replay: false
   */
  async attach({ replay = false }: { readonly replay?: boolean } = {}): Promise<Attachment> {
    const { session } = this.#context
    const life = this.#life
    if (life.state === 'created') {
      // Its stdin is made when it starts; nothing is lost by attaching then, since the log has everything.
      const message = `Cannot attach to "${life.name}": it was not started`
      throw new MayflyError('CONTAINER_NOT_RUNNING', message, {
        container: life.name,
        hint: 'start it, then attach with replay',
      })
    }
    const streams = new ProcessStreams()
    const words = ['id', life.id, 'logs', replay ? '1' : '0', 'stdin', life.options.stdin ? '1' : '0']
    const bulk = await new Promise<Bulk>((resolve, reject) => {
      const opening: Bulk = session.bulk('attach', words, {
        reply: (reply) => {
          opening.release()
          if ((reply as Reply).ok) {
            resolve(opening)
            return
          }
          session.discard(opening)
          reject(refusalError(reply as Reply & { ok: false }, { verb: 'attach to', container: life.name }))
        },
        data: (stream, piece) => streams.push(stream, piece),
        end: (error) => {
          if (error) streams.end(error)
          // The end of a dead warden looks the same as the container's.
          else
            waitForExit(life, { timeoutMs: 1_000 }).then(
              () => streams.end(),
              (reason) => streams.end(session.failure ? reason : undefined),
            )
          reject(
            error ??
              new MayflyError('CONTAINER_EXITED', `"${life.name}" ended while attaching`, { container: life.name }),
          )
        },
      })
      opening.hold()
      streams.connect(opening)
    })
    return {
      stdin: streams.stdin,
      stdout: streams.stdout,
      stderr: streams.stderr,
      resize: (columns, rows) => this.resize(columns, rows),
      [Symbol.asyncDispose]: async () => {
        await streams.stdout.return()
        await streams.stderr.return()
        session.discard(bulk)
      },
    }
  }

  /** Tells its terminal the size. */
  resize(columns: number, rows: number): Promise<void> {
    return resizeTerminal(this.#context, this.#life, columns, rows)
  }

  /**
   * Unpacks a tar archive into a directory of it that exists, running or stopped. The path and everything in the archive stays
   * inside the container's root, whatever symbolic links say.
   *
   * Throws PATH_NOT_FOUND, ARCHIVE_INVALID.
   */
  async copyIn(path: string, archive: ByteSource, { keepOwners = true, signal }: CopyInOptions = {}): Promise<void> {
    const words = ['id', this.id, 'path', path, 'chown', keepOwners ? '1' : '0']
    const attempt = { verb: `copy to ${path} of`, container: this.name }
    await sendArchive(this.#context.session, 'copy-in', words, archive, attempt, this.#untilRemoved(signal))
  }

  /**
   * The file or tree at `path` as a tar archive, its entries named from the path's last component on.
   *
   * Throws PATH_NOT_FOUND, with the first piece.
   */
  copyOut(path: string, { signal }: CopyOptions = {}): AsyncIterableIterator<Uint8Array> {
    const attempt = { verb: `copy ${path} from`, container: this.name }
    return receiveArchive(this.#context.session, ['id', this.id, 'path', path], attempt, this.#untilRemoved(signal))
  }

  /**
   * Makes an image of what it has become, running or not: what it has written is a layer upon its image's. What is mounted in it is not
   * part of that, but what lies in the image's volumes is.
   *
   * A running container is frozen meanwhile, unless `pause` is false. Throws INVALID_REFERENCE, DOCKERFILE_INVALID for `changes`.
   *
   * @example
   * const image = await container.commit({ reference: 'app:prepared', changes: ['CMD ["serve"]'] })
   */
  async commit(options: CommitOptions = {}): Promise<StoredImage> {
    const { pause = true, signal } = options
    signal?.throwIfAborted()
    const { commitContainer } = await import('./commit.js')
    const isFrozen = pause && this.#life.state === 'running'
    if (isFrozen) await this.pause()
    try {
      const { session, store } = this.#context
      return await commitContainer({ session, store }, this.#life, { ...options, signal: this.#untilRemoved(signal) })
    } finally {
      if (isFrozen && this.#life.state === 'paused') await this.unpause()
    }
  }

  /**
   * Its whole root file system as a tar, running or not, without what is mounted in it; entries are named from `./` on.
   *
   * @example
   * import { createWriteStream } from 'node:fs'
   * import { pipeline } from 'node:stream/promises'
   * await pipeline(container.export(), createWriteStream('rootfs.tar'))
   */
  async *export({ signal }: CopyOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    const { exportContainer } = await import('./commit.js')
    yield* exportContainer(this.#context.session, this.#life, this.#untilRemoved(signal))
  }

  /** Removes it, running or not. Quiet when it or the engine is gone already. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#context.session.failure) return
    try {
      await this.remove({ force: true })
    } catch (error) {
      if (!this.#context.session.failure) throw error
    }
  }

  /** `done` is called with the reply that it was done, before anything that the warden says after it is read. */
  #request(
    verb: string,
    sentence: string,
    words: readonly string[] = [],
    done: () => void = () => {},
  ): Promise<Reply & { ok: true }> {
    return new Promise((resolve, reject) => {
      this.#context.session.send(verb, ['id', this.id, ...words], (error, reply) => {
        if (error !== undefined) reject(error)
        else if (!reply.ok) reject(refusalError(reply, { verb: sentence, container: this.name }))
        else {
          done()
          resolve(reply)
        }
      })
    })
  }

  #untilRemoved(signal: AbortSignal | undefined): AbortSignal {
    const { ending } = this.#life
    return signal ? AbortSignal.any([signal, ending]) : ending
  }

  #logSource(verb: string): LogSource {
    const life = this.#life
    return {
      session: this.#context.session,
      id: life.id,
      attempt: { verb, container: life.name },
      hasEnded: () =>
        waitForExit(life, { timeoutMs: 1_000 }).catch((error) => {
          // A restart, for one, ends a log without an exit to wait for.
          if (this.#context.session.failure) throw error
        }),
    }
  }
}
