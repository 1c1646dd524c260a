/** Waiting until the health check passes. We run it, with the container's own tools: the first time at once. */

import type { HealthCheck } from '../backends/backend.js'
import { clearTimeout, now, setTimeout } from '../engine/clock.js'
import { MayflyError } from '../engine/errors.js'
import { retryUntil } from './retry.js'
import { AbstractWaitStrategy, Died, exitOf, type Health, type WaitControl, type WaitTarget } from './strategy.js'

const DEFAULT_MS = 30_000
const DEFAULT_RETRIES = 3
/** Between two checks while it starts; less if its interval is. */
const LONGEST_PAUSE_MS = 500
const OUTPUT_SHOWN = 400

/** One run of a health check. */
export interface HealthResult {
  readonly health: Extract<Health, 'healthy' | 'unhealthy'>
  /** What it printed, or why it could not run. */
  readonly output: string
}

/** See `Wait.forHealthCheck`. */
export class HealthCheckWaitStrategy extends AbstractWaitStrategy {
  protected readonly given: HealthCheck | undefined
  protected override readonly what = 'its health check'
  protected lastOutput = ''

  constructor(given?: HealthCheck) {
    super()
    this.given = given
  }

  /**
   * While it starts, it is checked at short intervals that grow, so that it is ready when it is and not when an interval is over.
   * It becomes unhealthy when Docker would say so: after `retries` intervals of failures in a row, those of the start period
   * not counted.
   */
  protected override async check(target: WaitTarget, { signal }: WaitControl): Promise<void> {
    const check = this.given ?? target.healthCheck
    if (!check || !commandOf(check)) {
      target.reportHealth('none')
      throw new MayflyError('WAIT_IMPOSSIBLE', `"${target.getName()}" has no health check to wait for`, {
        container: target.getName(),
        hint: 'give it one with withHealthCheck({ test: [...] }), or wait for something else',
      })
    }
    const { interval = DEFAULT_MS, retries = DEFAULT_RETRIES, startPeriod = 0 } = check
    const patienceMs = (retries || DEFAULT_RETRIES) * (interval || DEFAULT_MS)
    const graceEnd = now() + startPeriod
    let failingSince: number | undefined
    target.reportHealth('starting')
    await retryUntil(
      async () => {
        const begin = now()
        const { health, output } = await runHealthCheck(target, check, signal)
        this.lastOutput = output
        if (health === 'healthy') {
          target.reportHealth('healthy')
          return true
        }
        const end = now()
        if (end < graceEnd) return false
        failingSince ??= Math.max(begin, graceEnd)
        if (end - failingSince < patienceMs) return false
        target.reportHealth('unhealthy')
        throw new MayflyError('WAIT_FAILED', `"${target.getName()}" is unhealthy: ${output || 'its check fails'}`, {
          container: target.getName(),
        })
      },
      signal,
      Math.min(interval || DEFAULT_MS, LONGEST_PAUSE_MS),
    )
  }

  protected override hint(): string | undefined {
    return this.lastOutput ? `the last check said: ${this.lastOutput}` : undefined
  }
}

/** Runs the check once. Rejects when the container is gone or the check cannot run at all. */
export async function runHealthCheck(
  target: Pick<WaitTarget, 'container' | 'getName'>,
  check: HealthCheck,
  signal: AbortSignal,
): Promise<HealthResult> {
  const { timeout = DEFAULT_MS } = check
  const command = commandOf(check)!
  const controller = new AbortController()
  const onAbort = () => controller.abort(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  const timer = setTimeout(() => controller.abort(), timeout || DEFAULT_MS)
  try {
    const { exitCode, output } = await target.container.exec({ command, signal: controller.signal })
    return { health: exitCode === 0 ? 'healthy' : 'unhealthy', output: output.trim().slice(0, OUTPUT_SHOWN) }
  } catch (error) {
    if (signal.aborted) throw signal.reason
    if (controller.signal.aborted) return { health: 'unhealthy', output: `no answer within ${timeout} ms` }
    throw await asImpossible(error, target, command)
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
}

/** A program that is not there will not be there the next time. */
export async function asImpossible(
  error: unknown,
  { container, getName }: Pick<WaitTarget, 'container' | 'getName'>,
  command: readonly string[],
): Promise<unknown> {
  if (!(error instanceof MayflyError)) return error
  if (error.code === 'CONTAINER_NOT_RUNNING' || error.code === 'CONTAINER_EXITED') {
    const exit = await exitOf(container)
    return exit ? new Died(exit) : error
  }
  if (error.code !== 'PROGRAM_NOT_FOUND' && error.code !== 'PROGRAM_NOT_EXECUTABLE') return error
  const message = `"${getName()}" cannot run ${command[0]}, which is to tell whether it is ready`
  return new MayflyError(
    'WAIT_IMPOSSIBLE',
    message,
    { container: getName(), hint: 'the image lacks it: wait for a port or for output instead' },
    { cause: error },
  )
}

/** Program and arguments; undefined for `NONE` and for nothing. */
function commandOf({ test }: HealthCheck): readonly string[] | undefined {
  const [kind, ...rest] = test
  if (kind === 'CMD-SHELL') return ['/bin/sh', '-c', rest.join(' ')]
  if (kind === 'CMD') return rest.length > 0 ? rest : undefined
  if (kind === 'NONE' || kind === undefined) return undefined
  return test
}
