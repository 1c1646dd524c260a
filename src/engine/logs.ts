/** The output that a container has written so far or goes on writing. */

import type { Bulk } from './bulk.js'
import { Channel } from './channel.js'
import { STDERR } from './frames.js'
import { Gatherer } from './gather.js'
import { type Attempt, refusalError } from './refusal.js'
import type { Session } from './session.js'
import type { Reply } from './wire.js'

/** A piece of output, as the container wrote it: not necessarily a line, nor a whole character. */
export interface LogEntry {
  readonly stream: 'stdout' | 'stderr'
  /** Nanoseconds since the epoch. */
  readonly time: bigint
  readonly data: Uint8Array
  /** Bytes of older output that were dropped just before this piece, because the log was full. Mostly 0. */
  readonly lostBytes: number
}

/** Which part of a log, and whether to go on with what comes. */
export interface LogOptions {
  /** Goes on until the container exits. @default false */
  readonly follow?: boolean
  /** Only what was written from then on; a Date or milliseconds since the epoch. */
  readonly since?: Date | number
  /** Only what was written before. */
  readonly until?: Date | number
  /** Only the last lines. @default all */
  readonly tail?: number
  /** @default true */
  readonly stdout?: boolean
  /** @default true */
  readonly stderr?: boolean
  /** Waiting for the next piece does not keep node alive. @default false */
  readonly background?: boolean
  /** Ends the stream with its reason. */
  readonly signal?: AbortSignal
}

/** Which part of a log. */
export interface LogTextOptions extends Omit<LogOptions, 'follow' | 'background'> {
  /** Puts the time before each line, as `docker logs --timestamps`. @default false */
  readonly timestamps?: boolean
  /** Bytes kept at most. @default 33554432 */
  readonly maxBytes?: number
}

/** Output that may wait for a reader before the warden is told to stop sending. */
const BUFFERED_BYTES = 1024 * 1024
const DEFAULT_MAX_BYTES = 32 * 1024 * 1024

/** Which container, for the request and for errors. */
export interface LogSource {
  readonly session: Session
  readonly id: string
  readonly attempt: Attempt
  /** Resolves when the container has exited: the end of a followed log. Rejects when the session has failed instead. */
  readonly hasEnded: () => Promise<unknown>
}

/** Opens the log at once; what is wrong is told by the first `next()`. */
export function openLogs(source: LogSource, options: LogOptions = {}): AsyncIterableIterator<LogEntry> {
  const { session } = source
  const { signal } = options
  let bulk: Bulk | undefined
  let lostBytes = 0
  const close = () => {
    signal?.removeEventListener('abort', onAbort)
    if (bulk) session.discard(bulk)
  }
  const onAbort = () => {
    close()
    channel.end(signal?.reason)
  }
  const channel = new Channel<LogEntry>({
    limit: BUFFERED_BYTES,
    onRoom: () => bulk?.resume(),
    onWaiting: (waiting) => {
      if (options.background) return
      if (waiting) bulk?.hold()
      else bulk?.release()
    },
    onCancel: close,
  })
  if (signal?.aborted) {
    channel.end(signal.reason)
    return channel
  }
  const finish = (error?: unknown) => {
    signal?.removeEventListener('abort', onAbort)
    channel.end(error)
  }
  try {
    bulk = session.bulk('logs', logWords(source.id, options), {
      reply: (reply) => {
        if ((reply as Reply).ok) return
        finish(refusalError(reply as Reply & { ok: false }, source.attempt))
        close()
      },
      data: (stream, data, time) => {
        const name = stream === STDERR ? 'stderr' : 'stdout'
        if (!channel.push({ stream: name, time: time(), data, lostBytes }, data.length)) bulk?.pause()
        lostBytes = 0
      },
      notice: (notice) => {
        lostBytes += Number(notice.lost ?? 0)
      },
      end: (error) => {
        if (error || !options.follow) finish(error)
        // A dead warden also looks like the end of the log. Whoever reads must not take it for the container's.
        else source.hasEnded().then(() => finish(), finish)
      },
    })
  } catch (error) {
    finish(error)
  }
  signal?.addEventListener('abort', onAbort, { once: true })
  return channel
}

/** The log as text: both streams in the order they were written. */
export async function readLogText(source: LogSource, options: LogTextOptions = {}): Promise<string> {
  const { timestamps = false, maxBytes = DEFAULT_MAX_BYTES, ...rest } = options
  const gathered = new Gatherer(maxBytes)
  let atLineStart = true
  for await (const { data, time } of openLogs(source, rest)) {
    if (!timestamps) {
      gathered.push(data)
      continue
    }
    for (const line of splitAfterNewlines(data)) {
      if (atLineStart) gathered.push(Buffer.from(`${formatTime(time)} `))
      gathered.push(line)
      atLineStart = line.at(-1) === NEWLINE
    }
  }
  return gathered.text()
}

/** Reads all that is there into `stdout` and `stderr`; callbacks, since it is on the path of every `run`. */
export function gatherLogs(
  session: Session,
  id: string,
  options: { readonly follow: boolean },
  onData: (stream: number, piece: Uint8Array) => void,
  done: (error: unknown) => void,
): void {
  const bulk = session.bulk('logs', logWords(id, options), {
    reply: (reply) => {
      if ((reply as Reply).ok) return
      const { step, message, errno } = reply as Reply & { ok: false }
      finish(new Error(`Cannot read the log: ${step}: ${message || errno}`))
    },
    data: (stream, piece) => onData(stream, piece),
    end: (error) => finish(error),
  })
  bulk.hold()
  let isOver = false
  function finish(error?: Error): void {
    if (isOver) return
    isOver = true
    bulk.release()
    session.discard(bulk)
    done(error)
  }
}

/** RFC 3339 with nanoseconds in UTC, such as `2026-11-21T10:25:00.000000001Z`. */
export function formatTime(nanoseconds: bigint): string {
  const seconds = new Date(Number(nanoseconds / 1_000_000_000n) * 1000).toISOString().slice(0, 19)
  return `${seconds}.${String(nanoseconds % 1_000_000_000n).padStart(9, '0')}Z`
}

const NEWLINE = 0x0a

/** Pieces that each end with a newline, but for the last one perhaps. */
export function* splitAfterNewlines(data: Uint8Array): Generator<Uint8Array> {
  let start = 0
  while (start < data.length) {
    const end = data.indexOf(NEWLINE, start)
    const next = end < 0 ? data.length : end + 1
    yield data.subarray(start, next)
    start = next
  }
}

/** Longest line that is matched as a whole; a longer one is taken in parts. */
const MAX_LINE_BYTES = 64 * 1024

/** Puts pieces of one stream together to lines without their newline. */
export class LineReader {
  #pieces: Uint8Array[] = []
  #bytes = 0

  /** The lines that this piece completes. */
  push(data: Uint8Array): string[] {
    const lines: string[] = []
    for (const piece of splitAfterNewlines(data)) {
      this.#pieces.push(piece)
      this.#bytes += piece.length
      if (piece.at(-1) === NEWLINE || this.#bytes >= MAX_LINE_BYTES) lines.push(this.rest()!)
    }
    return lines
  }

  /** What was begun and not ended by a newline; undefined if nothing was. */
  rest(): string | undefined {
    if (this.#bytes === 0) return undefined
    const line = Buffer.concat(this.#pieces)
      .toString()
      .replace(/\r?\n$/, '')
    this.#pieces = []
    this.#bytes = 0
    return line
  }
}

function logWords(id: string, options: Omit<LogOptions, 'signal'>): string[] {
  const { follow = false, since, until, tail, stdout = true, stderr = true } = options
  const words = ['id', id, 'follow', follow ? '1' : '0', 'stdout', stdout ? '1' : '0', 'stderr', stderr ? '1' : '0']
  if (since !== undefined) words.push('since', nanoseconds('since', since))
  if (until !== undefined) words.push('until', nanoseconds('until', until))
  if (tail !== undefined) {
    if (!Number.isInteger(tail) || tail < -1) throw new RangeError(`tail must be a number of lines, not ${tail}`)
    words.push('tail', String(tail))
  }
  return words
}

function nanoseconds(field: string, time: Date | number): string {
  const milliseconds = Number(time)
  if (!Number.isFinite(milliseconds)) throw new RangeError(`${field} must be a Date or milliseconds, not ${time}`)
  return (BigInt(Math.round(milliseconds * 1000)) * 1000n).toString()
}
