/** From what went wrong on the wire to an error for people. No message holds a credential, a token or a query string. */

import { type ErrorFacts, MayflyError } from '../errors.js'

/** What somebody wanted, for the first words of every message: `Cannot pull localhost:5000/app:1`. */
export interface Purpose {
  readonly action: 'pull' | 'push' | 'log in to'
  /** The reference as people write it. */
  readonly subject: string
}

export function fail(
  code: MayflyError['code'],
  { action, subject }: Purpose,
  why: string,
  facts: ErrorFacts = {},
  cause?: unknown,
): MayflyError {
  return new MayflyError(code, `Cannot ${action} ${subject}: ${why}`, facts, cause === undefined ? {} : { cause })
}

/** Certificates that are not trusted, not for this host, not valid now. */
const CERTIFICATE_CODE =
  /^(CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|ERR_TLS_CERT|INVALID_CA|HOSTNAME_MISMATCH|UND_ERR_PRX_TLS|ERR_OSSL_X509)|ERR_SSL_.*ALERT/

/** Broken in a way that another attempt may mend. */
const PASSING_CODES = new Set([
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'ENETDOWN',
  'UND_ERR_SOCKET',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
])

const WHY: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'refuses connections (ECONNREFUSED)',
  ENOTFOUND: 'is not a known host name (ENOTFOUND)',
  EAI_AGAIN: 'cannot be looked up: no name server answers (EAI_AGAIN)',
  EHOSTUNREACH: 'cannot be reached (EHOSTUNREACH)',
  ENETUNREACH: 'cannot be reached: no network (ENETUNREACH)',
  ETIMEDOUT: 'does not answer (ETIMEDOUT)',
  UND_ERR_CONNECT_TIMEOUT: 'does not answer: no connection in time',
  UND_ERR_HEADERS_TIMEOUT: 'accepted the request and did not answer in time',
  UND_ERR_BODY_TIMEOUT: 'stopped sending in the middle of its answer',
  ECONNRESET: 'broke the connection (ECONNRESET)',
  EPIPE: 'broke the connection (EPIPE)',
  UND_ERR_SOCKET: 'broke the connection',
}

/** What those do who have no registry in reach. */
const ELSEWHERE =
  'MAYFLY_HUB_MIRROR names a mirror of Docker Hub; `mayfly bootstrap` makes a base image without a registry'

const HINTS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'is the registry running, and is the port right?',
  ENOTFOUND: `check the spelling; a proxy is taken from HTTPS_PROXY, ${ELSEWHERE}`,
  EAI_AGAIN: `is there a network? A proxy is taken from HTTPS_PROXY, ${ELSEWHERE}`,
  ENETUNREACH: ELSEWHERE,
  EHOSTUNREACH: ELSEWHERE,
}

/** The code of an error, or of what caused it; happy eyeballs puts several into one. */
export function codeOf(error: unknown): string {
  if (typeof error !== 'object' || error === null) return ''
  const { code, cause, errors } = error as { code?: unknown; cause?: unknown; errors?: unknown[] }
  if (Array.isArray(errors) && errors.length > 0) return codeOf(errors[0])
  if (cause instanceof Error && (typeof code !== 'string' || code === 'UND_ERR_SOCKET'))
    return codeOf(cause) || String(code ?? '')
  return typeof code === 'string' ? code : ''
}

export function isCertificateError(error: unknown): boolean {
  return CERTIFICATE_CODE.test(codeOf(error))
}

/** Whether the same request may succeed if it is made again. */
export function isPassing(error: unknown): boolean {
  return PASSING_CODES.has(codeOf(error))
}

/** A connection that could not be made or that broke. An error of ours and an abort's reason stay what they are. */
export function connectionError(error: unknown, host: string, purpose: Purpose, signal?: AbortSignal): unknown {
  if (signal?.aborted) return signal.reason
  if (error instanceof MayflyError) return error
  const code = codeOf(error)
  const detail = error instanceof Error ? error.message : String(error)
  if (isCertificateError(error)) {
    const why = `the certificate of ${host} is not to be trusted: ${detail} (${code})`
    const hint = `put the authority's certificate into /etc/docker/certs.d/${host}/ca.crt, or name its file in NODE_EXTRA_CA_CERTS`
    return fail('REGISTRY_CERTIFICATE', purpose, why, { hint, errno: code }, error)
  }
  if (/SSL|EPROTO/.test(code)) {
    const hint = `plain HTTP is spoken with loopback hosts only; MAYFLY_INSECURE_REGISTRIES=${host} allows it for this one`
    return fail('REGISTRY_UNREACHABLE', purpose, `${host} does not speak TLS (${code})`, { hint, errno: code }, error)
  }
  const proxy = /^Proxy response \((\d+)\)/.exec(detail)?.[1]
  if (proxy) {
    const why = `the proxy refuses to connect to ${host} (status ${proxy})`
    return fail('REGISTRY_UNREACHABLE', purpose, why, { hint: 'see HTTPS_PROXY and NO_PROXY' }, error)
  }
  const why = `${host} ${WHY[code] ?? `cannot be used: ${detail}`}`
  const hint = HINTS[code]
  return fail(
    'REGISTRY_UNREACHABLE',
    purpose,
    why,
    { ...(hint ? { hint } : {}), ...(code ? { errno: code } : {}) },
    error,
  )
}
