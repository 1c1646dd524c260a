/** Patterns of `--filter reference=`: those of Go's path.Match, where `*` and `?` stop at a slash. */
import { UsageError } from './usage-error.js'

export function matchesPattern(pattern: string, name: string): boolean {
  return compiled(pattern).test(name)
}

function compiled(pattern: string): RegExp {
  const source = pattern.replace(/\\(.)|\[(\^?)((?:\\.|[^\]])+)\]|[*?]|[^\w]/gs, (part, quoted, not, set) => {
    if (quoted !== undefined) return literal(quoted)
    if (set !== undefined)
      return `[${not}${set.replace(/\\(.)|[\\[\]^]/gs, (one: string, kept?: string) => literal(kept ?? one))}]`
    return part === '*' ? '[^/]*' : part === '?' ? '[^/]' : literal(part)
  })
  try {
    return new RegExp(`^${source}$`, 's')
  } catch {
    throw new UsageError(`The pattern "${pattern}" is not valid`)
  }
}

function literal(character: string): string {
  return character.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')
}
