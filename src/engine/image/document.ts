/** JSON that strangers wrote: reading it with limits, and field checks that name the field. */

import { MayflyError } from '../errors.js'

export type JsonObject = { readonly [key: string]: unknown }

/** Parses an object. Throws IMAGE_INVALID where it is too long, no JSON, or something else than an object. */
export function parseDocument(bytes: Uint8Array, what: string, maxBytes: number): JsonObject {
  if (bytes.length > maxBytes) {
    throw invalidImage(`The ${what} has ${bytes.length} bytes; at most ${maxBytes} are read`, what, bytes.length)
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw invalidImage(`The ${what} is no UTF-8 text`, what, undefined, error)
  }
  const start = text.slice(0, 100).trimStart()
  if (start.startsWith('<')) {
    throw new MayflyError('IMAGE_INVALID', `The ${what} is a page of HTML or XML, not JSON: ${oneLine(text)}`, {
      field: what,
      hint: 'a proxy, a login page or a web server answered in place of a registry: check the host name and the proxy',
    })
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw invalidImage(`The ${what} is no JSON (${(error as Error).message})`, what, undefined, error)
  }
  if (!isObject(value)) throw invalidImage(`The ${what} must be an object, not ${kind(value)}`, what, value)
  return value
}

export function invalidImage(message: string, field: string, value?: unknown, cause?: unknown): MayflyError {
  const facts = { field, ...(value === undefined ? {} : { value }) }
  return new MayflyError('IMAGE_INVALID', message, facts, cause === undefined ? undefined : { cause })
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What a value is, for a message. */
export function kind(value: unknown): string {
  if (value === undefined) return 'missing'
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  const text = JSON.stringify(value)
  return typeof value === 'object' ? 'an object' : text.length > 80 ? `${text.slice(0, 80)}…` : text
}

export function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}

export function isStringMap(value: unknown): value is Record<string, string> {
  return isObject(value) && Object.values(value).every((item) => typeof item === 'string')
}

function oneLine(text: string): string {
  const line = text.replace(/\s+/g, ' ').trim()
  return line.length > 120 ? `${line.slice(0, 120)}…` : line
}
