/** Patterns of `--filter reference=`: those of Go's path.Match, where `*` and `?` stop at a slash. */
import { matchGlob } from '../engine/build/ignore.js'
import { UsageError } from './usage-error.js'

export function matchesPattern(pattern: string, name: string): boolean {
  try {
    return matchGlob(pattern, name)
  } catch {
    throw new UsageError(`The pattern "${pattern}" is not valid`)
  }
}
