/**
 * How one registry is told who asks: nobody, a user name and password, or a token from its token service.
 *
 * Rules that keep credentials where they belong:
 * - Only the registry's own answers are listened to; what another origin says after a redirect is ignored (CVE-2020-15157).
 * - Basic credentials go to the registry's origin, or to the token service that this registry itself names.
 * - A token service is asked over TLS. Without TLS only by a registry that is spoken with without TLS itself, and only on
 *   a host with which that is allowed.
 * - Credentials are looked up by the registry's name alone, whatever an answer says.
 */

import { type Challenge, parseChallenges } from './challenge.js'
import { type CredentialSource, type FoundCredentials, findCredentials } from './credentials.js'
import { fail, type Purpose } from './failure.js'
import { readBody, type Transport, type WireResponse } from './transport.js'

const MAX_TOKEN_BYTES = 256 * 1024
/** A token is taken for valid this long when its service does not say (distribution's token specification). */
const DEFAULT_LIFETIME_S = 60
/** It is renewed before it ends: clocks differ, and requests take time. */
const MARGIN_MS = 10_000

interface Token {
  readonly header: string
  readonly endsAt: number
}

export class Authentication {
  readonly #transport: Transport
  readonly #registry: string
  readonly #purpose: Purpose
  readonly #given: CredentialSource | undefined
  readonly #signal: AbortSignal | undefined
  readonly #tokens = new Map<string, Promise<Token>>()
  #credentials: Promise<FoundCredentials | undefined> | undefined
  #secrets = new Set<string>()
  #usesBasic = false

  constructor(options: {
    readonly transport: Transport
    /** As in references: `docker.io`. */
    readonly registry: string
    readonly purpose: Purpose
    readonly credentials?: CredentialSource | undefined
    readonly signal?: AbortSignal | undefined
  }) {
    this.#transport = options.transport
    this.#registry = options.registry
    this.#purpose = options.purpose
    this.#given = options.credentials
    this.#signal = options.signal
  }

  /** Where credentials are from, in words; undefined when there are none. */
  async origin(): Promise<string | undefined> {
    return (await this.#find())?.origin
  }

  /** The header that has worked for this scope, if any. */
  async header(scope: string): Promise<string | undefined> {
    if (this.#usesBasic) return this.#basic(await this.#find())
    const token = await this.#tokens.get(scope)
    return token && token.endsAt > Date.now() ? token.header : undefined
  }

  /**
   * The header that answers a 401 of the registry. Undefined when there is nothing to answer with, or when what it asks for is
   * what was `sent` already.
   */
  async answer(response: WireResponse, scope: string, sent: string | undefined): Promise<string | undefined> {
    const challenges = parseChallenges(response.header('www-authenticate') ?? '')
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer')
    if (bearer) {
      const known = this.#tokens.get(scope)
      if (known && (await known.catch(() => undefined))?.header === sent) this.#tokens.delete(scope)
      let token = this.#tokens.get(scope)
      if (!token) {
        token = this.#fetchToken(bearer, scope, response.url)
        token.catch(() => this.#tokens.delete(scope))
        this.#tokens.set(scope, token)
      }
      const { header } = await token
      return header === sent ? undefined : header
    }
    if (!challenges.some(({ scheme }) => scheme === 'basic')) return undefined
    const header = this.#basic(await this.#find())
    if (!header || header === sent) return undefined
    this.#usesBasic = true
    return header
  }

  /** A text of the server's, without anything of ours that is secret and without query strings. */
  redact(text: string): string {
    let clean = text
    for (const secret of this.#secrets) clean = clean.replaceAll(secret, '***')
    return clean.replace(/(https?:\/\/[^\s"'?]*)\?[^\s"']*/g, '$1')
  }

  #find(): Promise<FoundCredentials | undefined> {
    this.#credentials ??= findCredentials(this.#registry, this.#given, this.#signal).then((found) => {
      for (const secret of [found?.password, found?.identityToken, found?.registryToken]) this.#remember(secret)
      return found
    })
    return this.#credentials
  }

  /** Short ones would only garble texts, and are no secrets to speak of. */
  #remember(secret: string | undefined): void {
    if (secret && secret.length >= 4) this.#secrets.add(secret)
  }

  #basic(found: FoundCredentials | undefined): string | undefined {
    if (found?.username === undefined || found.password === undefined) return undefined
    const encoded = Buffer.from(`${found.username}:${found.password}`).toString('base64')
    this.#remember(encoded)
    return `Basic ${encoded}`
  }

  async #fetchToken({ parameters }: Challenge, scope: string, registry: URL): Promise<Token> {
    const found = await this.#find()
    if (found?.registryToken) return { header: `Bearer ${found.registryToken}`, endsAt: Number.POSITIVE_INFINITY }
    const realm = this.#realm(parameters.realm, registry)
    const query: Record<string, string> = { ...(parameters.service ? { service: parameters.service } : {}) }
    const scopes = (scope || parameters.scope || '').split(' ').filter(Boolean)
    const response = found?.identityToken
      ? await this.#refresh(realm, { ...query, scope: scopes.join(' ') }, found.identityToken)
      : await this.#ask(realm, query, scopes, found)
    const body = await readBody(response, MAX_TOKEN_BYTES)
    if (response.status !== 200) throw await this.#refused(response, realm.host)
    const token = parseToken(body)
    if (!token) throw fail('REGISTRY_FAILED', this.#purpose, `the token service ${realm.host} answers without a token`)
    this.#remember(token.value)
    return { header: `Bearer ${token.value}`, endsAt: Date.now() + token.lifetimeS * 1000 - MARGIN_MS }
  }

  #ask(
    realm: URL,
    query: Record<string, string>,
    scopes: readonly string[],
    found: FoundCredentials | undefined,
  ): Promise<WireResponse> {
    const url = new URL(realm)
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value)
    for (const scope of scopes) url.searchParams.append('scope', scope)
    const authorization = this.#basic(found)
    if (authorization) url.searchParams.set('account', found?.username ?? '')
    const headers = authorization ? { authorization } : {}
    return this.#transport.request({ method: 'GET', url, headers, purpose: this.#purpose, signal: this.#signal })
  }

  #refresh(realm: URL, query: Record<string, string>, identityToken: string): Promise<WireResponse> {
    const form = { ...query, grant_type: 'refresh_token', client_id: 'mayfly', refresh_token: identityToken }
    return this.#transport.request({
      method: 'POST',
      url: realm,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: () => Buffer.from(new URLSearchParams(form).toString()),
      purpose: this.#purpose,
      signal: this.#signal,
    })
  }

  #realm(text: string | undefined, registry: URL): URL {
    const refuse = (why: string) => fail('REGISTRY_FAILED', this.#purpose, `${registry.host} ${why}`)
    let realm: URL
    try {
      realm = new URL(text ?? '')
    } catch {
      throw refuse('asks for a token and does not say from where')
    }
    if (realm.username || realm.password) throw refuse('names a token service with credentials in its URL')
    const isPlain = realm.protocol === 'http:' && registry.protocol === 'http:' && this.#transport.mayBePlain(realm)
    if (realm.protocol !== 'https:' && !isPlain)
      throw refuse(`names a token service without TLS (${realm.host}), which is refused`)
    return realm
  }

  async #refused(response: WireResponse, host: string): Promise<unknown> {
    const origin = await this.origin()
    const { status } = response
    if (status === 401 || status === 403 || status === 400) {
      const who = origin ? `the credentials from ${origin}` : 'requests without credentials'
      const hint = origin ? 'log in again' : `log in with \`mayfly login ${this.#registry}\`, or pass credentials`
      return fail('REGISTRY_DENIED', this.#purpose, `the token service ${host} refuses ${who} (status ${status})`, {
        hint,
      })
    }
    const code = status === 429 ? 'REGISTRY_RATE_LIMIT' : 'REGISTRY_FAILED'
    return fail(code, this.#purpose, `the token service ${host} answers with status ${status}`)
  }
}

function parseToken(body: Buffer | undefined): { value: string; lifetimeS: number } | undefined {
  try {
    const { token, access_token, expires_in } = JSON.parse(body?.toString() ?? '')
    const value = token ?? access_token
    // What is no token in a header could end the header (RFC 6750, section 2.1).
    if (typeof value !== 'string' || !/^[\w.~+/=:-]+$/.test(value)) return undefined
    const lifetimeS = typeof expires_in === 'number' && expires_in > 0 ? expires_in : DEFAULT_LIFETIME_S
    return { value, lifetimeS: Math.max(lifetimeS, DEFAULT_LIFETIME_S) }
  } catch {
    return undefined
  }
}
