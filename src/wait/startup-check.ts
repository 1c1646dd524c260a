/** A wait that asks again and again, as testcontainers has it for waits of one's own. */

import { MayflyError } from '../engine/errors.js'
import { retryUntil } from './retry.js'
import { AbstractWaitStrategy, type WaitControl, type WaitTarget } from './strategy.js'

/** What a startup check has found. */
export type StartupStatus = 'PENDING' | 'SUCCESS' | 'FAIL'

/**
 * Base for waits that look at the container until they know.
 *
 * @example
 * import { StartupCheckStrategy, type StartupStatus, type WaitTarget } from 'mayfly'
 *
 * class Migrated extends StartupCheckStrategy {
 *   override async checkStartupState(target: WaitTarget): Promise<StartupStatus> {
 *     const { exitCode } = await target.container.exec({ command: ['test', '-f', '/migrated'] })
 *     return exitCode === 0 ? 'SUCCESS' : 'PENDING'
 *   }
 * }
 */
export abstract class StartupCheckStrategy extends AbstractWaitStrategy {
  protected override readonly what: string = 'its startup check'
  // A check may be about the end.
  protected override readonly mayExit: boolean = true
  /** The one that a user has made: copies do not have its private names (`#field`), and what it notes down is to be found there. */
  private made: this = this

  /** Called at short intervals that grow, until it is not PENDING. */
  abstract checkStartupState(target: WaitTarget, containerId: string): Promise<StartupStatus>

  protected override async check(target: WaitTarget, { signal }: WaitControl): Promise<void> {
    await retryUntil(async () => {
      const status = await this.made.checkStartupState(target, target.getId())
      if (status === 'FAIL') {
        const message = `"${target.getName()}": its startup check failed`
        throw new MayflyError('WAIT_FAILED', message, { container: target.getName() })
      }
      return status === 'SUCCESS'
    }, signal)
  }

  protected override with(fields: object): this {
    const copy = super.with(fields)
    // Another timeout makes no other check of it; fields of a subclass do.
    if (Object.keys(fields).some((name) => name !== 'startupTimeoutMs')) copy.made = copy
    return copy
  }
}
