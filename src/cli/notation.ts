/** Notations that several commands share. */
import type { Ulimit } from '../engine/options.js'
import { parseNumber } from './size.js'
import { UsageError } from './usage-error.js'

type Undefinable<T> = { readonly [Key in keyof T]: T[Key] | undefined }

/** Leaves out what was not given, so that the engine's defaults hold. */
export function defined<T extends object>(fields: Undefinable<T>): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T
}

/** Parses what was given. */
export function optional<T>(text: string | undefined, parse: (text: string) => T): T | undefined {
  return text === undefined ? undefined : parse(text)
}

/** `name:address` or `name=address`; the address may be IPv6, with or without brackets. */
export function parseHost(text: string): [string, string] {
  const [, name, address] = /^([^:=]+)[:=]\[?(.+?)\]?$/.exec(text) ?? []
  if (!name || !address) throw new UsageError(`--add-host must be name:address, not "${text}"`)
  return [name, address]
}

/** `name=value`; a name alone where `missing` says what it means. */
export function pair(flag: string, text: string, missing?: string): [string, string] {
  const equals = text.indexOf('=')
  if (equals < 0 && missing !== undefined && text) return [text, missing]
  if (equals < 1) throw new UsageError(`${flag} must be name=value, not "${text}"`)
  return [text.slice(0, equals), text.slice(equals + 1)]
}

/** `name=soft[:hard]` */
export function parseUlimit(text: string): [string, Ulimit] {
  const [name, values] = pair('--ulimit', text)
  const [soft = '', hard, ...rest] = values.split(':')
  if (rest.length > 0) throw new UsageError(`--ulimit must be name=soft[:hard], not "${text}"`)
  const number = (word: string) => (word === 'unlimited' ? -1 : parseNumber(`--ulimit ${name}`, word))
  return [name, hard === undefined ? { soft: number(soft) } : { soft: number(soft), hard: number(hard) }]
}
