/** How errors are shown and which exit code they make: docker's codes, one line and a hint, never a stack. */
import { MayflyError } from '../engine/errors.js'
import { UsageError } from './usage-error.js'

/** Of mayfly itself, as opposed to the program that ran. */
export const FAILURE = 125
const NOT_EXECUTABLE = 126
const NOT_FOUND = 127

export function exitCodeOf(error: unknown): number {
  if (!(error instanceof MayflyError)) return FAILURE
  if (error.code === 'PROGRAM_NOT_FOUND') return NOT_FOUND
  return error.code === 'PROGRAM_NOT_EXECUTABLE' ? NOT_EXECUTABLE : FAILURE
}

export function describeError(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  const hint = error instanceof UsageError && error.hint ? `\n  Hint: ${error.hint}` : ''
  return `mayfly: ${message}${hint}\n`
}
