/** How errors are shown and which exit code they make: docker's codes, one line and a hint, never a stack. */
import { MayflyError } from '../engine/errors.js'
import { printable } from './progress/printable.js'
import { UsageError } from './usage-error.js'

/** Of mayfly itself, as opposed to the program that ran; and of a command line that cannot be meant. */
export const FAILURE = 125
const NOT_EXECUTABLE = 126
const NOT_FOUND = 127

/** Somebody wanted the command to end: nothing is to be said about it. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted'
  /** 128 and the number of the signal. */
  readonly exitCode: number

  constructor(exitCode: number) {
    super('Interrupted')
    this.exitCode = exitCode
  }
}

/** As docker: of `run` what shells use, of all other commands 1, unless the command line itself was wrong. */
export function exitCodeOf(error: unknown, command?: string): number {
  if (error instanceof Interrupted) return error.exitCode
  if (command !== 'run' && command !== undefined) return error instanceof UsageError ? FAILURE : 1
  if (!(error instanceof MayflyError)) return FAILURE
  if (error.code === 'PROGRAM_NOT_FOUND') return NOT_FOUND
  return error.code === 'PROGRAM_NOT_EXECUTABLE' ? NOT_EXECUTABLE : FAILURE
}

/** For stderr. What others have written into the message (names, output, answers of servers) cannot steer a terminal. */
export function describeError(error: unknown): string {
  if (error instanceof Interrupted) return ''
  const message = error instanceof Error ? error.message : String(error)
  const hint = error instanceof UsageError && error.hint ? `\n  Hint: ${error.hint}` : ''
  return `mayfly: ${printable(`${message}${hint}`)}\n`
}
