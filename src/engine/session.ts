/**
 * A session: one warden process and the connection that keeps it alive.
 *
 * node holds one end of a socketpair. Whatever closes it (exit, crash, SIGKILL, the end of a worker thread) makes the
 * warden take everything down, so nothing here is registered for `process.on('exit')`. Neither the process nor the
 * connection keeps node alive; only an outstanding request does.
 */

import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { Bulk, type BulkHandler } from './bulk.js'
import { spawnChild } from './child.js'
import { clearTimeout, nextTick, setImmediate, setTimeout } from './clock.js'
import { MayflyError } from './errors.js'
import { signalName } from './signals.js'
import {
  type ExitEvent,
  encodeRequest,
  type ListenEvent,
  type ReadyEvent,
  type Reply,
  type WardenEvent,
  type WarningEvent,
} from './wire.js'

/** Called once with the reply, or with the reason why there will be none. */
export type ReplyCallback = (error: unknown, reply: Reply) => void

/** Called once: with the exit, or with the reason why none will be told. */
export type ExitCallback = (error: unknown, event: ExitEvent | undefined) => void

export interface SessionOptions {
  /** The store's directory. */
  readonly home: string
  /** The native program. */
  readonly program: string
  /** False makes no network at all: containers can have `none` or `host`. */
  readonly network: boolean
}

export interface SessionListener {
  exited(event: ExitEvent): void
  listening(event: ListenEvent): void
  warned(event: WarningEvent): void
  /** The warden is gone, expectedly (ENGINE_CLOSED) or not. Nothing comes after it. */
  failed(error: MayflyError): void
}

const CLOSE_TIMEOUT_MS = 10_000
/** How long the exit status of a dead warden may take to arrive after its connection has broken. */
const POST_MORTEM_MS = 1_000
const POST_DELAY_MS = 10
const STDERR_KEPT = 4_096
const NO_REPLY = undefined as unknown as Reply

export class Session {
  readonly #child: ChildProcess
  readonly #control: Socket
  readonly #stderrPipe: Socket
  /** How the spawned process ended: at once and with 0, unless it could not begin. */
  #code: number | NodeJS.Signals | null | undefined
  readonly #program: string
  readonly #pending = new Map<number, ReplyCallback>()
  readonly #bulks = new Set<Bulk>()
  readonly #sentPrograms = new Map<string, Promise<void>>()
  /** By container: whoever waits for its exit besides the listener. */
  readonly #exits = new Map<string, ExitCallback>()
  #listener: SessionListener | undefined
  #facts: ReadyEvent | undefined
  #opened: { resolve: (session: Session) => void; reject: (error: unknown) => void } | undefined
  #sequence = 0
  #holds = 0
  #line = ''
  #stderr = ''
  /** Requests that wait for company. */
  #posted = ''
  #postTimer: NodeJS.Timeout | undefined
  #spare: Bulk | undefined
  /** Handlers of broken connections that wait for the reason. */
  readonly #unexplained = new Set<() => void>()
  #failure: MayflyError | undefined
  #postMortem: NodeJS.Timeout | undefined
  #closing: Promise<void> | undefined
  #hasExited = false
  #onExit: (() => void) | undefined

  /** Spawns a warden and waits until it is ready. Throws ENGINE_UNAVAILABLE with what the warden said. */
  static open(options: SessionOptions): Promise<Session> {
    return new Promise((resolve, reject) => {
      const session = new Session(options)
      session.#opened = { resolve, reject }
    })
  }

  private constructor(options: SessionOptions) {
    this.#program = options.program
    const id = randomBytes(6).toString('hex')
    const words = [
      'launch',
      `home=${options.home}`,
      `id=${id}`,
      `network=${options.network ? 1 : 0}`,
      `resolvers=${hostResolvers().join(',')}`,
    ]
    this.#child = spawnChild(options.program, words, {
      cwd: '/',
      detached: true, // a session of its own: Ctrl-C goes to node alone, and the warden follows when node goes
      env: wardenEnvironment(),
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    })
    const stderr = this.#child.stderr as Socket
    this.#stderrPipe = stderr
    stderr.setEncoding('utf8')
    stderr.on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_KEPT)
    })
    stderr.on('error', () => {}) // what is lost is only text for an error message
    // The launcher leaves node's family at once, and holds this pipe to its very end: that is how its end is told.
    stderr.on('close', () => {
      if (this.#code === undefined) this.#child.once('exit', () => this.#gone())
      else this.#gone()
    })
    stderr.unref()
    this.#control = this.#child.stdio[3] as Socket
    this.#control.setEncoding('utf8')
    this.#control.on('data', (text: string) => this.#read(text))
    this.#control.on('error', () => this.#lost())
    this.#control.on('close', () => this.#lost())
    this.#child.on('error', (error) => {
      this.#hasExited = true
      this.#onExit?.()
      this.#fail(unavailable(`Cannot start ${options.program}: ${error.message}`, error))
    })
    this.#child.on('exit', (code, signal) => {
      this.#code = signal ?? code
    })
    this.#child.unref()
  }

  /** What the warden found out about this machine. */
  get facts(): ReadyEvent {
    return this.#facts!
  }

  /** Why the session has ended, if it has. */
  get failure(): MayflyError | undefined {
    return this.#failure
  }

  listen(listener: SessionListener): void {
    this.#listener = listener
  }

  /** Sends a request. `done` is called exactly once, never before this returns. */
  send(verb: string, pairs: readonly string[], done: ReplyCallback): void {
    const failure = this.#failure
    if (failure) {
      nextTick(done, failure, NO_REPLY)
      return
    }
    const sequence = ++this.#sequence
    const request = encodeRequest(verb, sequence, pairs)
    this.#pending.set(sequence, done)
    this.hold()
    this.#control.write(this.#posted + request)
    this.#posted = ''
  }

  /**
   * Sends a request whose reply nobody needs: together with the next one, or within a few milliseconds. Each write wakes the
   * warden, which takes longer (0.1 ms) than what a `forget` asks of it.
   */
  post(verb: string, pairs: readonly string[]): void {
    if (this.#failure) return
    this.#posted += encodeRequest(verb, ++this.#sequence, pairs)
    this.#postTimer ??= setTimeout(() => {
      this.#postTimer = undefined
      if (this.#posted && !this.#failure) this.#control.write(this.#posted)
      this.#posted = ''
    }, POST_DELAY_MS).unref()
  }

  /** Sends a request and resolves to the reply, a refusal included. */
  request(verb: string, pairs: readonly string[]): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.send(verb, pairs, (error, reply) => (error === undefined ? resolve(reply) : reject(error)))
    })
  }

  /**
   * Makes seccomp programs known to the warden, each once a session. Undefined when there was nothing to send: the common
   * case, which must not cost an await.
   */
  sendPrograms(programs: ReadonlyMap<string, Buffer>): Promise<unknown> | undefined {
    const sending: Promise<void>[] = []
    for (const [name, program] of programs) {
      const known = this.#sentPrograms.get(name)
      if (known === SENT) continue
      if (known) {
        sending.push(known)
        continue
      }
      const promise = this.request('seccomp', ['name', name, 'program', program.toString('base64')]).then((reply) => {
        if (!reply.ok)
          throw new MayflyError('LAUNCH_FAILED', `The warden refuses a seccomp program: ${reply.message}`, reply)
        this.#sentPrograms.set(name, SENT)
      })
      promise.catch(() => this.#sentPrograms.delete(name))
      this.#sentPrograms.set(name, promise)
      sending.push(promise)
    }
    return sending.length === 0 ? undefined : Promise.all(sending)
  }

  /**
   * Opens a bulk connection with its request sent. An idle one is kept ready, since connecting takes longer than many a
   * request. Throws when the session has ended.
   *
   * `handler.end` gets an error only when the connection broke or the session ended; a plain end of file is the warden's.
   */
  bulk(verb: string, pairs: readonly string[], handler: BulkHandler): Bulk {
    if (this.#failure) throw this.#failure
    const request = encodeRequest(verb, ++this.#sequence, pairs)
    const spare = this.#spare
    this.#spare = undefined
    const bulk = spare?.isOpen ? spare : this.#connect()
    this.#bulks.add(bulk)
    bulk.begin(request, {
      reply: (reply) => handler.reply(reply),
      data: (stream, piece, time) => handler.data?.(stream, piece, time),
      notice: (notice) => handler.notice?.(notice),
      end: (error) => {
        this.#bulks.delete(bulk)
        if (error && error !== this.#failure) this.#explain(error, handler)
        else handler.end(error)
      },
    })
    setImmediate(() => this.#prepare())
    return bulk
  }

  /** A bulk connection that its user destroyed. */
  discard(bulk: Bulk): void {
    this.#bulks.delete(bulk)
    bulk.destroy()
  }

  /** Tells of the exit of a container that is about to be started. Returns how not to be told. */
  watchExit(container: string, tell: ExitCallback): () => void {
    this.#exits.set(container, tell)
    return () => this.#exits.delete(container)
  }

  /** Keeps node alive until `release()`. */
  hold(): void {
    if (this.#holds++ === 0) this.#control.ref()
  }

  release(): void {
    if (--this.#holds === 0) this.#control.unref()
  }

  /**
   * Ends the session: every container dies and every trace goes. Resolves when that has happened. May be called twice.
   *
   * Throws TIMEOUT when the warden is not gone in time; it is then killed, and the kernel removes the rest.
   *
   * @default timeoutMs: 10000
   */
  close(timeoutMs = CLOSE_TIMEOUT_MS): Promise<void> {
    this.#closing ??= this.#close(timeoutMs)
    return this.#closing
  }

  async #close(timeoutMs: number): Promise<void> {
    this.#fail(new MayflyError('ENGINE_CLOSED', 'The engine was closed'))
    if (this.#hasExited) return
    this.#control.end()
    this.#stderrPipe.ref()
    let timer: NodeJS.Timeout | undefined
    const isGone = await new Promise<boolean>((resolve) => {
      this.#onExit = () => resolve(true)
      timer = setTimeout(() => resolve(false), timeoutMs)
    })
    clearTimeout(timer)
    if (isGone) return
    this.#kill()
    this.#control.destroy()
    this.#stderrPipe.unref()
    throw new MayflyError('TIMEOUT', `The warden was not gone ${timeoutMs / 1000} s after it was told to end`, {
      hint: 'it was killed; the next start of mayfly removes what may have stayed',
    })
  }

  #connect(): Bulk {
    return new Bulk(join(this.facts.session, 's'))
  }

  #prepare(): void {
    if (this.#failure || this.#spare?.isOpen) return
    this.#spare = this.#connect()
  }

  #read(text: string): void {
    const lines = (this.#line + text).split('\n')
    this.#line = lines.pop()!
    for (const line of lines) {
      if (this.#failure) return
      this.#dispatch(line)
    }
  }

  #dispatch(line: string): void {
    let message: (Reply & { seq: number }) | WardenEvent
    try {
      message = JSON.parse(line)
    } catch (error) {
      this.#fail(unavailable(`The warden sent a line that is no JSON: ${line.slice(0, 200)}`, error))
      this.#control.destroy()
      return
    }
    if ('seq' in message) {
      const done = this.#pending.get(message.seq)
      if (!done) return
      this.#pending.delete(message.seq)
      this.release()
      done(undefined, message)
      return
    }
    switch (message.event) {
      case 'exit':
        this.#listener?.exited(message)
        this.#exits.get(message.container)?.(undefined, message)
        this.#exits.delete(message.container)
        break
      case 'listen':
        this.#listener?.listening(message)
        break
      case 'warning':
        this.#listener?.warned(message)
        break
      case 'ready': {
        this.#facts = message
        this.#control.unref()
        this.#opened?.resolve(this)
        this.#opened = undefined
        setImmediate(() => this.#prepare())
        break
      }
      case 'failed':
        this.#fail(
          new MayflyError(
            'ENGINE_UNAVAILABLE',
            `The engine cannot start: ${message.message || message.step}${message.subject ? ` (${message.subject})` : ''}${message.errno ? `: ${message.errno}` : ''}`,
            { step: message.step, errno: message.errno, hint: '`npx mayfly doctor` tells what this machine lacks' },
          ),
        )
        this.#control.destroy()
        break
    }
  }

  /** The connection broke. What the launcher has to say of it is on its way. */
  #lost(): void {
    if (this.#failure || this.#postMortem) return
    this.#stderrPipe.ref()
    this.#postMortem = setTimeout(() => {
      this.#kill() // it cannot be told anything any more
      this.#fail(unavailable(`The warden closed its connection${this.#said()}`))
    }, POST_MORTEM_MS)
  }

  /** The launcher's end: everything of the session is gone. */
  #gone(): void {
    this.#hasExited = true
    this.#onExit?.()
    if (this.#failure) return
    // Lines that were sent before the end may still be in the pipe, a `failed` event among them.
    setImmediate(() => {
      const which = this.#facts ? 'The warden' : `The warden (${this.#program})`
      this.#fail(unavailable(`${which} ${this.#manner()}`))
    })
  }

  /** How it ended. The launcher tells on stderr what became of the warden; its own status comes only if it fails early. */
  #manner(): string {
    const killer = /killed by signal (\d+)/.exec(this.#stderr)?.[1]
    if (killer) return `was killed by ${signalName(Number(killer))}`
    if (typeof this.#code === 'string') return `was killed by ${this.#code}`
    return `${this.#code ? `ended with exit code ${this.#code}` : 'ended'}${this.#said()}`
  }

  #kill(): void {
    try {
      if (this.#facts) process.kill(this.#facts.launcher, 'SIGKILL')
      else this.#child.kill('SIGKILL')
    } catch {
      // gone already
    }
  }

  #said(): string {
    const text = this.#stderr.trim()
    return text ? `; it said: ${text}` : ''
  }

  #fail(error: MayflyError): void {
    if (this.#failure) return
    this.#failure = error
    clearTimeout(this.#postMortem)
    clearTimeout(this.#postTimer)
    const pending = [...this.#pending.values()]
    this.#pending.clear()
    for (const done of pending) {
      this.release()
      done(error, NO_REPLY)
    }
    for (const tell of this.#exits.values()) tell(error, undefined)
    this.#exits.clear()
    for (const bulk of [...this.#bulks]) bulk.destroy(error)
    for (const tell of [...this.#unexplained]) tell()
    this.#spare?.destroy()
    this.#stderrPipe.unref()
    this.#opened?.reject(error)
    this.#opened = undefined
    this.#listener?.failed(error)
  }

  /** A bulk connection broke: most often because the warden died, which the control connection is about to tell. */
  #explain(error: Error, handler: BulkHandler): void {
    const tell = () => {
      clearTimeout(timer)
      this.#unexplained.delete(tell)
      handler.end(this.#failure ?? unavailable(`A connection to the warden broke: ${error.message}`, error))
    }
    const timer = setTimeout(tell, POST_MORTEM_MS / 2)
    this.#unexplained.add(tell)
    if (this.#failure) tell()
  }
}

const SENT = Promise.resolve()

function unavailable(message: string, cause?: unknown): MayflyError {
  return new MayflyError('ENGINE_UNAVAILABLE', message, {}, { cause })
}

/** The host's name servers. None is fine: names of containers still resolve. */
function hostResolvers(): string[] {
  try {
    return [...readFileSync('/etc/resolv.conf', 'utf8').matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1]!)
  } catch {
    return []
  }
}

/** Nothing of the caller's environment but what finding helper programs (newuidmap, pasta) and debugging needs. */
function wardenEnvironment(): NodeJS.ProcessEnv {
  const kept: NodeJS.ProcessEnv = { PATH: `${process.env.PATH ?? '/usr/bin:/bin'}:/usr/sbin:/sbin` }
  for (const [name, value] of Object.entries(process.env)) {
    if (/^(HOME|XDG_RUNTIME_DIR|MAYFLY_.*|(A|UB|L)SAN_OPTIONS)$/.test(name)) kept[name] = value
  }
  return kept
}
