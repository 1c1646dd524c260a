/** A program that does one thing for every order it is sent and answers with a line: floor.c, peer.c's stopwatch, and others. */

import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import type { Contender } from './measure.ts'

export class Stepper {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  readonly #command: readonly string[]
  #text = ''
  #waiting: { resolve: (line: string) => void; reject: (error: Error) => void } | undefined

  constructor(command: readonly string[], env: NodeJS.ProcessEnv = process.env) {
    this.#command = command
    this.#child = spawn(command[0]!, command.slice(1), { stdio: ['pipe', 'pipe', 'inherit'], env })
    this.#child.stdin.on('error', () => {}) // its death is told by `exit`
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => this.#read(text))
    this.#child.on('error', (error) => this.#waiting?.reject(error))
    this.#child.on('exit', (code, signal) =>
      this.#waiting?.reject(new Error(`${command.join(' ')} ended with ${signal ?? code}`)),
    )
  }

  /** Sends the order; resolves to the line. Throws when the program ends instead. @default order: one byte */
  step(order = '.'): Promise<string> {
    if (this.#child.exitCode !== null)
      throw new Error(`${this.#command.join(' ')} has ended with ${this.#child.exitCode}`)
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      this.#child.stdin.write(order)
    })
  }

  #read(text: string): void {
    this.#text += text
    const end = this.#text.indexOf('\n')
    if (end < 0) return
    const line = this.#text.slice(0, end)
    this.#text = this.#text.slice(end + 1)
    this.#waiting?.resolve(line)
    this.#waiting = undefined
  }

  /** Lets it finish: it removes what it has made. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.stdin.end()
    await once(this.#child, 'exit')
  }
}

/** Times a command from outside: from before its spawn to after its exit, in C. */
export function stopwatch(name: string, peer: string, command: readonly string[], enter: readonly string[] = []) {
  const stepper = new Stepper([...enter, peer, 'stopwatch', ...command])
  return Object.assign(stepper, { name, round: async () => Number(await stepper.step()) / 1e6 } satisfies Contender)
}
