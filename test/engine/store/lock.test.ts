/** Locks between processes: each session here has a warden of its own, as another process of the user's has. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BulkHandler } from '../../../src/engine/bulk.js'
import { Session } from '../../../src/engine/session.js'
import { takeLock, tryLock, withLock } from '../../../src/engine/store/lock.js'
import { wardenProgram } from '../../../src/engine/where.js'
import { makeWorld, obstacle, type World } from '../support/world.js'

let world: World
let a: Session
let b: Session
let path: string
let number = 0

/** Processes below the warden of a session, which are what it has forked. */
function childrenOf(session: Session): number {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        return (
          readFileSync(`/proc/${pid}/stat`, 'utf8')
            .replace(/^.*\) /, '')
            .split(' ')[1] === String(session.facts.pid)
        )
      } catch {
        return false
      }
    }).length
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries === 500) throw new Error('it did not become true within five seconds')
    await sleep(10)
  }
}

const nobody = async (waiting: Promise<unknown>) =>
  expect(await Promise.race([waiting, sleep(150, 'waits')])).toBe('waits')

describe.skipIf(obstacle())('locks', () => {
  beforeAll(async () => {
    world = makeWorld()
    const options = { home: world.home, network: false, program: wardenProgram() }
    a = await Session.open(options)
    b = await Session.open(options)
    mkdirSync(join(world.home, 'locks'), { recursive: true })
  })

  afterAll(async () => {
    await a?.close()
    await b?.close()
    world?.remove()
  })

  const fresh = () => {
    path = join(world.home, 'locks', String(++number))
    return path
  }

  test('an exclusive one is held by one session at a time', async () => {
    const first = await takeLock(a, fresh(), 'exclusive')
    expect(await tryLock(b, path, 'exclusive')).toBeUndefined()
    expect(await tryLock(b, path, 'shared')).toBeUndefined()
    expect(await tryLock(a, path, 'exclusive')).toBeUndefined()
    const second = takeLock(b, path, 'exclusive')
    await nobody(second)
    first.release()
    first.release()
    ;(await second).release()
    expect(childrenOf(a) + childrenOf(b)).toBe(0)
  })

  test('shared ones are held together, and keep the exclusive one out', async () => {
    const readers = await Promise.all([
      takeLock(a, fresh(), 'shared'),
      takeLock(b, path, 'shared'),
      takeLock(b, path, 'shared'),
    ])
    const writer = takeLock(a, path, 'exclusive')
    await nobody(writer)
    for (const reader of readers) reader.release()
    ;(await writer).release()
  })

  test('many that wait get it one after the other', async () => {
    fresh()
    let inside = 0
    let done = 0
    const work = async () => {
      expect(++inside).toBe(1)
      await sleep(2)
      inside--
      done++
    }
    await Promise.all(Array.from({ length: 40 }, (_, index) => withLock(index % 2 ? a : b, path, 'exclusive', work)))
    expect(done).toBe(40)
    await until(() => childrenOf(a) + childrenOf(b) === 0)
  })

  test('the file may be removed by who holds it', async () => {
    fresh()
    let inside = 0
    const work = async () => {
      expect(++inside).toBe(1)
      await sleep(1)
      inside--
      rmSync(path) // the last thing: whoever comes next makes a new one
    }
    await Promise.all(Array.from({ length: 30 }, (_, index) => withLock(index % 2 ? a : b, path, 'exclusive', work)))
    expect(existsSync(path)).toBe(false)
  })

  test('who stops waiting leaves no process behind', async () => {
    const held = await takeLock(a, fresh(), 'exclusive')
    const controller = new AbortController()
    const waiting = [1, 2, 3].map(() => takeLock(b, path, 'exclusive', controller.signal))
    await until(() => childrenOf(b) === 3)
    controller.abort(new Error('no longer'))
    for (const one of waiting) await expect(one).rejects.toThrow('no longer')
    await until(() => childrenOf(b) === 0)
    await expect(takeLock(b, path, 'exclusive', AbortSignal.abort(new Error('never began')))).rejects.toThrow(
      'never began',
    )
    held.release()
    const next = await takeLock(b, path, 'exclusive') // none of the three has it
    next.release()
  })

  test('who cannot wait is told so, and holds nothing', async () => {
    // The warden waits by a process of its own; this one may have no more of them.
    const refusing = {
      bulk: (_verb: string, _pairs: readonly string[], handler: BulkHandler) => {
        setImmediate(() =>
          handler.reply({ ok: false, step: 'lock', subject: '', errno: 'EAGAIN', message: 'cannot wait' }),
        )
        return { hold() {}, release() {} }
      },
      discard() {},
    } as unknown as Session
    await expect(takeLock(refusing, fresh(), 'shared')).rejects.toMatchObject({ errno: 'EAGAIN' })
    expect(await tryLock(refusing, path, 'shared')).toBe(undefined) // there it is the answer
  })

  test('a killed holder holds nothing', async () => {
    fresh()
    const holder = await Session.open({ home: world.home, network: false, program: wardenProgram() })
    await takeLock(holder, path, 'exclusive')
    const waiting = takeLock(b, path, 'exclusive')
    await nobody(waiting)
    process.kill(holder.facts.pid, 'SIGKILL')
    ;(await waiting).release()
    await holder.close().catch(() => {})
  })

  test('a lock of another program counts', async () => {
    fresh()
    // Without a fork: the lock is on a descriptor that a child would have too.
    const other = spawn('flock', ['--no-fork', '-x', path, 'sh', '-c', 'echo held; exec sleep 60'])
    await once(createInterface(other.stdout), 'line')
    expect(await tryLock(a, path, 'shared')).toBeUndefined()
    const waiting = takeLock(a, path, 'shared')
    await nobody(waiting)
    other.kill('SIGKILL')
    other.stdout.destroy()
    const lock = await waiting
    lock.release()
  })

  test('work keeps the lock until it is done, also when it fails', async () => {
    fresh()
    await expect(
      withLock(a, path, 'exclusive', async () => {
        expect(await tryLock(b, path, 'shared')).toBeUndefined()
        throw new Error('it went wrong')
      }),
    ).rejects.toThrow('it went wrong')
    expect(await withLock(b, path, 'shared', async () => 'fine')).toBe('fine')
  })

  test('work is told that its lock was lost when the session ends', async () => {
    fresh()
    const session = await Session.open({ home: world.home, network: false, program: wardenProgram() })
    const work = withLock(session, path, 'exclusive', async () => {
      await session.close()
      await sleep(20)
    })
    await expect(work).rejects.toThrow(expect.objectContaining({ code: expect.stringMatching(/^ENGINE_/) }))
  })

  test('what cannot be a lock is an error that says why', async () => {
    const failed = (message: RegExp) =>
      expect.objectContaining({ code: 'STORE_FAILED', message: expect.stringMatching(message) })
    await expect(takeLock(a, '/etc/passwd', 'shared')).rejects.toThrow(failed(/below the store/))
    await expect(takeLock(a, `${world.home}/../x`, 'shared')).rejects.toThrow(failed(/below the store/))
    await expect(takeLock(a, join(world.home, 'no/such/file'), 'shared')).rejects.toThrow(failed(/ENOENT/))
    mkdirSync(join(world.home, 'locks/directory'))
    await expect(takeLock(a, join(world.home, 'locks/directory'), 'shared')).rejects.toThrow(failed(/EISDIR/))
  })
})
