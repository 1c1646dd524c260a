/** A registry that answers as a test wants it to: with whatever no real one should. */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'

export type Answer = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>

export interface HostileRegistry extends AsyncDisposable {
  readonly host: string
  readonly port: number
  /** `<method> <path>` of each request, in order. */
  readonly requests: string[]
  /** Headers of each request. */
  readonly headers: IncomingMessage['headers'][]
  /** The first whose pattern fits `<method> <path>` answers; later additions go before earlier ones. */
  on(pattern: RegExp, answer: Answer): void
  /** Serves these bytes under their digest, with ranges. Returns the descriptor. */
  blob(bytes: Uint8Array, mediaType: string): Descriptor
  /** Serves a manifest under this tag and its digest. */
  manifest(tag: string, document: unknown, mediaType?: string): Descriptor
  /** Serves an image of these layers (uncompressed tars) under the tag. */
  image(tag: string, layers: readonly Uint8Array[], config?: object): { manifest: Descriptor; layers: Descriptor[] }
}

export interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json'
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json'
export const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar'

export const digestOf = (bytes: Uint8Array | string) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

/** Starts one. With `tls`, it speaks TLS only. */
export async function startHostileRegistry(tls?: { key: string; cert: string }): Promise<HostileRegistry> {
  const answers: [RegExp, Answer][] = []
  const requests: string[] = []
  const headers: IncomingMessage['headers'][] = []
  const listener: RequestListener = async (request, response) => {
    const what = `${request.method} ${request.url}`
    requests.push(what)
    headers.push(request.headers)
    response.on('error', () => {})
    const answer = answers.find(([pattern]) => pattern.test(what))?.[1]
    if (answer) await answer(request, response)
    else sendJson(response, 404, { errors: [{ code: 'UNKNOWN', message: 'not here' }] })
  }
  const server = tls ? createTlsServer(tls, listener) : createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const on: HostileRegistry['on'] = (pattern, answer) => answers.unshift([pattern, answer])
  const blob: HostileRegistry['blob'] = (bytes, mediaType) => {
    const digest = digestOf(bytes)
    on(new RegExp(`^(GET|HEAD) /v2/[^?]*/blobs/${digest}`), sendBytes(bytes))
    return { mediaType, digest, size: bytes.length }
  }
  const manifest: HostileRegistry['manifest'] = (tag, document, mediaType = OCI_MANIFEST) => {
    const bytes = Buffer.from(typeof document === 'string' ? document : JSON.stringify(document))
    const digest = digestOf(bytes)
    on(new RegExp(`^(GET|HEAD) /v2/[^?]*/manifests/(${tag}|${digest})$`), (request, response) => {
      const head = { 'content-type': mediaType, 'docker-content-digest': digest, 'content-length': bytes.length }
      response.writeHead(200, head).end(request.method === 'HEAD' ? undefined : bytes)
    })
    return { mediaType, digest, size: bytes.length }
  }
  const image: HostileRegistry['image'] = (tag, layers, config) => {
    const compressed = layers.map((layer) => blob(gzipSync(layer, { level: 1 }), `${OCI_LAYER}+gzip`))
    const document = {
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: {},
      ...config,
      rootfs: { type: 'layers', diff_ids: layers.map(digestOf) },
    }
    const described = blob(Buffer.from(JSON.stringify(document)), OCI_CONFIG)
    const whole = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: described, layers: compressed }
    return { manifest: manifest(tag, whole), layers: compressed }
  }
  on(/^GET \/v2\/$/, (_request, response) => sendJson(response, 200, {}))
  return {
    host: `localhost:${port}`,
    port,
    requests,
    headers,
    on,
    blob,
    manifest,
    image,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
}

/** Answers with bytes, or with the part of them that was asked for. */
export function sendBytes(bytes: Uint8Array): Answer {
  return (request, response) => {
    const first = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1]
    const part = bytes.subarray(Number(first ?? 0))
    const range = first ? { 'content-range': `bytes ${first}-${bytes.length - 1}/${bytes.length}` } : {}
    const head = { 'content-type': 'application/octet-stream', 'content-length': part.length, ...range }
    response.writeHead(first ? 206 : 200, head).end(request.method === 'HEAD' ? undefined : part)
  }
}
