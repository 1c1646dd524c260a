/**
 * Containers of another process: a test runner's main process starts them once, its workers use them.
 *
 * The owner listens on the loopback, on a port of the kernel's choice, and answers who knows its secret. A call is a connection: the
 * call there, and back a value as `v8.serialize` writes it. A caller that hangs up before the answer gives the work up. Nothing stays
 * open between calls, and neither end keeps node alive.
 */

import { randomBytes, timingSafeEqual } from 'node:crypto'
import { connect, createServer, type Socket } from 'node:net'
import { deserialize, serialize } from 'node:v8'
import type { BackendContainer } from '../backends/backend.js'
import { MayflyError } from '../engine/errors.js'
import { type Call, LENGTH_BYTES, packCall, unpackCall } from './call.js'
import { Programs, remoteProgram } from './programs.js'

/** Where the owner is found. Plain data. */
export interface Address {
  readonly port: number
  readonly secret: string
}

type Answer = { readonly value: unknown } | { readonly error: { readonly message: string; readonly facts?: object } }

const LOOPBACK = '127.0.0.1'
const CALL_BYTES = 256 * 1024 * 1024
/** What another process may do. To end a container is its owner's. */
const SINGLE = [
  'exec',
  'inspect',
  'stats',
  'pause',
  'unpause',
  'kill',
  'restart',
  'wait',
  'waitForPort',
  'commit',
  'impair',
  'fillDisk',
]
const STREAMED = ['logs', 'copyOut']
const POSSIBLE = [...SINGLE, ...STREAMED, 'copyIn', 'open', 'read', 'write', 'end']

/** The owner's end. */
export class ContainerDesk {
  readonly address: Address
  readonly #containers = new Map<string, BackendContainer>()
  readonly #programs = new Programs()
  readonly #close: () => Promise<void>

  static async open(): Promise<ContainerDesk> {
    const secret = randomBytes(32).toString('hex')
    let desk: ContainerDesk | undefined
    const server = createServer((socket) => void desk?.serve(socket))
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, LOOPBACK, resolve))
    server.unref()
    const { port } = server.address() as { port: number }
    const close = () => new Promise<void>((resolve) => server.close(() => resolve()))
    desk = new ContainerDesk({ port, secret }, close)
    return desk
  }

  private constructor(address: Address, close: () => Promise<void>) {
    this.address = address
    this.#close = close
  }

  add(container: BackendContainer): void {
    this.#containers.set(container.id, container)
  }

  close(): Promise<void> {
    return this.#close()
  }

  private async serve(socket: Socket): Promise<void> {
    const gone = new AbortController()
    socket.on('error', () => {}) // whoever called is gone
    socket.on('close', () => gone.abort())
    try {
      const call = unpackCall(await readCall(socket))
      if (!isEqual(call.secret, this.address.secret)) return void socket.destroy()
      const answer = await this.answer(call, gone.signal)
      socket.end(serialize(answer))
    } catch {
      socket.destroy() // no call of ours
    }
  }

  private async answer({ id, method, args }: Call, signal: AbortSignal): Promise<Answer> {
    try {
      const container = this.#containers.get(id)
      if (!container || !POSSIBLE.includes(method)) throw refusal(id, method)
      return { value: await this.#act(container, method, args, signal) }
    } catch (error) {
      const facts = error instanceof MayflyError ? { ...error, code: error.code } : undefined
      return { error: { message: error instanceof Error ? error.message : String(error), ...(facts ? { facts } : {}) } }
    }
  }

  #act(container: BackendContainer, method: string, args: readonly unknown[], signal: AbortSignal): unknown {
    // Of a tar and of a program's words the sender has made what they have to be.
    const [first, second] = args as [never, never]
    if (method === 'copyIn') return container.copyIn(first, [second], { signal })
    if (method === 'open') return this.#programs.open(container, first)
    if (method === 'write') return this.#programs.write(first, second)
    if (method === 'read') return this.#programs.read(first, second, signal)
    if (method === 'end') return this.#programs.kill(first)
    const methods = container as unknown as Record<string, (...args: unknown[]) => unknown>
    const result = methods[method]!(...withSignal(method, args, signal))
    return STREAMED.includes(method) ? all(result as AsyncIterable<unknown>) : result
  }
}

/** The container as another process has it. What only its owner can do throws NOT_SUPPORTED. */
export function remoteContainer(address: Address, id: string, name: string): BackendContainer {
  const call = async (method: string, args: readonly unknown[]): Promise<unknown> => {
    if (!POSSIBLE.includes(method) || isFollowing(args[0])) throw refusal(name, method)
    const { signal } = (args.at(-1) ?? {}) as { signal?: AbortSignal }
    const plain = args.map((arg) => {
      if (typeof arg !== 'object' || arg === null || ArrayBuffer.isView(arg)) return arg
      const { signal: _signal, background: _background, ...rest } = arg as Record<string, unknown>
      return rest
    })
    const answer = await ask(address, { secret: address.secret, id, method, args: plain }, signal)
    if ('value' in answer) return answer.value
    const { message, facts } = answer.error
    throw facts ? Object.assign(new MayflyError('NOT_SUPPORTED', message), facts) : new Error(message)
  }
  async function* stream(method: string, args: readonly unknown[]): AsyncGenerator<unknown> {
    yield* (await call(method, args)) as unknown[]
  }
  const methods = {
    id,
    name,
    listeningPorts: () => [],
    copyIn: async (path, tar, options) => void (await call('copyIn', [path, await joined(tar), options ?? {}])),
    open: async (request) => remoteProgram(call, (await call('open', [request])) as string),
  } satisfies Partial<BackendContainer> as Readonly<Record<string, unknown>>
  return new Proxy(methods, {
    get(known, key) {
      if (typeof key !== 'string' || key in known || key === 'then') return known[key as string]
      return (...args: unknown[]) => (STREAMED.includes(key) ? stream(key, args) : call(key, args))
    },
  }) as unknown as BackendContainer
}

function isFollowing(options: unknown): boolean {
  return typeof options === 'object' && options !== null && (options as { follow?: boolean }).follow === true
}

function refusal(container: string, method: string): MayflyError {
  return new MayflyError(
    'NOT_SUPPORTED',
    `"${container}" belongs to the global setup: ${method} is not possible from here`,
    {
      container,
      hint:
        method === 'logs' ? 'its log can be read, not followed: logs({ follow: false })' : 'do it in the global setup',
    },
  )
}

/** The caller's signal stays with the caller: if it hangs up, the work is given up. */
function withSignal(method: string, args: readonly unknown[], signal: AbortSignal): unknown[] {
  if (['pause', 'unpause', 'kill', 'inspect', 'stats', 'impair', 'fillDisk'].includes(method)) return [...args]
  const [first, second] = args
  if (method === 'waitForPort' || method === 'copyOut') return [first, { ...(second as object), signal }]
  return [{ ...(first as object), signal }]
}

function ask(address: Address, call: Call, signal: AbortSignal | undefined): Promise<Answer> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted()
    const socket = connect({ port: address.port, host: LOOPBACK })
    const fail = (error: unknown) => {
      socket.destroy()
      const told = signal?.aborted ? signal.reason : gone(error)
      reject(told)
    }
    const onAbort = () => fail(undefined)
    signal?.addEventListener('abort', onAbort, { once: true })
    socket.on('close', () => signal?.removeEventListener('abort', onAbort))
    socket.on('error', fail)
    joined(unclosed(socket)).then((bytes) => {
      try {
        resolve(deserialize(bytes) as Answer)
      } catch (error) {
        fail(error)
      }
    }, fail)
    socket.write(packCall(call))
  })
}

function gone(cause: unknown): MayflyError {
  return new MayflyError(
    'ENGINE_CLOSED',
    'The process that started the shared containers does not answer',
    {},
    { cause },
  )
}

/** Leaves the socket open. Throws RangeError for what is longer than a call may be, or shorter than it says. */
async function readCall(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = []
  let size = 0
  let wanted = LENGTH_BYTES
  for await (const piece of unclosed(socket)) {
    size += piece.length
    pieces.push(piece)
    if (size >= LENGTH_BYTES && wanted === LENGTH_BYTES) {
      wanted += Buffer.concat(pieces).readUInt32LE()
      if (wanted > CALL_BYTES) throw new RangeError(`more than ${CALL_BYTES} bytes`)
    }
    if (size >= wanted) break
  }
  if (size !== wanted) throw new RangeError(`${size} bytes of ${wanted}`)
  // Its end must be heard of.
  socket.resume()
  return Buffer.concat(pieces).subarray(LENGTH_BYTES)
}

function unclosed(socket: Socket): AsyncIterable<Buffer> {
  return socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>
}

/** Throws RangeError for more than a call may carry. */
async function joined(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of source) {
    size += piece.length
    if (size > CALL_BYTES) throw new RangeError(`more than ${CALL_BYTES} bytes`)
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}

async function all(values: AsyncIterable<unknown>): Promise<unknown[]> {
  const gathered: unknown[] = []
  for await (const value of values) gathered.push(value)
  return gathered
}

function isEqual(one: unknown, other: string): boolean {
  const bytes = Buffer.from(String(one))
  return bytes.length === other.length && timingSafeEqual(bytes, Buffer.from(other))
}
