/** An engine for rootless.test.ts, in a process of an ordinary user: one request in JSON a line, one answer each. */

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, connect as dial } from 'node:net'
import { createInterface } from 'node:readline'
import { type ContainerOptions, Engine, type EngineInfo, type RunResult } from '../../src/index.ts'

export interface Verbs {
  open(options: { home?: string }): EngineInfo
  run(options: ContainerOptions): RunResult
  start(options: ContainerOptions): { ports: Record<string, number>; address: string; ipv6Address: string }
  network(options: { name: string; internal?: boolean; ipv6?: boolean }): {
    subnet: string
    gateway: string
    ipv6: { subnet: string; gateway: string } | null
  }
  connect(to: { name: string; network: string }): string
  removeVolume(of: { name: string }): null
  exec(of: { name: string; command: string[] }): { exitCode: number; stdout: string }
  logs(of: { name: string }): string
  waitForPort(of: { name: string; port: number }): null
  pause(of: { name: string }): string
  stop(of: { name: string }): { exitCode: number }
  restart(of: { name: string }): null
  /** Sends a word to a port of 127.0.0.1 and answers what comes back. */
  talk(to: { port: number; protocol: 'tcp' | 'udp'; word: string; host?: string }): string
  /** Answers every connection to that address with one line. Answers the port. */
  serve(on: { address: string }): number
  close(options: object): null
}

/** What an error was, as far as a test wants to know. */
export interface Failure {
  readonly error: { readonly name: string; readonly code?: string; readonly message: string; readonly field?: string }
}

let engine: Engine

const verbs: { [V in keyof Verbs]: (argument: never) => Promise<unknown> | unknown } = {
  open: async (options: Parameters<Verbs['open']>[0]) => {
    engine = await Engine.open(options)
    return engine.info
  },
  run: (options: ContainerOptions) => engine.run(options),
  start: async (options: ContainerOptions) => {
    const container = await engine.start(options)
    const ports = container.ports.map(({ container: inside, protocol, host }) => [`${inside}/${protocol}`, host])
    const ipv6Address = container.inspect().network.networks.find((one) => one.ipv6)?.ipv6?.address ?? ''
    return { ports: Object.fromEntries(ports), address: container.address, ipv6Address }
  },
  network: async (options: Parameters<Verbs['network']>[0]) => {
    const { subnet, gateway, ipv6 } = await engine.networks.create(options)
    return { subnet, gateway, ipv6 }
  },
  connect: async ({ name, network }: Parameters<Verbs['connect']>[0]) => {
    await engine.networks.connect(name, network)
    return engine.get(name).addressOn(network)
  },
  removeVolume: async ({ name }: { name: string }) => {
    await engine.volumes.remove(name)
    return null
  },
  exec: ({ name, command }: Parameters<Verbs['exec']>[0]) => engine.get(name).exec(command),
  logs: ({ name }: { name: string }) => engine.get(name).logText(),
  waitForPort: async ({ name, port }: Parameters<Verbs['waitForPort']>[0]) => {
    await engine.get(name).waitForPort(port)
    return null
  },
  pause: async ({ name }: { name: string }) => {
    await engine.get(name).pause()
    const state = engine.get(name).state
    await engine.get(name).unpause()
    return state
  },
  restart: async ({ name }: { name: string }) => {
    await engine.get(name).restart({ timeoutMs: 0 })
    return null
  },
  stop: ({ name }: { name: string }) => engine.get(name).stop(),
  talk: ({ port, protocol, word, host = '127.0.0.1' }: Parameters<Verbs['talk']>[0]) =>
    protocol === 'tcp' ? talkTcp(host, port, word) : talkUdp(host, port, word),
  serve: async ({ address }: { address: string }) => {
    const server = createServer((socket) => socket.end('outside\n')).listen(0, address)
    await once(server, 'listening')
    return (server.address() as { port: number }).port
  },
  close: async () => {
    await engine.close()
    return null
  },
} as never

async function talkTcp(host: string, port: number, word: string): Promise<string> {
  const socket = dial(port, host)
  socket.end(word)
  let answer = ''
  for await (const piece of socket) answer += piece
  return answer
}

async function talkUdp(host: string, port: number, word: string): Promise<string> {
  const socket = createSocket('udp4')
  socket.send(word, port, host)
  const [answer] = await once(socket, 'message', { signal: AbortSignal.timeout(5_000) })
  socket.close()
  return String(answer)
}

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, argument] = JSON.parse(line)
  let answer: unknown
  try {
    answer = { value: await verbs[verb as keyof Verbs](argument as never) }
  } catch (reason) {
    const { name, code, message, field } = reason as Failure['error']
    answer = { error: { name, code, message, field } }
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}
