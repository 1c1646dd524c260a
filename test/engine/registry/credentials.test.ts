/** Where credentials are found, with real files and real helper programs. */

import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { askHelper } from '../../../src/engine/registry/credential-helper.js'
import { findCredentials } from '../../../src/engine/registry/credentials.js'
import { temporaryDirectory } from '../../support/temporary.js'

const base64 = (text: string) => Buffer.from(text).toString('base64')

let directory: string

beforeEach(() => {
  directory = temporaryDirectory('credentials')
  mkdirSync(join(directory, 'bin'))
  vi.stubEnv('HOME', directory)
  vi.stubEnv('PATH', `${join(directory, 'bin')}:${process.env.PATH}`)
  for (const name of [
    'DOCKER_AUTH_CONFIG',
    'DOCKER_CONFIG',
    'REGISTRY_AUTH_FILE',
    'XDG_RUNTIME_DIR',
    'XDG_CONFIG_HOME',
  ])
    vi.stubEnv(name, '')
})

afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(directory, { recursive: true })
})

function write(path: string, value: unknown): string {
  const whole = join(directory, path)
  mkdirSync(join(whole, '..'), { recursive: true })
  writeFileSync(whole, typeof value === 'string' ? value : JSON.stringify(value))
  return whole
}

function helper(name: string, script: string): void {
  const path = join(directory, 'bin', `docker-credential-${name}`)
  writeFileSync(path, `#!/bin/sh\n${script}\n`)
  chmodSync(path, 0o755)
}

describe('findCredentials', () => {
  test('finds none where there is nothing', async () => {
    expect(await findCredentials('registry.example')).toBeUndefined()
  })

  test('reads auths of ~/.docker/config.json, with a colon in the password', async () => {
    const origin = write('.docker/config.json', { auths: { 'registry.example:5000': { auth: base64('alice:p:w') } } })
    expect(await findCredentials('registry.example:5000')).toEqual({ username: 'alice', password: 'p:w', origin })
    expect(await findCredentials('registry.example')).toBeUndefined()
  })

  test.each([
    'https://index.docker.io/v1/',
    'docker.io',
    'index.docker.io',
    'https://index.docker.io/v1',
    'registry-1.docker.io',
  ])('knows Docker Hub under %s', async (key) => {
    write('.docker/config.json', { auths: { [key]: { username: 'alice', password: 'pw' } } })
    expect(await findCredentials('docker.io')).toMatchObject({ username: 'alice', password: 'pw' })
    expect(await findCredentials('quay.io')).toBeUndefined()
  })

  test('knows old forms of a host, and does not take credentials for a part of a registry', async () => {
    write('.docker/config.json', {
      auths: { 'https://a.example/v2/': { auth: base64('a:1') }, 'b.example/team': { auth: base64('b:1') } },
    })
    expect(await findCredentials('a.example')).toMatchObject({ username: 'a' })
    expect(await findCredentials('b.example')).toBeUndefined()
  })

  test('reads identity tokens and registry tokens', async () => {
    write('.docker/config.json', {
      auths: {
        'a.example': { auth: base64('a:'), identitytoken: 'refresh' },
        'b.example': { registrytoken: 'bearer' },
      },
    })
    expect(await findCredentials('a.example')).toMatchObject({ identityToken: 'refresh' })
    expect(await findCredentials('b.example')).toMatchObject({ registryToken: 'bearer' })
  })

  test('prefers what the caller passes, then DOCKER_AUTH_CONFIG, DOCKER_CONFIG, and podman’s file last', async () => {
    const entry = (username: string) => ({ auths: { 'a.example': { auth: base64(`${username}:x`) } } })
    vi.stubEnv('REGISTRY_AUTH_FILE', write('auth.json', entry('podman')))
    expect(await findCredentials('a.example')).toMatchObject({ username: 'podman' })
    vi.stubEnv('DOCKER_CONFIG', join(write('other/config.json', entry('docker')), '..'))
    expect(await findCredentials('a.example')).toMatchObject({ username: 'docker' })
    vi.stubEnv('DOCKER_AUTH_CONFIG', JSON.stringify(entry('variable')))
    expect(await findCredentials('a.example')).toMatchObject({ username: 'variable', origin: 'DOCKER_AUTH_CONFIG' })
    const given = { 'a.example': { username: 'caller', password: 'y' } }
    expect(await findCredentials('a.example', given)).toMatchObject({ username: 'caller', origin: 'the options' })
    expect(await findCredentials('a.example', () => undefined)).toMatchObject({ username: 'variable' })
  })

  test('asks credHelpers before credsStore before auths', async () => {
    helper('one', 'read server; echo "{\\"Username\\":\\"one\\",\\"Secret\\":\\"for $server\\"}"')
    helper('two', 'echo \'{"Username":"<token>","Secret":"refresh"}\'')
    const origin = write('.docker/config.json', {
      credHelpers: { 'a.example': 'one' },
      credsStore: 'two',
      auths: { 'a.example': { auth: base64('file:x') }, 'b.example': {} },
    })
    expect(await findCredentials('a.example')).toEqual({
      username: 'one',
      password: 'for a.example',
      origin: `docker-credential-one (${origin})`,
    })
    expect(await findCredentials('b.example')).toMatchObject({ identityToken: 'refresh' })
    expect(await findCredentials('docker.io')).toMatchObject({ identityToken: 'refresh' })
  })

  test('goes on to auths when a helper has nothing', async () => {
    helper('empty', 'echo "credentials not found in native keychain"; exit 1')
    write('.docker/config.json', { credsStore: 'empty', auths: { 'a.example': { auth: base64('file:x') } } })
    expect(await findCredentials('a.example')).toMatchObject({ username: 'file' })
    expect(await findCredentials('c.example')).toBeUndefined()
  })

  test.each([
    ['no JSON', '{"auths": {"a.example": {"auth": "c2VjcmV0OnNlY3JldA=="}', /it is no JSON/],
    ['a list', '[]', /it is no JSON object/],
    ['auths that are a list', '{"auths": []}', /auths is no object/],
    [
      'an auth without a colon',
      `{"auths": {"a.example": {"auth": "${base64('secretsecret')}"}}}`,
      /auths\["a\.example"\]\.auth is not/,
    ],
  ])('names the file that holds %s, and nothing of its contents', async (_what, text, message) => {
    const path = write('.docker/config.json', text)
    const error = await findCredentials('a.example').catch((caught) => caught)
    expect(error).toMatchObject({ code: 'CREDENTIALS_INVALID', field: path })
    expect(error.message).toMatch(message)
    expect(error.message).not.toMatch(/secret|c2Vj/)
  })
})

describe('askHelper', () => {
  test('says that a helper is missing', async () => {
    const error = await askHelper('nowhere', 'a.example').catch((caught) => caught)
    expect(error.message).toMatch(
      /^Cannot ask docker-credential-nowhere for the credentials of a\.example: it is not in PATH/,
    )
  })

  test('never shows what a failing helper printed', async () => {
    helper('bad', 'echo my-password; exit 3')
    const error = await askHelper('bad', 'a.example').catch((caught) => caught)
    expect(error.message).toMatch(/exit code 3/)
    expect(error.message).not.toContain('my-password')
  })

  test('refuses an answer that is no JSON, or lacks fields', async () => {
    helper('text', 'echo hello')
    helper('half', 'echo \'{"Username":"x"}\'')
    await expect(askHelper('text', 'a.example')).rejects.toThrow(/its answer is no JSON/)
    await expect(askHelper('half', 'a.example')).rejects.toThrow(/has no Username and Secret/)
  })

  test('does not wait for a helper that hangs, nor for its children', async () => {
    helper('slow', 'sleep 60; echo')
    const start = performance.now()
    await expect(askHelper('slow', 'a.example', undefined, 200)).rejects.toThrow(/did not answer within 0.2 s/)
    await expect(askHelper('slow', 'a.example', AbortSignal.timeout(100))).rejects.toThrow(/timeout/)
    expect(performance.now() - start).toBeLessThan(5_000)
  })

  test('refuses a name that is a path', async () => {
    await expect(askHelper('../../bin/sh', 'a.example')).rejects.toMatchObject({ code: 'CREDENTIALS_INVALID' })
  })
})
