/** How the arguments of an instruction fall into words; nothing is expanded and no quote is removed here. */

import { SPACE } from './expand.js'
import { Problem } from './problem.js'
import type { EscapeCharacter } from './types.js'

/** Between arguments where quotes mean nothing (FROM, EXPOSE, paths): no line end and no exotic space. */
const GAP = /[\t\v\f\r ]+/

/** The words of FROM, EXPOSE, COPY, ADD and VOLUME in their plain form. */
export function splitGaps(text: string): readonly string[] {
  return text === '' ? [] : text.split(GAP)
}

/** First word and the rest, without the gap. */
export function splitFirst(text: string): readonly [first: string, rest: string | undefined] {
  const gap = GAP.exec(text)
  return gap ? [text.slice(0, gap.index), text.slice(gap.index + gap[0].length)] : [text, undefined]
}

/** As Go's TrimSpace. */
export function trimSpace(text: string): string {
  let [start, end] = [0, text.length]
  while (start < end && SPACE.test(text[start]!)) start++
  while (end > start && SPACE.test(text[end - 1]!)) end--
  return text.slice(start, end)
}

/** Words of ENV, LABEL and ARG: spaces part them unless quoted or escaped; quotes and escapes stay for the expansion. */
export function splitQuoted(text: string, escapeWith: EscapeCharacter): readonly string[] {
  const words: string[] = []
  let word = ''
  let quote = ''
  for (let index = 0; index < text.length; index++) {
    const character = text[index]!
    if (quote === '' && SPACE.test(character)) {
      if (word !== '') words.push(word)
      word = ''
    } else if (character === escapeWith && quote !== "'") {
      // At the very end it joins nothing, and vanishes.
      if (index + 1 < text.length) word += character + text[++index]
    } else {
      if (quote === '' && (character === "'" || character === '"')) quote = character
      else if (character === quote) quote = ''
      word += character
    }
  }
  if (word !== '') words.push(word)
  return words
}

/**
 * Flags at the start of an instruction's arguments: words that begin with `--`, up to the first that does not or to a
 * lone `--`. Quotes are removed; the escape is always `\`, as in BuildKit.
 */
export function takeFlags(text: string): { readonly flags: readonly string[]; readonly rest: string } {
  const flags: string[] = []
  let index = 0
  for (;;) {
    while (index < text.length && SPACE.test(text[index]!)) index++
    if (!text.startsWith('--', index)) return { flags, rest: trimSpace(text.slice(index)) }
    let word = ''
    let quote = ''
    for (; index < text.length && (quote !== '' || !SPACE.test(text[index]!)); index++) {
      const character = text[index]!
      if (character === quote) quote = ''
      else if (quote === '' && (character === "'" || character === '"')) quote = character
      else if (character === '\\') word += text[++index] ?? ''
      else word += character
    }
    if (word === '--') return { flags, rest: trimSpace(text.slice(index)) }
    flags.push(word)
  }
}

/**
 * The exec form; undefined when it is none, and then Docker takes the text for the shell form. Only an array that is
 * JSON but holds something else than texts is an error.
 */
export function jsonArray(text: string): readonly string[] | undefined {
  if (!text.startsWith('[')) return undefined
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (!Array.isArray(value)) return undefined
  const wrong: unknown = value.find((element) => typeof element !== 'string')
  if (value.some((element) => typeof element !== 'string'))
    throw new Problem(`the JSON array holds ${JSON.stringify(wrong)}`, {
      value: text,
      expected: 'an array of strings only',
    })
  return value as string[]
}
