/** What is wrong with a Dockerfile: thrown where it is noticed, told with file, line and the lines around it. */

import { MayflyError } from '../../errors.js'
import type { Location } from './types.js'

/** What a problem is about, besides its message. */
export interface ProblemFacts {
  /** The text that is wrong. */
  readonly value?: string
  readonly expected?: string
  readonly hint?: string
}

/** Thrown inside this folder only; `located()` makes it a MayflyError. */
export class Problem extends Error {
  readonly facts: ProblemFacts

  constructor(message: string, facts: ProblemFacts = {}) {
    super(message)
    this.facts = facts
  }
}

/** Lines that are shown together with the ones that are wrong. */
const CONTEXT_LINES = 4

/**
 * The lines of a Dockerfile around `location`, marked as BuildKit marks them:
 *
 *     --------------------
 *        1 |     FROM alpine
 *        2 | >>> RUN false
 *     --------------------
 */
export function excerpt(lines: readonly string[], { line, endLine }: Pick<Location, 'line' | 'endLine'>): string {
  let first = Math.max(1, Math.min(line, lines.length))
  let last = Math.max(first, Math.min(endLine, lines.length))
  const wanted = last - first + 1 + (first === last ? CONTEXT_LINES : CONTEXT_LINES / 2)
  while (last - first + 1 < wanted && (first > 1 || last < lines.length)) {
    if (first > 1) first--
    if (last < lines.length) last++
  }
  const rows = lines.slice(first - 1, last).map((text, index) => {
    const number = first + index
    return ` ${String(number).padStart(3)} | ${number >= line && number <= endLine ? '>>>' : '   '} ${shortened(text, 500)}`.trimEnd()
  })
  return ['--------------------', ...rows, '--------------------'].join('\n')
}

/** DOCKERFILE_INVALID with file and line; with the marked lines too when `lines` are known. */
export function located(problem: Problem, location: Location, lines: readonly string[] = []): MayflyError {
  const { expected } = problem.facts
  const shown = lines.length > 0 ? `\n${excerpt(lines, location)}` : ''
  return new MayflyError(
    'DOCKERFILE_INVALID',
    `${location.file}:${location.line}: ${shortened(problem.message, 1000)}${expected ? `; expected ${expected}` : ''}${shown}`,
    { file: location.file, line: location.line, ...problem.facts },
    { cause: problem },
  )
}

function shortened(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}…` : text
}

/** Runs `work`; a Problem in it becomes a MayflyError of `location`. */
export function at<T>(location: Location, lines: readonly string[], work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw error instanceof Problem ? located(error, location, lines) : error
  }
}

/** Runs `work` on a value that stands in no file that we know; a Problem becomes DOCKERFILE_INVALID without a line. */
export function unlocated<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    const { expected } = error.facts
    throw new MayflyError(
      'DOCKERFILE_INVALID',
      `${error.message}${expected ? `; expected ${expected}` : ''}`,
      error.facts,
      {
        cause: error,
      },
    )
  }
}
