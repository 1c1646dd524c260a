/** Further programs in a running container: `exec` with the output collected, `execStream` with streams. */

import type { Writable } from 'node:stream'
import type { Bulk } from './bulk.js'
import type { EngineContext } from './context.js'
import { type WaitOptions, waitUntil } from './deadline.js'
import { MayflyError } from './errors.js'
import { STDERR } from './frames.js'
import { Gatherer } from './gather.js'
import { newId } from './ids.js'
import { planExec } from './launch/plan.js'
import { parseSignal, validateExec } from './launch/validate.js'
import type { Life } from './life.js'
import type { ExecOptions } from './options.js'
import { type Attempt, refusalError } from './refusal.js'
import { signalName } from './signals.js'
import { ProcessStreams } from './streams.js'
import type { Refusal, Reply } from './wire.js'

/** How a program that was run in a container ended. */
export interface ExecExit {
  /** 0 to 255; 128 and the signal's number when a signal ended it. */
  readonly exitCode: number
  /** Such as `SIGKILL`; null when it ended by itself. */
  readonly signal: string | null
}

export interface ExecResult extends ExecExit {
  /** As UTF-8. */
  readonly stdout: string
  readonly stderr: string
  /** Output was longer than `maxBytes`; the rest was read and dropped. */
  readonly isTruncated: boolean
}

/** A program to be run to its end, with its output kept. */
export interface ExecBufferedOptions {
  /** Written to the program's stdin, which is then closed. @default an empty stdin */
  readonly input?: string | Uint8Array
  /** Bytes kept of each of stdout and stderr. @default 16777216 */
  readonly maxBytes?: number
  /** Called with output as it comes, in order. It is collected for the result all the same. What it throws kills the program and is the error. */
  readonly onOutput?: (stream: 'stdout' | 'stderr', piece: Uint8Array) => void
  /** Kills the program and ends the wait with its reason. */
  readonly signal?: AbortSignal
}

/** A program that runs in a container. */
export interface ExecProcess {
  /** 64 hexadecimal digits. */
  readonly id: string
  /** Its stdin, when `stdin` was asked for. What is written after the program has gone is dropped. */
  readonly stdin: Writable
  /**
   * Its output, read once. Read both streams, or leave the loop over the one that you do not want: a program whose output
   * nobody reads waits, as with any pipe, once 1 MiB lies there.
   */
  readonly stdout: AsyncIterableIterator<Uint8Array>
  /** With a terminal, everything comes over stdout. */
  readonly stderr: AsyncIterableIterator<Uint8Array>
  /** Changes the size of its terminal. */
  resize(columns: number, rows: number): Promise<void>
  /** @default 'SIGKILL' */
  kill(signal?: string | number): Promise<void>
  /** How it ended; the output before has to be read. Waits without a timeout unless one is given. */
  wait(options?: WaitOptions): Promise<ExecExit>
  /** Kills it if it still runs. */
  [Symbol.asyncDispose](): Promise<void>
}

const DEFAULT_MAX_BYTES = 16 * 1024 * 1024

interface Launch {
  readonly id: string
  readonly words: readonly string[]
  readonly command: readonly string[]
  readonly attempt: Attempt
}

export async function execBuffered(
  context: EngineContext,
  life: Life,
  options: ExecOptions | readonly string[],
  { input, maxBytes = DEFAULT_MAX_BYTES, onOutput, signal }: ExecBufferedOptions,
): Promise<ExecResult> {
  signal?.throwIfAborted()
  const given = toExecOptions(options)
  const preparing = prepare(context, life, input === undefined ? given : { ...given, stdin: true })
  const launch = preparing instanceof Promise ? await preparing : preparing
  const stdout = new Gatherer(maxBytes)
  const stderr = new Gatherer(maxBytes)
  return new Promise((resolve, reject) => {
    const { session } = context
    let isOver = false
    const over = () => {
      isOver = true
      signal?.removeEventListener('abort', onAbort)
      bulk.release()
      session.discard(bulk)
    }
    /** The reason is told when the program is gone, so that nothing of it is left behind. */
    const giveUp = (reason: unknown) => {
      if (isOver) return
      over()
      killExec(context, life, launch.id, 9).then(
        () => reject(reason),
        () => reject(reason),
      )
    }
    const onAbort = () => giveUp(signal?.reason)
    const bulk: Bulk = session.bulk('exec', launch.words, {
      reply: (reply) => {
        if ((reply as Reply).ok) {
          context.emit(life, { type: 'exec-start', exec: launch.id, command: launch.command })
          return
        }
        over()
        reject(refusalError(reply as Refusal, launch.attempt))
      },
      data: (stream, piece) => {
        if (isOver) return
        const isError = stream === STDERR
        ;(isError ? stderr : stdout).push(piece)
        try {
          onOutput?.(isError ? 'stderr' : 'stdout', piece)
        } catch (error) {
          giveUp(error)
        }
      },
      notice: (notice) => {
        const exit = toExecExit(notice)
        if (isOver || !exit) return
        over()
        context.emit(life, { type: 'exec-die', exec: launch.id, exitCode: exit.exitCode })
        resolve({
          exitCode: exit.exitCode,
          signal: exit.signal,
          stdout: stdout.text(),
          stderr: stderr.text(),
          isTruncated: stdout.isCut || stderr.isCut,
        })
      },
      end: (error) => {
        if (isOver) return
        over()
        if (error) reject(error)
        else explainEnd(life).then(reject)
      },
    })
    bulk.hold()
    signal?.addEventListener('abort', onAbort, { once: true })
    if (input !== undefined) bulk.write(typeof input === 'string' ? Buffer.from(input) : input, () => {})
    if (input !== undefined || given.stdin) bulk.end()
  })
}

export async function execStream(
  context: EngineContext,
  life: Life,
  options: ExecOptions | readonly string[],
): Promise<ExecProcess> {
  const given = toExecOptions(options)
  const launch = await prepare(context, life, given)
  const { session } = context
  const streams = new ProcessStreams()
  const waiters = new Set<{ resolve(exit: ExecExit): void; reject(error: unknown): void }>()
  let exit: ExecExit | undefined
  let failure: unknown
  const finish = (error: unknown) => {
    if (exit || failure !== undefined) return
    failure = error
    streams.end(error)
    for (const waiter of waiters) waiter.reject(error)
  }

  const bulk = await new Promise<Bulk>((resolve, reject) => {
    const opening: Bulk = session.bulk('exec', launch.words, {
      reply: (reply) => {
        opening.release()
        if ((reply as Reply).ok) {
          // At once: what is read next may be its exit.
          context.emit(life, { type: 'exec-start', exec: launch.id, command: launch.command })
          resolve(opening)
          return
        }
        session.discard(opening)
        reject(refusalError(reply as Refusal, launch.attempt))
      },
      data: (stream, piece) => streams.push(stream, piece),
      notice: (notice) => {
        exit = toExecExit(notice) ?? exit
        if (!exit) return
        streams.end()
        session.discard(opening)
        context.emit(life, { type: 'exec-die', exec: launch.id, exitCode: exit.exitCode })
        for (const waiter of waiters) waiter.resolve(exit)
      },
      end: (error) => {
        const tell = (reason: Error) => {
          finish(reason)
          reject(reason)
        }
        if (exit) return
        if (error) tell(error)
        else explainEnd(life).then(tell)
      },
    })
    opening.hold()
    streams.connect(opening)
  })
  if (!given.stdin) streams.stdin.end()

  const wait = (waitOptions: WaitOptions = {}): Promise<ExecExit> => {
    if (exit) return Promise.resolve(exit)
    return waitUntil(
      { timeoutMs: Number.POSITIVE_INFINITY, ...waitOptions },
      (timeoutMs) =>
        new MayflyError('TIMEOUT', `${given.command[0]} in "${life.name}" still runs after ${timeoutMs / 1000} s`, {
          container: life.name,
        }),
      (resolve, reject) => {
        if (failure !== undefined) reject(failure)
        const waiter = { resolve, reject }
        waiters.add(waiter)
        session.hold()
        return () => {
          waiters.delete(waiter)
          session.release()
        }
      },
    )
  }
  return {
    id: launch.id,
    stdin: streams.stdin,
    stdout: streams.stdout,
    stderr: streams.stderr,
    wait,
    resize: (columns, rows) => resizeTerminal(context, life, columns, rows, launch.id),
    kill: async (signal = 'SIGKILL') => {
      const number = parseSignal(signal)
      if (!exit) await killExec(context, life, launch.id, number)
    },
    [Symbol.asyncDispose]: async () => {
      if (exit || failure !== undefined) return
      await streams.stdout.return()
      await streams.stderr.return()
      await killExec(context, life, launch.id, 9).catch(() => {}) // it may have ended just now, or its container
      session.discard(bulk)
    },
  }
}

/** Tells a terminal its size: that of the container, or of an exec. */
export async function resizeTerminal(
  context: EngineContext,
  life: Life,
  columns: number,
  rows: number,
  exec?: string,
): Promise<void> {
  for (const [field, value] of Object.entries({ columns, rows })) {
    if (!Number.isInteger(value) || value < 1 || value > 65_535) {
      throw new RangeError(`${field} must be a whole number from 1 to 65535, not ${value}`)
    }
  }
  const words = ['id', life.id, 'cols', String(columns), 'rows', String(rows)]
  if (exec) words.push('exec', exec)
  const reply = await context.session.request('resize', words)
  if (!reply.ok) throw refusalError(reply, { verb: 'resize the terminal of', container: life.name })
}

async function killExec(context: EngineContext, life: Life, exec: string, signal: number): Promise<void> {
  const reply = await context.session.request('signal', ['id', life.id, 'signal', String(signal), 'exec', exec])
  // No such exec: it has ended in the meantime, which is what was wanted.
  if (!reply.ok && reply.step !== 'id' && reply.errno !== 'ESRCH') {
    throw refusalError(reply, { verb: 'signal a program in', container: life.name })
  }
}

function toExecOptions(options: ExecOptions | readonly string[]): ExecOptions {
  return Array.isArray(options) ? { command: options as readonly string[] } : (options as ExecOptions)
}

/** Synchronous but for the first time that a seccomp program is used. */
function prepare(context: EngineContext, life: Life, options: ExecOptions): Launch | Promise<Launch> {
  const complete = validateExec(options)
  // In a paused container it would be frozen before its first instruction.
  if (life.state !== 'running') {
    throw new MayflyError('CONTAINER_NOT_RUNNING', `Cannot exec in "${life.name}": it is ${life.state}`, {
      container: life.name,
    })
  }
  const id = newId()
  const { words, programs } = planExec(life.options, complete, context.facts, { id: life.id, exec: id })
  const launch: Launch = {
    id,
    words,
    command: complete.command,
    attempt: { verb: `run ${complete.command[0]} in`, container: life.name, options: complete },
  }
  return context.session.sendPrograms(programs)?.then(() => launch) ?? launch
}

function toExecExit(notice: Record<string, unknown>): ExecExit | undefined {
  const { code, signal } = notice
  if (typeof signal === 'number') return { exitCode: 128 + signal, signal: signalName(signal) }
  return typeof code === 'number' ? { exitCode: code, signal: null } : undefined
}

/** The connection ended before the program did: its container has exited, or the warden is gone. Which one is about to be told. */
function explainEnd(life: Life): Promise<Error> {
  const gone = new MayflyError('CONTAINER_EXITED', `"${life.name}" ended while a program ran in it`, {
    container: life.name,
  })
  return waitUntil<Error>(
    { timeoutMs: 1_000 },
    () => gone,
    (resolve) => life.watch({ exited: () => resolve(gone), failed: resolve }),
  ).catch((error) => error)
}
