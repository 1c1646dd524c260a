/** Checks of what users give the library: each returns the value, or throws INVALID_OPTION with field, value and what was expected. */

import type { HealthCheck } from './backends/backend.js'
import { parsePlatform } from './engine/image/platform.js'
import { parseReference } from './engine/image/reference.js'
import {
  boolean,
  type Check,
  integer,
  list,
  number,
  oneOf,
  optional,
  pattern,
  record,
  refuse,
  secret,
  shape,
  sparse,
  string,
} from './engine/launch/check.js'

/** A reference as Docker reads it, or an image's id. Throws INVALID_REFERENCE. */
export function checkReference(value: unknown, field = 'image'): string {
  const text = string(value, field)
  if (/^(sha256:)?[0-9a-f]{64}$/.test(text)) return text
  parseReference(text)
  return text
}

export const text = string
export const texts = list(string)
export const textsByName = record(string, string)
/** Values never stand in a message. */
export const environment = record(pattern('a name without = in it', /^[^=]+$/), secret)
export const positive = integer(1)
export const flag = boolean

/** `linux/arm64`, and what else Docker takes. */
export const platformName: Check<string> = (value, field) => {
  parsePlatform(string(value, field))
  return value as string
}

export const command: Check<readonly string[]> = (value, field) =>
  typeof value === 'string'
    ? refuse(
        field,
        value,
        'expected an array of the program and its arguments',
        `write ${JSON.stringify(value.split(' '))}`,
      )
    : texts(value, field)

/** Of any realm: test runners run tests in contexts with classes of their own. */
export const abortSignal: Check<AbortSignal> = (value, field) => {
  const signal = value as AbortSignal | undefined | null
  return typeof signal?.aborted === 'boolean' && typeof signal.addEventListener === 'function'
    ? signal
    : refuse(field, value, 'expected an AbortSignal', 'new AbortController().signal, or AbortSignal.timeout(5000)')
}

const CONTAINER_NAME = /^\/?[a-zA-Z0-9][a-zA-Z0-9_.-]{0,252}$/
export const containerName: Check<string> = (value, field) =>
  pattern('a letter or digit, then letters, digits, _, . and -', CONTAINER_NAME)(value, field).replace(/^\//, '')

export const absolutePath: Check<string> = (value, field) =>
  string(value, field).startsWith('/') ? (value as string) : refuse(field, value, 'expected an absolute path')

export const healthCheck: Check<HealthCheck> = (value, field) => {
  const checked = sparse({
    test: list(string),
    interval: optional(integer(0)),
    timeout: optional(integer(0)),
    retries: optional(integer(0)),
    startPeriod: optional(integer(0)),
  })(value, field) as HealthCheck
  const kind = checked.test?.[0]
  if (kind === 'NONE' || ((kind === 'CMD' || kind === 'CMD-SHELL') && checked.test.length > 1)) return checked
  return refuse(`${field}.test`, kind, "expected ['CMD-SHELL', 'a line for the shell'] or ['CMD', 'program', …]")
}

const sourcePath: Check<string> = (value, field) =>
  string(value, field).startsWith('/')
    ? (value as string)
    : refuse(field, value, 'expected an absolute path', "resolve('./data') of node:path makes one")

/** `z` and `Z` (labels of SELinux) mean nothing here and are taken as `rw`. */
export const bindMounts = list(
  sparse({
    source: sourcePath,
    target: absolutePath,
    mode: optional(oneOf('rw', 'ro', 'z', 'Z')),
    createSource: optional(boolean),
  }),
) as unknown as Check<readonly BindMount[]>

/** A path of this machine in the container. */
export interface BindMount {
  /** Absolute path that exists. */
  readonly source: string
  readonly target: string
  /** @default 'rw' */
  readonly mode?: 'rw' | 'ro' | 'z' | 'Z'
  /** Makes a directory where there is nothing. @default false: MOUNT_SOURCE_NOT_FOUND */
  readonly createSource?: boolean
}

/** A line of /etc/hosts. */
export interface ExtraHost {
  readonly host: string
  readonly ipAddress: string
}

export const extraHosts = list(shape({ host: string, ipAddress: string }))

/** Limits on a resource; both as of `ulimit`, -1 for none. */
export interface UlimitPair {
  readonly hard?: number
  readonly soft: number
}

export const ulimits = record(
  string,
  sparse({ hard: optional(integer(-1)), soft: integer(-1) }) as unknown as Check<UlimitPair>,
)

/** Shares of the machine. */
export interface ResourcesQuota {
  /** GiB. */
  readonly memory?: number
  /** Processors, such as 1.5. */
  readonly cpu?: number
}

export const resourcesQuota = sparse({
  memory: optional(number(0.001, 1e6)),
  cpu: optional(number(0.01, 1e5)),
}) as Check<ResourcesQuota>

/** A device of this machine, as it is called in the container. */
export interface DeviceToPass {
  readonly source: string
  /** @default the source */
  readonly target?: string
  /** Any of r, w, m. @default 'rwm' */
  readonly permissions?: string
}

export const devices: Check<readonly (string | DeviceToPass)[]> = list((value, field) =>
  typeof value === 'string'
    ? absolutePath(value, field)
    : (sparse({
        source: absolutePath,
        target: optional(absolutePath),
        permissions: optional(pattern('letters of rwm', /^[rwm]{1,3}$/)),
      })(value, field) as DeviceToPass),
)
