/**
 * What it means to wait for a container: the interface that strategies have, and the frame in which each of them runs.
 *
 * The frame ends every wait: by success, by a timeout, by the caller's signal, or at once by the container's death. What it throws
 * names the container, how it ended and what it printed last.
 */

import type { BackendContainer, ExitFacts, HealthCheck } from '../backends/backend.js'
import { clearTimeout, setTimeout } from '../engine/clock.js'
import { MayflyError } from '../engine/errors.js'
import { describeExit } from '../engine/exit.js'
import { readTail } from './explain.js'

/** How a container's health check stands. `none`: it has no health check. */
export type Health = 'none' | 'starting' | 'healthy' | 'unhealthy'

/** The container that is waited for. It runs; its ports are open on the host. */
export interface WaitTarget {
  /** 64 hexadecimal digits. */
  getId(): string
  /** As given by `withName`, or one made up. */
  getName(): string
  /** Where its ports are reached from this process. */
  getHost(): string
  /** Throws PORT_NOT_EXPOSED. */
  getMappedPort(port: number | string, protocol?: string): number
  /** The host’s port for the first exposed one. */
  getFirstMappedPort(): number
  /** Ports that the definition exposes. */
  readonly exposedPorts: readonly { readonly container: number; readonly protocol: 'tcp' | 'udp' }[]
  /** The definition's, else the image's. */
  readonly healthCheck: HealthCheck | undefined
  /** When its program was started. What was printed before does not count. */
  readonly startedAt: Date
  /** For everything else that a strategy may need. */
  readonly container: BackendContainer
  /** Lets others see what a strategy found out. */
  reportHealth(health: Health): void
}

/** What a wait is told besides what it waits for. */
export interface WaitControl {
  /** Ends the wait: the caller gave up, the time is over, or the container has died. Strategies stop then. */
  readonly signal: AbortSignal
}

/**
 * Something that can be waited for. Implement it for a wait of your own; only `waitUntilReady` is needed.
 *
 * Timeout, abort and the death of the container are seen to from outside.
 *
 * @example
 * import { GenericContainer, type WaitStrategy } from 'mayfly'
 *
 * const tenSeconds: WaitStrategy = {
 *   async waitUntilReady(target) {
 *     console.log(`${target.getName()} listens on ${target.getFirstMappedPort()}`)
 *   },
 * }
 * await new GenericContainer('redis:8').withExposedPorts(6379).withWaitStrategy(tenSeconds).start()
 */
export interface WaitStrategy {
  /** Resolves when it is so; rejects when it can no longer be. */
  waitUntilReady(target: WaitTarget, control: WaitControl): Promise<void>
  /** The same with another timeout, in milliseconds. */
  withStartupTimeout?(startupTimeoutMs: number): WaitStrategy
  /** Whether somebody has said how long it may take. */
  isStartupTimeoutSet?(): boolean
  /** Milliseconds. */
  getStartupTimeout?(): number
  /** The same for a service that begins with its data, and so does not say all that a new one says. @internal */
  again?(): WaitStrategy
}

/** Milliseconds that a wait may take unless told otherwise. */
export const DEFAULT_STARTUP_TIMEOUT_MS = 60_000

/** Throws INVALID_OPTION. */
export function checkTimeout(field: string, timeoutMs: unknown): number {
  if (typeof timeoutMs === 'number' && timeoutMs >= 0) return timeoutMs
  throw new MayflyError(
    'INVALID_OPTION',
    `${field}: expected a number of milliseconds from 0 on, got ${String(timeoutMs)}`,
    {
      field,
      value: timeoutMs,
    },
  )
}

/** Base of the strategies here. They are values: each `with…` and `for…` gives another one. */
export abstract class AbstractWaitStrategy implements WaitStrategy {
  protected readonly startupTimeoutMs: number | undefined = undefined

  /** What is waited for, as it stands in messages: `port 5432`. */
  protected abstract readonly what: string
  /** Whether the container's end is for `check` to judge. */
  protected readonly mayExit: boolean = false

  /** Resolves when it is so. Retries by itself, until the signal. */
  protected abstract check(target: WaitTarget, control: WaitControl): Promise<void>

  /** How far it came, for the message of a timeout. */
  protected hint(_target: WaitTarget): string | undefined {
    return undefined
  }

  waitUntilReady(target: WaitTarget, { signal }: WaitControl): Promise<void> {
    // What a check notes down for its hint is of this run alone.
    const run = this.with({})
    const frame = { what: this.what, timeoutMs: this.getStartupTimeout(), mayExit: this.mayExit, signal }
    return waitFor(target, { ...frame, hint: () => run.hint(target) }, (control) => run.check(target, control))
  }

  /** Milliseconds that this wait may take. @default 60000 */
  withStartupTimeout(startupTimeoutMs: number): this {
    return this.with({ startupTimeoutMs: checkTimeout('startupTimeout', startupTimeoutMs) })
  }

  /** Whether somebody has said how long it may take. */
  isStartupTimeoutSet(): boolean {
    return this.startupTimeoutMs !== undefined
  }

  getStartupTimeout(): number {
    return this.startupTimeoutMs ?? DEFAULT_STARTUP_TIMEOUT_MS
  }

  /** @internal */
  again(): WaitStrategy {
    return this
  }

  /** What it waits for, as it stands in messages. @internal */
  describe(): string {
    return this.what
  }

  /** A copy with other fields. Private names (`#field`) would be lost, so strategies have none. */
  protected with(fields: object): this {
    return Object.assign(Object.create(Object.getPrototypeOf(this)), this, fields)
  }
}

export interface WaitFrame {
  readonly what: string
  readonly timeoutMs: number
  readonly signal: AbortSignal
  readonly mayExit: boolean
  readonly hint?: () => string | undefined
}

/** Node's timers hold about 24 days. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** Runs `work` until it resolves, the time is over, the signal comes or the container dies. */
export async function waitFor(
  target: WaitTarget,
  frame: WaitFrame,
  work: (control: WaitControl) => Promise<void>,
): Promise<void> {
  const { signal, timeoutMs, what } = frame
  signal.throwIfAborted()
  const controller = new AbortController()
  let timer: NodeJS.Timeout | undefined
  let onAbort = () => {}
  try {
    await new Promise<void>((resolve, reject) => {
      onAbort = () => reject(signal.reason)
      signal.addEventListener('abort', onAbort, { once: true })
      if (timeoutMs <= MAX_TIMER_MS) timer = setTimeout(() => reject(new Expired()), timeoutMs)
      if (!frame.mayExit) {
        const failed = (error: unknown) => {
          if (!controller.signal.aborted) reject(error)
        }
        target.container.wait({ signal: controller.signal }).then((exit) => reject(new Died(exit)), failed)
      }
      work({ signal: controller.signal }).then(resolve, reject)
    })
  } catch (error) {
    if (signal.aborted) throw signal.reason
    if (error instanceof Expired) {
      const hint = frame.hint?.()
      const logTail = await readTail(target.container)
      const facts = { container: target.getName(), ...(hint ? { hint } : {}), ...(logTail ? { logTail } : {}) }
      throw new MayflyError(
        'TIMEOUT',
        `"${target.getName()}": still waiting for ${what} after ${timeoutMs / 1000} s`,
        facts,
      )
    }
    throw await explainDeath(target, what, error)
  } finally {
    signal.removeEventListener('abort', onAbort)
    clearTimeout(timer)
    controller.abort()
  }
}

class Expired extends Error {}

/** The container has ended, and there was something to wait for. Strategies that judge exits throw it too. */
export class Died extends Error {
  readonly exit: ExitFacts

  constructor(exit: ExitFacts) {
    super('the container has ended')
    this.exit = exit
  }
}

const EXIT_TIMEOUT_MS = 1_000

/** How a container ended that seems to have. A program in it may fail for that a moment before its end is told. */
export async function exitOf(container: BackendContainer): Promise<ExitFacts | undefined> {
  const controller = new AbortController()
  const timer = setTimeout(() => controller.abort(), EXIT_TIMEOUT_MS)
  try {
    return await container.wait({ signal: controller.signal })
  } catch {
    return undefined
  } finally {
    clearTimeout(timer)
  }
}

/** A program or a port that fails because the container is gone is not to blame: the exit is. */
async function explainDeath(target: WaitTarget, what: string, error: unknown): Promise<unknown> {
  let exit = error instanceof Died ? error.exit : undefined
  const isSymptom = error instanceof MayflyError && /^(CONTAINER_EXITED|CONTAINER_NOT_RUNNING)$/.test(error.code)
  if (isSymptom) exit = await exitOf(target.container)
  if (!exit) return error
  const logTail = await readTail(target.container)
  const message = `"${target.getName()}" ${describeExit(exit)} while waiting for ${what}`
  return new MayflyError('CONTAINER_EXITED', message, {
    container: target.getName(),
    exitCode: exit.exitCode,
    ...(logTail ? { logTail } : {}),
  })
}
