/** A container from its start to its end, as one call. */

import type { EngineContext } from './context.js'
import type { MayflyError } from './errors.js'
import { STDERR } from './frames.js'
import { Gatherer } from './gather.js'
import type { SessionFacts } from './launch/facts.js'
import type { ContainerExit, Life } from './life.js'
import { gatherLogs } from './logs.js'
import { refusalError } from './refusal.js'
import type { ProgressListener } from './registry/progress.js'
import type { Refusal } from './wire.js'

/** A container to be started. */
export interface StartOptions {
  /** Gives up; what was begun is removed. */
  readonly signal?: AbortSignal
  /** Hears how far the image is, where it has to be fetched. */
  readonly onProgress?: ProgressListener
}

/** A container that is run to its end. */
export interface RunOptions extends StartOptions {
  /** Called with output as it comes. It is collected for the result all the same. */
  readonly onStdout?: (piece: Uint8Array) => void
  /** The same for stderr. */
  readonly onStderr?: (piece: Uint8Array) => void
  /** Bytes kept of each of stdout and stderr for the result; `logBytes` limits both together. @default 16777216 */
  readonly maxBytes?: number
}

/** What a run container has left behind. */
export interface RunResult extends ContainerExit {
  /** As UTF-8. */
  readonly stdout: string
  readonly stderr: string
  /** Some output is missing: there was more than `maxBytes` or the container's `logBytes`. */
  readonly isTruncated: boolean
}

/** A container that is planned and has its name. */
export interface Launch {
  readonly life: Life
  readonly words: readonly string[]
}

const DEFAULT_MAX_BYTES = 16 * 1024 * 1024

/**
 * Runs a planned container to its end. The warden removes it by itself; output that nobody hears as it comes is read from the log, and only if
 * there was any.
 */
export function runToEnd(
  context: EngineContext,
  { life, words }: Launch,
  { signal, onStdout, onStderr, maxBytes = DEFAULT_MAX_BYTES }: RunOptions,
): Promise<RunResult> {
  const { session } = context
  const { id } = life
  return new Promise((resolve, reject) => {
    const stdout = new Gatherer(maxBytes)
    const stderr = new Gatherer(maxBytes)
    const isLive = onStdout !== undefined || onStderr !== undefined
    let isLogDone = !isLive
    let isOver = false
    let isGivenUp = false
    let receivedBytes = 0

    const onData = (stream: number, piece: Uint8Array) => {
      if (isOver || isGivenUp) return
      receivedBytes += piece.length
      const [gatherer, tell] = stream === STDERR ? [stderr, onStderr] : [stdout, onStdout]
      gatherer.push(piece)
      try {
        tell?.(piece)
      } catch (error) {
        giveUp(error)
      }
    }
    const over = () => {
      isOver = true
      session.release()
      unwatch()
      signal?.removeEventListener('abort', onAbort)
      context.drop(life)
    }
    const fail = (error: unknown) => {
      if (isOver) return
      over()
      reject(error)
    }
    const finish = () => {
      const { exit } = life
      if (isOver || isGivenUp || !exit || !isLogDone) return
      over()
      context.forget(id)
      resolve({
        exitCode: exit.exitCode,
        signal: exit.signal,
        oomKilled: exit.oomKilled,
        stdout: stdout.text(),
        stderr: stderr.text(),
        isTruncated: stdout.isCut || stderr.isCut || receivedBytes < life.logBytes,
        startedAt: exit.startedAt,
        finishedAt: exit.finishedAt,
        durationMs: exit.durationMs,
      })
    }
    const readLog = (follow: boolean) => {
      const done = (error: unknown) => {
        isLogDone = true
        if (error === undefined) finish()
        else giveUp(error)
      }
      try {
        gatherLogs(session, id, { follow }, onData, done)
      } catch (error) {
        fail(error) // the session has failed
      }
    }
    /** Rejects when the container is gone. */
    const giveUp = (reason: unknown) => {
      if (isOver || isGivenUp) return
      isGivenUp = true
      session.send('remove', ['id', id, 'force', '1'], () => {
        context.forget(id)
        fail(reason)
      })
    }
    const onAbort = () => giveUp(signal?.reason)
    const afterRemoval = () => {
      context.emit(life, { type: 'remove' })
      if (life.logBytes > 0 && !isLive) {
        isLogDone = false
        readLog(false)
      } else finish()
    }

    session.hold()
    const unwatch = life.watch({
      exited: () => {
        if (isGivenUp) return
        if (life.state === 'removed') afterRemoval()
        // The warden could not remove everything by itself: let it say why.
        else context.remove(life, true).then(afterRemoval, fail)
      },
      failed: fail,
    })
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      session.send('run', words, (error, reply) => {
        if (error !== undefined) {
          fail(error)
          return
        }
        if (!reply.ok) {
          fail(launchError(reply, life, context.facts))
          return
        }
        life.started()
        life.learn(reply)
        context.emit(life, { type: 'create' })
        context.emit(life, { type: 'start' })
        if (isLive) readLog(true)
      })
    } catch (error) {
      fail(error)
    }
  })
}

/** Why a container could not be started. */
export function launchError(refusal: Refusal, life: Life, facts: SessionFacts): MayflyError {
  const networkId = (reference: string) => {
    try {
      return facts.network(reference).id
    } catch {
      return undefined // removed meanwhile
    }
  }
  return refusalError(refusal, { verb: 'start', container: life.name, options: life.options, networkId })
}
