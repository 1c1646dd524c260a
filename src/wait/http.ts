/** Waiting for an answer over HTTP or HTTPS. Asked only once something listens, then at short intervals that grow. */

import type { IncomingMessage } from 'node:http'
import type { RequestOptions } from 'node:https'
import { isIP } from 'node:net'
import { clearTimeout, setTimeout } from '../engine/clock.js'
import { MayflyError } from '../engine/errors.js'
import { boolean, integer, optional, pattern, record, refuse, secret, sparse, string } from '../engine/launch/check.js'
import { retryUntil } from './retry.js'
import { AbstractWaitStrategy, checkTimeout, type WaitControl, type WaitTarget } from './strategy.js'

/** TLS of the requests; certificates and keys as PEM. */
export interface HttpTlsOptions {
  /** Certificates that are trusted besides. */
  readonly ca?: string | Uint8Array | readonly (string | Uint8Array)[]
  /** Certificate of the client. */
  readonly cert?: string | Uint8Array
  readonly key?: string | Uint8Array
  /** Name that the server's certificate has to have. @default the host's */
  readonly servername?: string
}

/** How the container is asked. */
export interface HttpWaitStrategyOptions {
  /** Kept for testcontainers: a container that ends is always the end of the wait. */
  readonly abortOnContainerExit?: boolean
}

interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

interface Condition {
  /** For messages. */
  readonly text: string
  readonly holds: (answer: Answer) => boolean | Promise<boolean>
}

const optionsShape = sparse({ abortOnContainerExit: optional(boolean) })
const checkStatus = integer(100, 999)
const checkMethod = pattern('a method such as POST', /^[!#$%&'*+.^_`|~\w-]+$/)
const checkHeaders = record(string, secret)

const DEFAULT_READ_TIMEOUT_MS = 1_000
const MAX_BODY_BYTES = 8 * 1024 * 1024
const MAX_REDIRECTS = 10

/**
 * A wait for an HTTP answer; see `Wait.forHttp`. Without a condition, any status from 200 to 299 will do, redirections followed.
 *
 * @example
 * import { Wait } from 'mayfly'
 *
 * const ready = Wait.forHttp('/health', 8080)
 *   .withMethod('POST')
 *   .withHeaders({ accept: 'application/json' })
 *   .forStatusCode(200)
 *   .forJson((body) => (body as { status: string }).status === 'up')
 */
export class HttpWaitStrategy extends AbstractWaitStrategy {
  protected readonly path: string
  protected readonly port: number
  protected readonly method: string = 'GET'
  protected readonly headers: Readonly<Record<string, string>> = {}
  protected readonly body: string | Uint8Array | undefined = undefined
  protected readonly readTimeoutMs: number = DEFAULT_READ_TIMEOUT_MS
  protected readonly tls: false | RequestOptions = false
  protected readonly conditions: readonly Condition[] = []
  protected last = 'nobody listens on that port yet'

  constructor(path: string, port: number, options: HttpWaitStrategyOptions = {}) {
    super()
    optionsShape(options, 'http')
    if (typeof path !== 'string' || !path.startsWith('/')) refuse('path', path, "expected a path such as '/health'")
    if (!Number.isInteger(port) || port < 1 || port > 65_535) refuse('port', port, 'expected a number from 1 to 65535')
    this.path = path
    this.port = port
  }

  protected override get what(): string {
    return `${this.method} ${this.tls ? 'https' : 'http'} ${this.path.split('?')[0]} on port ${this.port}`
  }

  /** This status and no other. */
  forStatusCode(statusCode: number): this {
    checkStatus(statusCode, 'statusCode')
    return this.and(`status ${statusCode}`, ({ status }) => status === statusCode)
  }

  /** @example Wait.forHttp('/', 80).forStatusCodeMatching((status) => status < 500) */
  forStatusCodeMatching(predicate: (statusCode: number) => boolean): this {
    return this.and('a status that matches', ({ status }) => predicate(status), predicate)
  }

  /** A condition on the body, as text. */
  forResponsePredicate(predicate: (response: string) => boolean): this {
    return this.and('a body that matches', ({ body }) => predicate(body), predicate)
  }

  /** A condition on the body, parsed. What is no JSON does not fulfil it. */
  forJson(predicate: (body: unknown) => boolean): this {
    return this.and('JSON that matches', ({ body }) => predicate(JSON.parse(body)), predicate)
  }

  /** A header, by name in any case; with this value, or one that matches. */
  forHeader(name: string, value?: string | RegExp): this {
    return this.and(`header ${name}`, ({ headers }) => {
      const found = headers[name.toLowerCase()]
      const text = Array.isArray(found) ? found.join(', ') : found
      if (text === undefined || value === undefined) return text !== undefined
      return typeof value === 'string' ? text === value : new RegExp(value.source, value.flags).test(text)
    })
  }

  /** @default 'GET' */
  withMethod(method: string): this {
    return this.with({ method: checkMethod(method, 'method').toUpperCase() })
  }

  /** Added to those given before. */
  withHeaders(headers: Readonly<Record<string, string>>): this {
    return this.with({ headers: { ...this.headers, ...checkHeaders(headers, 'headers') } })
  }

  /** User and password, in the clear unless with TLS. */
  withBasicCredentials(username: string, password: string): this {
    const credentials = Buffer.from(`${username}:${password}`).toString('base64')
    return this.withHeaders({ authorization: `Basic ${credentials}` })
  }

  /** Sent with every request. */
  withBody(body: string | Uint8Array): this {
    return this.with({ body })
  }

  /** Milliseconds for one request. @default 1000 */
  withReadTimeout(readTimeoutMs: number): this {
    return this.with({ readTimeoutMs: checkTimeout('readTimeout', readTimeoutMs) })
  }

  /** HTTPS, with a certificate that is trusted here unless told otherwise. */
  usingTls(options: HttpTlsOptions = {}): this {
    return this.with({ tls: { ...(this.tls || {}), ...options } })
  }

  /** Any certificate will do. */
  allowInsecure(): this {
    return this.with({ tls: { ...(this.tls || {}), rejectUnauthorized: false } })
  }

  /** Another name for `allowInsecure`. */
  insecureTls(): this {
    return this.allowInsecure()
  }

  private and(text: string, holds: Condition['holds'], predicate: unknown = holds): this {
    if (typeof predicate !== 'function') refuse('predicate', predicate, 'expected a function')
    return this.with({ conditions: [...this.conditions, { text, holds }] })
  }

  protected override async check(target: WaitTarget, { signal }: WaitControl): Promise<void> {
    if (!target.exposedPorts.some(({ container, protocol }) => container === this.port && protocol === 'tcp')) {
      const message = `"${target.getName()}" does not expose port ${this.port}, so it cannot answer there`
      const hint = `expose it with withExposedPorts(${this.port})`
      throw new MayflyError('WAIT_IMPOSSIBLE', message, { container: target.getName(), hint })
    }
    await target.container.waitForPort(this.port, { signal })
    this.last = 'no answer yet'
    const url = new URL(
      this.path,
      `${this.tls ? 'https' : 'http'}://${target.getHost()}:${target.getMappedPort(this.port)}`,
    )
    await retryUntil(() => this.attempt(url, signal), signal)
  }

  private async attempt(begin: URL, signal: AbortSignal): Promise<boolean> {
    let url = begin
    try {
      for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
        const answer = await this.ask(url, signal)
        const missing = await this.missing(answer)
        if (missing === undefined) return true
        this.last = `the last answer was ${answer.status}, without ${missing}`
        const { location } = answer.headers
        if (answer.status < 300 || answer.status > 399 || location === undefined) return false
        url = new URL(location, url)
        // Elsewhere is not this container.
        if (url.hostname !== begin.hostname) return false
      }
    } catch (error) {
      signal.throwIfAborted()
      this.last = `the last request failed: ${(error as Error).message || (error as NodeJS.ErrnoException).code}`
    }
    return false
  }

  /** The first condition that does not hold. */
  private async missing(answer: Answer): Promise<string | undefined> {
    if (this.conditions.length === 0) return answer.status >= 200 && answer.status < 300 ? undefined : 'success'
    for (const { text, holds } of this.conditions) if (!(await holds(answer))) return text
    return undefined
  }

  /** Asking the system for `localhost` would take a thread and keep what asked, which Jest's `--detectLeaks` finds. */
  private async ask(url: URL, signal: AbortSignal): Promise<Answer> {
    if (url.hostname !== 'localhost') return this.askAt(url.hostname, url, signal)
    const isRefused = (error: unknown) => (error as NodeJS.ErrnoException).code === 'ECONNREFUSED'
    return this.askAt('127.0.0.1', url, signal).catch((error) => {
      if (!isRefused(error)) throw error
      return this.askAt('::1', url, signal).catch((other) => {
        throw isRefused(other) ? error : other
      })
    })
  }

  private async askAt(address: string, url: URL, signal: AbortSignal): Promise<Answer> {
    const { request } = url.protocol === 'https:' ? await import('node:https') : await import('node:http')
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined
      const options = {
        hostname: bare(address),
        ...(isIP(bare(url.hostname)) ? {} : { servername: url.hostname }),
        method: this.method,
        headers: { Host: url.host, ...this.headers },
        agent: false as const, // a connection of its own, which is closed afterwards: nothing stays open
        ...(this.tls || {}),
      }
      const onAbort = () => outgoing.destroy(signal.reason)
      const over = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
      }
      const outgoing = request(url, options as RequestOptions, (response) => {
        const pieces: Uint8Array[] = []
        let bytes = 0
        response.on('data', (piece: Uint8Array) => {
          bytes += piece.length
          if (bytes <= MAX_BODY_BYTES) pieces.push(piece)
          else outgoing.destroy(new Error(`the body is longer than ${MAX_BODY_BYTES} bytes`))
        })
        response.on('error', reject)
        response.on('end', () => {
          const { statusCode = 0, headers } = response
          resolve({ status: statusCode, headers, body: Buffer.concat(pieces).toString() })
        })
      })
      timer = setTimeout(
        () => outgoing.destroy(new Error(`no answer within ${this.readTimeoutMs} ms`)),
        this.readTimeoutMs,
      )
      outgoing.on('error', reject)
      outgoing.on('close', over)
      signal.addEventListener('abort', onAbort, { once: true })
      outgoing.end(this.body)
    })
  }

  protected override hint(): string {
    return this.last
  }
}

/** An IPv6 address without the brackets that it has in a URL. */
function bare(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '')
}
