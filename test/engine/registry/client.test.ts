/** The registry client against docker-registry: every kind of authentication, blobs and manifests in both directions. */

import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { digestOfBytes as sha256 } from '../../../src/engine/image/digest-of.js'
import { RegistryClient } from '../../../src/engine/registry/client.js'
import type { CredentialSource } from '../../../src/engine/registry/credentials.js'
import { Transport } from '../../../src/engine/registry/transport.js'
import { missingRegistry, type Registry, startRegistry } from '../../support/registry.js'

const missing = missingRegistry()
const NOWHERE = '/nonexistent/docker-configuration'

afterEach(() => vi.unstubAllEnvs())

function open(registry: Registry, credentials?: CredentialSource, repository = 'team/app') {
  vi.stubEnv('DOCKER_CONFIG', NOWHERE)
  const transport = new Transport({ ca: registry.ca || [], timeouts: { retryMs: 5 } })
  const subject = `${registry.host}/${repository}:1`
  const client = new RegistryClient({
    transport,
    registry: registry.host,
    repository,
    purpose: { action: 'push', subject },
    credentials,
  })
  return { client, [Symbol.asyncDispose]: () => transport.close() }
}

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = []
  for await (const piece of pieces) all.push(piece)
  return Buffer.concat(all)
}

/** Pushes one blob and a manifest, and reads both back. */
async function roundTrip(client: RegistryClient): Promise<void> {
  const bytes = randomBytes(300_000)
  const digest = sha256(bytes)
  expect(await client.hasBlob(digest)).toBe(false)
  await client.upload({ digest, size: bytes.length }, () => bytes)
  expect(await client.hasBlob(digest)).toBe(true)
  expect(await collect(client.blob({ digest, size: bytes.length }))).toEqual(bytes)
  expect(await collect(client.blob({ digest, size: bytes.length }, 299_990))).toEqual(bytes.subarray(299_990))
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: bytes.length }
  const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers: [] }))
  const stored = await client.putManifest('1', manifest, mediaType)
  expect(stored).toBe(sha256(manifest))
  expect(await client.resolve('1')).toBe(stored)
  expect(await client.manifest('1')).toEqual({ bytes: manifest, mediaType, digest: stored })
  expect(await client.manifest(stored)).toEqual({ bytes: manifest, mediaType, digest: stored })
}

describe.skipIf(missing)(`a registry (${missing ?? 'docker-registry'})`, () => {
  test('takes and gives blobs and manifests over plain HTTP on the loopback', async () => {
    await using registry = await startRegistry()
    await using opened = open(registry)
    await opened.client.ping()
    await roundTrip(opened.client)
  })

  test('takes a user name and a password over TLS with an authority of our own', async () => {
    await using registry = await startRegistry({ auth: 'password' })
    const { host, username, password } = registry
    await using opened = open(registry, { [host]: { username, password } })
    await opened.client.ping()
    await roundTrip(opened.client)
    const denials = () => registry.requests.filter(({ status }) => status === 401)
    await vi.waitFor(() => expect(registry.requests.length).toBeGreaterThan(10))
    expect(denials().length).toBe(2) // the ping while looking for TLS, and the first question
  })

  test('is told by a token that a password was exchanged for, one for each scope', async () => {
    await using registry = await startRegistry({ auth: 'token' })
    const { host, username, password } = registry
    await using opened = open(registry, { [host]: { username, password } })
    await roundTrip(opened.client)
    expect(registry.tokens).toEqual([
      { scopes: ['repository:team/app:pull,push'], as: 'password' },
      { scopes: ['repository:team/app:pull'], as: 'password' },
    ])
  })

  test('is told by a token that a refresh token was exchanged for', async () => {
    await using registry = await startRegistry({ auth: 'token' })
    await using opened = open(registry, () => ({ identityToken: registry.identityToken }))
    await roundTrip(opened.client)
    expect(registry.tokens.every(({ as }) => as === 'refresh')).toBe(true)
  })

  test('lets anybody pull with a token for anybody, and tells that pushing needs credentials', async () => {
    await using registry = await startRegistry({ auth: 'token' })
    {
      await using owner = open(registry, () => ({ identityToken: registry.identityToken }))
      await roundTrip(owner.client)
    }
    await using opened = open(registry)
    expect(await opened.client.resolve('1')).toMatch(/^sha256:/)
    await expect(opened.client.upload({ digest: sha256('x'), size: 1 }, () => Buffer.from('x'))).rejects.toThrow(
      /denies access to team\/app without credentials \(status 401\).*\n {2}Hint: log in/,
    )
  })

  test('mounts a blob from another repository', async () => {
    await using registry = await startRegistry()
    const bytes = randomBytes(1000)
    const digest = sha256(bytes)
    await using other = open(registry, undefined, 'team/base')
    await other.client.upload({ digest, size: 1000 }, () => bytes)
    await using opened = open(registry)
    expect(await opened.client.mount(digest, 'team/base')).toBe(true)
    expect(await opened.client.hasBlob(digest)).toBe(true)
    const prepared = await opened.client.mount(sha256(randomBytes(9)), 'team/base')
    expect(prepared).toBeInstanceOf(URL)
  })

  test('denies a wrong password, and the message says from where it was and not what', async () => {
    await using registry = await startRegistry({ auth: 'password' })
    await using opened = open(registry, () => ({ username: 'alice', password: 'hunter2hunter2' }))
    const error = await opened.client.resolve('1').catch((caught) => caught)
    expect(error.code).toBe('REGISTRY_DENIED')
    expect(error.message).toMatch(/denies access to team\/app with the credentials from the options \(status 401\)/)
    expect(JSON.stringify(error) + error.stack).not.toMatch(/hunter2|YWxpY2U/)
  })

  test('is not trusted without its authority, and the message says what to do', async () => {
    await using registry = await startRegistry({ tls: true })
    await using opened = open({ ...registry, ca: '' })
    const error = await opened.client.ping().catch((caught) => caught)
    expect(error).toMatchObject({ code: 'REGISTRY_CERTIFICATE' })
    expect(error.message).toContain(`/etc/docker/certs.d/${registry.host}/ca.crt`)
  })
})
