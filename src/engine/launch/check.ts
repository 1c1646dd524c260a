/**
 * Checkers for values that come from outside. Each takes a value and the name of its field, returns the value in its normal
 * form, frozen, or throws INVALID_OPTION with field and value in the message.
 */

import { type ErrorCode, MayflyError } from '../errors.js'

export type Check<T> = (value: unknown, field: string) => T

/** How the value is wrong: `limits.cpus: expected a number, got "two"`. */
export function refuse(
  field: string,
  value: unknown,
  reason: string,
  hint?: string,
  code: ErrorCode = 'INVALID_OPTION',
): never {
  throw new MayflyError(code, `${field}: ${reason}, got ${show(value)}`, { field, value, ...(hint ? { hint } : {}) })
}

/** As {@link refuse}, for values that may be secret: neither message nor error carry them. */
export function refuseUnseen(field: string, reason: string, hint?: string, code: ErrorCode = 'INVALID_OPTION'): never {
  throw new MayflyError(code, `${field}: ${reason}`, { field, ...(hint ? { hint } : {}) })
}

/** A value in a message: short, and with its type if that says more. */
function show(value: unknown): string {
  if (value === undefined || value === null || typeof value === 'boolean') return String(value)
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 77)}...` : value)
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

/** `limits` + `cpus` → `limits.cpus`; `env` + `A B` → `env["A B"]`. */
export function member(field: string, key: string): string {
  const name = key.length > 80 ? `${key.slice(0, 77)}...` : key
  if (field === '') return name
  return /^[\w.-]+$/.test(name) ? `${field}.${name}` : `${field}[${JSON.stringify(name)}]`
}

export const boolean: Check<boolean> = (value, field) =>
  typeof value === 'boolean' ? value : refuse(field, value, 'expected true or false')

/** For what is checked elsewhere. */
export const anything: Check<unknown> = (value) => value

/** Any string; a NUL byte would end it early on the other side of a system call. */
export const string: Check<string> = (value, field) => {
  if (typeof value !== 'string') return refuse(field, value, 'expected a string')
  if (value.includes('\0')) return refuse(field, value, 'must not hold a NUL byte')
  return value
}

/** A piece of a stream of bytes; what comes instead is somebody's data, which is not shown. */
export const bytes: Check<Uint8Array> = (value, field) =>
  value instanceof Uint8Array ? value : refuse(field, typeof value, 'expected a stream of Uint8Array')

/** A string that is never shown. */
export const secret: Check<string> = (value, field) => {
  if (typeof value !== 'string')
    return refuseUnseen(field, `expected a string, got ${value === null ? 'null' : typeof value}`)
  if (value.includes('\0')) return refuseUnseen(field, 'must not hold a NUL byte')
  return value
}

/** A string that matches. */
export function pattern(expected: string, regex: RegExp): Check<string> {
  return (value, field) => {
    const text = string(value, field)
    return regex.test(text) ? text : refuse(field, text, `expected ${expected}`)
  }
}

export function oneOf<const T extends string>(...choices: readonly T[]): Check<T> {
  return (value, field) =>
    choices.includes(value as T)
      ? (value as T)
      : refuse(field, value, `expected ${choices.map((one) => `'${one}'`).join(' or ')}`)
}

/** A whole number in this range. */
export function integer(least: number, most: number = Number.MAX_SAFE_INTEGER): Check<number> {
  const expected = `expected a whole number ${most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`}`
  return (value, field) =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
      ? (value as number)
      : refuse(field, value, expected)
}

/** Any number in this range. */
export function number(least: number, most: number): Check<number> {
  return (value, field) =>
    typeof value === 'number' && value >= least && value <= most
      ? value
      : refuse(field, value, `expected a number from ${least} to ${most}`)
}

export function list<T>(item: Check<T>): Check<readonly T[]> {
  return (value, field) =>
    Array.isArray(value)
      ? // Not map(): that skips the holes of a sparse array.
        Object.freeze(Array.from(value, (one, index) => item(one, `${field}[${index}]`)))
      : refuse(field, value, 'expected an array')
}

/** A plain object used as a map. `key` checks the names. */
export function record<T>(key: Check<string>, item: Check<T>): Check<Readonly<Record<string, T>>> {
  return (value, field) =>
    // fromEntries() defines properties, so that a key such as `__proto__` is a key like others.
    Object.freeze(
      Object.fromEntries(
        Object.entries(object(value, field))
          .filter(([, one]) => one !== undefined)
          .map(([name, one]) => [key(name, member(field, name)), item(one, member(field, name))]),
      ),
    )
}

/** Absent = the default. */
export function defaulted<T, D>(check: Check<T>, fallback: D): Check<T | D> {
  return (value, field) => (value === undefined ? fallback : check(value, field))
}

export function optional<T>(check: Check<T>): Check<T | undefined> {
  return defaulted(check, undefined)
}

type Checked<S> = { readonly [K in keyof S]: S[K] extends Check<infer T> ? T : never }

/** An object with these fields and no others. */
export function shape<S extends Record<string, Check<unknown>>>(fields: S): Check<Checked<S>> {
  return (value, field) => Object.freeze(Object.fromEntries(checkFields(fields, value, field))) as Checked<S>
}

type Sparse<S> = { readonly [K in keyof S]?: S[K] extends Check<infer T> ? Exclude<T, undefined> : never }

/** As {@link shape}, for objects that stay incomplete: what comes out `undefined` is left out. */
export function sparse<S extends Record<string, Check<unknown>>>(fields: S): Check<Sparse<S>> {
  return (value, field) =>
    Object.freeze(
      Object.fromEntries(checkFields(fields, value, field).filter(([, one]) => one !== undefined)),
    ) as Sparse<S>
}

function checkFields(fields: Record<string, Check<unknown>>, value: unknown, field: string): [string, unknown][] {
  const given = object(value, field)
  refuseUnknown(Object.keys(given), Object.keys(fields), field)
  return Object.entries(fields).map(([name, check]) => [name, check(given[name], member(field, name))])
}

/** Throws for the first name that is not known, with the nearest one that is. */
export function refuseUnknown(names: readonly string[], known: readonly string[], field: string): void {
  const name = names.find((one) => !known.includes(one))
  if (name === undefined) return
  const near = nearest(name, known)
  throw new MayflyError(
    'INVALID_OPTION',
    `${member(field, name)}: there is no such option${near ? `; did you mean ${near}?` : ''}`,
    {
      field: member(field, name),
      ...(near ? {} : { hint: `known here: ${known.join(', ')}` }),
    },
  )
}

function object(value: unknown, field: string): Record<string, unknown> {
  const isPlain = typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Map)
  return isPlain ? (value as Record<string, unknown>) : refuse(field || 'options', value, 'expected an object')
}

/** The known name that begins alike (`memory` for `memoryBytes`) or is a few typing errors away, `undefined` if none is. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const limit = Math.max(2, Math.floor(name.length / 3))
  const wanted = name.toLowerCase()
  const isBeginning = (whole: string, part: string) => part.length >= 3 && whole.startsWith(part)
  return known
    .map((one) => {
      const candidate = one.toLowerCase()
      const isAlike = isBeginning(candidate, wanted) || isBeginning(wanted, candidate)
      return { one, distance: isAlike ? 1 : editDistance(wanted.slice(0, 64), candidate) }
    })
    .filter(({ distance }) => distance <= limit)
    .sort((a, b) => a.distance - b.distance)[0]?.one
}

/** Levenshtein's: insertions, deletions and changes. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const change = previous[column - 1]! + (a[row - 1] === b[column - 1] ? 0 : 1)
      current.push(Math.min(change, previous[column]! + 1, current[column - 1]! + 1))
    }
    previous = current
  }
  return previous[b.length]!
}
