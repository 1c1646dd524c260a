/**
 * HTTP as registries need it: proxies, authorities of one's own, plain HTTP where that is allowed, redirects that do not leak,
 * retries, and an end to every wait.
 *
 * undici is loaded with the first request.
 */

import type { Readable } from 'node:stream'
import { clearTimeout, setTimeout } from '../clock.js'
import { MayflyError } from '../errors.js'
import type { Dispatcher } from '../vendor/undici.js'
import { connectionError, fail, isCertificateError, isPassing, type Purpose } from './failure.js'
import { bareHost, isLoopback, proxyFor } from './proxy.js'
import { trustFor } from './trust.js'

/** How registries are reached. */
export interface RegistryOptions {
  /** Certificates (PEM) of authorities to trust besides node's own, for every registry. */
  readonly ca?: string | readonly string[]
  /**
   * Hosts (`registry.lan:5000`) with which plain HTTP may be spoken when no TLS answers. Loopback hosts always are.
   * @default MAYFLY_INSECURE_REGISTRIES, comma separated
   */
  readonly insecure?: readonly string[]
  /** Attempts of a request that fails in a way that may pass (429, 5xx, a broken connection). @default 5 */
  readonly attempts?: number
  readonly timeouts?: Partial<Timeouts>
}

export interface Timeouts {
  /** @default 10000 */
  readonly connectMs: number
  /** Until the answer begins. @default 60000 */
  readonly answerMs: number
  /** Between two pieces of an answer. @default 30000 */
  readonly stallMs: number
  /** Before the second attempt; twice as much before each further one, up to 5 s. @default 250 */
  readonly retryMs: number
}

export type Body = Uint8Array | AsyncIterable<Uint8Array>

export interface WireRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly url: URL
  readonly headers?: Readonly<Record<string, string>>
  /** Called for each attempt. */
  readonly body?: () => Body
  /** False where a second attempt could do something twice. @default true */
  readonly again?: boolean
  readonly purpose: Purpose
  readonly signal?: AbortSignal | undefined
}

export interface WireResponse {
  readonly status: number
  /** Names in lower case; the first value of those that come several times. */
  header(name: string): string | undefined
  /** Has to be read to its end or destroyed. */
  readonly body: Readable & { dump(options?: { readonly limit: number; readonly signal?: AbortSignal }): Promise<void> }
  /** Whether redirects have led to another origin, whose answers mean nothing for authentication. */
  readonly isForeign: boolean
  readonly url: URL
}

const ATTEMPTS = 5
const TIMEOUTS: Timeouts = { connectMs: 10_000, answerMs: 60_000, stallMs: 30_000, retryMs: 250 }
const MAX_BACK_OFF_MS = 5_000
/** A server may ask for more patience than a test has. */
const MAX_RETRY_AFTER_MS = 30_000
const MAX_REDIRECTS = 10
const BUFFERED_BYTES = 256 * 1024
const DUMPED_BYTES = 64 * 1024
const PASSING_STATUS = new Set([429, 500, 502, 503, 504])
const REDIRECTS = new Set([301, 302, 303, 307, 308])

export class Transport {
  readonly #options: RegistryOptions
  readonly #timeouts: Timeouts
  readonly #insecure: ReadonlySet<string>
  /** By origin, since certificates are by host. */
  readonly #dispatchers = new Map<string, Promise<Dispatcher>>()
  readonly #origins = new Map<string, Promise<string>>()

  constructor(options: RegistryOptions = {}) {
    this.#options = options
    this.#timeouts = { ...TIMEOUTS, ...options.timeouts }
    const listed = options.insecure ?? (process.env.MAYFLY_INSECURE_REGISTRIES ?? '').split(',')
    this.#insecure = new Set(listed.map((host) => host.trim()).filter(Boolean))
  }

  /** Closes connections that are idle and breaks those that are not. */
  async close(): Promise<void> {
    const dispatchers = await Promise.allSettled(this.#dispatchers.values())
    this.#dispatchers.clear()
    await Promise.allSettled(dispatchers.map((one) => (one.status === 'fulfilled' ? one.value.destroy() : undefined)))
  }

  /**
   * The origin of a registry: `https://host`, or `http://host` for a loopback or listed host where no TLS answers. A wrong
   * certificate is an answer: nobody is ever downgraded because of it.
   */
  origin(host: string, signal?: AbortSignal): Promise<string> {
    const secure = `https://${host}`
    if (!this.mayBePlain(new URL(secure))) return Promise.resolve(secure)
    const known = this.#origins.get(host)
    if (known) return known
    const found = this.#probe(new URL('/v2/', secure), signal).then((isSecure) =>
      isSecure ? secure : `http://${host}`,
    )
    found.catch(() => this.#origins.delete(host))
    this.#origins.set(host, found)
    return found
  }

  /** Whether this host may be spoken with without TLS. */
  mayBePlain(url: URL): boolean {
    return isLoopback(bareHost(url)) || this.#insecure.has(url.host)
  }

  /** Whether TLS answers. */
  async #probe(url: URL, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      const answer = await this.#dispatch({
        method: 'GET',
        url,
        signal,
        purpose: { action: 'pull', subject: url.host },
      })
      discard(answer)
      return true
    } catch (error) {
      signal?.throwIfAborted()
      if (error instanceof MayflyError) throw error
      return isCertificateError(error)
    }
  }

  /**
   * Makes a request, again where that can help, and follows redirects. Resolves to whatever the server answers at last, also
   * to 404 or, after the last attempt, to 500.
   *
   * Throws REGISTRY_UNREACHABLE, REGISTRY_CERTIFICATE, REGISTRY_FAILED for redirects that do not end, and the signal's reason.
   */
  async request(request: WireRequest): Promise<WireResponse> {
    const { purpose, signal } = request
    const attempts = request.again === false ? 1 : (this.#options.attempts ?? ATTEMPTS)
    for (let attempt = 1; ; attempt++) {
      let waitMs: number | undefined
      try {
        const response = await this.#follow(request)
        if (attempt >= attempts || !PASSING_STATUS.has(response.status)) return response
        waitMs = retryAfter(response.header('retry-after'))
        discard(response)
      } catch (error) {
        if (attempt >= attempts || !isPassing(error) || signal?.aborted)
          throw connectionError(error, request.url.host, purpose, signal)
      }
      await this.pause(attempt, signal, waitMs)
    }
  }

  /** Waits before attempt number `attempt + 1`: exponentially longer, with jitter, or as long as the server has asked for. */
  async pause(attempt: number, signal: AbortSignal | undefined, askedMs?: number): Promise<void> {
    const backOff = Math.min(this.#timeouts.retryMs * 2 ** (attempt - 1), MAX_BACK_OFF_MS) * (0.5 + Math.random() / 2)
    await sleep(askedMs ?? backOff, signal)
  }

  async #follow(request: WireRequest): Promise<WireResponse> {
    let { url } = request
    let headers: Record<string, string> = { ...request.headers }
    let isForeign = false
    for (let redirects = 0; ; redirects++) {
      const response = await this.#dispatch({ ...request, url, headers })
      const location = REDIRECTS.has(response.status) ? response.header('location') : undefined
      if (location === undefined) return { ...response, isForeign }
      discard(response)
      const next = parseLocation(location, url)
      if (!next || redirects === MAX_REDIRECTS) {
        const why = next
          ? `${request.url.host} redirects without end (${MAX_REDIRECTS} times)`
          : `${url.host} redirects to nowhere`
        throw fail('REGISTRY_FAILED', request.purpose, why)
      }
      if (!['GET', 'HEAD'].includes(request.method) && (response.status < 307 || next.origin !== url.origin)) {
        throw fail('REGISTRY_FAILED', request.purpose, `${url.host} redirects what is sent to it, which is refused`)
      }
      if (next.protocol === 'http:' && (url.protocol === 'https:' || !this.mayBePlain(next))) {
        throw fail(
          'REGISTRY_FAILED',
          request.purpose,
          `${url.host} redirects to ${next.host} without TLS, which is refused`,
        )
      }
      if (next.origin !== url.origin) {
        // Not given back either when a later redirect returns (CVE-2020-15157).
        headers = Object.fromEntries(Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'authorization'))
        isForeign = true
      }
      url = next
    }
  }

  async #dispatch({ method, url, headers, body, signal }: WireRequest): Promise<WireResponse> {
    signal?.throwIfAborted()
    const [{ request }, dispatcher] = await Promise.all([import('../vendor/undici.js'), this.#dispatcher(url)])
    const response = await request(url, {
      method,
      dispatcher,
      headers: { 'user-agent': 'mayfly', ...headers },
      body: (body?.() ?? null) as Dispatcher.DispatchOptions['body'] & Uint8Array,
      signal: signal ?? null,
      highWaterMark: BUFFERED_BYTES,
    })
    return {
      status: response.statusCode,
      header: (name) => {
        const value = response.headers[name]
        return Array.isArray(value) ? value[0] : value
      },
      body: response.body,
      isForeign: false,
      url,
    }
  }

  #dispatcher(url: URL): Promise<Dispatcher> {
    const known = this.#dispatchers.get(url.origin)
    if (known) return known
    const made = this.#makeDispatcher(url)
    made.catch(() => this.#dispatchers.delete(url.origin))
    this.#dispatchers.set(url.origin, made)
    return made
  }

  async #makeDispatcher(url: URL): Promise<Dispatcher> {
    const { Agent, ProxyAgent } = await import('../vendor/undici.js')
    const { connectMs, answerMs, stallMs } = this.#timeouts
    const { ca, ...own } = await trustFor(url.host, this.#options.ca)
    const trusted = ca ? { ca: [...ca] } : {}
    const limits = { headersTimeout: answerMs, bodyTimeout: stallMs, keepAliveTimeout: 5_000 }
    const connect = { ...trusted, ...own, timeout: connectMs }
    const proxy = proxyFor(url)
    if (proxy === undefined) return new Agent({ ...limits, connect })
    try {
      // A proxy may have any authority of the caller's, but never sees the client's certificate.
      const proxyTls = { ...trusted, timeout: connectMs }
      return new ProxyAgent({
        ...limits,
        uri: proxy,
        requestTls: connect,
        proxyTls,
        proxyTunnel: url.protocol === 'https:',
      })
    } catch {
      const name = url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY'
      throw new MayflyError('INVALID_OPTION', `${name} is no URL of a proxy`, { field: name }) // it may hold a password
    }
  }
}

function parseLocation(location: string, base: URL): URL | undefined {
  try {
    const url = new URL(location, base)
    return url.protocol === 'https:' || url.protocol === 'http:' ? url : undefined
  } catch {
    return undefined
  }
}

/** Milliseconds of a Retry-After header: seconds or a date. */
export function retryAfter(value: string | undefined, now = Date.now()): number | undefined {
  if (!value) return undefined
  const ms = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - now
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS)
}

function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted()
    const onAbort = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** Lets go of an answer whose body nobody needs: a short one is read, so that the connection serves again. */
export function discard({ body }: WireResponse): void {
  body.on('error', () => {})
  if (body.readableDidRead || body.destroyed) body.destroy()
  else void body.dump({ limit: DUMPED_BYTES }).catch(() => {})
}

/** Reads a body of at most `limit` bytes; undefined, and the connection broken, as soon as it turns out to be longer. */
export async function readBody(response: WireResponse, limit: number): Promise<Buffer | undefined> {
  const { body, header } = response
  if (Number(header('content-length') ?? 0) > limit) {
    discard(response)
    return undefined
  }
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of body as AsyncIterable<Buffer>) {
    bytes += piece.length
    if (bytes > limit) return undefined // leaving the loop breaks the connection
    pieces.push(piece)
  }
  return Buffer.concat(pieces, bytes)
}
