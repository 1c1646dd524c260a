/**
 * A server on the host without any container, with the files of a container that was started from a prepared state and stopped:
 * what its start cannot be faster than.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { GenericContainer } from '../../src/generic-container.ts'
import type { World } from './world.ts'

export interface BareOptions {
  readonly definition: GenericContainer
  readonly user: string
  /** The program and its arguments, with this port of 127.0.0.1. */
  command(port: number): readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** What it prints when it lets clients in. */
  readonly ready: RegExp
  readonly stopSignal: NodeJS.Signals
}

export class Bare {
  readonly #tree: string
  readonly #options: BareOptions

  private constructor(tree: string, options: BareOptions) {
    this.#tree = tree
    this.#options = options
  }

  /** Copies the files out of a container. */
  static async open(world: World, options: BareOptions): Promise<Bare> {
    const tree = join(world.directory, `bare-${options.user}`)
    mkdirSync(tree)
    const started = await options.definition.start()
    const stopped = await started.stop({ remove: false, timeout: 30_000 })
    const tar = spawn('tar', ['-C', tree, '-xpf', '-'], { stdio: ['pipe', 'ignore', 'inherit'] })
    const exit = once(tar, 'exit')
    await pipeline(await stopped.copyArchiveFromContainer('/'), tar.stdin)
    const [code] = await exit
    if (code !== 0) throw new Error(`tar ended with ${code}`)
    const devices =
      'mkdir -p dev/shm && chmod 1777 dev/shm && rm -f dev/null dev/urandom && mknod -m 666 dev/null c 1 3 && mknod -m 666 dev/urandom c 1 9'
    const [made] = await once(spawn('sh', ['-c', devices], { cwd: tree, stdio: 'inherit' }), 'exit')
    if (made !== 0) throw new Error('cannot make the devices of a bare server')
    return new Bare(tree, options)
  }

  /** Starts it; `port` answers when this resolves. Disposing stops it as a container would be asked to. */
  async start(): Promise<{ readonly port: number } & AsyncDisposable> {
    const { user, command, env, ready, stopSignal } = this.#options
    const port = await freePort()
    const child = spawn('chroot', [`--userspec=${user}`, this.#tree, ...command(port)], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...env, PATH: `${env.PATH ?? ''}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin` },
    })
    let output = ''
    await new Promise<void>((resolve, reject) => {
      const read = (text: string) => {
        output += text
        if (ready.test(output)) resolve()
      }
      for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', read)
      child.once('error', reject)
      child.once('exit', (code) => reject(new Error(`${command(port)[0]} ended with ${code}:\n${output}`)))
    })
    return {
      port,
      async [Symbol.asyncDispose]() {
        child.kill(stopSignal)
        if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      },
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
