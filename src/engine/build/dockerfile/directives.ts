/** Parser directives: comments of the form `# name=value` before anything else in the file. */

import { MayflyError } from '../../errors.js'
import { excerpt, located, Problem } from './problem.js'
import type { Directives, EscapeCharacter } from './types.js'

const DIRECTIVE = /^([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(\S.*)$/s
const NAMES = ['syntax', 'escape', 'check']
/** Docker's own frontend, of any version, from any registry or mirror. */
const OWN_FRONTEND = /^(?:[\w.:[\]-]+\/)*docker\/dockerfile(?:-upstream)?(?::[\w.-]+)?(?:@[\w+.:-]+)?$/

/** Throws DOCKERFILE_INVALID, and NOT_SUPPORTED for a frontend that is not Docker's. */
export function readDirectives(lines: readonly string[], file: string): Directives {
  const found = scan(lines, '#', 0)
  for (const { name, line, repeated } of found.values()) {
    if (repeated !== undefined) {
      const problem = new Problem(`only one ${name} directive can be used`, {
        value: lines[repeated - 1]!,
        expected: `no more directives "${name}" after line ${line}`,
      })
      throw located(problem, { file, line: repeated, endLine: repeated }, lines)
    }
  }
  const escapeWith = found.get('escape')
  if (escapeWith !== undefined && escapeWith.value !== '\\' && escapeWith.value !== '`') {
    const problem = new Problem(`invalid escape character "${escapeWith.value}"`, {
      value: escapeWith.value,
      expected: '\\ or `',
    })
    throw located(problem, { file, line: escapeWith.line, endLine: escapeWith.line }, lines)
  }
  const syntax = detectSyntax(lines)
  if (syntax !== undefined) refuseOtherFrontend(syntax, lines, file)
  return Object.freeze({
    escape: (escapeWith?.value ?? '\\') as EscapeCharacter,
    syntax: syntax?.value,
    check: found.get('check')?.value,
  })
}

interface Found {
  readonly name: string
  readonly value: string
  /** From 1. */
  readonly line: number
  /** Line of a second one of the same name. */
  readonly repeated: number | undefined
}

/** Directives end at the first line that is none. */
function scan(lines: readonly string[], comment: string, first: number): Map<string, Found> {
  const found = new Map<string, Found>()
  for (const [index, text] of lines.entries()) {
    if (index < first) continue
    const line = text.trimStart()
    const [, key = '', value = ''] =
      (line.startsWith(comment) && DIRECTIVE.exec(line.slice(comment.length).trimStart())) || []
    const name = key.toLowerCase()
    if (!NAMES.includes(name)) break
    const earlier = found.get(name)
    found.set(
      name,
      earlier
        ? { ...earlier, repeated: index + 1 }
        : { name, value: value.trimEnd(), line: index + 1, repeated: undefined },
    )
    if (earlier) break
  }
  return found
}

/**
 * The frontend that a file asks for. A file for another frontend need not look like a Dockerfile, hence two more forms:
 * `// syntax=…` and a JSON object with the key `syntax`. A first line with `#!` is passed over.
 */
function detectSyntax(lines: readonly string[]): { value: string; line: number } | undefined {
  const first = lines[0]?.startsWith('#!') ? 1 : 0
  const directive = scan(lines, '#', first).get('syntax') ?? scan(lines, '//', first).get('syntax')
  if (directive) return directive
  if (!lines[first]?.trimStart().startsWith('{')) return undefined
  try {
    const { syntax } = JSON.parse(lines.slice(first).join('\n')) as { syntax?: unknown }
    return typeof syntax === 'string' ? { value: syntax, line: first + 1 } : undefined
  } catch {
    return undefined // no JSON: the parser says what is wrong with it
  }
}

function refuseOtherFrontend({ value, line }: { value: string; line: number }, lines: readonly string[], file: string) {
  const [frontend = ''] = value.split(' ')
  if (OWN_FRONTEND.test(frontend)) return
  throw new MayflyError(
    'NOT_SUPPORTED',
    `${file}:${line}: the frontend "${frontend}" is not supported; expected docker/dockerfile\n${excerpt(lines, { line, endLine: line })}`,
    {
      field: 'syntax',
      value: frontend,
      file,
      line,
      expected: 'docker/dockerfile',
      hint: 'mayfly reads Dockerfiles itself and runs no frontend images; remove the line if the file is a usual Dockerfile',
    },
  )
}
