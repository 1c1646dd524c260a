import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { wardenProgram } from '../../src/engine/where.js'
import { Engine } from '../../src/index.js'
import { makeWorld, obstacle, type World } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

const source = fileURLToPath(new URL('../../src/index.ts', import.meta.url))

/** Fails when nothing of this kind happens within 5 seconds. */
const soon = { timeout: 5_000, interval: 10 }

describe.skipIf(why)('the life of node and of an engine', () => {
  let world: World

  beforeAll(async () => {
    world = makeWorld()
    const formats = { esm: 'mjs', cjs: 'cjs' } as const
    for (const format of ['esm', 'cjs'] as const) {
      await build({
        entryPoints: [source],
        outfile: join(world.directory, `mayfly.${formats[format]}`),
        bundle: true,
        platform: 'node',
        target: 'node20.19',
        format,
        logLevel: 'silent', // import.meta is empty in CommonJS; the program is named below
      })
    }
  })

  afterAll(() => world?.remove())

  interface Facts {
    launcher: number
    session: string
    /** Unique word in the container's command line. */
    mark: string
  }

  let counter = 0

  /** Runs a script in a process of its own, with `engine`, `container` (sleeping) and `tell` at hand. */
  function start(
    script: string,
    extension: 'mjs' | 'cjs' = 'mjs',
  ): { child: ChildProcess; facts: Promise<Facts>; output: () => string } {
    const mark = `${process.pid}${++counter}00`
    const file = join(world.directory, `script${counter}.${extension}`)
    const load =
      extension === 'mjs' ? `import { Engine } from './mayfly.mjs'` : `const { Engine } = require('./mayfly.cjs')`
    writeFileSync(
      file,
      `${load}
      const main = async () => {
        const engine = await Engine.open({ home: ${JSON.stringify(world.home)} })
        const rootfs = { directory: ${JSON.stringify(world.rootfs)} }
        const container = await engine.start({ rootfs, command: ['sleep', '${mark}'] })
        console.log(JSON.stringify({ launcher: engine.info.launcher, session: engine.info.session, mark: '${mark}' }))
        ${script}
      }
      main().catch((error) => { console.error(error); process.exitCode = 70 })`,
    )
    const child = spawn(process.execPath, [file], {
      env: { ...process.env, MAYFLY_WARDEN: wardenProgram() },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    child.stderr!.on('data', (text) => {
      output += text
    })
    const facts = new Promise<Facts>((resolve, reject) => {
      child.stdout!.on('data', (text) => {
        output += text
        const line = /^\{.*\}$/m.exec(output)
        if (line) resolve(JSON.parse(line[0]))
      })
      child.on('exit', () => setTimeout(() => reject(new Error(`no facts: ${output}`)), 100))
    })
    return { child, facts, output: () => output }
  }

  const ended = (child: ChildProcess) =>
    new Promise<number | string>((resolve) => {
      if (child.exitCode !== null || child.signalCode) resolve(child.exitCode ?? child.signalCode!)
      else child.on('exit', (code, signal) => resolve(code ?? signal!))
    })

  const sleepers = (mark: string) =>
    readdirSync('/proc').filter((pid) => {
      if (!/^\d+$/.test(pid)) return false
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8') === `sleep\0${mark}\0`
      } catch {
        return false // it has ended just now
      }
    })

  /** A zombie is gone too: when its parent reaps it is not ours to say. */
  const isGone = (pid: number) => {
    try {
      return / Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
    } catch {
      return true
    }
  }

  async function expectNothingLeft({ launcher, session, mark }: Facts): Promise<void> {
    await expect.poll(() => [isGone(launcher), sleepers(mark), existsSync(session)], soon).toEqual([true, [], false])
  }

  test('an open engine with a running container does not keep node alive', async () => {
    const { child, facts } = start('')
    expect(await ended(child)).toBe(0)
    await expectNothingLeft(await facts)
  })

  test('neither do streams that nobody reads any more', async () => {
    const { child, facts } = start(`
      const log = container.logs({ follow: true })
      const shell = await container.execStream({ command: ['cat'], stdin: true })
      const attachment = await container.attach()
      engine.events()
      await engine.run({ rootfs, command: ['true'] })`)
    expect(await ended(child)).toBe(0)
    await expectNothingLeft(await facts)
  })

  test('waiting does', async () => {
    const { child, facts, output } = start(`
      setTimeout(() => container.kill(), 200).unref()
      const [line] = await Promise.all([
        container.wait(),
        container.waitForExit(),
        (async () => { for await (const entry of container.logs({ follow: true })) {} })(),
      ])
      console.log('ended with ' + line.exitCode)
      const shell = await engine.start({ rootfs, command: ['sh', '-c', 'sleep 0.2; echo line; sleep 0.2'] })
      await shell.waitForLog('line')
      const { stdout } = await shell.execStream(['sh', '-c', 'sleep 0.1; echo piece'])
      for await (const piece of stdout) console.log('a ' + Buffer.from(piece))
      console.log((await engine.run({ rootfs, command: ['sh', '-c', 'sleep 0.2; echo ran'] })).stdout)`)
    const { mark } = await facts
    // The timer is unref'd: only the waits keep this process alive until it fires.
    await expect.poll(() => sleepers(mark), soon).toEqual([])
    expect(await ended(child)).toBe(0)
    expect(output()).toMatch(/ended with 137\na piece\n\nran\n/)
  })

  test.each([
    ['process.exit()', 'process.exit(3)', 3],
    ['an uncaught exception', `setTimeout(() => { throw new Error('oops') })`, 1],
    ['an unhandled rejection', `Promise.reject(new Error('oops'))`, 1],
    ['an abort', 'process.abort()', 'SIGABRT'],
    [
      'a SIGKILL in the middle of a start',
      `for (;;) { engine.start({ rootfs, command: ['sleep', '100'] }).catch(() => {}); await engine.run({ rootfs, command: ['true'] }); process.kill(process.pid, 'SIGKILL') }`,
      'SIGKILL',
    ],
    ['engine.close()', 'await Promise.all([engine.close(), engine.close()]); process.exitCode = 5', 5],
  ])('nothing is left after %s', async (_name, script, code) => {
    const { child, facts } = start(script)
    expect(await ended(child)).toBe(code)
    await expectNothingLeft(await facts)
  })

  test('nothing is left after a worker thread was terminated', async () => {
    const worker = join(world.directory, 'worker.mjs')
    writeFileSync(
      worker,
      `import { parentPort } from 'node:worker_threads'
      import { Engine } from './mayfly.mjs'
      const engine = await Engine.open({ home: ${JSON.stringify(world.home)} })
      await engine.start({ rootfs: { directory: ${JSON.stringify(world.rootfs)} }, command: ['sleep', '424242'] })
      parentPort.postMessage({ launcher: engine.info.launcher, session: engine.info.session, mark: '424242' })
      setInterval(() => {}, 1000)`,
    )
    const { child, output } = start(`
      const { Worker } = await import('node:worker_threads')
      const worker = new Worker(${JSON.stringify(worker)})
      worker.on('error', console.error)
      const facts = await new Promise((resolve) => worker.once('message', resolve))
      console.log('worker ' + JSON.stringify(facts))
      await worker.terminate()
      setTimeout(() => console.log('still here'), 1500)`)
    await expect.poll(output, soon).toMatch(/^worker /m)
    const facts = JSON.parse(/^worker (.*)$/m.exec(output())![1]!) as Facts
    await expectNothingLeft(facts)
    expect(output()).not.toContain('still here')
    expect(await ended(child)).toBe(0)
  })

  test('works as CommonJS', async () => {
    const { child, facts, output } = start(`console.log((await container.exec(['echo', 'from cjs'])).stdout)`, 'cjs')
    expect(await ended(child)).toBe(0)
    expect(output()).toContain('from cjs')
    await expectNothingLeft(await facts)
  })

  test('when the native program is killed, everything that waits is told, and nothing hangs', async () => {
    const engine = await Engine.open({ home: world.home })
    const rootfs = { directory: world.rootfs }
    const container = await engine.start({ rootfs, command: ['sleep', '31313'] })
    const shell = await container.execStream({ command: ['cat'], stdin: true })
    const follow = (async () => {
      for await (const _ of container.logs({ follow: true })) {
      }
    })()
    const events = (async () => {
      for await (const _ of engine.events()) {
      }
    })()
    const waits = [
      container.wait(),
      container.waitForPort(1),
      container.waitForLog('never'),
      container.exec(['sleep', '31314']),
      container.stop({ signal: 'SIGCONT', timeoutMs: -1 }),
      engine.run({ rootfs, command: ['sleep', '31315'] }),
      shell.wait(),
      follow,
      (async () => {
        for await (const _ of shell.stdout) {
        }
      })(),
    ]
    await new Promise((resolve) => setTimeout(resolve, 100))
    process.kill(engine.info.pid, 'SIGKILL')
    for (const outcome of await Promise.allSettled(waits)) {
      expect(outcome).toMatchObject({
        status: 'rejected',
        reason: { code: 'ENGINE_UNAVAILABLE', message: expect.stringContaining('SIGKILL') },
      })
    }
    await events
    await expect(engine.run({ rootfs, command: ['true'] })).rejects.toThrow(
      expect.objectContaining({ code: 'ENGINE_UNAVAILABLE' }),
    )
    await container[Symbol.asyncDispose]()
    await engine.close()
    for (const mark of ['31313', '31314', '31315']) await expect.poll(() => sleepers(mark), soon).toEqual([])
    await expect.poll(() => existsSync(engine.info.session), soon).toBe(false)
  })

  test('a closed engine says so, and its containers end', async () => {
    const engine = await Engine.open({ home: world.home })
    const container = await engine.start({ rootfs: { directory: world.rootfs }, command: ['sleep', '100'] })
    const waiting = expect(container.wait()).rejects.toThrow(expect.objectContaining({ code: 'ENGINE_CLOSED' }))
    await engine.close()
    await waiting
    await expect(container.exec(['true'])).rejects.toThrow(expect.objectContaining({ code: 'ENGINE_CLOSED' }))
    await expect(container.logText()).rejects.toThrow(expect.objectContaining({ code: 'ENGINE_CLOSED' }))
    await container[Symbol.asyncDispose]()
    await engine[Symbol.asyncDispose]()
  })

  test('opening can be given up, and says what is wrong with the home', async () => {
    await expect(Engine.open({ home: world.home, signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no')
    const file = join(world.directory, 'file')
    writeFileSync(file, '')
    await expect(Engine.open({ home: file })).rejects.toThrow(expect.objectContaining({ code: 'ENGINE_UNAVAILABLE' }))
  })
})
