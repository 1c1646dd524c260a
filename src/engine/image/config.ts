/**
 * Image configs: what a container of an image shall run, and which layers it consists of. OCI and Docker share the format.
 *
 * An image's id is the digest of these bytes. Fields that we do not know are kept, so that a config which is read, changed
 * and written loses nothing.
 */

import { isDigest } from './digest.js'
import { invalidImage, isObject, isStringMap, isStrings, type JsonObject, kind, parseDocument } from './document.js'

export const MAX_CONFIG_BYTES = 8 * 1024 * 1024

export interface ImageConfig {
  readonly architecture: string
  readonly os: string
  readonly variant?: string
  /** RFC 3339. */
  readonly created?: string
  readonly author?: string
  readonly config?: RuntimeConfig
  readonly rootfs: { readonly type: 'layers'; readonly diff_ids: readonly string[] }
  readonly history?: readonly HistoryEntry[]
}

/** What `docker inspect` shows under Config. */
export interface RuntimeConfig {
  readonly User?: string
  readonly ExposedPorts?: Readonly<Record<string, Readonly<Record<string, never>>>>
  readonly Env?: readonly string[]
  readonly Entrypoint?: readonly string[] | null
  readonly Cmd?: readonly string[] | null
  readonly Volumes?: Readonly<Record<string, Readonly<Record<string, never>>>>
  readonly WorkingDir?: string
  readonly Labels?: Readonly<Record<string, string>>
  readonly StopSignal?: string
  readonly Healthcheck?: HealthcheckConfig
  readonly OnBuild?: readonly string[]
  readonly Shell?: readonly string[]
  /** Windows only: the command is one line that was quoted already. */
  readonly ArgsEscaped?: boolean
}

export interface HealthcheckConfig {
  /** `NONE`, or `CMD` and a program's words, or `CMD-SHELL` and a line; empty: inherited. */
  readonly Test?: readonly string[]
  /** Nanoseconds, as all of these. */
  readonly Interval?: number
  readonly Timeout?: number
  readonly StartPeriod?: number
  readonly StartInterval?: number
  readonly Retries?: number
}

export interface HistoryEntry {
  readonly created?: string
  readonly created_by?: string
  readonly author?: string
  readonly comment?: string
  /** The step made no layer. */
  readonly empty_layer?: boolean
}

/** A check, and what it expects, in words. */
type Check = readonly [test: (value: unknown) => boolean, expected: string]

const STRING: Check = [(value) => typeof value === 'string', 'a string']
const STRINGS: Check = [isStrings, 'a list of strings']
const NUMBER: Check = [(value) => Number.isInteger(value), 'a whole number']
const BOOLEAN: Check = [(value) => typeof value === 'boolean', 'true or false']
const OBJECT: Check = [isObject, 'an object']
const OBJECTS: Check = [
  (value) => isObject(value) && Object.values(value).every(isObject),
  'an object of empty objects',
]
const TEXTS: Check = [isStringMap, 'an object of strings']
const LIST: Check = [Array.isArray, 'a list']

const TOP = { variant: STRING, created: STRING, author: STRING, config: OBJECT, history: LIST }
const RUNTIME: Readonly<Record<keyof RuntimeConfig, Check>> = {
  User: STRING,
  ExposedPorts: OBJECTS,
  Env: STRINGS,
  Entrypoint: STRINGS,
  Cmd: STRINGS,
  Volumes: OBJECTS,
  WorkingDir: STRING,
  Labels: TEXTS,
  StopSignal: STRING,
  Healthcheck: OBJECT,
  OnBuild: STRINGS,
  Shell: STRINGS,
  ArgsEscaped: BOOLEAN,
}
const HEALTHCHECK: Readonly<Record<keyof HealthcheckConfig, Check>> = {
  Test: STRINGS,
  Interval: NUMBER,
  Timeout: NUMBER,
  StartPeriod: NUMBER,
  StartInterval: NUMBER,
  Retries: NUMBER,
}
const HISTORY: Readonly<Record<keyof HistoryEntry, Check>> = {
  created: STRING,
  created_by: STRING,
  author: STRING,
  comment: STRING,
  empty_layer: BOOLEAN,
}

/** Reads a config. Throws IMAGE_INVALID naming the field; it is too long above 8 MiB. */
export function parseConfig(bytes: Uint8Array): ImageConfig {
  const document = parseDocument(bytes, 'image config', MAX_CONFIG_BYTES)
  const { rootfs } = document
  if (!isObject(rootfs)) throw wrong('rootfs', 'an object', rootfs)
  if (rootfs.type !== undefined && rootfs.type !== 'layers') throw wrong('rootfs.type', '"layers"', rootfs.type)
  const diffIds: unknown = rootfs.diff_ids ?? [] // Go writes an empty list as null
  if (!Array.isArray(diffIds)) throw wrong('rootfs.diff_ids', 'a list of digests', diffIds)
  diffIds.forEach((diffId, index) => {
    if (!isDigest(diffId)) throw wrong(`rootfs.diff_ids[${index}]`, 'a digest', diffId)
  })
  for (const field of ['architecture', 'os']) {
    if (typeof document[field] !== 'string') throw wrong(field, 'a string', document[field])
  }
  const top = checked(document, TOP, '')
  return {
    ...top,
    ...(isObject(top.config) ? { config: checkedRuntime(top.config) } : {}),
    ...(Array.isArray(top.history) ? { history: checkedHistory(top.history) } : {}),
    rootfs: { ...rootfs, type: 'layers', diff_ids: diffIds },
  } as unknown as ImageConfig
}

function checkedRuntime(config: JsonObject): JsonObject {
  const runtime = checked(config, RUNTIME, 'config.')
  if (!isObject(runtime.Healthcheck)) return runtime
  return { ...runtime, Healthcheck: checked(runtime.Healthcheck, HEALTHCHECK, 'config.Healthcheck.') }
}

function checkedHistory(history: readonly unknown[]): JsonObject[] {
  return history.map((entry, index) => {
    if (!isObject(entry)) throw wrong(`history[${index}]`, 'an object', entry)
    return checked(entry, HISTORY, `history[${index}].`)
  })
}

/** The object without the fields that are null, which is how Go writes what is not set. */
function checked(value: JsonObject, checks: Readonly<Record<string, Check>>, path: string): JsonObject {
  const result: Record<string, unknown> = { ...value }
  for (const [field, [test, expected]] of Object.entries(checks)) {
    if (!Object.hasOwn(value, field)) continue
    if (value[field] === null) delete result[field]
    else if (!test(value[field])) throw wrong(path + field, expected, value[field])
  }
  return result
}

function wrong(field: string, expected: string, value: unknown) {
  const found = value === undefined ? 'and it is missing' : `not ${kind(value)}`
  return invalidImage(`The image config is not valid: ${field} must be ${expected}, ${found}`, field, value)
}

/** The bytes of a config: equal configs give equal bytes, in whatever order their fields were set. */
export function encodeConfig(config: ImageConfig): Buffer {
  return Buffer.from(JSON.stringify(ordered(config)))
}

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered)
  if (!isObject(value)) return value
  const result = Object.create(null) as Record<string, unknown> // a label may be called __proto__
  for (const key of Object.keys(value).sort()) result[key] = ordered(value[key])
  return result
}
