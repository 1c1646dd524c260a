/** The two ends of a container that belongs to another process, in one process and with a container that is made up. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Backend, BackendContainer, BackendProcess } from '../../src/backends/backend.js'
import { MayflyError } from '../../src/engine/errors.js'
import { packCall } from '../../src/runner/call.js'
import { ContainerDesk } from '../../src/runner/desk.js'
import { remoteContainer } from '../../src/runner/remote.js'

describe('a container of another process', () => {
  let desk: ContainerDesk
  let own: Record<string, unknown>
  let remote: BackendContainer

  beforeEach(async () => {
    desk = await ContainerDesk.open({} as Backend)
    own = { id: 'f00d', name: 'db' }
    desk.add(own as unknown as BackendContainer)
    remote = remoteContainer(desk.address, { id: 'f00d', name: 'db' })
  })
  afterEach(() => desk.close())

  test('gets arguments and gives answers as they are: bytes and times too', async () => {
    own.exec = async (request: object) => ({ ...request, exitCode: 3 })
    const request = {
      command: ['cat', 'é'],
      input: Buffer.from([0, 255, 10]),
      env: { $time: 'mine', EMPTY: '' },
      since: new Date(5),
    }
    const { signal: _signal, ...answer } = (await remote.exec(request)) as unknown as Record<string, unknown>
    expect(answer).toEqual({ ...request, exitCode: 3 })
  })

  test('gets a tar of any number of pieces', async () => {
    let got = ''
    own.copyIn = async (path: string, tar: AsyncIterable<Uint8Array>) => {
      got = path
      for await (const piece of tar) got += Buffer.from(piece)
    }
    await remote.copyIn('/etc/', [Buffer.from('one '), Buffer.from('two')])
    expect(got).toBe('/etc/one two')
  })

  test('gives errors with their codes and facts', async () => {
    own.exec = async () => {
      throw new MayflyError('PROGRAM_NOT_FOUND', 'There is no such program', { container: 'db', value: 'psql' })
    }
    const error = await remote.exec({ command: ['psql'] }).catch((reason) => reason)
    expect(error).toBeInstanceOf(MayflyError)
    expect(error).toMatchObject({ code: 'PROGRAM_NOT_FOUND', container: 'db', value: 'psql' })
    expect(error.message).toBe('There is no such program')
  })

  test('never gets half of a tar for all of it', async () => {
    const begun = promiseOf<void>()
    const ended = promiseOf<unknown>()
    own.copyIn = async (_path: string, tar: AsyncIterable<Uint8Array>) => {
      begun.resolve()
      try {
        for await (const _piece of tar) {
        }
        ended.resolve('all of it')
      } catch (error) {
        ended.resolve(error)
        throw error
      }
    }
    async function* breaks() {
      yield Buffer.from('half')
      await begun.promise
      throw new Error('the disk is gone')
    }
    await expect(remote.copyIn('/', breaks())).rejects.toThrow('the disk is gone')
    expect(await ended.promise).toBeInstanceOf(MayflyError)
  })

  test('streams as fast as it is read', async () => {
    let given = 0
    own.copyOut = async function* () {
      for (; given < 64; given++) yield Buffer.alloc(1024 * 1024, given)
    }
    const tar = remote.copyOut('/')
    expect((await tar.next()).value).toHaveLength(1024 * 1024)
    // What sockets and both ends hold, which is far from all.
    await sleep(100)
    expect(given).toBeLessThan(40)
    let size = 1
    for await (const piece of tar) size += piece.length / 1024 / 1024
    expect([size, given]).toEqual([64, 64])
  })

  test('gives up a log that nobody reads any more', async () => {
    const ended = promiseOf<void>()
    own.logs = async function* ({ signal }: { signal: AbortSignal }) {
      yield { stream: 'stdout', data: Buffer.from('one'), time: new Date(1) }
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      ended.resolve()
    }
    const log = remote.logs({ follow: true })
    expect((await log.next()).value).toMatchObject({ stream: 'stdout', time: new Date(1) })
    const due = log.next()
    await log.return?.()
    expect((await due).done).toBe(true)
    await ended.promise
  })

  test('refuses by name what cannot be told', async () => {
    own.impair = async () => {}
    for (const value of [() => 1, 10n, Number.NaN, Symbol('one')]) {
      await expect(remote.impair({ latency: value as number })).rejects.toMatchObject({
        code: 'NOT_SUPPORTED',
        field: 'latency',
      })
    }
  })

  test('cannot be ended from here', async () => {
    own.stop = async () => {}
    await expect(remote.stop({})).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
    await expect(remote.remove({ force: true, volumes: true })).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
  })

  test('gives up the work of a caller that hangs up', async () => {
    const controller = new AbortController()
    const begun = promiseOf<void>()
    const ended = promiseOf<string>()
    own.exec = ({ signal }: { signal: AbortSignal }) => {
      begun.resolve()
      signal.addEventListener('abort', () => ended.resolve('given up'))
      return new Promise(() => {})
    }
    const call = remote.exec({ command: ['sleep', '1000'], signal: controller.signal })
    await begun.promise
    controller.abort(new Error('enough'))
    await expect(call).rejects.toThrow('enough')
    expect(await ended.promise).toBe('given up')
  })

  test('answers nobody who does not know the secret', async () => {
    let isCalled = false
    own.stats = async () => {
      isCalled = true
    }
    for (const bytes of [
      packCall({ secret: 'f'.repeat(64), id: 'f00d', method: 'stats', args: [] }),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      Buffer.alloc(4),
    ].flatMap((bytes) => [bytes, framed(bytes)])) {
      const socket = connect(desk.address.port, '127.0.0.1')
      let answer = ''
      socket.on('data', (piece) => {
        answer += piece
      })
      socket.end(bytes)
      await once(socket, 'close')
      expect(answer).toBe('')
    }
    expect(isCalled).toBe(false)
  })

  test('says so when the process is gone', async () => {
    await desk.close()
    await expect(remote.stats()).rejects.toMatchObject({ code: 'ENGINE_CLOSED' })
  })

  describe('a program that is kept running in it', () => {
    let written: string
    let isKilled: boolean
    let say: (text: string) => void

    beforeEach(() => {
      written = ''
      isKilled = false
      own.open = async (): Promise<BackendProcess> => {
        const said = new TransformStream<Uint8Array, Uint8Array>()
        const writer = said.writable.getWriter()
        say = (text) => void writer.write(Buffer.from(text))
        const stdout = said.readable[Symbol.asyncIterator]() as AsyncIterableIterator<Uint8Array>
        const write = async (bytes: Uint8Array) => {
          written += Buffer.from(bytes)
        }
        const kill = async () => {
          isKilled = true
          await writer.close().catch(() => {})
        }
        return { write, stdout, stderr: stdout, kill }
      }
    })

    test('hears and is heard', async () => {
      const program = await remote.open({ command: ['psql'] })
      await program.write(Buffer.from('SELECT 1;'))
      expect(written).toBe('SELECT 1;')
      const answer = program.stdout.next()
      say('1\n')
      expect(String(Buffer.from((await answer).value!))).toBe('1\n')
      await program.kill()
      expect(isKilled).toBe(true)
    })

    test('stays while an answer is due, and goes when nobody speaks to it', async () => {
      const program = await remote.open({ command: ['psql'] })
      const answer = program.stdout.next()
      await sleep(700)
      expect(isKilled).toBe(false)
      say('late')
      expect((await answer).done).toBe(false)
      await expect.poll(() => isKilled, { timeout: 3_000 }).toBe(true)
      // Who comes back finds it ended.
      await program.write(Buffer.from('SELECT 2;'))
      expect(written).toBe('')
      expect((await program.stdout.next()).done).toBe(true)
    })
  })
})

/** `Promise.withResolvers`, which Node 20 has not. */
function promiseOf<T>() {
  let resolve: (value: T) => void = () => {}
  const promise = new Promise<T>((give) => {
    resolve = give
  })
  return { promise, resolve }
}

/** With its length, as on the wire. */
function framed(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(bytes.length)
  return Buffer.concat([length, bytes])
}
