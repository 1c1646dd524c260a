/**
 * Which credentials a registry gets, and where they are from.
 *
 * In this order: what the caller passes, DOCKER_AUTH_CONFIG, docker's configuration ($DOCKER_CONFIG/config.json, else
 * ~/.docker/config.json), podman's (REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json).
 * Within one of them: credHelpers for this registry, then credsStore, then auths.
 */

import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { MayflyError } from '../errors.js'
import { askHelper } from './credential-helper.js'

/** What a caller can pass. One of: user name and password, an identity token, a bearer token for the registry itself. */
export interface RegistryCredentials {
  readonly username?: string
  readonly password?: string
  /** Refresh token of OAuth2, as `docker login` gets it from some registries. */
  readonly identityToken?: string
  /** Sent to the registry as it is. */
  readonly registryToken?: string
}

/** The caller's credentials: by host, or asked for. */
export type CredentialSource =
  | Readonly<Record<string, RegistryCredentials>>
  | ((registry: string) => RegistryCredentials | undefined | Promise<RegistryCredentials | undefined>)

/** Credentials and where they are from, in words for a message. */
export interface FoundCredentials extends RegistryCredentials {
  readonly origin: string
}

const HUB = 'docker.io'
/** Docker Hub's names in configuration files; the first is the one that `docker login` writes. */
const HUB_KEYS = ['https://index.docker.io/v1/', 'index.docker.io', 'docker.io', 'registry-1.docker.io']
/** What `docker login` writes as user name when a helper's secret is an identity token. */
const TOKEN_USER = '<token>'
const MAX_FILE_BYTES = 4 * 1024 * 1024

/**
 * The credentials for a registry (`docker.io`, `localhost:5000`), or undefined: then it is asked as anybody.
 *
 * Throws CREDENTIALS_INVALID for a file or helper that is there and cannot be used.
 */
export async function findCredentials(
  registry: string,
  given?: CredentialSource,
  signal?: AbortSignal,
): Promise<FoundCredentials | undefined> {
  const passed = await fromCaller(registry, given)
  if (passed) return { ...passed, origin: 'the options' }
  for (const { origin, text } of sources()) {
    const json = await text()
    if (json === undefined) continue
    const found = await fromConfiguration(parseConfiguration(json, origin), registry, origin, signal)
    if (found) return found
  }
  return undefined
}

async function fromCaller(
  registry: string,
  given: CredentialSource | undefined,
): Promise<RegistryCredentials | undefined> {
  if (typeof given === 'function') return given(registry)
  if (!given) return undefined
  return keysOf(registry)
    .map((key) => given[key])
    .find((found) => found !== undefined)
}

interface Source {
  readonly origin: string
  text(): Promise<string | undefined>
}

function sources(): Source[] {
  const { DOCKER_AUTH_CONFIG, DOCKER_CONFIG, REGISTRY_AUTH_FILE, XDG_RUNTIME_DIR, XDG_CONFIG_HOME } = process.env
  const home = homedir()
  const paths = [
    join(DOCKER_CONFIG || join(home, '.docker'), 'config.json'),
    REGISTRY_AUTH_FILE,
    XDG_RUNTIME_DIR && join(XDG_RUNTIME_DIR, 'containers', 'auth.json'),
    join(XDG_CONFIG_HOME || join(home, '.config'), 'containers', 'auth.json'),
  ]
  const files = paths.filter((path) => path !== undefined && path !== '') as string[]
  return [
    ...(DOCKER_AUTH_CONFIG ? [{ origin: 'DOCKER_AUTH_CONFIG', text: async () => DOCKER_AUTH_CONFIG }] : []),
    ...files.map((path) => ({ origin: path, text: () => readConfiguration(path) })),
  ]
}

async function readConfiguration(path: string): Promise<string | undefined> {
  try {
    const text = await readFile(path, 'utf8')
    if (text.length > MAX_FILE_BYTES) throw invalid(path, 'it is larger than 4 MiB')
    return text
  } catch (error) {
    if (error instanceof MayflyError) throw error
    const { code } = error as NodeJS.ErrnoException
    // Somebody else's directory (su without a new HOME) holds no credentials of ours.
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return undefined
    throw invalid(path, (error as Error).message, error)
  }
}

interface Configuration {
  readonly auths?: Readonly<Record<string, AuthEntry | undefined>>
  readonly credsStore?: string
  readonly credHelpers?: Readonly<Record<string, string | undefined>>
}

interface AuthEntry {
  readonly auth?: string
  readonly username?: string
  readonly password?: string
  readonly identitytoken?: string
  readonly registrytoken?: string
}

function parseConfiguration(text: string, origin: string): Configuration {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw invalid(origin, 'it is no JSON') // the parser's own message would quote the file
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(origin, 'it is no JSON object')
  for (const key of ['auths', 'credHelpers'] as const) {
    const member = (value as Record<string, unknown>)[key]
    if (member !== undefined && member !== null && (typeof member !== 'object' || Array.isArray(member)))
      throw invalid(origin, `${key} is no object`)
  }
  return value as Configuration
}

async function fromConfiguration(
  { auths, credsStore, credHelpers }: Configuration,
  registry: string,
  origin: string,
  signal: AbortSignal | undefined,
): Promise<FoundCredentials | undefined> {
  const keys = keysOf(registry)
  const server = keys[0]!
  const helper = keys.map((key) => credHelpers?.[key]).find((name) => name) ?? credsStore
  if (helper) {
    const answer = await askHelper(helper, server, signal)
    const from = `docker-credential-${helper} (${origin})`
    if (answer?.username === TOKEN_USER) return { identityToken: answer.secret, origin: from }
    if (answer) return { username: answer.username, password: answer.secret, origin: from }
  }
  for (const key of Object.keys(auths ?? {})) {
    if (!keys.includes(key) && !keys.includes(hostOf(key))) continue
    const found = fromEntry(auths![key], key, origin)
    if (found) return { ...found, origin }
  }
  return undefined
}

/** An entry may be empty: `docker login` with a store leaves `{}` to say that there is something in the store. */
function fromEntry(entry: AuthEntry | undefined, key: string, origin: string): RegistryCredentials | undefined {
  if (!entry) return undefined
  if (entry.registrytoken) return { registryToken: entry.registrytoken }
  if (entry.identitytoken) return { identityToken: entry.identitytoken }
  if (entry.auth) {
    const text = Buffer.from(entry.auth, 'base64').toString()
    const colon = text.indexOf(':')
    if (colon < 1) throw invalid(origin, `auths["${key}"].auth is not the base64 form of <user>:<password>`)
    // Docker pads with NUL bytes in old files.
    return { username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, '') }
  }
  if (entry.username && entry.password) return { username: entry.username, password: entry.password }
  return undefined
}

/** The keys under which a registry may stand, the one that helpers are asked with first. */
function keysOf(registry: string): string[] {
  return registry === HUB ? HUB_KEYS : [registry]
}

/** `https://host/v1/` and `host/v2/` are old forms of `host`. A key with any other path is for a part of a registry only. */
function hostOf(key: string): string {
  const host = /^(?:https?:\/\/)?([^/]+)(?:\/(?:v[12]\/?)?)?$/.exec(key)?.[1] ?? ''
  return host === 'index.docker.io' ? HUB : host
}

function invalid(origin: string, why: string, cause?: unknown): MayflyError {
  return new MayflyError(
    'CREDENTIALS_INVALID',
    `Cannot read credentials from ${origin}: ${why}`,
    { field: origin },
    { cause },
  )
}
