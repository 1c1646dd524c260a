/**
 * Files that ADD fetches from a URL. They are kept in `cache/http` and asked for again only by ETag and Last-Modified, so that an unchanged one
 * costs one question.
 */

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { MayflyError } from '../errors.js'
import type { BuildContext } from './context.js'

export interface RemoteFile {
  /** SHA-256 in hexadecimal. */
  readonly digest: string
  /** Where it lies: below the store's home, not to be changed. */
  readonly directory: string
  /** Name in that directory. */
  readonly file: string
  /** What the server calls it, else the last part of the address; '' when that has none. */
  readonly name: string
  /** Last-Modified. */
  readonly modifiedAt: Date | undefined
}

interface Known {
  readonly digest: string
  readonly name: string
  readonly etag?: string
  readonly lastModified?: string
}

const MAX_REDIRECTS = 10
const HEADERS_TIMEOUT_MS = 60_000
const BODY_TIMEOUT_MS = 120_000

/** Throws FETCH_FAILED, DIGEST_MISMATCH for another content than `checksum` (`sha256:…`) says, and the signal's reason. */
export async function fetchFile(
  context: BuildContext,
  url: string,
  checksum: string | undefined,
  signal: AbortSignal,
): Promise<RemoteFile> {
  const { store } = context
  const directory = join(store.home, 'cache', 'http')
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const record = join(directory, `${createHash('sha256').update(url).digest('hex')}.json`)
  const known = await readKnown(record)
  const isKept = known !== undefined && (await isWhole(join(directory, known.digest), known.digest))
  const headers: Record<string, string> = {}
  if (isKept && known.etag) headers['if-none-match'] = known.etag
  if (isKept && known.lastModified) headers['if-modified-since'] = known.lastModified
  const fetched = await request(url, headers, signal)
  let result: Known
  if (fetched.status === 304 && isKept) result = known
  else {
    if (fetched.status !== 200) throw failed(url, `the server answers ${fetched.status}`)
    const temporary = await store.temporary()
    try {
      const digest = await save(fetched.body, temporary, url, signal)
      await rename(temporary, join(directory, digest))
      const { etag, 'last-modified': lastModified, 'content-disposition': disposition } = fetched.headers
      result = {
        digest,
        name: fileName(disposition) || lastPart(url),
        ...(etag ? { etag } : {}),
        ...(lastModified ? { lastModified } : {}),
      }
      await store.disk.replaceFile(record, JSON.stringify(result))
    } catch (error) {
      await store.discard(temporary)
      throw error
    }
  }
  const [algorithm, wanted] = (checksum ?? '').split(':')
  if (checksum !== undefined) {
    const found = algorithm === 'sha256' ? result.digest : await digestWith(algorithm!, join(directory, result.digest))
    if (found !== wanted) {
      throw new MayflyError('DIGEST_MISMATCH', `${withoutSecrets(url)} is ${algorithm}:${found}, not ${checksum}`, {
        value: checksum,
        digest: `${algorithm}:${found}`,
      })
    }
  }
  const modified = new Date(result.lastModified ?? '')
  return {
    digest: result.digest,
    directory,
    file: result.digest,
    name: result.name,
    modifiedAt: Number.isNaN(modified.getTime()) ? undefined : modified,
  }
}

interface Response {
  readonly status: number
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: AsyncIterable<Uint8Array>
}

async function request(url: string, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Response> {
  const undici = await import('../vendor/undici.js')
  const agent = new undici.EnvHttpProxyAgent({ headersTimeout: HEADERS_TIMEOUT_MS, bodyTimeout: BODY_TIMEOUT_MS })
  try {
    let address = new URL(url)
    for (let redirects = 0; ; redirects++) {
      const response = await undici.request(address, { headers, signal, dispatcher: agent })
      const location = response.headers.location
      if (![301, 302, 303, 307, 308].includes(response.statusCode) || typeof location !== 'string') {
        return {
          status: response.statusCode,
          headers: Object.fromEntries(
            Object.entries(response.headers).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value]),
          ),
          body: closing(response.body, agent),
        }
      }
      await response.body.dump()
      if (redirects === MAX_REDIRECTS) throw failed(url, `it redirects more than ${MAX_REDIRECTS} times`)
      address = new URL(location, address)
      if (address.protocol !== 'http:' && address.protocol !== 'https:')
        throw failed(url, `it redirects to ${address.protocol}`)
    }
  } catch (error) {
    await agent.destroy()
    if (signal.aborted) throw signal.reason
    if (error instanceof MayflyError) throw error
    throw failed(url, (error as Error).message, error)
  }
}

async function* closing(
  body: AsyncIterable<Uint8Array>,
  agent: { destroy(): Promise<void> },
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* body
  } finally {
    await agent.destroy()
  }
}

async function save(body: AsyncIterable<Uint8Array>, path: string, url: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  const file = await open(path, 'wx', 0o600)
  try {
    for await (const piece of body) {
      hash.update(piece)
      await file.write(piece)
    }
  } catch (error) {
    if (signal.aborted) throw signal.reason
    throw failed(url, (error as Error).message, error)
  } finally {
    await file.close()
  }
  return hash.digest('hex')
}

async function readKnown(path: string): Promise<Known | undefined> {
  try {
    const known = JSON.parse(await readFile(path, 'utf8')) as Partial<Known>
    return /^[0-9a-f]{64}$/.test(known.digest ?? '') && typeof known.name === 'string' ? (known as Known) : undefined
  } catch {
    return undefined
  }
}

async function isWhole(path: string, digest: string): Promise<boolean> {
  return (await digestWith('sha256', path).catch(() => '')) === digest
}

async function digestWith(algorithm: string, path: string): Promise<string> {
  const hash = createHash(algorithm)
  for await (const piece of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(piece)
  return hash.digest('hex')
}

/** Of `attachment; filename="a.tar"`; no path. */
function fileName(disposition: string | undefined): string {
  const found = /filename="?([^";]+)"?/i.exec(disposition ?? '')?.[1]?.trim() ?? ''
  const name = posix.basename(found)
  return name === '.' || name === '..' ? '' : name
}

function lastPart(url: string): string {
  const { pathname } = new URL(url)
  if (pathname.endsWith('/')) return ''
  const name = posix.basename(decodePart(pathname))
  return name === '.' || name === '..' ? '' : name
}

function decodePart(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function failed(url: string, why: string, cause?: unknown): MayflyError {
  const address = withoutSecrets(url)
  return new MayflyError('FETCH_FAILED', `Cannot fetch ${address}: ${why}`, { value: address }, { cause })
}

/** Without user, password and query, where secrets are. */
export function withoutSecrets(url: string): string {
  try {
    const address = new URL(url)
    address.username = ''
    address.password = ''
    address.search = ''
    return address.href
  } catch {
    return url
  }
}
