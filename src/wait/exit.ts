/** Waiting until the container has done its work and ended. */

import { MayflyError } from '../engine/errors.js'
import { describeExit } from '../engine/exit.js'
import { readTail } from './explain.js'
import { AbstractWaitStrategy, type WaitControl, type WaitTarget } from './strategy.js'

/** See `Wait.forExit`. */
export class ExitWaitStrategy extends AbstractWaitStrategy {
  protected readonly exitCode: number | undefined
  protected override readonly what = 'its exit'
  protected override readonly mayExit = true

  constructor(exitCode: number | undefined) {
    super()
    this.exitCode = exitCode
  }

  protected override async check({ container, getName }: WaitTarget, { signal }: WaitControl): Promise<void> {
    const exit = await container.wait({ signal })
    if (this.exitCode === undefined || (exit.exitCode === this.exitCode && !exit.oomKilled)) return
    const logTail = await readTail(container)
    throw new MayflyError('WAIT_FAILED', `"${getName()}" ${describeExit(exit)}; expected code ${this.exitCode}`, {
      container: getName(),
      exitCode: exit.exitCode,
      ...(logTail ? { logTail } : {}),
    })
  }
}
