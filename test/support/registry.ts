/**
 * Debian's docker-registry on the loopback: a real registry, with and without TLS, passwords and tokens. Everything it holds is in
 * a temporary directory and goes with it (`apt-get install docker-registry apache2-utils openssl`).
 */

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash, createSign, randomUUID, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { createServer, IncomingMessage, Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { temporaryDirectory } from './temporary.js'

const run = promisify(execFile)

export interface RegistrySetup {
  /** `password`: htpasswd over TLS. `token`: a token service of ours, both over TLS. @default none, over plain HTTP */
  readonly auth?: 'none' | 'password' | 'token'
  /** @default what `auth` needs */
  readonly tls?: boolean
  /** Words that put it into another network namespace, such as `nsenter --net=…`. They must not fork. */
  readonly enter?: readonly string[]
  /** Another registry's files to serve. */
  readonly storage?: string
}

export interface LoggedRequest {
  readonly method: string
  readonly path: string
  readonly status: number
}

export interface Registry extends AsyncDisposable {
  /** Such as `localhost:41234`. */
  readonly host: string
  /** Certificate (PEM) of the authority that signed the registry's; '' without TLS. */
  readonly ca: string
  /** A directory with ca.crt in it, as skopeo's --cert-dir wants it. */
  readonly certificates: string
  readonly username: string
  readonly password: string
  /** What the token service takes instead of the password. */
  readonly identityToken: string
  /** The registry's files: blobs lie in docker/registry/v2/blobs/sha256. */
  readonly storage: string
  /** Everything that was asked for since the start or the last `forget()`. A few milliseconds late. */
  readonly requests: LoggedRequest[]
  /** Tokens that the token service gave out: their scopes, and whether a password, a refresh token or nobody asked. */
  readonly tokens: { readonly scopes: readonly string[]; readonly as: 'anyone' | 'password' | 'refresh' }[]
  forget(): void
}

/** What to install where there is no registry, or undefined. */
export function missingRegistry(): string | undefined {
  const programs = ['docker-registry', 'htpasswd', 'openssl']
  const isThere = (name: string) => ['/usr/bin', '/usr/local/bin', '/bin'].some((path) => existsSync(join(path, name)))
  return programs.every(isThere) ? undefined : 'apt-get install docker-registry apache2-utils openssl'
}

const USERNAME = 'alice'
const PASSWORD = 'correct horse: battery staple'

/** Starts a registry and waits until it listens. Throws with its last output when it does not. */
export async function startRegistry(setup: RegistrySetup = {}): Promise<Registry> {
  const { auth = 'none', tls = auth !== 'none', enter = [] } = setup
  const directory = temporaryDirectory('registry')
  const remove = () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  const storage = setup.storage ?? join(directory, 'storage')
  const tokens: Registry['tokens'] = []
  const identityToken = `refresh-${randomUUID()}`
  let service: Server | undefined
  let daemon: ChildProcess | undefined
  const stop = () => daemon?.kill('SIGKILL')
  process.once('exit', stop)
  const close = async () => {
    process.off('exit', stop)
    service?.closeAllConnections()
    service?.close()
    stop()
    if (daemon && daemon.exitCode === null && daemon.signalCode === null) await once(daemon, 'exit')
    remove()
  }
  try {
    if (tls) await makeCertificates(directory)
    const lines = [
      'version: 0.1',
      'log: { level: info, accesslog: { disabled: false } }',
      `storage: { filesystem: { rootdirectory: ${storage} }, delete: { enabled: true }, maintenance: { uploadpurging: { enabled: false } } }`,
      `http: { addr: "127.0.0.1:0"${tls ? `, tls: { certificate: ${directory}/host.crt, key: ${directory}/host.key }` : ''} }`,
    ]
    if (auth === 'password') {
      const { stdout } = await run('htpasswd', ['-Bbn', USERNAME, PASSWORD])
      writeFileSync(join(directory, 'htpasswd'), stdout)
      lines.push(`auth: { htpasswd: { realm: test, path: ${directory}/htpasswd } }`)
    }
    if (auth === 'token') {
      service = tokenService(directory, identityToken, tokens)
      service.listen(0, '127.0.0.1')
      await once(service, 'listening')
      const realm = `https://localhost:${(service.address() as AddressInfo).port}/token`
      lines.push(
        `auth: { token: { realm: "${realm}", service: test-registry, issuer: test, rootcertbundle: ${directory}/ca.crt } }`,
      )
    }
    const config = join(directory, 'config.yml')
    writeFileSync(config, `${lines.join('\n')}\n`)
    const requests: LoggedRequest[] = []
    const [program = '', ...words] = [...enter, 'docker-registry', 'serve', config]
    daemon = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] })
    const port = await listening(daemon, requests)
    return {
      host: `localhost:${port}`,
      ca: tls ? readFileSync(join(directory, 'ca.crt'), 'utf8') : '',
      certificates: directory,
      username: USERNAME,
      password: PASSWORD,
      identityToken,
      storage,
      requests,
      tokens,
      forget: () => {
        requests.length = 0
        tokens.length = 0
      },
      [Symbol.asyncDispose]: close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** An authority, and a certificate for localhost that it has signed: ca.crt, host.crt, host.key. */
export async function makeCertificates(directory: string): Promise<void> {
  const at = (name: string) => join(directory, name)
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const openssl = (...args: string[]) => run('openssl', args)
  await openssl(
    'req',
    '-x509',
    ...key,
    '-days',
    '2',
    '-subj',
    '/CN=mayfly test authority',
    '-keyout',
    at('ca.key'),
    '-out',
    at('ca.crt'),
  )
  await openssl('req', ...key, '-subj', '/CN=localhost', '-keyout', at('host.key'), '-out', at('host.csr'))
  writeFileSync(at('host.ext'), 'subjectAltName=DNS:localhost,DNS:registry.test,IP:127.0.0.1\n')
  const signing = [
    '-CA',
    at('ca.crt'),
    '-CAkey',
    at('ca.key'),
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    at('host.ext'),
  ]
  await openssl('x509', '-req', '-in', at('host.csr'), ...signing, '-out', at('host.crt'))
}

/** Resolves to the port. From then on the access log goes into `requests`. */
function listening(daemon: ChildProcess, requests: LoggedRequest[]): Promise<number> {
  return new Promise((resolve, reject) => {
    let output = ''
    daemon.stderr!.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-8192)
      const port = /listening on 127\.0\.0\.1:(\d+)/.exec(output)?.[1]
      if (port) resolve(Number(port))
    })
    let line = ''
    daemon.stdout!.setEncoding('utf8').on('data', (text: string) => {
      const lines = (line + text).split('\n')
      line = lines.pop()!
      for (const one of lines) {
        const [, method, path, status] = /"([A-Z]+) (\S+) HTTP\/[\d.]+" (\d+)/.exec(one) ?? []
        if (method) requests.push({ method, path: path!, status: Number(status) })
      }
    })
    daemon.once('error', reject)
    daemon.once('exit', (code) => reject(new Error(`docker-registry ended with ${code}:\n${output}`)))
  })
}

/** Gives a token to everybody for pulling, and to who knows the password or the refresh token for all that is asked. */
function tokenService(directory: string, identityToken: string, tokens: Registry['tokens']): Server {
  const tls = { key: readFileSync(join(directory, 'host.key')), cert: readFileSync(join(directory, 'host.crt')) }
  const basic = `Basic ${Buffer.from(`${USERNAME}:${PASSWORD}`).toString('base64')}`
  const server = createTlsServer(tls, async (request, response) => {
    const url = new URL(request.url ?? '/', 'https://localhost')
    const form = request.method === 'POST' ? new URLSearchParams(await textOf(request)) : undefined
    const as = form ? 'refresh' : request.headers.authorization ? 'password' : 'anyone'
    const isKnown = form ? form.get('refresh_token') === identityToken : request.headers.authorization === basic
    if (as !== 'anyone' && !isKnown) {
      response.writeHead(401, { 'content-type': 'application/json' }).end('{"errors":[{"code":"UNAUTHORIZED"}]}')
      return
    }
    const scopes = form ? (form.get('scope') ?? '').split(' ') : url.searchParams.getAll('scope')
    tokens.push({ scopes, as })
    const access = scopes.filter(Boolean).map((scope) => {
      const [type = '', name = '', actions = ''] = scope.split(':')
      return { type, name, actions: actions.split(',').filter((action) => isKnown || action === 'pull') }
    })
    const token = signToken(directory, access)
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(form ? { access_token: token, expires_in: 300 } : { token, expires_in: 300 }))
  })
  return server as unknown as ReturnType<typeof createServer>
}

/** A JSON web token as docker-registry checks it: signed by a certificate that it carries and that the bundle's authority signed. */
function signToken(directory: string, access: readonly unknown[]): string {
  const certificate = new X509Certificate(readFileSync(join(directory, 'host.crt')))
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const now = Math.floor(Date.now() / 1000)
  const header = { typ: 'JWT', alg: 'ES256', x5c: [certificate.raw.toString('base64')] }
  const claims = {
    iss: 'test',
    sub: USERNAME,
    aud: 'test-registry',
    iat: now,
    nbf: now - 10,
    exp: now + 300,
    jti: createHash('sha256').update(randomUUID()).digest('hex'),
    access,
  }
  const text = `${encode(header)}.${encode(claims)}`
  const key = { key: readFileSync(join(directory, 'host.key')), dsaEncoding: 'ieee-p1363' as const }
  return `${text}.${createSign('sha256').update(text).sign(key).toString('base64url')}`
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const piece of request.setEncoding('utf8')) text += piece
  return text
}
