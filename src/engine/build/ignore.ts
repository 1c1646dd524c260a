/**
 * Which files of a context are left out: .dockerignore and `--exclude`, as moby's patternmatcher reads them, and the
 * wildcards of COPY and ADD, as Go's filepath.Match does.
 *
 * The two differ: a pattern of .dockerignore also matches what is below it, knows `**` and `!`, and the last one that
 * matches counts; a wildcard of COPY matches one whole path, and a star never a slash.
 *
 * Patterns are compiled to tokens and matched by sets of positions, not to regular expressions: their backtracking
 * would let a hostile pattern hang the build.
 */

import { MayflyError } from '../errors.js'

type Token =
  | { readonly kind: 'text'; readonly text: string }
  /** `?`: any character but a slash. */
  | { readonly kind: 'one' }
  /** `*`: any number of them. */
  | { readonly kind: 'star' }
  /** `**` in the middle: nothing, or whole directories up to a slash. */
  | { readonly kind: 'directories' }
  /** `**` at the end: anything at all. */
  | { readonly kind: 'rest' }
  | { readonly kind: 'class'; readonly not: boolean; readonly ranges: readonly (readonly [string, string])[] }

/** Reads a .dockerignore: one pattern a line, `#` at the very start of a line for comments, `!` for exceptions. */
export function parseIgnoreFile(text: string | Uint8Array): readonly string[] {
  const decoded = typeof text === 'string' ? text : new TextDecoder('utf-8', { ignoreBOM: true }).decode(text)
  const patterns: string[] = []
  for (const line of decoded.replace(/^\ufeff/, '').split('\n')) {
    if (line.startsWith('#')) continue
    const trimmed = line.trim()
    if (trimmed === '') continue
    const isException = trimmed.startsWith('!')
    let pattern = isException ? trimmed.slice(1).trim() : trimmed
    // Paths count from the context's root with and without a leading slash.
    if (pattern !== '') pattern = cleanPath(pattern).replace(/^\/(?=.)/, '')
    patterns.push(isException ? `!${pattern}` : pattern)
  }
  return patterns
}

/** Patterns of .dockerignore or `--exclude`, compiled. */
export class IgnorePatterns {
  /** Whether there are exceptions (`!`): without, what is below an excluded directory need not be looked at. */
  readonly hasExceptions: boolean
  private readonly patterns: readonly Pattern[]

  /**
   * Throws DOCKERFILE_INVALID for a pattern that is none.
   *
   * @param file what the patterns come from, for the message
   * @default file: '.dockerignore'
   */
  constructor(patterns: readonly string[], file = '.dockerignore') {
    this.patterns = patterns.filter((pattern) => pattern.trim() !== '').map((pattern) => compile(pattern, file))
    this.hasExceptions = this.patterns.some(({ isException }) => isException)
  }

  /** Whether the path (relative, with slashes) or a directory that it is in is excluded; the context's root never is. */
  excludes(path: string): boolean {
    const cleaned = cleanPath(path)
    if (cleaned === '.' || this.patterns.length === 0) return false
    const candidates = [cleaned, ...parents(cleaned)]
    let excluded = false
    for (const { isException, tokens } of this.patterns) {
      // A pattern that could not change the answer is not tried.
      if (isException !== excluded) continue
      if (candidates.some((candidate) => matches(tokens, candidate))) excluded = !isException
    }
    return excluded
  }

  /** Whether an exception may bring back something below an excluded directory: only then it must be walked. */
  mayReincludeBelow(directory: string): boolean {
    const below = `${cleanPath(directory)}/`
    return this.patterns.some(({ isException, literalStart, hasWildcard }) => {
      if (!isException) return false
      const start = literalStart
      return start.startsWith(below) || (hasWildcard && below.startsWith(start))
    })
  }
}

/**
 * Go's filepath.Match, with slashes: `*` and `?` match no slash, `[a-z]`, `[^a]`, `\` escapes; the pattern matches the
 * whole path. Throws DOCKERFILE_INVALID for a malformed pattern.
 */
export function matchGlob(pattern: string, path: string): boolean {
  return matches(joined(globTokens(pattern, [...pattern], pattern)), path)
}

/** Go's filepath.Clean: no `.`, no `//`, no `..` that something stands before, no slash at the end; `.` for nothing. */
export function cleanPath(path: string): string {
  const isAbsolute = path.startsWith('/')
  const parts: string[] = []
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') parts.push(part)
    else if (parts.length > 0 && parts.at(-1) !== '..') parts.pop()
    else if (!isAbsolute) parts.push(part)
  }
  return `${isAbsolute ? '/' : ''}${parts.join('/')}` || '.'
}

interface Pattern {
  readonly isException: boolean
  readonly tokens: readonly Token[]
  /** What every match begins with. */
  readonly literalStart: string
  readonly hasWildcard: boolean
}

function compile(written: string, file: string): Pattern {
  const cleaned = cleanPath(written.trim())
  const isException = cleaned.startsWith('!')
  const text = isException ? cleaned.slice(1) : cleaned
  if (text === '') throw invalid(written, file, 'a pattern after the "!"')
  const tokens = joined(ignoreTokens(text, file))
  const firstWildcard = tokens.findIndex(({ kind }) => kind !== 'text')
  const literal = firstWildcard < 0 ? tokens : tokens.slice(0, firstWildcard)
  const literalStart = literal.map((token) => (token.kind === 'text' ? token.text : '')).join('')
  return { isException, tokens, literalStart, hasWildcard: firstWildcard >= 0 }
}

/** The directories that a path is in, from the uppermost. */
function parents(path: string): readonly string[] {
  const parts = path.split('/')
  return parts
    .slice(1)
    .map((_, index) => parts.slice(0, index + 1).join('/'))
    .filter((parent) => parent !== '')
}

function ignoreTokens(pattern: string, file: string): readonly Token[] {
  const characters = [...pattern]
  // moby checks with filepath.Match first, to which `**` is `*` twice; so the two agree about what is malformed.
  globTokens(pattern, characters, file)
  const tokens: Token[] = []
  for (let index = 0; index < characters.length; ) {
    if (characters[index] !== '*' || characters[index + 1] !== '*') {
      const next = oneToken(characters, index, pattern, file)
      tokens.push(next.token)
      index = next.end
      continue
    }
    const start = index
    index += 2
    const hadSlash = characters[index] === '/'
    if (hadSlash) index++
    if (index >= characters.length) tokens.push({ kind: 'rest' })
    // moby looks only at the end of the path when a pattern is `**` and plain text: `**file` matches `afile` too.
    else if (start === 0 && characters.slice(index).every((character) => !'*?[]\\'.includes(character)))
      tokens.push(hadSlash ? { kind: 'directories' } : { kind: 'rest' })
    else tokens.push({ kind: 'directories' })
  }
  return tokens
}

function globTokens(pattern: string, characters: readonly string[], file: string): readonly Token[] {
  const tokens: Token[] = []
  for (let index = 0; index < characters.length; ) {
    const { token, end } = oneToken(characters, index, pattern, file)
    tokens.push(token)
    index = end
  }
  return tokens
}

function oneToken(
  characters: readonly string[],
  start: number,
  pattern: string,
  file: string,
): { token: Token; end: number } {
  const character = characters[start]!
  if (character === '*') return { token: { kind: 'star' }, end: start + 1 }
  if (character === '?') return { token: { kind: 'one' }, end: start + 1 }
  if (character === '[') return characterClass(characters, start, pattern, file)
  if (character !== '\\') return { token: { kind: 'text', text: character }, end: start + 1 }
  const escaped = characters[start + 1]
  if (escaped === undefined) throw invalid(pattern, file, 'a character after the "\\"')
  return { token: { kind: 'text', text: escaped }, end: start + 2 }
}

function characterClass(
  characters: readonly string[],
  start: number,
  pattern: string,
  file: string,
): { token: Token; end: number } {
  let index = start + 1
  const not = characters[index] === '^'
  if (not) index++
  const ranges: [string, string][] = []
  const one = (): string => {
    let character = characters[index]
    if (character === '-' || character === ']') throw invalid(pattern, file, `"\\${character}" in […], or a character`)
    if (character === '\\') character = characters[++index]
    if (character === undefined) throw invalid(pattern, file, 'a "]" after the "["')
    index++
    return character
  }
  while (ranges.length === 0 || characters[index] !== ']') {
    const first = one()
    if (characters[index] !== '-') ranges.push([first, first])
    else {
      index++
      ranges.push([first, one()])
    }
  }
  return { token: { kind: 'class', not, ranges }, end: index + 1 }
}

/** Neighbouring texts as one: they are compared at once. */
function joined(tokens: readonly Token[]): readonly Token[] {
  const result: Token[] = []
  for (const token of tokens) {
    const last = result.at(-1)
    if (token.kind === 'text' && last?.kind === 'text')
      result[result.length - 1] = { kind: 'text', text: last.text + token.text }
    else result.push(token)
  }
  return result
}

/** Whether the tokens take the whole path. Positions reached so far are carried from token to token. */
function matches(tokens: readonly Token[], path: string): boolean {
  const [first] = tokens
  const last = tokens.at(-1)
  // Nearly every question ends here: a context has thousands of files, and few of them match.
  if (first?.kind === 'text' && !path.startsWith(first.text)) return false
  if (last?.kind === 'text' && !path.endsWith(last.text)) return false
  let positions: readonly number[] = [0]
  for (const token of tokens) {
    positions = step(token, positions, path)
    if (positions.length === 0) return false
  }
  return positions.at(-1) === path.length
}

/** Positions are in ascending order, before and after. */
function step(token: Token, positions: readonly number[], path: string): readonly number[] {
  const next: number[] = []
  const [least = 0] = positions
  switch (token.kind) {
    case 'star': {
      let position = 0
      for (const start of positions) {
        for (position = Math.max(position, start); position <= path.length; position++) {
          if (next.at(-1) !== position) next.push(position)
          if (path[position] === '/') break
        }
      }
      return next
    }
    case 'rest':
      for (let position = least; position <= path.length; position++) next.push(position)
      return next
    case 'directories': {
      const starts = new Set(positions)
      for (let position = least; position <= path.length; position++) {
        if (starts.has(position) || (position > least && path[position - 1] === '/')) next.push(position)
      }
      return next
    }
    case 'text':
      for (const position of positions) {
        if (path.startsWith(token.text, position)) next.push(position + token.text.length)
      }
      return next
    default:
      for (const position of positions) {
        const point = path.codePointAt(position)
        if (point !== undefined && takes(token, point)) next.push(position + (point > 0xffff ? 2 : 1))
      }
      // A character of two units and its second half may end at the same place, or past each other.
      return [...new Set(next)].sort((a, b) => a - b)
  }
}

const SLASH = 0x2f

function takes(token: Token & { kind: 'one' | 'class' }, point: number): boolean {
  if (token.kind === 'one') return point !== SLASH
  const inside = token.ranges.some(([first, last]) => first.codePointAt(0)! <= point && point <= last.codePointAt(0)!)
  return inside !== token.not
}

function invalid(pattern: string, file: string, expected: string): MayflyError {
  const where = file === pattern ? '' : `${file}: `
  return new MayflyError('DOCKERFILE_INVALID', `${where}malformed pattern "${pattern}"; expected ${expected}`, {
    value: pattern,
    expected,
    ...(file === pattern ? {} : { file }),
  })
}
