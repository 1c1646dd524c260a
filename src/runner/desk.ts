/**
 * The owner's end of what is shared: a test runner's main process starts containers and networks once, its workers use them and start
 * their own beside them.
 *
 * It listens on the loopback, on a port of the kernel's choice, and answers who knows its secret; `conversation.ts` says how. What a worker
 * has made goes when the connection that made it closes. Nothing here keeps node alive.
 */

import { randomBytes, timingSafeEqual } from 'node:crypto'
import { createServer, type Server, type Socket } from 'node:net'
import { serialize } from 'node:v8'
import type { Backend, BackendContainer, BackendFault, BackendNetwork, BackendState } from '../backends/backend.js'
import { setTimeout } from '../engine/clock.js'
import { MayflyError } from '../engine/errors.js'
import { type Call, unpackCall } from './call.js'
import { type Address, type Answer, CALL_BYTES, LOOPBACK } from './conversation.js'
import { FrameSocket } from './frames.js'
import { Programs } from './programs.js'
import {
  type ContainerFacts,
  FAULTS_OF_CONTAINER,
  type NetworkFacts,
  OF_CONTAINER,
  OF_NETWORK,
  OF_OWN_CONTAINER,
  refusal,
  type StateReference,
  type Turn,
  type Work,
  withSignal,
} from './work.js'

/** Within this time all connections of a process that has ended are closed. */
const SETTLING_MS = 100

export class ContainerDesk {
  readonly address: Address
  readonly #backend: Backend
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #containers = new Map<string, BackendContainer>()
  readonly #networks = new Map<string, BackendNetwork>()
  readonly #states = new Map<string, BackendState>()
  readonly #faults = new Map<string, BackendFault>()
  /** Ids of those that workers have made, and may end. */
  readonly #workers = new Set<string>()
  /** What is under way because somebody hung up, and the removals of containers among it. */
  readonly #endings = new Set<Promise<unknown>>()
  readonly #removals = new Set<Promise<unknown>>()
  readonly #programs = new Programs()

  /** What workers start is started by this backend. */
  static async open(backend: Backend): Promise<ContainerDesk> {
    const secret = randomBytes(32).toString('hex')
    let desk: ContainerDesk | undefined
    const server = createServer({ noDelay: true }, (socket) => void desk?.serve(socket))
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, LOOPBACK, resolve))
    server.unref()
    const { port } = server.address() as { port: number }
    desk = new ContainerDesk({ port, secret }, backend, server)
    return desk
  }

  private constructor(address: Address, backend: Backend, server: Server) {
    this.address = address
    this.#backend = backend
    this.#server = server
  }

  /** Workers may use it, and not end it. */
  add(container: BackendContainer): void {
    this.#containers.set(container.id, container)
  }

  /** Workers may start containers on it, and not end it. */
  addNetwork(network: BackendNetwork): NetworkFacts {
    this.#networks.set(network.id, network)
    return network
  }

  /** Hangs up on everybody. Resolves when what workers have made is gone. May be called twice. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    for (const socket of this.#sockets) socket.destroy()
    await closed
    while (this.#endings.size > 0) await Promise.all(this.#endings)
  }

  private async serve(socket: Socket): Promise<void> {
    this.#sockets.add(socket)
    const gone = new AbortController()
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
    void closed.then(() => {
      this.#sockets.delete(socket)
      gone.abort()
    })
    const frames = new FrameSocket(socket, CALL_BYTES)
    try {
      const call = unpackCall((await frames.next())!)
      if (!isEqual(call.secret, this.address.secret)) return void socket.destroy()
      let isHeld = false
      const answer = await this.#answer(call, {
        args: call.args as never[],
        signal: gone.signal,
        piece: (piece) => frames.send(pack({ piece })),
        ask: async () => {
          await frames.send(pack({ ask: true }))
          const frame = await frames.next()
          if (!frame) throw new MayflyError('ENGINE_CLOSED', 'The worker that asked for this is gone')
          return unpackCall(frame).args[0]
        },
        body: () => bodyOf(frames),
        whenLetGo: (end) => {
          isHeld = true
          this.#during(closed.then(end))
        },
      })
      await frames.send(pack(answer))
      if (!isHeld) socket.end()
    } catch {
      socket.destroy() // no call of ours
    }
  }

  /** What fails goes with the session at the latest. */
  #during(work: Promise<unknown>): void {
    const quiet = work.catch(() => {}).finally(() => this.#endings.delete(quiet))
    this.#endings.add(quiet)
  }

  async #answer(call: Call, turn: Turn): Promise<Answer> {
    try {
      return { value: await this.#work(call, turn) }
    } catch (error) {
      const facts = error instanceof MayflyError ? { ...error, code: error.code } : undefined
      return { error: { message: error instanceof Error ? error.message : String(error), ...(facts ? { facts } : {}) } }
    }
  }

  #work({ id, method }: Call, turn: Turn): unknown {
    const ofBackend = id === '' ? own(this.#ofBackend, method) : undefined
    if (ofBackend) return ofBackend(this.#backend, turn)
    const state = this.#states.get(id)
    if (state && method === 'remove') {
      this.#states.delete(id)
      return state.remove()
    }
    const fault = this.#faults.get(id)
    if (fault && method === 'undo') {
      this.#faults.delete(id)
      return fault.undo()
    }
    const network = this.#networks.get(id)
    const container = this.#containers.get(id)
    const isWorkers = this.#workers.has(id)
    const ofNetwork = own(OF_NETWORK, method) ?? (isWorkers ? own(this.#ofOwnNetwork, method) : undefined)
    if (network && ofNetwork) return ofNetwork(network, turn)
    const ofContainer = own(this.#ofContainer, method) ?? (isWorkers ? own(this.#ofOwnContainer, method) : undefined)
    if (container && ofContainer) return ofContainer(container, turn)
    const makeFault = own(FAULTS_OF_CONTAINER, method)
    if (container && makeFault)
      return makeFault(container, turn).then((made) => this.#keep(this.#faults, made, turn, () => made.undo()))
    const known = container ?? network
    if (known) throw refusal(known.name, method)
    throw new MayflyError('NO_SUCH_CONTAINER', `There is no "${id}" to ${method} any more`, { value: id })
  }

  readonly #ofContainer: Readonly<Record<string, Work<BackendContainer>>> = {
    ...OF_CONTAINER,
    open: (container, { args: [request] }) => this.#programs.open(container, request!),
    write: (_container, { args: [id, bytes] }) => this.#programs.write(id!, bytes!),
    read: (_container, { args: [id, stream], signal }) => this.#programs.read(id!, stream!, signal),
    end: (_container, { args: [id] }) => this.#programs.kill(id!),
  }

  /** Its id. What nobody has ended ends when it is let go. */
  #keep<Kept>(all: Map<string, Kept>, one: Kept, { whenLetGo }: Turn, end: () => Promise<void>): string {
    const id = randomBytes(16).toString('hex')
    all.set(id, one)
    whenLetGo(async () => {
      if (all.delete(id)) await end()
    })
    return id
  }

  readonly #ofOwnContainer: Readonly<Record<string, Work<BackendContainer>>> = {
    ...OF_OWN_CONTAINER,
    remove: async (container, { args: [options] }) => {
      await container.remove(options!)
      this.#forget(container.id)
    },
    keepState: async (container, turn) => {
      const state = await container.keepState(withSignal(turn.args[0]!, turn.signal))
      return this.#keep(this.#states, state, turn, async () => {
        await this.#othersGone()
        await state.remove()
      })
    },
  }

  readonly #ofOwnNetwork: Readonly<Record<string, Work<BackendNetwork>>> = {
    remove: async (network) => {
      await network.remove()
      this.#forget(network.id)
    },
  }

  readonly #ofBackend: Readonly<Record<string, Work<Backend>>> = {
    ensureImage: (backend, { args: [reference, options], signal }) =>
      backend.ensureImage(reference!, withSignal(options!, signal)),
    findImage: (backend, { args: [reference, platform] }) => backend.findImage(reference!, platform),
    exposeHostPorts: (backend, { args: [ports], signal }) => backend.exposeHostPorts(ports!, { signal }),
    findState: async (backend, { args: [key] }) => (await backend.findState(key!)) !== undefined,
    createContainer: async (backend, { args: [spec, from], signal, whenLetGo }) => {
      const state = from === undefined ? undefined : await this.#state(from)
      const container = await backend.createContainer(spec!, { signal, ...(state ? { from: state } : {}) })
      const { id, name } = container
      this.#containers.set(id, container)
      this.#workers.add(id)
      whenLetGo(async () => {
        if (!this.#forget(id)) return
        const removal = container.remove({ force: true, volumes: true })
        this.#removals.add(removal)
        await removal.finally(() => this.#removals.delete(removal))
      })
      return { id, name } satisfies ContainerFacts
    },
    createNetwork: async (backend, { args: [options], signal, whenLetGo }) => {
      const network = await backend.createNetwork(options!, { signal })
      const { id, name, subnet, ipv6Subnet } = network
      this.#networks.set(id, network)
      this.#workers.add(id)
      whenLetGo(async () => {
        if (this.#forget(id)) await this.#endNetwork(network)
      })
      return { id, name, subnet, ipv6Subnet } satisfies NetworkFacts
    },
    prepareState: async (backend, { args: [key, timeoutMs], signal, ask }) => {
      const make = async () => this.#containers.get((await ask()) as string)!
      await backend.prepareState(key!, make, { timeoutMs: timeoutMs!, signal })
    },
  }

  /** Whether it was there until now. */
  #forget(id: string): boolean {
    this.#containers.delete(id)
    this.#networks.delete(id)
    return this.#workers.delete(id)
  }

  async #state(reference: StateReference): Promise<BackendState> {
    const found = 'key' in reference ? await this.#backend.findState(reference.key) : this.#states.get(reference.id)
    if (found) return found
    // Somebody has pruned since: whoever asks makes it again.
    throw new MayflyError('ROOTFS_NOT_FOUND', 'The state that the container was to begin with is gone')
  }

  /** Resolves when the containers of a worker that has just ended are gone too: its connections close one after the other. */
  async #othersGone(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, SETTLING_MS).unref())
    await Promise.allSettled(this.#removals)
  }

  /** Containers of others are taken off it. */
  async #endNetwork(network: BackendNetwork): Promise<void> {
    await this.#othersGone()
    await Promise.all([...this.#containers.keys()].map((id) => network.disconnect(id).catch(() => {})))
    await network.remove()
  }
}

/** Throws when the caller is gone before all of it was there. */
async function* bodyOf(frames: FrameSocket): AsyncGenerator<Uint8Array> {
  for (;;) {
    const frame = await frames.next()
    if (!frame) throw new MayflyError('ENGINE_CLOSED', 'The worker that was copying is gone')
    if (frame.length === 0) return
    yield frame
  }
}

function pack(answer: Answer): Uint8Array {
  try {
    return serialize(answer)
  } catch (error) {
    // A fact that cannot be told, such as a function.
    const message = 'error' in answer ? answer.error.message : String(error)
    return serialize({ error: { message } } satisfies Answer)
  }
}

function own<T>(record: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined
}

function isEqual(one: unknown, other: string): boolean {
  const bytes = Buffer.from(String(one))
  return bytes.length === other.length && timingSafeEqual(bytes, Buffer.from(other))
}
