/**
 * Waiting for something a container does: told by the warden, not polled for. Every wait fails at once, with the last
 * output, when the container ends before.
 */

import type { EngineContext } from './context.js'
import { type WaitOptions, waitUntil } from './deadline.js'
import { MayflyError } from './errors.js'
import { describeExit } from './exit.js'
import type { ContainerExit, Life, ListeningPort } from './life.js'
import { LineReader, type LogSource, openLogs, readLogText } from './logs.js'

/** What of a log is waited for, and how long. */
export interface WaitForLogOptions extends WaitOptions {
  /** Lines that have to match. @default 1 */
  readonly times?: number
  /** Only lines of this stream. @default both */
  readonly stream?: 'stdout' | 'stderr'
}

/** Lines of output that an error carries. */
const TAIL_LINES = 20
const TAIL_BYTES = 8 * 1024
const TAIL_TIMEOUT_MS = 2_000

/** Until a process of the container listens on the TCP port, on an address that others can reach. */
export async function waitForPort(
  context: EngineContext,
  life: Life,
  port: number,
  options: WaitOptions,
): Promise<ListeningPort> {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new RangeError(`port must be a whole number from 1 to 65535, not ${port}`)
  }
  requireStarted(life)
  const inVain = new Set<string>()
  return explained(context, life, `port ${port}`, () =>
    waitUntil<ListeningPort>(
      options,
      (timeoutMs) => {
        const hint =
          inVain.size > 0
            ? `something listens on ${[...inVain].join(', ')} only, which nobody outside the container can reach`
            : openPorts(life)
        return timedOut(life, `port ${port}`, timeoutMs, hint)
      },
      (resolve, reject) =>
        life.watch({
          listening: (listening) => {
            if (listening.port !== port) return
            if (isReachable(life, listening)) resolve(listening)
            else inVain.add(listening.address)
          },
          exited: (exit) => reject(new EndedEarly(exit)),
          failed: reject,
        }),
    ),
  )
}

/** Until so many lines of the output match; what was written before the call counts. Resolves to the last of these lines. */
export async function waitForLog(
  context: EngineContext,
  life: Life,
  source: LogSource,
  pattern: RegExp | string,
  options: WaitForLogOptions,
): Promise<string> {
  const { times = 1, stream, ...wait } = options
  if (!Number.isInteger(times) || times < 1)
    throw new RangeError(`times must be a whole number from 1 on, not ${times}`)
  const matches = matcher(pattern)
  const what = `a line that matches ${pattern}`
  let found = 0
  return explained(context, life, what, () =>
    waitUntil<string>(
      wait,
      (timeoutMs) => timedOut(life, what, timeoutMs, times > 1 ? `${found} of ${times} lines have come` : undefined),
      (resolve, reject) => {
        const log = openLogs(source, { follow: true, stdout: stream !== 'stderr', stderr: stream !== 'stdout' })
        const read = async () => {
          const readers = { stdout: new LineReader(), stderr: new LineReader() }
          for await (const entry of log) {
            for (const line of readers[entry.stream].push(entry.data)) {
              if (matches(line) && ++found === times) return resolve(line)
            }
          }
          // The last line may lack its newline.
          for (const line of [readers.stdout.rest(), readers.stderr.rest()]) {
            if (line !== undefined && matches(line) && ++found === times) return resolve(line)
          }
          reject(life.exit ? new EndedEarly(life.exit) : notStarted(life))
        }
        read().catch(reject)
        return () => {
          void log.return?.()
        }
      },
    ),
  )
}

/** Until it has exited. */
export function waitForExit(life: Life, options: WaitOptions): Promise<ContainerExit> {
  if (life.exit && !life.isRunning && !life.isRestarting) return Promise.resolve(life.exit)
  if (life.state === 'created' && !life.isRestarting) return Promise.reject(notStarted(life))
  return waitUntil(
    options,
    (timeoutMs) => timedOut(life, 'its exit', timeoutMs, undefined),
    (resolve, reject) => life.watch({ exited: resolve, failed: reject }),
  )
}

/** The last lines of output, for an error; '' when they cannot be had. */
export function logTail(context: EngineContext, life: Life): Promise<string> {
  const source: LogSource = {
    session: context.session,
    id: life.id,
    attempt: { verb: 'read the log of', container: life.name },
    hasEnded: () => Promise.resolve(),
  }
  const signal = AbortSignal.timeout(TAIL_TIMEOUT_MS)
  // An error about an error helps nobody: the first one is told.
  return readLogText(source, { tail: TAIL_LINES, signal }).then(
    (text) => text.slice(-TAIL_BYTES).trimEnd(),
    () => '',
  )
}

/** Carries the exit to where there is time to read the log. */
class EndedEarly extends Error {
  readonly exit: ContainerExit

  constructor(exit: ContainerExit) {
    super('the container ended early')
    this.exit = exit
  }
}

/** Adds the last output to what the container itself is to blame for. */
async function explained<T>(context: EngineContext, life: Life, what: string, wait: () => Promise<T>): Promise<T> {
  try {
    return await wait()
  } catch (error) {
    const isTimeout = error instanceof MayflyError && error.code === 'TIMEOUT'
    if (!(error instanceof EndedEarly || isTimeout)) throw error
    const tail = await logTail(context, life)
    const facts = { container: life.name, ...(tail ? { logTail: tail } : {}) }
    if (error instanceof EndedEarly) {
      throw new MayflyError(
        'CONTAINER_EXITED',
        `"${life.name}" ${describeExit(error.exit)} while waiting for ${what}`,
        facts,
      )
    }
    const timeout = error as MayflyError
    const [message] = timeout.message.split('\n')
    throw new MayflyError('TIMEOUT', message!, { ...facts, ...(timeout.hint ? { hint: timeout.hint } : {}) })
  }
}

function timedOut(life: Life, what: string, timeoutMs: number, hint: string | undefined): MayflyError {
  const facts = { container: life.name, ...(hint ? { hint } : {}) }
  return new MayflyError('TIMEOUT', `"${life.name}": still waiting for ${what} after ${timeoutMs / 1000} s`, facts)
}

function openPorts(life: Life): string {
  const ports = [...new Set(life.listeningPorts.map(({ port }) => port))]
  return ports.length > 0 ? `it listens on ${ports.join(', ')}` : 'it listens on no port at all'
}

function requireStarted(life: Life): void {
  if (life.state === 'created' && !life.isRestarting) throw notStarted(life)
}

function notStarted(life: Life): MayflyError {
  return new MayflyError('CONTAINER_NOT_RUNNING', `"${life.name}" was not started`, { container: life.name })
}

/** Loopback of the container's own network namespace is for itself alone; that of the host is for everybody here. */
function isReachable(life: Life, { address }: ListeningPort): boolean {
  if (life.options.network !== 'bridge') return true
  return !/^(127\.|::1$|::ffff:127\.)/.test(address)
}

function matcher(pattern: RegExp | string): (line: string) => boolean {
  if (typeof pattern === 'string') return (line) => line.includes(pattern)
  if (!(pattern instanceof RegExp)) throw new TypeError(`pattern must be a RegExp or a string, not ${typeof pattern}`)
  // A global or sticky pattern remembers where it stopped; every line begins anew.
  const fresh = new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, ''))
  return (line) => fresh.test(line)
}
