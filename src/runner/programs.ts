/**
 * Programs that other processes let run in containers of this one, such as a database's client that is kept for the next statement.
 *
 * Each read and write is a call of its own. Nobody tells when the other process is gone, or has done with the program: one that is not
 * spoken to for a moment is killed, and who comes back to it finds it ended.
 */

import { randomBytes } from 'node:crypto'
import type { BackendContainer, BackendProcess } from '../backends/backend.js'

/** Longer than between two statements of a busy test, and short beside the connections that a server has to give away. */
const IDLE_MS = 500

type Request = Parameters<BackendContainer['open']>[0]
type Piece = IteratorResult<Uint8Array, undefined>
type StreamName = 'stdout' | 'stderr'

interface Program {
  readonly process: BackendProcess
  /** Calls that are under way. */
  calls: number
  idle: NodeJS.Timeout | undefined
}

const END: Piece = { done: true, value: undefined }

/** The owner's end. */
export class Programs {
  readonly #programs = new Map<string, Program>()

  /** Resolves to the word that the program is known by. */
  async open(container: BackendContainer, request: Request): Promise<string> {
    const id = randomBytes(16).toString('hex')
    const program: Program = { process: await container.open(request), calls: 0, idle: undefined }
    this.#programs.set(id, program)
    this.#rest(id, program)
    return id
  }

  /** Quiet when it has ended. */
  async write(id: string, bytes: Uint8Array): Promise<void> {
    await this.#during(id, ({ process }) => process.write(bytes), undefined)
  }

  /** The next piece of a stream. A caller that goes away takes the program with it: nobody else could read what it has read. */
  async read(id: string, stream: StreamName, signal: AbortSignal): Promise<Piece> {
    const onAbort = () => void this.kill(id).catch(() => {})
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      const { done, value } = await this.#during<IteratorResult<Uint8Array>>(
        id,
        ({ process }) => process[stream].next(),
        END,
      )
      return done ? END : { done: false, value }
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  async kill(id: string): Promise<void> {
    const program = this.#programs.get(id)
    if (!program) return
    this.#programs.delete(id)
    clearTimeout(program.idle)
    await program.process.kill()
  }

  async #during<T>(id: string, work: (program: Program) => Promise<T>, otherwise: T): Promise<T> {
    const program = this.#programs.get(id)
    if (!program) return otherwise
    program.calls++
    clearTimeout(program.idle)
    try {
      return await work(program)
    } finally {
      program.calls--
      this.#rest(id, program)
    }
  }

  #rest(id: string, program: Program): void {
    if (program.calls > 0 || this.#programs.get(id) !== program) return
    program.idle = setTimeout(() => void this.kill(id).catch(() => {}), IDLE_MS).unref()
  }
}

/** The program as the other process has it. */
export function remoteProgram(
  call: (method: string, args: readonly unknown[]) => Promise<unknown>,
  id: string,
): BackendProcess {
  const stream = (name: StreamName): AsyncIterableIterator<Uint8Array> => ({
    next: () => call('read', [id, name]) as Promise<Piece>,
    [Symbol.asyncIterator]() {
      return this
    },
  })
  return {
    write: async (bytes) => void (await call('write', [id, bytes])),
    stdout: stream('stdout'),
    stderr: stream('stderr'),
    kill: async () => void (await call('end', [id])),
  }
}
