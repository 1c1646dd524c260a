/** Puts the place in the Dockerfile to what went wrong in a step. */

import { MayflyError } from '../errors.js'
import { signalName } from '../signals.js'
import type { ExitEvent } from '../wire.js'
import { excerpt } from './dockerfile/problem.js'
import type { Location } from './dockerfile/types.js'

/** "failed with exit code 2", "was killed by SIGKILL", "was killed because memory ran out". */
export function describeExitEvent({ code, signal, oom }: ExitEvent): string {
  if (oom) return 'was killed because memory ran out'
  return signal === undefined ? `failed with exit code ${code ?? 0}` : `was killed by ${signalName(signal)}`
}

/** The same error with file, line, and the lines around it. What has its place already stays as it is. */
export function locate(error: unknown, location: Location, lines: readonly string[]): unknown {
  if (!(error instanceof MayflyError) || error.line !== undefined || error.code === 'ENGINE_CLOSED') return error
  const { code, hint, logTail, message } = error
  const plain = message.split(/\n {2}(?:Hint|Last output):/)[0]!
  const {
    name: _name,
    stack: _stack,
    message: _message,
    code: _code,
    cause: _cause,
    ...facts
  } = error as MayflyError & Error
  return new MayflyError(
    code,
    `${location.file}:${location.line}: ${plain}${lines.length > 0 ? `\n${excerpt(lines, location)}` : ''}`,
    {
      ...facts,
      file: location.file,
      line: location.line,
      ...(hint ? { hint } : {}),
      ...(logTail ? { logTail } : {}),
    },
    { cause: error },
  )
}
