/**
 * What a worker has of the containers and networks of the global setup: the same faces, with every call done there. And the backend that
 * starts the worker's own containers there, beside them.
 */

import type {
  Backend,
  BackendContainer,
  BackendFault,
  BackendNetwork,
  BackendProcess,
  BackendState,
  ContainerSpec,
  ExecFacts,
  ExitFacts,
  ImageFacts,
  Inspection,
  LogPiece,
  NetworkOptions,
  ResourceUsage,
  WithSignal,
} from '../backends/backend.js'
import { currentBackend, leaveElsewhere, putElsewhere } from '../backends/current.js'
import { undoable } from '../engine/faults.js'
import { type Address, ask, type CallOptions, type Held, hold, stream } from './conversation.js'
import { remoteProgram } from './programs.js'
import { type ContainerFacts, type NetworkFacts, refusal, type StateReference } from './work.js'

/** How the owner is asked. */
type Caller = (method: string, args: readonly unknown[], options?: CallOptions) => Promise<unknown>

/** A container of the owner's. What only its owner can do throws NOT_SUPPORTED. */
export function remoteContainer(address: Address, { id, name }: ContainerFacts): BackendContainer {
  const refuse = async (method: string) => {
    throw refusal(name, method)
  }
  return {
    ...commonMethods(address, { id, name }),
    start: () => refuse('start'),
    stop: () => refuse('stop'),
    remove: () => refuse('remove'),
    keepState: () => refuse('snapshot'),
    reset: () => refuse('reset'),
  }
}

type EndMethods = 'start' | 'stop' | 'remove' | 'keepState' | 'reset'

function commonMethods(address: Address, { id, name }: ContainerFacts): Omit<BackendContainer, EndMethods> {
  const call: Caller = (method, args, options) => ask(address, { id, method, args }, options)
  let listening: ReturnType<BackendContainer['listeningPorts']> = []
  return {
    id,
    name,
    kill: async (signal) => void (await call('kill', [signal])),
    pause: () => remoteFault(address, id, 'pause'),
    unpause: async () => void (await call('unpause', [])),
    restart: async ({ signal, ...rest }) => void (await call('restart', [rest], { signal })),
    impair: (fault) => remoteFault(address, id, 'impair', [fault]),
    fillDisk: () => remoteFault(address, id, 'fillDisk'),
    inspect: async () => (await call('inspect', [])) as Inspection,
    wait: async ({ signal } = {}) => (await call('wait', [], { signal })) as ExitFacts,
    stats: async () => (await call('stats', [])) as ResourceUsage,
    logs: ({ signal, background, ...rest }) =>
      stream<LogPiece>(address, { id, method: 'logs', args: [rest] }, { signal, background }),
    exec: async ({ signal, ...rest }) => (await call('exec', [rest], { signal })) as ExecFacts,
    open: async (request): Promise<BackendProcess> => remoteProgram(call, (await call('open', [request])) as string),
    copyIn: async (path, tar, { signal } = {}) => void (await call('copyIn', [path], { signal, body: tar })),
    copyOut: (path, { signal } = {}) =>
      stream<Uint8Array>(address, { id, method: 'copyOut', args: [path] }, { signal }),
    commit: async ({ signal, ...rest }) => (await call('commit', [rest], { signal })) as string,
    waitForPort: async (port, { signal } = {}) => {
      const onPiece = (known: typeof listening) => {
        listening = known
      }
      await call('waitForPort', [port], { signal, onPiece })
    },
    listeningPorts: () => listening,
  }
}

/** It lasts until it is undone, or this process ends. */
async function remoteFault(
  address: Address,
  id: string,
  method: string,
  args: readonly unknown[] = [],
): Promise<BackendFault> {
  const held = (await hold(address, { id, method, args })) as Held<string>
  return undoable(async () => {
    try {
      await ask(address, { id: held.value, method: 'undo', args: [] })
    } finally {
      held.letGo()
    }
  })
}

/** A network of the owner's. */
export function remoteNetwork(address: Address, facts: NetworkFacts): BackendNetwork {
  const call: Caller = (method, args, options) => ask(address, { id: facts.id, method, args }, options)
  return {
    ...facts,
    connect: async (container, attachment) => void (await call('connect', [container, attachment])),
    disconnect: async (container) => void (await call('disconnect', [container])),
    remove: async () => void (await call('remove', [])),
  }
}

/** Starts containers in the owner's process. They belong to this one: they end with it, however it ends. */
export class RemoteBackend implements Backend {
  readonly name = 'remote'
  readonly host: string
  readonly #address: Address
  readonly #held = new Set<Held<unknown>>()

  constructor(address: Address, host: string) {
    this.#address = address
    this.host = host
  }

  async ensureImage(
    reference: string,
    { signal, ...rest }: Parameters<Backend['ensureImage']>[1],
  ): Promise<ImageFacts> {
    return (await this.#ask('ensureImage', [reference, rest], { signal })) as ImageFacts
  }

  async findImage(reference: string, platform?: string): Promise<ImageFacts | undefined> {
    return (await this.#ask('findImage', [reference, platform])) as ImageFacts | undefined
  }

  // Both processes have the same store.
  async buildImage(request: Parameters<Backend['buildImage']>[0]): Promise<ImageFacts> {
    return (await currentBackend()).buildImage(request)
  }

  async removeImage(reference: string): Promise<void> {
    return (await currentBackend()).removeImage(reference)
  }

  async createVolume(options: Parameters<Backend['createVolume']>[0], control?: WithSignal) {
    return (await currentBackend()).createVolume(options, control)
  }

  async createContainer(
    spec: ContainerSpec,
    { signal, from }: WithSignal & { readonly from?: BackendState } = {},
  ): Promise<BackendContainer> {
    const reference = from === undefined ? [] : [(from as RemoteState).reference]
    const held = await this.#hold('', 'createContainer', [spec, ...reference], signal)
    return this.#own(held as Held<ContainerFacts>)
  }

  #own(held: Held<ContainerFacts>): BackendContainer {
    const facts = held.value
    const call: Caller = (method, args, options) => ask(this.#address, { id: facts.id, method, args }, options)
    putElsewhere(this, facts.id, facts.name)
    return {
      ...commonMethods(this.#address, facts),
      start: async ({ signal } = {}) => void (await call('start', [], { signal })),
      stop: async ({ signal, ...rest }) => {
        if (this.#held.has(held)) await call('stop', [rest], { signal })
      },
      remove: async (options) => {
        if (!this.#held.has(held)) return
        try {
          await call('remove', [options])
        } finally {
          this.#letGo(held)
          leaveElsewhere(this, facts.id, facts.name)
        }
      },
      keepState: async ({ signal, ...rest }) => {
        const state = (await this.#hold(facts.id, 'keepState', [rest], signal)) as Held<string>
        return new RemoteState({ id: state.value }, async () => {
          if (!this.#held.has(state)) return
          await ask(this.#address, { id: state.value, method: 'remove', args: [] })
          this.#letGo(state)
        })
      },
      reset: async ({ prepare, signal }) =>
        void (await call('reset', [prepare !== undefined], { signal, ...(prepare ? { onAsk: prepare } : {}) })),
    }
  }

  async findState(key: string): Promise<BackendState | undefined> {
    return (await this.#ask('findState', [key])) ? new RemoteState({ key }) : undefined
  }

  async prepareState(
    key: string,
    make: (signal: AbortSignal) => Promise<BackendContainer>,
    { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<BackendState> {
    let made: BackendContainer | undefined
    const onAsk = async () => {
      made = await make(signal)
      return made.id
    }
    try {
      await this.#ask('prepareState', [key, timeoutMs], { signal, onAsk })
    } finally {
      // There it is gone already.
      await made?.remove({ force: true, volumes: true }).catch(() => {})
    }
    return new RemoteState({ key })
  }

  async createNetwork(options: NetworkOptions, { signal }: WithSignal = {}): Promise<BackendNetwork> {
    const held = (await this.#hold('', 'createNetwork', [options], signal)) as Held<NetworkFacts>
    const { id, name } = held.value
    putElsewhere(this, id, name)
    const network = remoteNetwork(this.#address, held.value)
    return {
      ...network,
      remove: async () => {
        if (!this.#held.has(held)) return
        await network.remove()
        this.#letGo(held)
        leaveElsewhere(this, id, name)
      },
    }
  }

  async exposeHostPorts(ports: readonly number[], { signal }: WithSignal = {}): Promise<void> {
    await this.#ask('exposeHostPorts', [ports], { signal })
  }

  /** Ends what this process has started there. */
  async close(): Promise<void> {
    for (const held of [...this.#held]) this.#letGo(held)
  }

  #ask(method: string, args: readonly unknown[], options?: CallOptions): Promise<unknown> {
    return ask(this.#address, { id: '', method, args }, options)
  }

  async #hold(
    id: string,
    method: string,
    args: readonly unknown[],
    signal: AbortSignal | undefined,
  ): Promise<Held<unknown>> {
    const held = await hold(this.#address, { id, method, args }, { signal })
    this.#held.add(held)
    return held
  }

  #letGo(held: Held<unknown>): void {
    this.#held.delete(held)
    held.letGo()
  }
}

/** A state of the store, by its key, or one of the owner's session. */
class RemoteState implements BackendState {
  readonly reference: StateReference
  readonly remove: () => Promise<void>

  constructor(reference: StateReference, remove: () => Promise<void> = async () => {}) {
    this.reference = reference
    this.remove = remove
  }
}
