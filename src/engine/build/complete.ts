/** Checks the options of a build where they enter. */

import { MayflyError } from '../errors.js'
import { hostPlatform, type Platform, parsePlatform } from '../image/platform.js'
import { parseNewName } from '../image/reference.js'
import { nearest } from './dockerfile/nearest.js'
import type { BuildOptions } from './options.js'

type Check = readonly [test: (value: unknown) => boolean, expected: string]

const isText = (value: unknown) => typeof value === 'string' && !value.includes('\0')
const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const isTexts = (value: unknown) => isRecord(value) && Object.values(value).every(isText)
const isList = (value: unknown): value is unknown[] => Array.isArray(value)
const ENTITLEMENTS = ['security.insecure', 'network.host']

const CHECKS: Readonly<Record<keyof BuildOptions, Check>> = {
  context: [isRecord, 'an object with directory, tar, dockerfile or git'],
  file: [isText, 'a path'],
  dockerfile: [(value) => typeof value === 'string', "a Dockerfile's text"],
  tags: [(value) => isList(value) && value.every(isText), 'a list of names'],
  buildArgs: [isTexts, 'an object of strings'],
  target: [isText, 'the name of a stage'],
  noCache: [
    (value) => typeof value === 'boolean' || (isList(value) && value.every(isText)),
    'true, false or a list of stages',
  ],
  secrets: [isSecrets, 'an object of { file }, { env } or { value }'],
  ssh: [
    (value) => isRecord(value) && Object.values(value).every((one) => one === true || isText(one)),
    'an object of socket paths, or true for SSH_AUTH_SOCK',
  ],
  platform: [isText, 'a platform such as linux/arm64'],
  namedContexts: [isTexts, 'an object of strings'],
  labels: [isTexts, 'an object of strings'],
  pull: [(value) => typeof value === 'boolean', 'true or false'],
  network: [(value) => ['default', 'none', 'host'].includes(value as string), "'default', 'none' or 'host'"],
  addHosts: [isTexts, 'an object of addresses'],
  shmSizeBytes: [(value) => Number.isSafeInteger(value) && (value as number) > 0, 'a number of bytes'],
  ulimits: [isRecord, 'an object of limits'],
  allow: [
    (value) => isList(value) && value.every((one) => ENTITLEMENTS.includes(one as string)),
    `a list of ${ENTITLEMENTS.join(', ')}`,
  ],
  onEvent: [(value) => typeof value === 'function', 'a function'],
  signal: [(value) => value instanceof AbortSignal, 'an AbortSignal'],
}
const CONTEXTS = ['directory', 'tar', 'dockerfile', 'git']

/** Throws INVALID_OPTION and INVALID_REFERENCE. Resolves to the platform that the build is for. */
export function checkOptions(options: BuildOptions): Platform {
  if (!isRecord(options)) throw refuse('options', options, 'expected an object')
  for (const [field, value] of Object.entries(options)) {
    if (!Object.hasOwn(CHECKS, field)) {
      const similar = nearest(field, Object.keys(CHECKS))
      throw refuse(
        field,
        value,
        'is no option of a build',
        similar === undefined ? undefined : `did you mean ${similar}?`,
      )
    }
    const [test, expected] = CHECKS[field as keyof BuildOptions]
    if (value !== undefined && !test(value))
      throw refuse(field, field === 'secrets' ? undefined : value, `expected ${expected}`)
  }
  const { context } = options
  if (context === undefined) throw refuse('context', context, `expected ${CHECKS.context[1]}`)
  const kinds = CONTEXTS.filter((kind) => Object.hasOwn(context, kind))
  if (kinds.length !== 1) throw refuse('context', Object.keys(context), `expected one of ${CONTEXTS.join(', ')}`)
  if ('dockerfile' in context && options.dockerfile !== undefined) {
    throw refuse('dockerfile', undefined, 'is given twice: in the context too')
  }
  if (options.file !== undefined && (options.dockerfile !== undefined || 'dockerfile' in context)) {
    throw refuse('file', options.file, 'cannot be given together with the text of a Dockerfile')
  }
  for (const kind of ['directory', 'git', 'dockerfile'] as const) {
    const value = (context as unknown as Record<string, unknown>)[kind]
    if (value !== undefined && typeof value !== 'string') throw refuse(`context.${kind}`, value, 'expected a string')
  }
  for (const tag of options.tags ?? []) parseNewName(tag)
  return options.platform === undefined ? hostPlatform() : parsePlatform(options.platform)
}

function isSecrets(value: unknown): boolean {
  if (!isRecord(value)) return false
  return Object.values(value).every(
    (one) =>
      isRecord(one) &&
      Object.keys(one).length === 1 &&
      (isText(one.file) || isText(one.env) || typeof one.value === 'string' || one.value instanceof Uint8Array),
  )
}

function refuse(field: string, value: unknown, why: string, hint?: string): MayflyError {
  return new MayflyError('INVALID_OPTION', `${field}: ${why}`, {
    field,
    ...(value === undefined ? {} : { value }),
    ...(hint ? { hint } : {}),
  })
}
