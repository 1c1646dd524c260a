/** What workers can have done in the owner's process: a function for each call, by its name. */

import type { BackendContainer, BackendFault, BackendNetwork } from '../backends/backend.js'
import { MayflyError } from '../engine/errors.js'

/** A container of a worker's, as it is told there. */
export interface ContainerFacts {
  readonly id: string
  readonly name: string
}

/** A network, as it is told to workers. */
export interface NetworkFacts extends ContainerFacts {
  readonly subnet: string
  readonly ipv6Subnet: string
}

/** Which state a container begins with: one of the store, or one of this session. */
export type StateReference = { readonly key: string } | { readonly id: string }

/** How often a worker is told, while it waits for a port, what listens: for messages. */
const LISTENING_MS = 200

/** One call under way. */
export interface Turn {
  readonly args: readonly never[]
  /** Aborted when the caller hangs up. */
  readonly signal: AbortSignal
  piece(value: unknown): Promise<void>
  /** Has the caller call its function. */
  ask(): Promise<unknown>
  /** What is copied in. */
  body(): AsyncIterable<Uint8Array>
  /** Called once, when the caller is gone or has let go of what it made. */
  whenLetGo(end: () => Promise<unknown>): void
}

export type Work<Subject> = (subject: Subject, turn: Turn) => unknown

/** What can be done with any network. */
export const OF_NETWORK: Readonly<Record<string, Work<BackendNetwork>>> = {
  connect: (network, { args: [container, attachment] }) => network.connect(container!, attachment!),
  disconnect: (network, { args: [container] }) => network.disconnect(container!),
}

/** What can be done with any container. */
export const OF_CONTAINER: Readonly<Record<string, Work<BackendContainer>>> = {
  inspect: (container) => container.inspect(),
  stats: (container) => container.stats(),
  unpause: (container) => container.unpause(),
  kill: (container, { args: [signal] }) => container.kill(signal!),
  exec: (container, { args: [request], signal }) => container.exec(withSignal(request, signal)),
  restart: (container, { args: [options], signal }) => container.restart(withSignal(options, signal)),
  commit: (container, { args: [request], signal }) => container.commit(withSignal(request, signal)),
  wait: (container, { signal }) => container.wait({ signal }),
  waitForPort: async (container, turn) => {
    let told = ''
    const tell = () => {
      const listening = container.listeningPorts()
      if (told !== JSON.stringify(listening)) void turn.piece(listening)
      told = JSON.stringify(listening)
    }
    const timer = setInterval(tell, LISTENING_MS).unref()
    try {
      await container.waitForPort(turn.args[0]!, { signal: turn.signal })
    } finally {
      clearInterval(timer)
    }
  },
  logs: (container, turn) => pieces(container.logs(withSignal(turn.args[0], turn.signal)), turn),
  copyOut: (container, turn) => pieces(container.copyOut(turn.args[0]!, { signal: turn.signal }), turn),
  copyIn: (container, { args: [path], body, signal }) => container.copyIn(path!, body(), { signal }),
}

/** What is done to any container for a while: until it is undone, or the caller is gone. */
export const FAULTS_OF_CONTAINER: Readonly<
  Record<string, (container: BackendContainer, turn: Turn) => Promise<BackendFault>>
> = {
  pause: (container) => container.pause(),
  impair: (container, { args: [fault] }) => container.impair(fault!),
  fillDisk: (container) => container.fillDisk(),
}

/** What only whoever has made it may do. */
export const OF_OWN_CONTAINER: Readonly<Record<string, Work<BackendContainer>>> = {
  start: (container, { signal }) => container.start({ signal }),
  stop: (container, { args: [options], signal }) => container.stop(withSignal(options, signal)),
  reset: (container, { args: [isPrepared], ask, signal }) =>
    container.reset({ signal, ...(isPrepared ? { prepare: async () => void (await ask()) } : {}) }),
}

/** The caller's signal stays with the caller: if it hangs up, the work is given up. */
export function withSignal<T>(options: T, signal: AbortSignal): T & { readonly signal: AbortSignal } {
  return { ...options, signal }
}

async function pieces(source: AsyncIterable<unknown>, { piece, signal }: Turn): Promise<void> {
  for await (const one of source) {
    await piece(one)
    if (signal.aborted) return
  }
}

/** What a worker is told that asks for what is the owner's to do. */
export function refusal(name: string, method: string): MayflyError {
  return new MayflyError(
    'NOT_SUPPORTED',
    `"${name}" belongs to the global setup: ${method} is not possible from here`,
    {
      container: name,
      hint: 'do it in the global setup',
    },
  )
}
