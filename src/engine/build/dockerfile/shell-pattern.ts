/**
 * Patterns of `${name#pattern}`, `%` and `/`: `*`, `?` and `\` before one of them; no brackets, as in BuildKit.
 * Matched without regular expressions, whose backtracking a hostile pattern could make last for ever.
 */

import { Problem } from './problem.js'

type Token = { readonly any: 'one' | 'many' } | { readonly text: string }

/** Removes the shortest (or longest) start of `value` that matches. */
export function trimStart(value: string, pattern: string, longest: boolean): string {
  const characters = [...value]
  const length = matchLength(characters, 0, tokensOf(pattern), longest)
  return length === undefined ? value : characters.slice(length).join('')
}

/** Removes the shortest (or longest) end of `value` that matches. */
export function trimEnd(value: string, pattern: string, longest: boolean): string {
  const characters = [...value].reverse()
  const length = matchLength(characters, 0, tokensOf(pattern).reverse(), longest)
  return length === undefined ? value : characters.slice(length).reverse().join('')
}

/** Replaces the first longest match, or all. */
export function replaceMatches(value: string, pattern: string, replacement: string, all: boolean): string {
  const characters = [...value]
  const tokens = tokensOf(pattern)
  let result = ''
  for (let position = 0; position <= characters.length; ) {
    const length = matchLength(characters, position, tokens, true)
    if (length === undefined) result += characters[position++] ?? ''
    else {
      // An empty match at the very end counts only in an empty value or after text that no match took.
      result += replacement
      if (!all) return result + characters.slice(position + length).join('')
      if (length === 0) result += characters[position] ?? ''
      position += Math.max(1, length)
      if (length > 0 && position === characters.length) break
    }
  }
  return result
}

function tokensOf(pattern: string): Token[] {
  const tokens: Token[] = []
  const characters = [...pattern]
  for (let index = 0; index < characters.length; index++) {
    const character = characters[index]!
    if (character === '*') tokens.push({ any: 'many' })
    else if (character === '?') tokens.push({ any: 'one' })
    else if (character !== '\\') tokens.push({ text: character })
    else {
      const escaped = characters[++index]
      // `}` and `/` are escaped only to get past the end of the `${…}`.
      if (escaped === undefined || !'*?\\}/'.includes(escaped))
        throw new Problem(`invalid escape "\\${escaped ?? ''}" in the pattern "${pattern}"`, {
          value: pattern,
          expected: '\\ before one of * ? \\ / }',
        })
      tokens.push({ text: escaped })
    }
  }
  return tokens
}

/** How many characters from `start` on the whole pattern takes, at least or at most; undefined when it does not match. */
function matchLength(
  characters: readonly string[],
  start: number,
  tokens: readonly Token[],
  longest: boolean,
): number | undefined {
  // ends[n]: the tokens so far can take n characters.
  let ends = new Set([0])
  const available = characters.length - start
  for (const token of tokens) {
    const next = new Set<number>()
    if ('any' in token && token.any === 'many') {
      const least = Math.min(...ends)
      for (let end = least; end <= available; end++) next.add(end)
    } else {
      for (const end of ends) {
        if (end < available && ('any' in token || characters[start + end] === token.text)) next.add(end + 1)
      }
    }
    if (next.size === 0) return undefined
    ends = next
  }
  let [result] = ends
  for (const end of ends) if (longest ? end > result! : end < result!) result = end
  return result
}
