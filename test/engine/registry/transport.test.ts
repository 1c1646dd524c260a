import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, test, vi } from 'vitest'
import { LayerProgress, type ProgressEvent } from '../../../src/engine/registry/progress.js'
import { retryAfter, Transport } from '../../../src/engine/registry/transport.js'
import { Slots } from '../../../src/engine/slots.js'

const purpose = { action: 'pull', subject: 'app' } as const

test('retryAfter reads seconds and dates, and is never longer than half a minute', () => {
  const now = Date.parse('2026-01-01T00:00:00Z')
  expect(retryAfter('2', now)).toBe(2000)
  expect(retryAfter('Thu, 01 Jan 2026 00:00:05 GMT', now)).toBe(5000)
  expect(retryAfter('Wed, 31 Dec 2025 00:00:00 GMT', now)).toBe(0)
  expect(retryAfter('86400', now)).toBe(30_000)
  expect(retryAfter('soon', now)).toBeUndefined()
  expect(retryAfter(undefined)).toBeUndefined()
})

describe('Transport', () => {
  test('speaks TLS with every host but loopback ones and those listed', async () => {
    const transport = new Transport()
    expect(await transport.origin('registry.example:80')).toBe('https://registry.example:80')
    expect(transport.mayBePlain(new URL('http://registry.example'))).toBe(false)
    vi.stubEnv('MAYFLY_INSECURE_REGISTRIES', 'one.example:5000, two.example')
    const listed = new Transport()
    vi.unstubAllEnvs()
    expect(listed.mayBePlain(new URL('http://one.example:5000/'))).toBe(true)
    expect(listed.mayBePlain(new URL('http://two.example/'))).toBe(true)
    expect(listed.mayBePlain(new URL('http://one.example/'))).toBe(false)
  })

  test('never follows a redirect of something that is sent to another origin', async () => {
    const server = createServer((request, response) => {
      request.resume()
      response.writeHead(307, { location: 'http://127.0.0.1:9/' }).end()
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const transport = new Transport()
    const url = new URL(`http://localhost:${(server.address() as AddressInfo).port}/`)
    const request = { method: 'POST', url, body: () => Buffer.from('secret'), purpose } as const
    await expect(transport.request(request)).rejects.toThrow(/redirects what is sent to it, which is refused/)
    await transport.close()
    server.close()
  })

  test('stops waiting between attempts when the signal ends', async () => {
    const server = createServer((_request, response) => response.writeHead(503, { 'retry-after': '20' }).end()).listen(
      0,
      '127.0.0.1',
    )
    await once(server, 'listening')
    const transport = new Transport()
    const url = new URL(`http://localhost:${(server.address() as AddressInfo).port}/`)
    const start = performance.now()
    const asked = transport.request({ method: 'GET', url, purpose, signal: AbortSignal.timeout(200) })
    await expect(asked).rejects.toMatchObject({ name: 'TimeoutError' })
    expect(performance.now() - start).toBeLessThan(5_000)
    await transport.close()
    server.close()
  })
})

test('Slots runs so many at a time, in order, and lets those go whose signal has ended', async () => {
  const slots = new Slots(2)
  const begun: number[] = []
  const ends: (() => void)[] = []
  const work = (id: number) => () =>
    new Promise<void>((resolve) => {
      begun.push(id)
      ends.push(resolve)
    })
  const controller = new AbortController()
  const running = [slots.run(work(1)), slots.run(work(2))]
  const dropped = slots.run(work(3), controller.signal)
  running.push(slots.run(work(4)))
  controller.abort(new Error('no longer'))
  await expect(dropped).rejects.toThrow('no longer')
  expect(begun).toEqual([1, 2])
  ends[0]!()
  await vi.waitFor(() => expect(begun).toEqual([1, 2, 4]))
  for (const end of ends) end()
  await Promise.all(running)
})

test('LayerProgress tells each change of status, a growing count now and then, and survives its listener', () => {
  const events: ProgressEvent[] = []
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const progress = new LayerProgress(
    (event) => {
      events.push(event)
      throw new Error('the terminal is gone')
    },
    'sha256:x',
    1000,
  )
  progress.tell('waiting')
  for (let current = 1; current < 1000; current++) progress.tell('downloading', current)
  progress.tell('done')
  expect(events.length).toBeGreaterThanOrEqual(3)
  expect(events.length).toBeLessThan(10)
  expect(events.at(-1)).toEqual({ type: 'layer', id: 'sha256:x', status: 'done', current: 1000, total: 1000 })
  expect(warned).toHaveBeenCalled()
})
