/** Docker's notations for environment variables: `--env` and `--env-file`. */
import { readFileSync } from 'node:fs'
import { UsageError } from './usage-error.js'

type Environment = Readonly<Record<string, string | undefined>>

/** `NAME=value`, or `NAME` for the caller's own value: nothing if the caller has none. */
export function parseVariable(
  flag: string,
  text: string,
  own: Environment = process.env,
): [string, string] | undefined {
  const equals = text.indexOf('=')
  const name = equals < 0 ? text : text.slice(0, equals)
  if (!name) throw new UsageError(`${flag} "${text}": the name is missing`)
  if (equals >= 0) return [name, text.slice(equals + 1)]
  const value = own[name]
  return value === undefined ? undefined : [name, value]
}

/**
 * The variables of an env file's text: one a line, `#` begins a comment line, white space before a name is dropped,
 * quotes are part of the value, a name alone takes the caller's value.
 */
export function parseEnvironmentFile(path: string, text: string, own: Environment = process.env): [string, string][] {
  return text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .map((line) => line.trimStart())
    .filter((line) => line && !line.startsWith('#'))
    .map((line) => {
      if (/\s/.test(line.split('=', 1)[0] ?? '')) {
        throw new UsageError(`--env-file ${path}: the variable name in "${line}" contains white space`)
      }
      return parseVariable(`--env-file ${path}`, line, own)
    })
    .filter((variable) => variable !== undefined)
}

export function readEnvironmentFile(path: string): [string, string][] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new UsageError(`--env-file ${path}: ${(error as NodeJS.ErrnoException).code ?? error}`)
  }
  return parseEnvironmentFile(path, text)
}
