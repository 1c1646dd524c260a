/**
 * What scripts use of docker's templates: `{{.Field}}`, `{{.Config.User}}`, `{{json .Config}}`, `{{index .RepoTags 0}}` and `{{len .X}}`.
 * Everything else of Go's template language is refused by name: `--format json` and jq do more.
 */
import { safeJson } from './json.js'
import { UsageError } from './usage-error.js'

type Part = (value: unknown) => string

/** Throws {@link UsageError}; the function it gives too, for a field that is not there. */
export function compileTemplate(flag: string, text: string): (value: unknown) => string {
  const parts: Part[] = []
  let end = 0
  for (;;) {
    const begin = text.indexOf('{{', end)
    const before = text.slice(end, begin < 0 ? undefined : begin)
    parts.push(() => before)
    if (begin < 0) break
    const close = text.indexOf('}}', begin + 2)
    if (close < 0) throw new UsageError(`${flag}: "{{" without "}}" in ${JSON.stringify(text)}`)
    const inner = text.slice(begin + 2, close)
    parts.push(action(flag, inner.replace(/^- | -$/g, '').trim()))
    end = close + 2
  }
  return (value) => parts.map((part) => part(value)).join('')
}

const PATH = String.raw`\.(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)?`
const ACTION = new RegExp(String.raw`^(?:(json|len)\s+(${PATH})|index\s+(${PATH})\s+(\d+|"[^"\\]*")|(${PATH}))$`)

function action(flag: string, text: string): Part {
  const match = ACTION.exec(text)
  if (!match) {
    throw new UsageError(
      `${flag}: {{${text}}} is not understood`,
      '{{.Field}}, {{json .Field}}, {{index .Field 0}} and {{len .Field}} are; use --format json and jq for more',
    )
  }
  const [, verb, verbPath, listPath, key, path] = match
  const look = (from: unknown, what: string) => lookup(flag, from, what)
  if (verb === 'json') return (value) => safeJson(look(value, verbPath!) ?? null)
  if (verb === 'len') return (value) => String(lengthOf(look(value, verbPath!)))
  if (listPath) return (value) => shown(member(look(value, listPath), keyOf(key!)))
  return (value) => shown(look(value, path!))
}

function keyOf(text: string): string | number {
  return text.startsWith('"') ? text.slice(1, -1) : Number(text)
}

function lookup(flag: string, value: unknown, path: string): unknown {
  let found = value
  for (const name of path.split('.').filter(Boolean)) {
    if (typeof found !== 'object' || found === null || Array.isArray(found)) {
      throw new UsageError(`${flag}: there is no ${path}`)
    }
    if (!Object.hasOwn(found, name)) {
      // A field that is left out when it is empty: only the first name of a path is known to be there.
      if (found !== value) return undefined
      throw new UsageError(`${flag}: there is no field "${name}"`, `there are ${Object.keys(found).join(', ')}`)
    }
    found = (found as Record<string, unknown>)[name]
  }
  return found
}

function member(value: unknown, key: string | number): unknown {
  if (Array.isArray(value)) return typeof key === 'number' ? value[key] : undefined
  const isOwn = typeof value === 'object' && value !== null && Object.hasOwn(value, String(key))
  return isOwn ? (value as Record<string, unknown>)[String(key)] : undefined
}

function lengthOf(value: unknown): number {
  if (typeof value === 'string' || Array.isArray(value)) return value.length
  return typeof value === 'object' && value !== null ? Object.keys(value).length : 0
}

/** As Go prints values: `[a b]`, `map[k:v]`. */
function shown(value: unknown): string {
  if (value === undefined || value === null) return ''
  if (Array.isArray(value)) return `[${value.map(shown).join(' ')}]`
  if (typeof value !== 'object') return String(value)
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `map[${entries.map(([key, one]) => `${key}:${shown(one)}`).join(' ')}]`
}
