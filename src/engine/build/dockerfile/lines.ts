/**
 * From the text of a Dockerfile to its instructions, each one logical line with its heredocs: comments and line ends
 * are gone, continued lines are joined.
 */

import { SPACE } from './expand.js'
import { type HeredocStart, heredocStarts, stripTabs } from './heredoc.js'
import { located, Problem } from './problem.js'
import type { EscapeCharacter, Heredoc, Location, Warning } from './types.js'
import { jsonArray, splitFirst, takeFlags, trimSpace } from './words.js'

/** One instruction before its arguments are looked at. */
export interface LogicalLine {
  /** As written, such as `RUN` or `run`. */
  readonly keyword: string
  readonly flags: readonly string[]
  /** Without the flags. */
  readonly text: string
  readonly heredocs: readonly Heredoc[]
  readonly location: Location
  readonly source: string
}

/** Text of a file: the byte order mark dropped, bytes that are no UTF-8 replaced. */
export function decode(text: string | Uint8Array): string {
  const decoded = typeof text === 'string' ? text : new TextDecoder('utf-8', { ignoreBOM: true }).decode(text)
  return decoded.startsWith('\ufeff') ? decoded.slice(1) : decoded
}

/** Lines without their ends, LF or CRLF. */
export function linesOf(text: string): readonly string[] {
  const lines = text.split('\n').map((line) => trimEnd(line, '\r'))
  if (lines.at(-1) === '') lines.pop()
  return lines
}

/** Throws DOCKERFILE_INVALID for a heredoc that does not end. */
export function readLogicalLines(
  text: string,
  file: string,
  escapeWith: EscapeCharacter,
): { readonly instructions: readonly LogicalLine[]; readonly warnings: readonly Warning[] } {
  const lines = linesOf(text)
  // Heredocs keep the line ends that they were written with.
  const raw = text.split(/(?<=\n)/)
  const instructions: LogicalLine[] = []
  const warnings: Warning[] = []
  let next = 0
  while (next < lines.length) {
    const first = next
    let { line, continues } = trimContinuation(withoutComment(trimLeft(lines[next++]!)), escapeWith)
    if (!continues && line === '') continue
    let emptyLine: number | undefined
    while (continues && next < lines.length) {
      const text = lines[next++]!
      const trimmed = trimLeft(text)
      if (trimmed.startsWith('#')) continue
      if (trimmed === '') {
        emptyLine ??= next
        continue
      }
      const joined = trimContinuation(text, escapeWith)
      line += joined.line
      continues = joined.continues
    }
    const location = (): Location => Object.freeze({ file, line: first + 1, endLine: next })
    const parts = splitInstruction(line)
    const heredocs: Heredoc[] = []
    for (const start of mayHoldHeredocs(parts) ? heredocStarts(line) : []) {
      const end = endOf(start, lines, next)
      if (end === undefined) {
        const problem = new Problem(`the heredoc <<${start.name} is not terminated`, {
          value: start.name,
          expected: `a line that is just "${start.name}"`,
        })
        throw located(problem, location(), lines)
      }
      heredocs.push(heredocOf(start, raw.slice(next, end).join('')))
      next = end + 1
    }
    if (emptyLine !== undefined)
      warnings.push(
        Object.freeze({
          message: `Empty line inside a continued instruction; expected a comment or the rest of line ${first + 1}`,
          location: Object.freeze({ file, line: emptyLine, endLine: emptyLine }),
        }),
      )
    const source = lines.slice(first, next).join('\n')
    instructions.push({ ...parts, heredocs, location: location(), source: trimSpace(source) })
  }
  return { instructions, warnings }
}

/** Keyword, flags and the rest of one logical line. */
export function splitInstruction(line: string): Pick<LogicalLine, 'keyword' | 'flags' | 'text'> {
  const [keyword, rest = ''] = splitFirst(trimSpace(line))
  const { flags, rest: text } = takeFlags(rest)
  return { keyword, flags, text }
}

function mayHoldHeredocs({ keyword, text }: Pick<LogicalLine, 'keyword' | 'text'>): boolean {
  const name = keyword.toUpperCase()
  if (name === 'ONBUILD') {
    const inner = splitInstruction(text)
    return inner.keyword.toUpperCase() !== 'ONBUILD' && mayHoldHeredocs(inner)
  }
  if (name !== 'RUN' && name !== 'COPY' && name !== 'ADD') return false
  try {
    return jsonArray(text) === undefined
  } catch {
    return false // a wrong array: the instruction's parser says so
  }
}

/** Index of the line that ends the heredoc. */
function endOf(start: HeredocStart, lines: readonly string[], from: number): number | undefined {
  for (let index = from; index < lines.length; index++) {
    const line = start.stripsTabs ? lines[index]!.replace(/^\t+/, '') : lines[index]
    if (line === start.name) return index
  }
  return undefined
}

function heredocOf(start: HeredocStart, raw: string): Heredoc {
  return Object.freeze({ ...start, raw, content: start.stripsTabs ? stripTabs(raw) : raw })
}

/** A line goes on when it ends with the escape character that is not itself escaped; spaces after it do not count. */
function trimContinuation(line: string, escapeWith: EscapeCharacter): { line: string; continues: boolean } {
  const end = trimEnd(line, ' \t')
  const continues = end.endsWith(escapeWith) && !end.endsWith(escapeWith + escapeWith)
  return continues ? { line: end.slice(0, -1), continues } : { line, continues }
}

/** A loop, as a regular expression for this takes time by the square of the line's length. */
function trimEnd(line: string, characters: string): string {
  let end = line.length
  while (end > 0 && characters.includes(line[end - 1]!)) end--
  return line.slice(0, end)
}

function trimLeft(line: string): string {
  let start = 0
  while (start < line.length && SPACE.test(line[start]!)) start++
  return line.slice(start)
}

function withoutComment(line: string): string {
  return line.startsWith('#') ? '' : line
}
