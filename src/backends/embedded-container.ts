/** A container of the engine, as the library sees it. */

import type { Container } from '../engine/container.js'
import { unlessAborted } from '../engine/deadline.js'
import type { Engine } from '../engine/engine.js'
import { undoable } from '../engine/faults.js'
import type { ContainerExit } from '../engine/life.js'
import type {
  BackendContainer,
  BackendFault,
  BackendLogOptions,
  BackendProcess,
  BackendState,
  CommitRequest,
  ExecFacts,
  ExecRequest,
  ExitFacts,
  Inspection,
  KeepStateOptions,
  LogPiece,
  NetworkFaultRequest,
  ResourceUsage,
  WithSignal,
} from './backend.js'
import type { EmbeddedImages } from './embedded-images.js'

const FOREVER = { timeoutMs: Number.POSITIVE_INFINITY }

export class EmbeddedContainer implements BackendContainer {
  readonly #container: Container
  readonly #engine: Engine
  readonly #images: EmbeddedImages

  constructor(engine: Engine, container: Container, images: EmbeddedImages) {
    this.#engine = engine
    this.#container = container
    this.#images = images
  }

  get id(): string {
    return this.#container.id
  }

  get name(): string {
    return this.#container.name
  }

  async start({ signal }: WithSignal = {}): Promise<void> {
    signal?.throwIfAborted()
    await this.#container.start(signal ? { signal } : {})
  }

  async stop({ timeoutMs, signal }: { readonly timeoutMs?: number; readonly signal?: AbortSignal }): Promise<void> {
    if (this.#container.state === 'created' || this.#container.state === 'removed') return
    signal?.throwIfAborted()
    const turn = signal ? { signal } : {}
    await unlessAborted(this.#container.stop(timeoutMs === undefined ? {} : { timeoutMs }, turn), signal)
  }

  kill(signal: string | number): Promise<void> {
    return this.#container.kill(signal)
  }

  async pause(): Promise<BackendFault> {
    await this.#container.pause()
    return undoable(() => this.#container.unpause())
  }

  unpause(): Promise<void> {
    return this.#container.unpause()
  }

  async restart({ timeoutMs, signal }: { readonly timeoutMs?: number; readonly signal?: AbortSignal }): Promise<void> {
    signal?.throwIfAborted()
    const turn = signal ? { signal } : {}
    await unlessAborted(this.#container.restart(timeoutMs === undefined ? {} : { timeoutMs }, turn), signal)
  }

  impair({ latency, jitter, ...rest }: NetworkFaultRequest): Promise<BackendFault> {
    return this.#container.impair({
      ...rest,
      ...(latency === undefined ? {} : { latencyMs: latency }),
      ...(jitter === undefined ? {} : { jitterMs: jitter }),
    })
  }

  fillDisk(): Promise<BackendFault> {
    return this.#container.fillDisk()
  }

  remove({ force }: { readonly force: boolean; readonly volumes: boolean }): Promise<void> {
    return this.#container.remove({ force })
  }

  async inspect(): Promise<Inspection> {
    const { id, name, state, createdAt, startedAt, exit, network, options } = this.#container.inspect()
    return {
      id,
      name,
      status: state,
      hostname: options.hostname ?? id.slice(0, 12),
      labels: options.labels,
      createdAt,
      startedAt,
      exit: exit && toExitFacts(exit),
      ports: network.ports.map(({ container, protocol, ip, host }) => ({ container, protocol, hostIp: ip, host })),
      networks: network.networks.map((one) => ({
        id: one.network,
        name: this.#engine.networks.get(one.network).name,
        ipAddress: one.address,
        gateway: one.gateway,
        ipv6Address: one.ipv6?.address ?? '',
        ipv6Gateway: one.ipv6?.gateway ?? '',
      })),
    }
  }

  async wait({ signal }: WithSignal = {}): Promise<ExitFacts> {
    return toExitFacts(await this.#container.wait({ ...FOREVER, ...(signal ? { signal } : {}) }))
  }

  async stats(): Promise<ResourceUsage> {
    const { cpu, memory, pids, blkio, network } = await this.#container.stats()
    return {
      cpuNs: cpu.usageNs,
      memoryBytes: memory.usageBytes,
      memoryPeakBytes: memory.peakBytes,
      memoryLimitBytes: memory.limitBytes,
      processes: pids.current,
      readBytes: blkio.readBytes,
      writeBytes: blkio.writeBytes,
      receivedBytes: network?.rxBytes ?? null,
      sentBytes: network?.txBytes ?? null,
    }
  }

  logs(options: BackendLogOptions): AsyncIterableIterator<LogPiece> {
    const log = this.#container.logs(options)
    const toPiece = ({
      done,
      value,
    }: IteratorResult<{ stream: 'stdout' | 'stderr'; data: Uint8Array; time: bigint }>) =>
      done
        ? { done, value: undefined }
        : {
            done: false as const,
            value: { stream: value.stream, data: value.data, time: new Date(Number(value.time / 1_000_000n)) },
          }
    return {
      next: async () => toPiece(await log.next()),
      return: async () => toPiece((await log.return?.()) ?? { done: true, value: undefined }),
      [Symbol.asyncIterator]() {
        return this
      },
    }
  }

  async exec({ command, env, workdir, user, privileged, input, signal }: ExecRequest): Promise<ExecFacts> {
    const pieces: Uint8Array[] = []
    const result = await this.#container.exec(
      {
        command,
        ...(env ? { env } : {}),
        ...(workdir === undefined ? {} : { workdir }),
        ...(user === undefined ? {} : { user }),
        ...(privileged ? { privileged } : {}),
      },
      {
        maxBytes: Number.POSITIVE_INFINITY, // a result that lacks its end would be taken for the whole
        onOutput: (_stream, piece) => pieces.push(piece),
        ...(input === undefined ? {} : { input }),
        ...(signal ? { signal } : {}),
      },
    )
    const { exitCode, stdout, stderr } = result
    const isOne = stdout === '' || stderr === ''
    return { exitCode, stdout, stderr, output: isOne ? stdout + stderr : Buffer.concat(pieces).toString() }
  }

  async open({
    command,
    env,
    workdir,
    user,
    privileged,
  }: Omit<ExecRequest, 'input' | 'signal'>): Promise<BackendProcess> {
    const running = await this.#container.execStream({
      command,
      stdin: true,
      ...(env ? { env } : {}),
      ...(workdir === undefined ? {} : { workdir }),
      ...(user === undefined ? {} : { user }),
      ...(privileged ? { privileged } : {}),
    })
    return {
      stdout: running.stdout,
      stderr: running.stderr,
      kill: () => running.kill(),
      write: (bytes) =>
        new Promise((resolve, reject) => running.stdin.write(bytes, (error) => (error ? reject(error) : resolve()))),
    }
  }

  async keepState({ timeoutMs, stay, signal }: KeepStateOptions): Promise<BackendState> {
    const options = { timeoutMs, ...(signal ? { signal } : {}) }
    if (!stay) await this.#container.endCleanly(options)
    return this.#container.snapshot(options)
  }

  async reset({
    prepare,
    signal,
  }: {
    readonly prepare?: () => Promise<void>
    readonly signal?: AbortSignal
  }): Promise<void> {
    signal?.throwIfAborted()
    await unlessAborted(this.#container.reset(prepare, signal ? { signal } : {}), signal)
  }

  /** For the backend that it is of. @internal */
  get engineContainer(): Container {
    return this.#container
  }

  copyIn(path: string, tar: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, options: WithSignal = {}): Promise<void> {
    return this.#container.copyIn(path, tar, options)
  }

  copyOut(path: string, options: WithSignal = {}): AsyncIterableIterator<Uint8Array> {
    return this.#container.copyOut(path, options)
  }

  async commit({ reference, comment, author, changes, pause, temporary, signal }: CommitRequest): Promise<string> {
    const { id } = await this.#container.commit({
      reference,
      changes,
      pause,
      ...(comment === undefined ? {} : { message: comment }),
      ...(author === undefined ? {} : { author }),
      ...(signal ? { signal } : {}),
    })
    if (temporary) await this.#images.keepNoLonger(reference)
    return id
  }

  async waitForPort(port: number, { signal }: WithSignal = {}): Promise<void> {
    await this.#container.waitForPort(port, { ...FOREVER, ...(signal ? { signal } : {}) })
  }

  listeningPorts(): readonly { readonly port: number; readonly address: string }[] {
    return this.#container.listeningPorts
  }
}

function toExitFacts({ exitCode, signal, oomKilled, finishedAt }: ContainerExit): ExitFacts {
  return { exitCode, signal, oomKilled, finishedAt }
}
