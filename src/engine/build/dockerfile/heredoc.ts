/** `<<EOF` words on a line of RUN, COPY and ADD. */

import { lex } from './expand.js'
import { Problem } from './problem.js'

const HEREDOC = /^(\d*)<<(-?)([^<]*)$/
const NOTHING: ReadonlyMap<string, string> = new Map()

/** What a word like `3<<-"EOF"` announces. */
export interface HeredocStart {
  readonly name: string
  readonly expands: boolean
  readonly stripsTabs: boolean
  readonly fileDescriptor: number
}

/** undefined when the word announces no heredoc. */
export function heredocStart(word: string): HeredocStart | undefined {
  const [, descriptor = '', dash, rest = ''] = HEREDOC.exec(word) ?? []
  if (rest === '') return undefined
  const plain = lex(rest, NOTHING, { keepUnset: true }).words
  if (plain.length !== 1) return undefined
  const name = plain[0]!
  const quoted = lex(rest, NOTHING, { keepUnset: true, quotes: 'keep' }).words[0] ?? ''
  return {
    name,
    expands: countQuotes(quoted) === countQuotes(name),
    stripsTabs: dash === '-',
    fileDescriptor: Number(descriptor),
  }
}

/** All heredocs that an instruction's text announces, in order. */
export function heredocStarts(text: string): readonly HeredocStart[] {
  if (!text.includes('<<')) return []
  let words: readonly string[]
  try {
    words = lex(text, NOTHING, { keepUnset: true, quotes: 'keep', keepEscapes: true }).words
  } catch (error) {
    // Such as a quote that the shell closes by other rules than ours: then nothing here is a heredoc.
    if (error instanceof Problem) return []
    throw error
  }
  return words.map(heredocStart).filter((start) => start !== undefined)
}

/** Content without the tabs that begin its lines, for `<<-`. */
export function stripTabs(content: string): string {
  return content.replace(/^\t+/gm, '')
}

function countQuotes(text: string): number {
  return text.replace(/[^'"]/g, '').length
}
