/** A container that was started. */

import type { Readable } from 'node:stream'
import { types } from 'node:util'
import type { BackendContainer, ContainerStatus, ExitFacts, Inspection, ResourceUsage } from './backends/backend.js'
import { abortSignal, checkReference } from './checks.js'
import { readContainerFile } from './container-file.js'
import { ContainerSnapshot } from './container-snapshot.js'
import {
  type ArchiveToCopy,
  archivesToCopy,
  type ContentToCopy,
  type CopyToContainerOptions,
  contentsToCopy,
  copyOptions,
  type DirectoryToCopy,
  type FileToCopy,
  filesToCopy,
  NO_COPIES,
} from './copy.js'
import { copyArchives, copyEntries } from './copy-in.js'
import { MayflyError } from './engine/errors.js'
import {
  anything,
  boolean,
  type Check,
  integer,
  list,
  optional,
  refuse,
  sparse,
  string,
} from './engine/launch/check.js'
import {
  type NetworkFaultOptions,
  type StartedFault,
  startCut,
  startFullDisk,
  startNetworkFault,
  startPause,
  undoFaults,
} from './faults.js'
import { LogStream } from './log-stream.js'
import { firstMappedPort, mappedPort } from './ports.js'
import type { RunningContainer } from './running-container.js'
import { awaitReady, resetContainer } from './start.js'
import { StoppedTestContainer } from './stopped-container.js'
import { runHealthCheck } from './wait/health-check.js'
import type { Health } from './wait/strategy.js'

/** How a container is stopped, and what goes with it. */
export interface StopOptions {
  /** Milliseconds between asking it to end and killing it. @default 0 */
  readonly timeout?: number
  /** Removes it. @default true, unless `withAutoRemove(false)` */
  readonly remove?: boolean
  /** Removes its anonymous volumes with it. @default true */
  readonly removeVolumes?: boolean
  /** Cuts `timeout` short: it is killed then. It is gone all the same when `stop()` resolves. */
  readonly signal?: AbortSignal
}

/** How the files of a container are kept. */
export interface SnapshotOptions {
  /** Milliseconds that it may take to end by itself. @default 60000 */
  readonly timeout?: number
  readonly signal?: AbortSignal
}

/** How a container is restarted. */
export interface RestartOptions {
  /** Milliseconds between asking it to end and killing it. @default 0 */
  readonly timeout?: number
  readonly signal?: AbortSignal
}

/** The image that is made of a container. */
export interface CommitOptions {
  readonly repo: string
  /** @default 'latest' */
  readonly tag?: string
  readonly comment?: string
  readonly author?: string
  /** Freezes it meanwhile. @default true */
  readonly pause?: boolean
  /** Instructions of a Dockerfile, such as `ENV A=b`. */
  readonly changes?: readonly string[]
  /** Forgets the image's name at the end of the session. @default true */
  readonly deleteOnExit?: boolean
  readonly signal?: AbortSignal
}

/** How a program is run in a container. */
export interface ExecOptions {
  /** @default the container's */
  readonly workingDir?: string
  /** @default the container's */
  readonly user?: string
  /** Added to the container's. */
  readonly env?: Readonly<Record<string, string>>
  /** Written to its stdin. */
  readonly input?: string | Uint8Array
  /** Kills the program. */
  readonly signal?: AbortSignal
}

/** What a program in a container printed and how it ended. */
export interface ExecResult {
  /** stdout and stderr in the order in which they came. */
  readonly output: string
  readonly stdout: string
  readonly stderr: string
  readonly exitCode: number
}

/** Which part of a log. */
export interface LogOptions {
  /** Only what was written from then on: a Date, or seconds since the epoch. */
  readonly since?: Date | number
  /** Only the last lines. */
  readonly tail?: number
  /** @default true */
  readonly stdout?: boolean
  /** @default true */
  readonly stderr?: boolean
  /** Goes on until it ends. @default true */
  readonly follow?: boolean
  readonly signal?: AbortSignal
}

const timeout = optional(integer(0))
const signal = optional(abortSignal)
const stopShape = sparse({ timeout, remove: optional(boolean), removeVolumes: optional(boolean), signal })
const snapshotShape = sparse({ timeout, signal })
const restartShape = sparse({ timeout, signal })
const signalShape = sparse({ signal })
const input: Check<string | Uint8Array> = (value, field) =>
  typeof value === 'string' || types.isUint8Array(value)
    ? value
    : refuse(field, value, 'expected a string or a Uint8Array')
const instant: Check<Date> = (value, field) => {
  const date = typeof value === 'number' ? new Date(value * 1000) : value
  return types.isDate(date) && !Number.isNaN(date.getTime())
    ? date
    : refuse(field, value, 'expected a Date, or seconds since the epoch')
}
const execShape = sparse({
  workingDir: optional(string),
  user: optional(string),
  env: anything,
  input: optional(input),
  signal,
})
const logShape = sparse({
  since: optional(instant),
  tail: optional(integer(0)),
  stdout: optional(boolean),
  stderr: optional(boolean),
  follow: optional(boolean),
  signal,
})
const commitShape = sparse({
  repo: string,
  tag: optional(string),
  comment: optional(string),
  author: optional(string),
  pause: optional(boolean),
  changes: optional(list(string)),
  deleteOnExit: optional(boolean),
  signal,
})

/** How something is copied into a container that runs. */
export interface CopyControl extends CopyToContainerOptions {
  /** Gives up. What was copied until then stays. */
  readonly signal?: AbortSignal
}

function checkedCopy({ signal, ...options }: CopyControl): [CopyToContainerOptions, AbortSignal | undefined] {
  return [copyOptions(options, 'options'), signal]
}

/**
 * A container that was started and was ready.
 *
 * @example
 * import { GenericContainer } from 'mayfly'
 *
 * await using redis = await new GenericContainer('redis:8').withExposedPorts(6379).start()
 * console.log(`redis://${redis.getHost()}:${redis.getMappedPort(6379)}`)
 */
export class StartedTestContainer implements AsyncDisposable {
  /** @internal */
  protected readonly running: RunningContainer

  /** @internal */
  constructor(running: RunningContainer) {
    this.running = running
  }

  /**
   * Ends it and removes every trace. May be called twice.
   *
   * Throws what its hooks throw, when it is gone.
   */
  async stop(options: StopOptions = {}): Promise<StoppedTestContainer> {
    const checked = stopShape(options, 'stop') as StopOptions
    const { running } = this
    running.requireOwn()
    running.stopping ??= this.end(checked)
    await running.stopping
    return new StoppedTestContainer(running)
  }

  private async end({ timeout = 0, remove, removeVolumes = true, signal }: StopOptions): Promise<void> {
    const { running } = this
    const { container, definition } = running
    const failures: unknown[] = []
    running.isEnding = !this.containerStopping && definition.hooks.every(({ stopping }) => !stopping)
    const attempt = async (work: () => unknown) => {
      try {
        await work()
      } catch (error) {
        // Everything went with the session: that is what was wanted.
        if (!(error instanceof MayflyError && error.code === 'ENGINE_CLOSED')) failures.push(error)
      }
    }
    // Whatever fails, the container is to be gone. What failed first is told.
    await attempt(() => this.containerStopping?.())
    for (const hooks of definition.hooks) await attempt(() => hooks.stopping?.(this))
    running.isEnding = true
    await attempt(() => endWithin(container, timeout, signal))
    if (remove ?? definition.autoRemove) {
      await attempt(() => container.remove({ force: true, volumes: removeVolumes }))
    }
    await attempt(() => this.containerStopped?.())
    for (const hooks of definition.hooks) await attempt(() => hooks.stopped?.(this))
    for (const after of running.afterStop) await attempt(after)
    if (failures.length > 0) throw failures[0]
  }

  /** For subclasses: it is about to be stopped. */
  protected containerStopping?(): Promise<void>

  /** For subclasses: it has been stopped. */
  protected containerStopped?(): Promise<void>

  /** Stops it, starts it again and waits until it is ready. Its id, name, files and ports stay. */
  async restart(options: RestartOptions = {}): Promise<void> {
    const { timeout = 0, signal } = restartShape(options, 'restart') as RestartOptions
    const { running } = this
    running.requireUsable('restart')
    await running.container.restart({ timeoutMs: timeout, ...(signal ? { signal } : {}) })
    await running.refresh()
    await awaitReady(running, signal ?? new AbortController().signal)
  }

  /**
   * Keeps its files as they are, for `start({ from })` of a definition and for `reset()`. It is stopped for that and started again: data that is
   * still in memory is written, connections are cut, and files are not copied, so their size does not matter. Aborted while it is being stopped,
   * it is killed and started again.
   *
   * Throws NOT_SUPPORTED, before it is stopped, where memory or directories of the host are mounted, and with a disk quota
   * (`withDiskQuota`), which has all that is written in memory: what lies there cannot be kept.
   */
  async snapshot(options: SnapshotOptions = {}): Promise<ContainerSnapshot> {
    const { timeout = 60_000, signal } = snapshotShape(options, 'snapshot') as SnapshotOptions
    const { running } = this
    running.requireUsable('keep the state of')
    if (
      running.definition.mounts.some((mount) => mount.type === 'tmpfs' || (mount.type !== 'image' && !mount.readonly))
    ) {
      throw new MayflyError('NOT_SUPPORTED', `Cannot keep the state of "${this.getName()}": it has mounts`, {
        container: this.getName(),
        field: 'mounts',
      })
    }
    const request = { timeoutMs: timeout, stay: true, ...(signal ? { signal } : {}) }
    const state = await running.container.keepState(request)
    running.isUponState = true
    await running.refresh()
    await awaitReady(running, signal ?? new AbortController().signal)
    return new ContainerSnapshot(state, () => state.remove())
  }

  /**
   * Back to the files of its last `snapshot()`, else to those that it was started with: prepared state, snapshot or image. Everything
   * since is thrown away. Id, name and ports stay; connections are cut. Resolves when it is ready again.
   */
  async reset(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const { signal = new AbortController().signal } = signalShape(options, 'reset')
    this.running.requireUsable('reset')
    await resetContainer(this.running, signal)
  }

  /** Makes an image of what it has written. Resolves to the image's id. */
  async commit(options: CommitOptions): Promise<string> {
    const checked = commitShape(options, 'commit') as CommitOptions
    const { repo, tag = 'latest', comment, author, pause = true, changes = [], deleteOnExit = true, signal } = checked
    this.running.requireUsable('commit')
    return this.running.container.commit({
      reference: checkReference(`${repo}:${tag}`, 'repo'),
      changes,
      pause,
      temporary: deleteOnExit,
      ...(comment === undefined ? {} : { comment }),
      ...(author === undefined ? {} : { author }),
      ...(signal ? { signal } : {}),
    })
  }

  /** Freezes every process in it, until `unpause()`, `heal()` or the fault is undone. */
  async pause(): Promise<StartedFault> {
    this.running.requireUsable('pause')
    return startPause(this.running)
  }

  /** Lets it go on. */
  async unpause(): Promise<void> {
    this.running.requireUsable('unpause')
    await this.running.container.unpause()
  }

  /**
   * Disturbs its network: packets are lost, late or slow, all of them or those between it and one other container. Of several faults that
   * concern the same packets the latest holds; when that is undone, the one before it does again.
   *
   * Throws INVALID_OPTION, and NOT_SUPPORTED where it has no network of its own.
   *
   * @example
   * import { GenericContainer } from 'mayfly'
   *
   * await using redis = await new GenericContainer('redis:8').withExposedPorts(6379).start()
   * await using slow = await redis.impair({ latency: 50, loss: 0.01 })
   */
  async impair(fault: NetworkFaultOptions): Promise<StartedFault> {
    this.running.requireUsable('impair')
    return startNetworkFault(this.running, fault)
  }

  /**
   * Cuts it off from everything, also from who uses its mapped ports, or from one other container: packets vanish, as with a cable that is
   * pulled. Connections stay, and go on when it is healed soon enough.
   */
  async cutOff(options: { readonly from?: StartedTestContainer } = {}): Promise<StartedFault> {
    this.running.requireUsable('cut off')
    return startCut(this.running, options)
  }

  /**
   * Makes its disk full: a program that writes more is told that no space is left on the device.
   *
   * Throws NOT_SUPPORTED unless the definition has `withDiskQuota`.
   */
  async fillDisk(): Promise<StartedFault> {
    this.running.requireUsable('fill the disk of')
    return startFullDisk(this.running)
  }

  /** Undoes all of its faults. Test runners' containers that outlive a test are healed at its end. */
  async heal(): Promise<void> {
    await undoFaults(this.running)
  }

  /** Sends a signal to its first process. @default 'SIGKILL' */
  async kill(signal: string | number = 'SIGKILL'): Promise<void> {
    this.running.requireUsable('kill')
    await this.running.container.kill(signal)
  }

  /** How it ends, or has ended. The signal ends the wait, not the container. */
  async wait(options: { readonly signal?: AbortSignal } = {}): Promise<ExitFacts> {
    const { signal } = signalShape(options, 'wait')
    this.running.requireUsable('wait for')
    return this.running.container.wait(signal ? { signal } : {})
  }

  /** How it ended, undefined while it runs. */
  async exitCode(): Promise<number | undefined> {
    return (await this.inspect()).exit?.exitCode
  }

  /** Whether it runs. */
  async state(): Promise<ContainerStatus> {
    return (await this.inspect()).status
  }

  /** What is known about it now. */
  async inspect(): Promise<Inspection> {
    return this.running.container.inspect()
  }

  /** What it uses now. */
  async stats(): Promise<ResourceUsage> {
    this.running.requireUsable('read the stats of')
    return this.running.container.stats()
  }

  /** What its health check said last; see `checkHealth`. `none` if it has none or was not waited for by it. */
  getHealth(): Health {
    return this.running.health
  }

  /** Runs its health check now. Throws WAIT_IMPOSSIBLE when it has none. */
  async checkHealth(options: { readonly signal?: AbortSignal } = {}): Promise<Health> {
    const { signal } = signalShape(options, 'checkHealth')
    const { running } = this
    running.requireUsable('check the health of')
    const { healthCheck } = running
    if (!healthCheck || healthCheck.test[0] === 'NONE') {
      const { name } = running.container
      throw new MayflyError('WAIT_IMPOSSIBLE', `"${name}" has no health check`, { container: name })
    }
    const { health } = await runHealthCheck(running.target(), healthCheck, signal ?? new AbortController().signal)
    running.health = health
    return health
  }

  /** Where its ports are reached from this process. */
  getHost(): string {
    return this.running.backend.host
  }

  /** Its own host name. */
  getHostname(): string {
    return this.running.inspection.hostname
  }

  /** The host's port for the first exposed one. Throws PORT_NOT_EXPOSED. */
  getFirstMappedPort(): number {
    return firstMappedPort(this.running.inspection.ports, this.getName())
  }

  /** The host's port for one of the container's, such as `80` or `'53/udp'`. Throws PORT_NOT_EXPOSED. */
  getMappedPort(port: number | string, protocol?: 'tcp' | 'udp' | (string & {})): number {
    return mappedPort(this.running.inspection.ports, this.getName(), port, protocol)
  }

  /** As given by `withName`, or one made up; without the slash that Docker's API puts before it. */
  getName(): string {
    return this.running.container.name
  }

  /** Its own and its image's. */
  getLabels(): Record<string, string> {
    return { ...this.running.inspection.labels }
  }

  /** 64 hexadecimal digits. */
  getId(): string {
    return this.running.container.id
  }

  /** Of the networks that it was started on. */
  getNetworkNames(): string[] {
    return this.running.inspection.networks.map(({ name }) => name)
  }

  /** Throws INVALID_OPTION for a network that it is not on. */
  getNetworkId(networkName: string): string {
    return this.network(networkName).id
  }

  /** Its address on that network. Throws INVALID_OPTION for a network that it is not on. */
  getIpAddress(networkName: string): string {
    return this.network(networkName).ipAddress
  }

  /** Its IPv6 address on that network, '' if the network has no IPv6. Throws INVALID_OPTION for a network that it is not on. */
  getIpv6Address(networkName: string): string {
    return this.network(networkName).ipv6Address
  }

  private network(name: string): Inspection['networks'][number] {
    const { networks } = this.running.inspection
    const found = networks.find((network) => network.name === name)
    const known = networks.map((network) => network.name).join(', ') || 'none'
    return found ?? refuse('networkName', name, `expected a network of "${this.getName()}" (it is on: ${known})`)
  }

  /** Copies files in while it runs. Throws PATH_NOT_FOUND for a source that is not there. */
  async copyFilesToContainer(files: readonly FileToCopy[], options: CopyControl = {}): Promise<void> {
    this.running.requireUsable('copy to')
    await copyEntries(this.running, { ...NO_COPIES, files: filesToCopy(files, 'files') }, ...checkedCopy(options))
  }

  /** Copies directories in, with all that is in them. */
  async copyDirectoriesToContainer(directories: readonly DirectoryToCopy[], options: CopyControl = {}): Promise<void> {
    this.running.requireUsable('copy to')
    const checked = { ...NO_COPIES, directories: filesToCopy(directories, 'directories') }
    await copyEntries(this.running, checked, ...checkedCopy(options))
  }

  /** Writes files from texts, Buffers and streams. */
  async copyContentToContainer(contents: readonly ContentToCopy[], options: CopyControl = {}): Promise<void> {
    this.running.requireUsable('copy to')
    const checked = { ...NO_COPIES, contents: contentsToCopy(contents, 'contents') }
    await copyEntries(this.running, checked, ...checkedCopy(options))
  }

  /** Unpacks a tar in a directory of it. @default target: '/' */
  async copyArchiveToContainer(tar: ArchiveToCopy['tar'], target = '/', options: CopyControl = {}): Promise<void> {
    this.running.requireUsable('copy to')
    await copyArchives(this.running, archivesToCopy([{ tar, target }], 'archives'), ...checkedCopy(options))
  }

  /** A file or directory of it as a tar. Throws PATH_NOT_FOUND. */
  async copyArchiveFromContainer(path: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Readable> {
    this.running.requireUsable('copy from')
    return this.running.archive(path, signal)
  }

  /** Contents of a file of it, through symbolic links. Throws PATH_NOT_FOUND, and INVALID_OPTION for what is no file. */
  async readFile(path: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Buffer> {
    this.running.requireUsable('read a file of')
    return Buffer.from(await readContainerFile(this.running.container, path, signal))
  }

  /**
   * Runs a program in it. A text is cut at its spaces; for anything more, give the program and its arguments.
   *
   * A program that fails is a result. One that does not exist is exit code 127, as in a shell, and one that cannot be executed 126.
   */
  async exec(command: string | readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const { workingDir, user, env, input, signal } = execShape(options, 'exec') as ExecOptions
    const words = typeof command === 'string' ? command.split(' ').filter((word) => word !== '') : command
    this.running.requireUsable('run a program in')
    const own = user ?? this.running.programUser
    try {
      return await this.running.container.exec({
        command: words,
        ...(workingDir === undefined ? {} : { workdir: workingDir }),
        ...(own === undefined ? {} : { user: own }),
        ...(env === undefined ? {} : { env }),
        ...(input === undefined ? {} : { input }),
        ...(signal ? { signal } : {}),
      })
    } catch (error) {
      const code = error instanceof MayflyError ? error.code : undefined
      if (code !== 'PROGRAM_NOT_FOUND' && code !== 'PROGRAM_NOT_EXECUTABLE') throw error
      const { message } = error as MayflyError
      return { exitCode: code === 'PROGRAM_NOT_FOUND' ? 127 : 126, output: message, stdout: '', stderr: message }
    }
  }

  /**
   * Its output from the first byte on, and what it goes on printing, as text.
   *
   * @example
   * import { GenericContainer } from 'mayfly'
   *
   * await using container = await new GenericContainer('redis:8').start()
   * const log = await container.logs({ tail: 10 })
   * log.on('data', (text) => console.log(text))
   */
  async logs(options: LogOptions = {}): Promise<Readable> {
    const { follow = true, ...rest } = logShape(options, 'logs')
    return new LogStream(this.running.container.logs({ ...rest, follow, background: true }))
  }

  /** What it has printed on stdout so far. */
  stdout({ signal }: { readonly signal?: AbortSignal } = {}): Promise<string> {
    return this.output('stdout', signal)
  }

  /** What it has printed on stderr so far. */
  stderr({ signal }: { readonly signal?: AbortSignal } = {}): Promise<string> {
    return this.output('stderr', signal)
  }

  private async output(stream: 'stdout' | 'stderr', signal: AbortSignal | undefined): Promise<string> {
    const pieces: Uint8Array[] = []
    const wanted = { stdout: stream === 'stdout', stderr: stream === 'stderr', ...(signal ? { signal } : {}) }
    const log = this.running.container.logs(wanted)
    for await (const { data } of log) pieces.push(data)
    return Buffer.concat(pieces).toString()
  }

  /** Stops it. Quiet when it was stopped. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

/** Ends it by its stop signal, and at the timeout or when told so by force. Quiet when it has ended. */
async function endWithin(container: BackendContainer, timeoutMs: number, signal?: AbortSignal): Promise<void> {
  try {
    await container.stop({ timeoutMs, ...(signal ? { signal } : {}) })
  } catch (error) {
    if (!signal?.aborted) throw error
    await container.kill('SIGKILL').catch(() => {}) // it may have ended at this moment
    await container.stop({ timeoutMs: 0 })
  }
}

/**
 * Base for started fixtures: everything of a started container, and accessors of one's own.
 *
 * @example
 * import { AbstractStartedContainer } from 'mayfly'
 *
 * class StartedRedis extends AbstractStartedContainer {
 *   get url(): string {
 *     return `redis://${this.getHost()}:${this.getMappedPort(6379)}`
 *   }
 * }
 */
export class AbstractStartedContainer extends StartedTestContainer {
  constructor(started: StartedTestContainer) {
    super((started as AbstractStartedContainer).running)
  }
}
