/** Waiting until a query, or any other call of a client, succeeds. */

import { retryUntil } from './retry.js'
import { AbstractWaitStrategy, type WaitControl, type WaitTarget } from './strategy.js'

/** Connects, asks and disconnects. Throwing, or `false`, means: not yet. */
export type Query = (target: WaitTarget, control: WaitControl) => unknown

/** See `Wait.forSql`. */
export class SqlWaitStrategy extends AbstractWaitStrategy {
  protected readonly query: Query
  protected override readonly what = 'an answer to the query'
  protected lastError: unknown

  constructor(query: Query) {
    super()
    this.query = query
  }

  protected override async check(target: WaitTarget, control: WaitControl): Promise<void> {
    const { signal } = control
    // Before something listens there is nobody to ask.
    const ports = target.exposedPorts.filter(({ protocol }) => protocol === 'tcp')
    await Promise.all(ports.map(({ container }) => target.container.waitForPort(container, { signal })))
    await retryUntil(async () => {
      try {
        return (await this.query(target, control)) !== false
      } catch (error) {
        this.lastError = error
        return false
      }
    }, signal)
  }

  protected override hint(): string | undefined {
    if (this.lastError === undefined) return undefined
    return `the last attempt said: ${this.lastError instanceof Error ? this.lastError.message : String(this.lastError)}`
  }
}
