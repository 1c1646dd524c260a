import { spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Container } from '../../src/engine/container.js'
import { Engine } from '../../src/engine/engine.js'
import type { ContainerOptions } from '../../src/engine/options.js'
import { Store } from '../../src/engine/store/store.js'
import { wardenProgram } from '../../src/engine/where.js'
import { bundleScenario, startScenario } from '../support/scenario.js'
import { makeWorld, obstacle, type World } from './support/world.js'

const IMAGE = 'busybox:snapshot'
const SLEEP = ['sh', '-c', 'trap "exit 0" TERM; echo up; while :; do sleep 0.05; done']

describe.skipIf(obstacle())('a snapshot', () => {
  let world: World
  let engine: Engine

  beforeAll(async () => {
    world = makeWorld()
    engine = await Engine.open({ home: world.home })
    await importBusybox(engine, world)
  })
  afterAll(async () => {
    await engine?.close()
    world?.remove()
  })

  const run = async (container: Container, script: string) => {
    await container.waitForLog('up') // it can be stopped from then on
    const { stdout, stderr, exitCode } = await container.exec(['sh', '-c', script])
    expect(`${exitCode} ${stderr}`).toBe('0 ')
    return stdout
  }

  const ready = async () => {
    const container = await engine.start({ image: IMAGE, command: SLEEP })
    await run(container, 'true')
    return container
  }

  test('is what others begin with, with the options of its container', async () => {
    await using container = await engine.start({
      image: IMAGE,
      command: SLEEP,
      env: { COLOR: 'green' },
      name: 'the-first',
    })
    await run(container, 'echo kept > /root/file; rm /etc/group')
    await using snapshot = await container.snapshot()
    await using other = await engine.start({ from: snapshot })

    expect(await run(other, 'cat /root/file; echo $COLOR; ls /etc')).toBe(
      'kept\ngreen\nhostname\nhosts\npasswd\nresolv.conf\n',
    )
    await run(other, 'echo changed > /root/file')
    expect(await run(container, 'cat /root/file')).toBe('kept\n')
    expect(container.state).toBe('running')
  })

  test('of a container that was never started holds what was copied in', async () => {
    await using container = await engine.create({ image: IMAGE, command: ['cat', '/root/made'] })
    await using source = await engine.start({ image: IMAGE, command: SLEEP })
    await run(source, 'echo early > /root/made')
    await container.copyIn('/root', source.copyOut('/root/made'))
    const snapshot = await container.snapshot()

    expect((await engine.run({ from: snapshot })).stdout).toBe('early\n')
    expect((await engine.run({ from: snapshot, command: ['ls', '/root'] })).stdout).toBe('made\n')
  })

  test('can be made of a container that stands on one', async () => {
    await using container = await engine.start({ image: IMAGE, command: SLEEP })
    await run(container, 'echo one > /root/one')
    const first = await container.snapshot()
    await run(container, 'echo two > /root/two')
    const second = await container.snapshot()

    expect((await engine.run({ from: first, command: ['ls', '/root'] })).stdout).toBe('one\n')
    expect((await engine.run({ from: second, command: ['ls', '/root'] })).stdout).toBe('one\ntwo\n')
  })

  test('is returned to by a reset, under the same id, address and port', async () => {
    const serve = ['sh', '-c', 'trap "exit 0" TERM; echo up; httpd -f -p 80 -h /root & wait']
    await using container = await engine.start({ image: IMAGE, command: serve, ports: [80] })
    await container.waitForPort(80)
    await run(container, 'echo kept > /root/file')
    await container.snapshot()
    await container.waitForPort(80)
    await run(container, 'echo changed > /root/file; touch /root/more')
    const before = { id: container.id, address: container.address, port: container.port(80) }
    const socket = await open(before.port)
    const cut = new Promise((resolve) => socket.resume().once('close', resolve))

    await container.reset()

    await cut
    expect({ id: container.id, address: container.address, port: container.port(80) }).toEqual(before)
    expect(await run(container, 'cat /root/file; ls /root')).toBe('kept\nfile\n')
    await container.waitForPort(80)
    const again = await open(before.port)
    again.destroy()
    expect(await (await fetch(`http://127.0.0.1:${before.port}/file`)).text()).toBe('kept\n')
  })

  test('is not needed for a reset: it goes back to the image', async () => {
    await using container = await engine.start({ image: IMAGE, command: SLEEP })
    await run(container, 'rm /etc/passwd; echo x > /x')

    await container.reset()

    expect(await run(container, 'ls / /etc | grep -e ^x -e passwd')).toBe('passwd\n')
  })

  test('waits for the restart or reset that was called before, as these do', async () => {
    await using container = await ready()
    await run(container, 'echo kept > /root/file')
    const timeoutMs = 20 // a program that has only begun ignores the stop signal
    const snapshot = () => container.snapshot({ timeoutMs })
    const restart = () => container.restart({ timeoutMs })
    const reset = () => container.reset()

    const works = [snapshot, snapshot, reset, restart, reset, reset, restart, restart, snapshot]
    await Promise.all(works.map((work) => work()))

    expect(await run(container, 'cat /root/file')).toBe('kept\n')
  })

  test('that waits for its turn is given up by its signal, and by a removal', async () => {
    const container = await ready()
    const stuck = container.reset(() => new Promise(() => {}))
    const controller = new AbortController()
    const snapshot = container.snapshot({ signal: controller.signal })
    const restart = expect(container.restart()).rejects.toMatchObject({ code: 'NO_SUCH_CONTAINER' })
    stuck.catch(() => {})
    controller.abort(new Error('given up'))
    await expect(snapshot).rejects.toThrow('given up')

    await container.stop({ timeoutMs: 0 }) // a reset that hangs holds up neither
    await container.remove({ force: true })

    await restart
  })

  test('and a reset or restart do not undo a stop that was called after them', async () => {
    await using container = await engine.start({ image: IMAGE, command: SLEEP, remove: false })

    const works = [container.snapshot({ timeoutMs: 20 }), container.reset(), container.restart({ timeoutMs: 20 })]
    await Promise.all([...works, container.stop({ timeoutMs: 0 })])

    expect(container.state).toBe('exited')
    await container.start()
  })

  test('keeps its port while many clients try during resets', async () => {
    const serve = ['sh', '-c', 'trap "exit 0" TERM; echo up; httpd -f -p 80 -h /root & wait']
    await using container = await engine.start({ image: IMAGE, command: serve, ports: [80] })
    const port = container.port(80)
    let refused = 0
    let isOver = false
    const knocking = (async () => {
      while (!isOver)
        await open(port).then(
          (socket) => socket.destroy(),
          (error) => (refused += Number(error.code === 'ECONNREFUSED')),
        )
    })()
    for (let round = 0; round < 10; round++) await container.reset()
    isOver = true
    await knocking

    expect(refused).toBe(0)
    expect(container.port(80)).toBe(port)
  })

  test.each<[what: string, field: string, options: ContainerOptions]>([
    ['memory', 'scratch', { scratch: 'memory' }],
    ['a disk with a quota', 'limits.diskBytes', { limits: { diskBytes: 1024 * 1024 } }],
  ])('is refused for what is written to %s, and leaves the container as it was', async (_what, field, more) => {
    await using container = await engine.start({ image: IMAGE, command: SLEEP, ...more })
    await run(container, 'echo x > /x')
    const { startedAt } = container.inspect()

    await expect(container.snapshot()).rejects.toMatchObject({ code: 'NOT_SUPPORTED', field })
    expect(container.state).toBe('running')
    expect(container.inspect().startedAt).toEqual(startedAt)
    expect(await run(container, 'cat /x')).toBe('x\n')
    const keeping = engine.prepared.ensure(`not kept: ${field}`, async () => container)
    await expect(keeping).rejects.toMatchObject({ code: 'NOT_SUPPORTED', field })
  })

  test('and a reset are refused among the processes of the host, and leave the container as it was', async ({
    skip,
  }) => {
    if (engine.info.rootless) skip("the host's processes cannot be shared without root")
    await using container = await engine.start({ image: IMAGE, command: SLEEP, pid: 'host' })
    await run(container, 'echo x > /x')
    const { startedAt } = container.inspect()

    await expect(container.snapshot()).rejects.toMatchObject({ code: 'NOT_SUPPORTED', field: 'pid' })
    await expect(container.reset()).rejects.toMatchObject({ code: 'NOT_SUPPORTED', field: 'pid' })

    expect(container.inspect().startedAt).toEqual(startedAt)
    expect(await run(container, 'cat /x')).toBe('x\n')
  })

  test('and a reset start the container again when they fail, and hold nothing', async () => {
    const image = 'busybox:volume'
    await using source = await engine.create({ image: IMAGE })
    await source.commit({ reference: image, changes: ['VOLUME /data'] })
    const from = await engine.prepared.ensure('held by nobody', async () => {
      const made = await engine.start({ image, command: SLEEP })
      await run(made, 'echo below > /root/below')
      return made
    })
    await using container = await engine.start({ image, command: SLEEP, from })
    await run(container, 'echo x > /x')
    await using borrower = await engine.start({ image: IMAGE, command: SLEEP, volumesFrom: [container.id] })

    await expect(container.snapshot()).rejects.toThrow('a running container has a mount of it')
    expect(await run(container, 'cat /x')).toBe('x\n')
    await expect(container.reset()).rejects.toThrow('something uses its files')
    expect(await run(container, 'cat /x')).toBe('x\n')

    await borrower.remove({ force: true })
    await container.remove({ force: true })
    await engine.images.prune()
    expect(engine.prepared.find('held by nobody')).toBeUndefined()
  })

  test('cannot be mounted upon another root file system', async () => {
    await using container = await engine.start({ image: IMAGE, command: SLEEP })
    await run(container, 'echo x > /x')
    const from = await container.snapshot()

    await expect(engine.start({ from, rootfs: { directory: world.rootfs } })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      field: 'from',
    })
    await expect(engine.start({ from: 'snapshot' as never, image: IMAGE })).rejects.toMatchObject({ field: 'from' })
  })

  test('is part of the image that a commit makes', async () => {
    await using container = await engine.start({ image: IMAGE, command: SLEEP })
    await run(container, 'echo below > /root/below')
    await container.snapshot()
    await run(container, 'echo above > /root/above')
    await container.commit({ reference: 'busybox:committed' })

    const { stdout } = await engine.run({ image: 'busybox:committed', command: ['ls', '/root'] })
    expect(stdout).toBe('above\nbelow\n')
  })

  test('with a key is made once, also by engines that ask at the same time, and kept', async () => {
    await using other = await Engine.open({ home: world.home })
    let made = 0
    const maker = (at: Engine) => async () => {
      made++
      const container = await at.start({ image: IMAGE, command: SLEEP })
      await run(container, 'echo $RANDOM > /root/number')
      return container
    }
    const states = await Promise.all([
      engine.prepared.ensure('numbers', maker(engine)),
      engine.prepared.ensure('numbers', maker(engine)),
      other.prepared.ensure('numbers', maker(other)),
    ])

    expect(made).toBe(1)
    const read = { image: IMAGE, command: ['cat', '/root/number'] }
    const outputs = await Promise.all([
      engine.run({ ...read, from: states[0]! }),
      other.run({ ...read, from: states[2]! }),
      other.run({ ...read, from: other.prepared.find('numbers')! }),
    ])
    expect(new Set(outputs.map(({ stdout }) => stdout)).size).toBe(1)
    expect(outputs[0]!.stdout).toMatch(/^\d+\n$/)
  })

  test('with a key is not kept when making it fails, and the next one makes it', async () => {
    const fail = async () => {
      await using container = await engine.start({ image: IMAGE, command: SLEEP })
      await run(container, 'echo half > /root/half')
      throw new Error('the third migration')
    }
    await expect(engine.prepared.ensure('fails', fail)).rejects.toThrow('the third migration')
    expect(engine.prepared.find('fails')).toBeUndefined()
    expect(engine.containers()).toEqual([])

    const whole = await engine.prepared.ensure('fails', ready)
    expect((await engine.run({ image: IMAGE, from: whole, command: ['ls', '/root'] })).stdout).toBe('')
  })

  test('with a key is not kept when the container has to be killed', async () => {
    const stubborn = () => engine.start({ image: IMAGE, command: ['sleep', '60'] })
    await expect(engine.prepared.ensure('stubborn', stubborn, { timeoutMs: 50 })).rejects.toMatchObject({
      code: 'TIMEOUT',
    })
    expect(engine.prepared.find('stubborn')).toBeUndefined()
  })

  test('that is given up while its container ignores the stop signal leaves that running', async () => {
    await using container = await engine.start({ image: IMAGE, command: ['sleep', '60'] })
    const { startedAt } = container.inspect()
    const signal = AbortSignal.timeout(100)

    await expect(container.snapshot({ signal })).rejects.toMatchObject({ name: 'TimeoutError' })

    expect(container.state).toBe('running')
    expect(container.inspect().startedAt).not.toEqual(startedAt)
    await container.exec(['true'])
  })

  test('with a key that is given up while its container ignores the stop signal leaves nothing', async () => {
    const stubborn = () => engine.start({ image: IMAGE, command: ['sleep', '60'] })
    const signal = AbortSignal.timeout(100)

    await expect(engine.prepared.ensure('given up', stubborn, { signal })).rejects.toMatchObject({
      name: 'TimeoutError',
    })

    expect(engine.prepared.find('given up')).toBeUndefined()
    expect(engine.containers()).toEqual([])
  })

  test('with a key is not kept of a container that was killed or has failed, which is told with its last output', async () => {
    const killed = async (signal: AbortSignal) => {
      const container = await engine.start({ image: IMAGE, command: SLEEP }, { signal })
      await run(container, 'true')
      await container.kill()
      await container.wait()
      return container
    }
    const failed = async () => {
      const container = await engine.start({ image: IMAGE, command: ['sh', '-c', 'echo broken; exit 3'] })
      await container.wait()
      return container
    }
    await expect(engine.prepared.ensure('killed', killed)).rejects.toMatchObject({
      code: 'CONTAINER_EXITED',
      exitCode: 137,
      logTail: 'up',
    })
    await expect(engine.prepared.ensure('failed', failed)).rejects.toMatchObject({ exitCode: 3, logTail: 'broken' })
    expect([engine.prepared.find('killed'), engine.prepared.find('failed')]).toEqual([undefined, undefined])
  })

  test('with a key goes with prune, unless a container uses it', async () => {
    const make = () =>
      engine.start({ image: IMAGE, command: SLEEP }).then(async (made) => {
        await run(made, 'echo x > /x')
        return made
      })
    const from = await engine.prepared.ensure('pruned', make)
    const container = await engine.start({ image: IMAGE, command: SLEEP, from })
    await engine.images.prune()
    expect(engine.prepared.find('pruned')).toBeDefined()
    await container.remove({ force: true })

    const pruned = await engine.images.prune()
    expect(pruned.preparedStates).toBe(1)
    expect(pruned.bytesFreed).toBe('x\n'.length)
    expect(engine.prepared.find('pruned')).toBeUndefined()
  })

  test('keeps the prepared state from going that its container stood on, until it is removed', async () => {
    const make = async () => {
      const made = await engine.start({ image: IMAGE, command: SLEEP })
      await run(made, 'echo below > /root/below')
      return made
    }
    const from = await engine.prepared.ensure('stood on', make)
    const container = await engine.start({ image: IMAGE, command: SLEEP, from })
    await run(container, 'echo above > /root/above')
    const snapshot = await container.snapshot()
    await container.remove({ force: true })

    await engine.images.prune()
    const command = ['ls', '/root']
    expect((await engine.run({ image: IMAGE, from: snapshot, command })).stdout).toBe('above\nbelow\n')
    expect(engine.prepared.find('stood on')).toBeDefined()

    await snapshot.remove()
    await engine.images.prune()
    expect(engine.prepared.find('stood on')).toBeUndefined()
  })

  test('leaves nothing of a preparation whose process is killed, and the next run prepares', async () => {
    const script = join(world.directory, 'scenario.mjs')
    await bundleScenario(new URL('./snapshot.scenario.ts', import.meta.url).pathname, script)
    const scenario = startScenario([process.execPath, script, world.home, IMAGE], { MAYFLY_WARDEN: wardenProgram() })
    await scenario.fact()
    process.kill(scenario.pid, 'SIGKILL')
    await scenario.ended

    const made = await engine.prepared.ensure('killed', ready)
    expect((await engine.run({ image: IMAGE, from: made, command: ['ls', '/root'] })).stdout).toBe('')
    const directories = await new Store(world.home).prepared.list()
    for (const name of directories)
      expect(existsSync(join(world.home, 'cache/prepared', name, 'state.json'))).toBe(true)
    await expect.poll(() => readdirSync(join(world.home, 'sessions')).length, { timeout: 5_000 }).toBe(1)
  })
})

async function importBusybox(engine: Engine, { rootfs }: World): Promise<void> {
  const tar = spawn('tar', ['-C', rootfs, '-cf', '-', '.'], { stdio: ['ignore', 'pipe', 'inherit'] })
  await engine.images.import(tar.stdout, { reference: IMAGE, changes: ['CMD ["sh"]'] })
}

function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.on('error', () => {})
      resolve(socket)
    })
    socket.once('error', reject)
  })
}
