/**
 * Credentials in docker's configuration ($DOCKER_CONFIG/config.json, else ~/.docker/config.json): in the file itself, as base64, or in
 * the credential helper that the file names. What else is in the file stays.
 */
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { spawnChild } from '../engine/child.js'
import { DOCKER_HUB } from '../engine/image/reference.js'
import { UsageError } from './usage-error.js'

interface Configuration {
  auths?: Record<string, Record<string, string>>
  readonly credsStore?: string
  readonly credHelpers?: Readonly<Record<string, string>>
}

/** What `docker login` writes for Docker Hub. */
const HUB_KEY = 'https://index.docker.io/v1/'
const HELPER_TIMEOUT_MS = 30_000

/** Resolves to where they are kept, in words. */
export async function keepCredentials(registry: string, username: string, password: string): Promise<string> {
  if (username.includes(':')) throw new UsageError('A username cannot have a colon in it')
  const path = configurationPath()
  const configuration = await read(path)
  const key = keyOf(registry)
  const helper = helperOf(configuration, registry)
  if (helper) {
    await callHelper(helper, 'store', JSON.stringify({ ServerURL: key, Username: username, Secret: password }))
  }
  const auth = Buffer.from(`${username}:${password}`).toString('base64')
  // An empty entry says that the helper has something.
  await write(path, { ...configuration, auths: { ...configuration.auths, [key]: helper ? {} : { auth } } })
  return helper ? `docker-credential-${helper}` : path
}

/** Resolves to whether there were any. */
export async function forgetCredentials(registry: string): Promise<boolean> {
  const path = configurationPath()
  const configuration = await read(path)
  const key = keyOf(registry)
  if (!configuration.auths || !Object.hasOwn(configuration.auths, key)) return false
  const helper = helperOf(configuration, registry)
  if (helper) await callHelper(helper, 'erase', key)
  const { [key]: _gone, ...auths } = configuration.auths
  await write(path, { ...configuration, auths })
  return true
}

function configurationPath(): string {
  return join(process.env.DOCKER_CONFIG || join(homedir(), '.docker'), 'config.json')
}

function keyOf(registry: string): string {
  return registry === DOCKER_HUB ? HUB_KEY : registry
}

function helperOf({ credHelpers, credsStore }: Configuration, registry: string): string | undefined {
  const name = credHelpers?.[keyOf(registry)] ?? credHelpers?.[registry] ?? credsStore
  if (name && !/^[A-Za-z0-9._-]+$/.test(name)) throw new UsageError(`The configuration names a helper "${name}"`)
  return name || undefined
}

async function read(path: string): Promise<Configuration> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw error
  }
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  } catch {
    // The parser's own message would quote the file.
  }
  throw new Error(`Cannot change ${path}: it is no JSON object`)
}

async function write(path: string, configuration: Configuration): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const temporary = `${path}.${process.pid}.partial`
  try {
    await writeFile(temporary, `${JSON.stringify(configuration, undefined, '\t')}\n`, { mode: 0o600, flag: 'wx' })
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

function callHelper(name: string, verb: 'store' | 'erase', input: string): Promise<void> {
  const program = `docker-credential-${name}`
  return new Promise((resolve, reject) => {
    const child = spawnChild(program, [verb], { stdio: ['pipe', 'ignore', 'ignore'], timeout: HELPER_TIMEOUT_MS })
    child.stdin.on('error', () => {}) // it may have enough
    child.stdin.end(input)
    child.once('error', (error) => reject(new Error(`Cannot call ${program}: ${error.message}`)))
    child.once('close', (code) => {
      if (code === 0) resolve()
      else reject(new Error(`${program} ${verb} failed${code === null ? '' : ` with exit code ${code}`}`))
    })
  })
}
