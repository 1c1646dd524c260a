/** What rounds of chaos have found, each as a test of its own. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Engine } from '../../src/index.ts'
import { makeWorld, obstacle } from '../engine/support/world.ts'
import { hasStrace } from './torments.ts'

const why = obstacle() ?? (hasStrace ? undefined : 'strace is missing: apt-get install strace')
if (why) console.warn(`skipped: what chaos has found: ${why}`)

let world: ReturnType<typeof makeWorld>
beforeEach(() => {
  world = makeWorld()
})
afterEach(() => world.remove())

/** From now on these calls of that process fail. Returns how to end it. */
async function failing(pid: number, call: string, rule: string): Promise<() => Promise<void>> {
  const strace = spawn('strace', ['-qqq', '-e', `trace=${call}`, '-e', `inject=${call}:${rule}`, '-p', `${pid}`], {
    stdio: 'ignore',
  })
  const ended = once(strace, 'exit')
  await vi.waitFor(() => expect(readFileSync(`/proc/${pid}/status`, 'utf8')).not.toMatch(/^TracerPid:\s*0$/m), 10_000)
  return async () => {
    strace.kill('SIGKILL')
    await ended
  }
}

test.skipIf(why)('a socket of the host that cannot be handed over at once is handed over a little later', async () => {
  await using engine = await Engine.open({ home: world.home })
  const stop = await failing(engine.info.launcher, 'sendmsg', 'error=ENOBUFS:when=1..5')
  const container = await engine.start({ rootfs: { directory: world.rootfs }, command: ['sleep', '1000'], ports: [80] })
  expect(container.port(80)).toBeGreaterThan(0)
  await stop()
})

test.skipIf(why)('a launcher that can answer nothing ends the session, and nobody waits for ever', async () => {
  const engine = await Engine.open({ home: world.home })
  const stop = await failing(engine.info.launcher, 'sendmsg', 'error=ENOMEM')
  const started = engine.start({ rootfs: { directory: world.rootfs }, command: ['sleep', '1000'], ports: [80] })
  await expect(started).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' })
  await stop()
  await engine.close()
})

test.skipIf(why)(
  'a warden that may not forget what it watches lives on, and is told of nothing that is gone',
  async () => {
    await using engine = await Engine.open({ home: world.home })
    const stop = await failing(engine.info.pid, 'epoll_ctl', 'error=EMFILE:when=2+2')
    const options = { rootfs: { directory: world.rootfs }, command: ['sh', '-c', 'sleep 0.01; echo said'] }
    // What would be told of is what a child has open still.
    const rounds = Array.from({ length: 5 }, async () => {
      for (let i = 0; i < 5; i++) await engine.run(options).catch(() => {})
    })
    await Promise.all(rounds)
    await stop()
    expect((await engine.run(options)).stdout).toBe('said\n')
  },
)

test.skipIf(why)('a launcher that cannot open any control group for a while removes them when it can', async () => {
  const engine = await Engine.open({ home: world.home })
  const { launcher, pid, session } = engine.info
  await engine.run({ rootfs: { directory: world.rootfs }, command: ['true'], limits: { pids: 20 } })
  const groups = readFileSync(join(session, 'cgroups'), 'utf8').trim().split('\n')
  expect(groups.filter((group) => existsSync(group))).not.toEqual([])
  // So often that what is tried next, to remove the session's directory, is not refused any more.
  const stop = await failing(launcher, 'open,openat', `error=EMFILE:when=1..${16 * groups.length}`)
  process.kill(pid, 'SIGKILL') // it would remove them itself
  const left = () => [session, ...groups].filter((path) => existsSync(path))
  await expect.poll(left, { timeout: 10_000 }).toEqual([])
  await stop()
  await engine.close()
})
