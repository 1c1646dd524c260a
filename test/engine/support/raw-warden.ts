/** A warden spoken to byte by byte, without the manners of `Session`: for tests of what it does with bad clients. */

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { wardenProgram } from '../../../src/engine/where.js'
import { encodeRequest } from '../../../src/engine/wire.js'
import type { World } from './world.js'

export type Line = Record<string, unknown> & { seq?: number; event?: string; ok?: boolean }

export const newId = () => randomBytes(32).toString('hex')

export class RawWarden {
  readonly control: Socket
  /** Every line that is no awaited reply. */
  readonly lines: Line[] = []
  /** Resolves when all of the session is gone. */
  readonly ended: Promise<unknown>
  #sequence = 0
  #rest = ''
  readonly #replies = new Map<number, (line: Line) => void>()
  #socketPath = ''
  #pid = 0

  static async open(world: World): Promise<RawWarden> {
    const warden = new RawWarden(world)
    await until(() => warden.lines.length > 0, 'ready')
    const [ready] = warden.lines.splice(0)
    if (ready?.event !== 'ready') throw new Error(`the warden is not ready: ${JSON.stringify(ready)}`)
    warden.#socketPath = join(ready.session as string, 's')
    warden.#pid = ready.pid as number
    return warden
  }

  private constructor(world: World) {
    const words = ['launch', `home=${world.home}`, `id=${randomBytes(6).toString('hex')}`, 'network=0', 'resolvers=']
    const child = spawn(wardenProgram(), words, { cwd: '/', stdio: ['ignore', 'ignore', 'pipe', 'pipe'] })
    child.stderr!.on('data', (text) => process.stderr.write(text))
    this.ended = once(child.stderr!, 'close') // the launcher holds it to its very end
    this.control = child.stdio[3] as Socket
    this.control.setEncoding('utf8').on('data', (text: string) => this.#read(text))
    this.control.on('error', () => {})
  }

  /** Descriptors that the warden holds open, but for network namespaces: of these it keeps as many in stock as seem useful. */
  descriptors(): number {
    const directory = `/proc/${this.#pid}/fd`
    return readdirSync(directory).filter((fd) => !linkOf(join(directory, fd)).startsWith('net:')).length
  }

  /** Processor time that the warden has used, in ticks of 10 ms. */
  ticks(): number {
    const fields = readFileSync(`/proc/${this.#pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ')
    return Number(fields[11]) + Number(fields[12])
  }

  /** Resolves to the reply; rejects when the session ends instead. */
  request(verb: string, pairs: readonly string[]): Promise<Line> {
    const sequence = ++this.#sequence
    this.control.write(encodeRequest(verb, sequence, pairs))
    return new Promise((resolve, reject) => {
      this.#replies.set(sequence, resolve)
      this.ended.then(() => reject(new Error(`the session has ended, without a reply to "${verb}"`)))
    })
  }

  /** A connection to the bulk socket, not yet with a request. What comes is thrown away unless somebody listens. */
  connect(): Socket {
    const socket = connect(this.#socketPath)
    socket.on('error', () => {})
    socket.resume()
    return socket
  }

  bulk(verb: string, pairs: readonly string[]): Socket {
    const socket = this.connect()
    socket.write(encodeRequest(verb, ++this.#sequence, pairs))
    return socket
  }

  async removeAll(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      await this.request('remove', ['id', id, 'force', '1'])
      await this.request('forget', ['id', id])
    }
  }

  async close(): Promise<void> {
    this.control.destroy()
    await this.ended
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop()!
    for (const text of lines) {
      const line = JSON.parse(text) as Line
      const resolve = line.seq === undefined ? undefined : this.#replies.get(line.seq)
      if (resolve) this.#replies.delete(line.seq!)
      if (resolve) resolve(line)
      else this.lines.push(line)
    }
  }
}

/** '' when it is gone meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

export async function until(isSo: () => boolean, what: string, timeoutMs = 15_000): Promise<void> {
  for (const end = Date.now() + timeoutMs; !isSo(); ) {
    if (Date.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
