/** One repository of one registry: manifests and blobs, as the OCI distribution specification and docker's registry API have them. */

import { MayflyError } from '../errors.js'
import { isDigest, splitDigest } from '../image/digest.js'
import { digestOfBytes } from '../image/digest-of.js'
import { MAX_MANIFEST_BYTES } from '../image/manifest.js'
import { MANIFEST_TYPES } from '../image/media-types.js'
import { Authentication } from './authentication.js'
import type { CredentialSource } from './credentials.js'
import { connectionError, fail, isPassing, type Purpose } from './failure.js'
import { type Body, discard, readBody, type Transport, type WireRequest, type WireResponse } from './transport.js'

export interface ClientOptions {
  readonly transport: Transport
  /** As in references: `docker.io`, `localhost:5000`. */
  readonly registry: string
  /** Such as `library/postgres`. */
  readonly repository: string
  readonly purpose: Purpose
  readonly credentials?: CredentialSource | undefined
  readonly signal?: AbortSignal | undefined
}

export interface FetchedManifest {
  readonly bytes: Buffer
  readonly mediaType: string
  readonly digest: string
}

/** Content by digest. */
export interface Content {
  readonly digest: string
  readonly size: number
}

const MAX_ERROR_BYTES = 64 * 1024
/** Docker Hub's API has another name than its images. */
const HOSTS: Readonly<Record<string, string>> = { 'docker.io': 'registry-1.docker.io' }
/** Broken transfers of one blob without this much in between end the attempts. */
const PROGRESS_BYTES = 1024 * 1024
const TRANSFER_ATTEMPTS = 5

export class RegistryClient {
  readonly registry: string
  readonly repository: string
  readonly purpose: Purpose
  readonly signal: AbortSignal | undefined
  readonly #transport: Transport
  readonly #authentication: Authentication
  readonly #host: string

  constructor(options: ClientOptions) {
    this.registry = options.registry
    this.repository = options.repository
    this.purpose = options.purpose
    this.signal = options.signal
    this.#transport = options.transport
    this.#authentication = new Authentication(options)
    this.#host = HOSTS[options.registry] ?? options.registry
  }

  /** Whether a registry is there that lets us in. Resolves when it does, and throws what is in the way. */
  async ping(): Promise<void> {
    const response = await this.request({ method: 'GET', path: '/v2/', scope: '' })
    if (response.status !== 200) throw await this.refusal(response, `${this.registry}/v2/`)
    discard(response)
  }

  /** The digest that a tag (or digest) stands for; undefined when the registry does not tell it this way. */
  async resolve(reference: string): Promise<string | undefined> {
    const response = await this.#manifest('HEAD', reference)
    // Not every registry has HEAD for this.
    if (![200, 400, 405, 501].includes(response.status)) throw await this.refusal(response, reference)
    discard(response)
    const digest = response.header('docker-content-digest')
    return response.status === 200 && isDigest(digest) ? digest : undefined
  }

  /**
   * A manifest or an index, checked against its digest where one is known.
   *
   * Throws DIGEST_MISMATCH, SIZE_MISMATCH beyond 4 MiB, REGISTRY_FAILED for what is no manifest at all, and what `refusal` makes.
   */
  async manifest(reference: string): Promise<FetchedManifest> {
    for (let attempt = 1; ; attempt++) {
      const response = await this.#manifest('GET', reference)
      if (response.status !== 200) throw await this.refusal(response, reference)
      try {
        return this.#checkManifest(await readBody(response, MAX_MANIFEST_BYTES), response, reference)
      } catch (error) {
        if (attempt === TRANSFER_ATTEMPTS || !isPassing(error) || this.signal?.aborted) throw this.#broken(error)
      }
      await this.#transport.pause(attempt, this.signal)
    }
  }

  #manifest(method: 'GET' | 'HEAD', reference: string): Promise<WireResponse> {
    const path = `/v2/${this.repository}/manifests/${reference}`
    return this.request({ method, path, headers: { accept: MANIFEST_TYPES.join(', ') } })
  }

  #checkManifest(bytes: Buffer | undefined, response: WireResponse, reference: string): FetchedManifest {
    const { host } = response.url
    if (!bytes) {
      const why = `${host} sends a manifest of more than 4 MiB for ${reference}`
      throw fail('SIZE_MISMATCH', this.purpose, why, { field: reference })
    }
    const mediaType = (response.header('content-type') ?? '').split(';')[0]!.trim().toLowerCase()
    if (mediaType === 'text/html' || /^\s*</.test(bytes.subarray(0, 64).toString('latin1'))) {
      const hint = `is ${host} a registry? A login page of a proxy or a web site answers like this`
      throw fail('REGISTRY_FAILED', this.purpose, `${host} answers with HTML instead of a manifest`, { hint })
    }
    const claimed = response.header('docker-content-digest')
    const wanted = isDigest(reference) ? reference : claimed
    const digest = digestOfBytes(bytes, isDigest(wanted) ? splitDigest(wanted).algorithm : 'sha256')
    if (wanted !== undefined && digest !== wanted) {
      const why = `the manifest that ${host} sends has the digest ${digest}, not ${wanted}`
      throw fail('DIGEST_MISMATCH', this.purpose, why, { digest: wanted })
    }
    return { bytes, mediaType, digest }
  }

  /**
   * A blob's bytes from `offset` on. A connection that breaks is taken up again where it broke. The length is checked; the
   * digest is the reader's to check, who sees all of it.
   */
  async *blob({ digest, size }: Content, offset = 0): AsyncGenerator<Buffer, void, undefined> {
    let at = offset
    let failures = 0
    let failedAt = offset
    while (at < size || (size === 0 && failures === 0)) {
      let broken: unknown
      const response = await this.request({
        method: 'GET',
        path: `/v2/${this.repository}/blobs/${digest}`,
        headers: at > 0 ? { range: `bytes=${at}-` } : {},
      })
      let skip = await this.#checkRange(response, { digest, size }, at)
      try {
        for await (const piece of response.body as AsyncIterable<Buffer>) {
          const rest = skip >= piece.length ? undefined : skip > 0 ? piece.subarray(skip) : piece
          skip -= Math.min(skip, piece.length)
          if (!rest) continue
          at += rest.length
          if (at > size) throw this.#wrongSize({ digest, size }, `more than ${size}`)
          yield rest
        }
        if (at === size) return
      } catch (error) {
        if (error instanceof MayflyError || this.signal?.aborted) throw this.#broken(error)
        broken = error
      } finally {
        discard(response)
      }
      if (at === size) return // what broke was only the end of the connection
      failures = at - failedAt >= PROGRESS_BYTES ? 1 : failures + 1
      failedAt = at
      if (failures >= TRANSFER_ATTEMPTS) {
        const why = `${this.#host} stops sending layer ${digest} after ${at} of ${size} bytes, ${failures} times`
        throw fail('REGISTRY_FAILED', this.purpose, why, { digest }, broken)
      }
      await this.#transport.pause(failures, this.signal)
    }
  }

  /** How many bytes of the answer's beginning are known already. Throws for an answer that is not this blob's. */
  async #checkRange(response: WireResponse, content: Content, at: number): Promise<number> {
    const { status } = response
    if (status !== 200 && status !== 206) throw await this.refusal(response, content.digest)
    const first = status === 206 ? Number(/^bytes (\d+)-/.exec(response.header('content-range') ?? '')?.[1]) : 0
    const length = response.header('content-length')
    const end = first + Number(length)
    if (!(first <= at) || (length !== undefined && end !== content.size)) {
      discard(response)
      if (first === 0) throw this.#wrongSize(content, length ?? 'unknown')
      throw fail(
        'REGISTRY_FAILED',
        this.purpose,
        `${this.#host} sends another part of ${content.digest} than was asked for`,
      )
    }
    return at - first
  }

  #wrongSize({ digest, size }: Content, bytes: string): MayflyError {
    const why = `${this.#host} sends ${bytes} bytes for ${digest}, whose size is ${size}`
    return fail('SIZE_MISMATCH', this.purpose, why, { digest })
  }

  /** Whether the repository has this blob. */
  async hasBlob(digest: string): Promise<boolean> {
    const response = await this.request({ method: 'HEAD', path: `/v2/${this.repository}/blobs/${digest}`, scope: PUSH })
    discard(response)
    if (response.status === 200) return true
    if (response.status === 404) return false
    throw await this.refusal(response, digest)
  }

  /**
   * Makes the blob of another repository of this registry appear in this one, if the registry can. Else false, or the URL to
   * upload it to, which the registry then has prepared.
   */
  async mount(digest: string, from: string): Promise<boolean | URL> {
    const query = new URLSearchParams({ mount: digest, from })
    const response = await this.request({
      method: 'POST',
      path: `/v2/${this.repository}/blobs/uploads/?${query}`,
      scope: PUSH,
      from,
      headers: { 'content-length': '0' },
      again: false,
    })
    discard(response)
    if (response.status === 201) return true
    return response.status === 202 ? this.#uploadUrl(response) : false
  }

  /** Uploads a blob in one piece; all of it again when the connection breaks. `body` is called for each attempt. */
  async upload({ digest, size }: Content, body: () => Body, prepared?: URL): Promise<void> {
    for (let attempt = 1, url = prepared; ; attempt++, url = undefined) {
      let failure: unknown
      try {
        url ??= await this.#startUpload()
        url.searchParams.set('digest', digest)
        const headers = { 'content-type': 'application/octet-stream', 'content-length': String(size) }
        const response = await this.request({ method: 'PUT', url, scope: PUSH, headers, body, again: false })
        if (response.status === 201 || response.status === 204) return discard(response)
        failure = await this.refusal(response, digest)
        if (response.status < 500 && response.status !== 404) throw failure
      } catch (error) {
        const passes = isPassing(error) || (error instanceof MayflyError && isPassing(error.cause))
        if (!passes || this.signal?.aborted) throw this.#broken(error)
        failure = error
      }
      if (attempt === TRANSFER_ATTEMPTS) throw this.#broken(failure)
      await this.#transport.pause(attempt, this.signal)
    }
  }

  async #startUpload(): Promise<URL> {
    const path = `/v2/${this.repository}/blobs/uploads/`
    const response = await this.request({ method: 'POST', path, scope: PUSH, headers: { 'content-length': '0' } })
    if (response.status !== 202) throw await this.refusal(response, this.repository)
    discard(response)
    return this.#uploadUrl(response)
  }

  #uploadUrl(response: WireResponse): URL {
    const location = response.header('location')
    if (!location) throw fail('REGISTRY_FAILED', this.purpose, `${this.#host} does not say where to upload to`)
    const url = new URL(location, response.url)
    // A registry behind a proxy that does its TLS may not know of it.
    if (url.host === response.url.host) url.protocol = response.url.protocol
    if (url.protocol !== 'https:' && !(response.url.protocol === 'http:' && this.#transport.mayBePlain(url)))
      throw fail(
        'REGISTRY_FAILED',
        this.purpose,
        `${this.#host} wants an upload without TLS to ${url.host}, which is refused`,
      )
    return url
  }

  /** Stores a manifest under a tag or its digest. Resolves to its digest. */
  async putManifest(reference: string, bytes: Uint8Array, mediaType: string): Promise<string> {
    const path = `/v2/${this.repository}/manifests/${reference}`
    const response = await this.request({
      method: 'PUT',
      path,
      scope: PUSH,
      headers: { 'content-type': mediaType },
      body: () => bytes,
    })
    if (response.status !== 201 && response.status !== 200) throw await this.refusal(response, reference)
    discard(response)
    const digest = digestOfBytes(bytes)
    const claimed = response.header('docker-content-digest')
    if (claimed && claimed !== digest) {
      const why = `${this.#host} stored the manifest as ${claimed} instead of ${digest}`
      throw fail('DIGEST_MISMATCH', this.purpose, why, { digest })
    }
    return digest
  }

  /**
   * Makes a request as whoever we are. Another origin (a redirect's, an upload's) is never told who that is, and its 401 is
   * an answer like any other.
   */
  async request(what: {
    readonly method: WireRequest['method']
    readonly path?: string
    readonly url?: URL
    readonly headers?: Readonly<Record<string, string>>
    readonly body?: () => Body
    readonly again?: boolean
    /** @default to pull from this repository */
    readonly scope?: string
    /** Another repository to pull from, for a mount. */
    readonly from?: string
  }): Promise<WireResponse> {
    const origin = await this.#transport.origin(this.#host, this.signal)
    const { path = '', url = new URL(path, origin), method, body, again } = what
    const scope = this.#scope(what.scope, what.from)
    const isOwn = url.origin === origin
    let authorization = isOwn ? await this.#authentication.header(scope) : undefined
    for (let attempt = 1; ; attempt++) {
      const response = await this.#transport.request({
        method,
        url,
        headers: { ...what.headers, ...(authorization ? { authorization } : {}) },
        ...(body ? { body } : {}),
        ...(again === undefined ? {} : { again }),
        purpose: this.purpose,
        signal: this.signal,
      })
      // Twice: a token may have ended since it was cached, and a new one may be refused.
      if (response.status !== 401 || response.isForeign || !isOwn || attempt === 3) return response
      const next = await this.#authentication.answer(response, scope, authorization)
      if (next === undefined) return response
      discard(response)
      authorization = next
    }
  }

  #scope(actions: string | undefined, from: string | undefined): string {
    if (actions === '') return ''
    const own = `repository:${this.repository}:${actions ?? 'pull'}`
    return from ? `${own} repository:${from}:pull` : own
  }

  /** What an answer that is no use means. Reads its body. */
  async refusal(response: WireResponse, wanted: string): Promise<MayflyError> {
    const { status } = response
    const { host } = response.url
    const said = await this.#said(response)
    const origin = await this.#authentication.origin()
    const who = origin ? `with the credentials from ${origin}` : 'without credentials'
    const isHub = this.registry === 'docker.io'
    const login = `\`mayfly login${isHub ? '' : ` ${this.registry}`}\``
    switch (status) {
      case 401:
      case 403: {
        const why = `${host} denies access${this.repository && ` to ${this.repository}`} ${who} (status ${status})${said}`
        const hint = origin
          ? this.repository
            ? `do they allow to ${this.purpose.action} ${this.repository}? Is its name right?`
            : 'check user name and password'
          : `log in with ${login}, or check the spelling: registries deny what does not exist`
        return fail('REGISTRY_DENIED', this.purpose, why, { hint, value: status })
      }
      case 404: {
        const why = `${host} has no ${wanted.includes(':') ? wanted : `tag "${wanted}"`} in ${this.repository}${said}`
        const hints = ['check name and tag', ...(origin ? [] : [`for a private repository, log in with ${login}`])]
        const local = '`mayfly bootstrap` makes a base image without a registry'
        const hint = [...hints, ...(this.purpose.action === 'pull' ? [local] : [])].join('; ')
        return fail('REGISTRY_NOT_FOUND', this.purpose, why, { hint, value: wanted })
      }
      case 429: {
        const hint = isHub
          ? `Docker Hub limits pulls by address and account: log in with ${login}, or set MAYFLY_HUB_MIRROR to a mirror`
          : 'wait, or log in if the registry limits anonymous requests'
        return fail('REGISTRY_RATE_LIMIT', this.purpose, `${host} allows no more requests now, ${who}${said}`, { hint })
      }
      default: {
        const again = status >= 500 ? ' again and again' : ''
        const why = `${host} answers${again} with status ${status} when asked for ${wanted}${said}`
        return fail('REGISTRY_FAILED', this.purpose, why, { value: status })
      }
    }
  }

  /** What the registry itself says about it, in its JSON; other texts are mostly HTML. */
  async #said(response: WireResponse): Promise<string> {
    try {
      const body = await readBody(response, MAX_ERROR_BYTES)
      const { code, message } = JSON.parse(body?.toString() ?? '').errors[0]
      const text = [code, message].filter((word) => typeof word === 'string' && word !== '').join(', ')
      const printable = text.replace(/[\x00-\x1f\x7f-\x9f]/g, ' ').slice(0, 300)
      return printable && `: ${this.#authentication.redact(printable)}`
    } catch {
      return ''
    }
  }

  #broken(error: unknown): unknown {
    return connectionError(error, this.#host, this.purpose, this.signal)
  }
}

const PUSH = 'pull,push'
