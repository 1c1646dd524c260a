/** Runs one program in a container of its own, which stays behind for what it has written to be kept. */

import { STDERR } from '../frames.js'
import { newId } from '../ids.js'
import { planLaunch } from '../launch/plan.js'
import { validateContainer } from '../launch/validate.js'
import { gatherLogs } from '../logs.js'
import type { ContainerOptions } from '../options.js'
import { refusalError } from '../refusal.js'
import type { ExitEvent } from '../wire.js'
import type { BuildContext } from './context.js'

export interface Program {
  /** Everything but the root file system. */
  readonly options: Omit<ContainerOptions, 'rootfs' | 'image' | 'remove'>
  /** Directories, uppermost first. */
  readonly layers: readonly string[]
  /** Further words of the plan: mounts and files. */
  readonly words: readonly string[]
  readonly onOutput: (stream: 'stdout' | 'stderr', data: Uint8Array) => void
}

export interface ProgramEnd {
  /** Of the container, which still exists. */
  readonly id: string
  readonly exit: ExitEvent
}

/** Output of programs that end sooner is fetched when they have ended: a connection costs more than they take. */
const FOLLOW_AFTER_MS = 10

/**
 * Resolves when the program has ended and all its output was told. The container is then the caller's to keep or to remove; when
 * this rejects, it is gone.
 */
export async function runProgram(context: BuildContext, program: Program, signal: AbortSignal): Promise<ProgramEnd> {
  const { session, facts } = context
  const id = newId()
  const name = `build-${id.slice(0, 12)}`
  const complete = validateContainer({
    ...program.options,
    rootfs: { layers: [...program.layers].reverse() },
    remove: false,
  })
  const plan = planLaunch(complete, facts, { id, name, layers: program.layers })
  await session.sendPrograms(plan.programs)
  signal.throwIfAborted()
  let resolve!: (exit: ExitEvent) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<ExitEvent>((yes, no) => {
    resolve = yes
    reject = no
  })
  promise.catch(() => {})
  let follower: Promise<void> | undefined
  const read = (follow: boolean) =>
    new Promise<void>((done, fail) => {
      const tell = (stream: number, data: Uint8Array) => program.onOutput(stream === STDERR ? 'stderr' : 'stdout', data)
      gatherLogs(session, id, { follow }, tell, (error) => (error === undefined ? done() : fail(error)))
    })
  let timer: NodeJS.Timeout | undefined
  const follow = () => {
    follower = read(true)
    follower.catch(() => {}) // awaited below
  }
  const unwatch = session.watchExit(id, (error, event) => (event ? resolve(event) : reject(error)))
  const onAbort = () => reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  session.hold()
  try {
    session.send('run', [...plan.words, 'listen', '0', ...program.words], (error, reply) => {
      if (error !== undefined) reject(error)
      else if (reply.ok) timer = setTimeout(follow, FOLLOW_AFTER_MS)
      else reject(refusalError(reply, { verb: 'run', container: 'the build step', options: complete }))
    })
    const exit = await promise
    clearTimeout(timer)
    if (follower) await follower
    else if (exit.logBytes > 0) await read(false)
    return { id, exit }
  } catch (error) {
    clearTimeout(timer)
    if (!session.failure) await removeContainer(context, id)
    throw error
  } finally {
    session.release()
    unwatch()
    signal.removeEventListener('abort', onAbort)
  }
}

/** Takes away a container and its log. */
export async function removeContainer({ session }: BuildContext, id: string): Promise<void> {
  await session.request('remove', ['id', id, 'force', '1'])
  session.post('forget', ['id', id])
}
