import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Session } from '../../src/engine/session.js'
import type { WarningEvent } from '../../src/engine/wire.js'
import { temporaryDirectory } from '../support/temporary.js'

const program = fileURLToPath(new URL('./support/fake-warden.mjs', import.meta.url))
let home: string
let session: Session | undefined

beforeEach(async () => {
  home = temporaryDirectory()
})

afterEach(async () => {
  vi.unstubAllEnvs()
  await session?.close()
  session = undefined
  await rm(home, { recursive: true, force: true })
})

const open = async () => {
  session = await Session.open({ home, program, network: false })
  return session
}
const unavailable = (message: RegExp) =>
  expect.objectContaining({ code: 'ENGINE_UNAVAILABLE', message: expect.stringMatching(message) })

test('opens, matches replies to requests, and closes', async () => {
  const session = await open()
  const replies = await Promise.all([
    session.request('echo', ['a', 'ä']),
    session.request('echo', ['b', '']),
    session.request('refuse', []),
  ])
  expect(replies).toMatchObject([{ pairs: ['a', 'ä'] }, { pairs: ['b', ''] }, { ok: false, step: 'id' }])
  await session.close()
  await session.close()
  expect(existsSync(session.facts.session)).toBe(false)
})

test('carries requests larger than a socket buffer', async () => {
  const session = await open()
  const word = 'x'.repeat(3_000_000)
  expect(await session.request('echo', [word])).toMatchObject({ pairs: [word] })
})

test('tells why the warden could not start', async () => {
  vi.stubEnv('MAYFLY_FAKE', 'fail')
  await expect(open()).rejects.toThrow(unavailable(/user namespaces are not allowed \(user\): EPERM/))
})

test('tells that the warden ended before it was ready', async () => {
  vi.stubEnv('MAYFLY_FAKE', 'mute')
  await expect(open()).rejects.toThrow(unavailable(/ended with exit code 7/))
})

test('tells that there is no such program', async () => {
  const opening = Session.open({ home, program: '/no/such/warden', network: false })
  await expect(opening).rejects.toThrow(unavailable(/Cannot start \/no\/such\/warden: .*ENOENT/))
})

test('rejects whatever is outstanding when the warden is killed', async () => {
  const session = await open()
  const failed = vi.fn()
  session.listen({ exited: vi.fn(), listening: vi.fn(), warned: vi.fn(), failed })
  const outstanding = [session.request('silent', []), session.request('silent', []), session.request('killed', [])]
  for (const outcome of await Promise.allSettled(outstanding)) {
    expect(outcome).toMatchObject({ status: 'rejected', reason: unavailable(/was killed by SIGKILL/) })
  }
  expect(failed).toHaveBeenCalledOnce()
  await expect(session.request('ping', [])).rejects.toThrow(unavailable(/SIGKILL/))
})

test('tells what the warden said at last', async () => {
  const session = await open()
  await expect(session.request('crash', [])).rejects.toThrow(
    unavailable(/ended with exit code 3; it said: assertion failed: something/),
  )
})

test('ends with a warden that speaks nonsense, or hangs up', async () => {
  await expect((await open()).request('garbage', [])).rejects.toThrow(unavailable(/no JSON: this is no JSON/))
  await session?.close()
  await expect((await open()).request('hangup', [])).rejects.toThrow(unavailable(/warden/))
})

test('ends bulk connections when the warden is killed', async () => {
  const session = await open()
  const end = vi.fn()
  await new Promise((resolve) => session.bulk('logs', [], { reply: resolve, end }))
  await session.request('killed', []).catch(() => {})
  await vi.waitFor(() => expect(end).toHaveBeenCalled())
  expect(end).toHaveBeenCalledOnce()
})

test('rejects what is outstanding when it is closed', async () => {
  const session = await open()
  const outstanding = expect(session.request('silent', [])).rejects.toThrow(
    expect.objectContaining({ code: 'ENGINE_CLOSED' }),
  )
  await session.close()
  await outstanding
  await expect(session.request('ping', [])).rejects.toThrow(expect.objectContaining({ code: 'ENGINE_CLOSED' }))
})

test('reads lines that arrive in parts, cut within a character', async () => {
  const session = await open()
  const warning = new Promise<WarningEvent>((resolve) => {
    session.listen({ exited: vi.fn(), listening: vi.fn(), warned: resolve, failed: vi.fn() })
  })
  await session.request('split-exit', [])
  expect((await warning).message).toBe('grün')
})

test('kills a warden that does not end, and says so', async () => {
  vi.stubEnv('MAYFLY_FAKE', 'stubborn')
  const stubborn = await open()
  const { pid } = stubborn.facts
  await expect(stubborn.close(200)).rejects.toThrow(expect.objectContaining({ code: 'TIMEOUT' }))
  session = undefined
  await vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow('ESRCH'))
})
