/** Waiting until a command in the container succeeds. */

import { MayflyError } from '../engine/errors.js'
import { asImpossible } from './health-check.js'
import { retryUntil } from './retry.js'
import { AbstractWaitStrategy, type WaitControl, type WaitTarget } from './strategy.js'

const OUTPUT_SHOWN = 400

/** See `Wait.forSuccessfulCommand`. */
export class CommandWaitStrategy extends AbstractWaitStrategy {
  protected readonly command: readonly string[]
  protected override readonly what: string
  protected last = ''

  constructor(command: string | readonly string[]) {
    super()
    if ((typeof command !== 'string' && !Array.isArray(command)) || command.length === 0) {
      throw new MayflyError(
        'INVALID_OPTION',
        'command: expected a line for the shell, or a program with its arguments',
        {
          field: 'command',
          value: command,
        },
      )
    }
    this.command = typeof command === 'string' ? ['/bin/sh', '-c', command] : command
    this.what = `success of ${JSON.stringify(typeof command === 'string' ? command : command.join(' '))}`
  }

  protected override async check(target: WaitTarget, { signal }: WaitControl): Promise<void> {
    await retryUntil(async () => {
      const { exitCode, output } = await target.container
        .exec({ command: this.command, signal })
        .catch(async (error) => {
          throw await asImpossible(error, target, this.command)
        })
      this.last = `it ended with code ${exitCode} the last time: ${output.trim().slice(0, OUTPUT_SHOWN) || 'no output'}`
      return exitCode === 0
    }, signal)
  }

  protected override hint(): string | undefined {
    return this.last || undefined
  }
}
