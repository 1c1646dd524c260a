import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { rootCertificates } from 'node:tls'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { trustFor } from '../../../src/engine/registry/trust.js'
import { temporaryDirectory } from '../../support/temporary.js'

const HOST = 'registry.example:5000'

describe('trustFor', () => {
  let directory: string
  beforeEach(() => {
    directory = temporaryDirectory('trust')
    mkdirSync(join(directory, HOST))
  })
  afterEach(() => {
    vi.unstubAllEnvs()
    rmSync(directory, { recursive: true })
  })
  const write = (name: string, text = name) => writeFileSync(join(directory, HOST, name), text)

  test('leaves everything to node where nothing is set up', async () => {
    expect(await trustFor(HOST, undefined, [directory])).toEqual({})
    expect(await trustFor('other.example', [], [directory, '/nonexistent'])).toEqual({})
  })

  test('adds authorities of the host’s directory and of the caller to those that node has', async () => {
    write('ca.crt')
    write('second.crt')
    write('notes.txt')
    const { ca } = await trustFor(HOST, 'given', [directory])
    expect(ca).toEqual(expect.arrayContaining(['given', 'ca.crt', 'second.crt', rootCertificates[0]]))
    expect(ca).not.toContain('notes.txt')
    expect((await trustFor('registry.example:5001', undefined, [directory])).ca).toBeUndefined()
  })

  test('keeps NODE_EXTRA_CA_CERTS when it adds authorities', async () => {
    if (Number(process.versions.node.split('.')[0]) > 20) return // node itself tells, and read it when it started
    write('extra.pem')
    vi.stubEnv('NODE_EXTRA_CA_CERTS', join(directory, HOST, 'extra.pem'))
    expect((await trustFor('other.example', 'given', [directory])).ca).toContain('extra.pem')
  })

  test('takes the client’s certificate with the key of the same name, and says so when that is missing', async () => {
    write('client.cert')
    await expect(trustFor(HOST, undefined, [directory])).rejects.toThrow(/client\.cert has no client\.key beside it/)
    write('client.key')
    expect(await trustFor(HOST, undefined, [directory])).toEqual({ cert: 'client.cert', key: 'client.key' })
  })
})
