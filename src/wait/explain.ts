/** What an error says of a container: how it ended and what it printed last. */

import type { BackendContainer } from '../backends/backend.js'
import { clearTimeout, setTimeout } from '../engine/clock.js'
import { MayflyError } from '../engine/errors.js'
import { describeExit } from '../engine/exit.js'

const TAIL_LINES = 20
const TAIL_BYTES = 8 * 1024
const TAIL_TIMEOUT_MS = 2_000

/** The last lines of output; '' when they cannot be had, for an error about an error helps nobody. */
export async function readTail(container: BackendContainer): Promise<string> {
  const controller = new AbortController()
  const timer = setTimeout(() => controller.abort(), TAIL_TIMEOUT_MS)
  let text = ''
  try {
    for await (const { data } of container.logs({ tail: TAIL_LINES, signal: controller.signal })) {
      text = (text + Buffer.from(data).toString()).slice(-TAIL_BYTES)
    }
  } catch {
    // what was read so far is better than nothing
  } finally {
    clearTimeout(timer)
  }
  return text.trimEnd()
}

/** The error with the container's name, how it ended and its last output, where it lacks them. */
export async function withContainerFacts(error: unknown, container: BackendContainer): Promise<unknown> {
  if (!(error instanceof Error)) return error
  if (error instanceof MayflyError && (error.logTail !== undefined || error.code === 'CONTAINER_EXITED')) return error
  // Aborts are the caller's own.
  if (error.name === 'AbortError' || error.name === 'TimeoutError') return error
  const exit = (await container.inspect().catch(() => undefined))?.exit
  const logTail = await readTail(container)
  const facts = {
    container: container.name,
    ...(exit ? { exitCode: exit.exitCode } : {}),
    ...(logTail ? { logTail } : {}),
  }
  if (!(error instanceof MayflyError)) {
    const ended = exit ? ` (it ${describeExit(exit)})` : ''
    const message = `"${container.name}" did not get ready: ${error.message}${ended}`
    return new MayflyError('WAIT_FAILED', message, facts, { cause: error })
  }
  const [message] = error.message.split('\n  Hint: ')
  const own = Object.fromEntries(
    Object.entries(error).filter(([name, value]) => value !== undefined && name !== 'name' && name !== 'code'),
  )
  return new MayflyError(error.code, message!, { ...facts, ...own }, { cause: error.cause })
}
