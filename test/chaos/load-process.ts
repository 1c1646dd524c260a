/** One process under load, with an engine of its own: does what it is told by its argument, tells by lines of JSON how it went. */

import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { type Container, Engine } from '../../src/index.ts'

export interface LoadSettings {
  readonly home: string
  readonly task: 'prepare' | 'one after another' | 'at once' | 'soak'
  /** Archive of the root file system, to prepare. */
  readonly archive: string
  /** Containers; of a soak, cycles. */
  readonly count: number
  /** How long nothing else runs in node, in the middle of it. */
  readonly blockMs: number
}

export type LoadFact =
  | { readonly fact: 'open'; readonly warden: number; readonly launcher: number }
  /** Of a soak, now and then. */
  | ({ readonly fact: 'sample' } & Sample)
  | { readonly fact: 'done'; readonly tookMs: number; readonly linesWhileBlocked: number }

/** What is held after so many cycles. Bytes, and numbers of descriptors. */
export interface Sample {
  readonly cycles: number
  readonly nodeBytes: number
  /** What is alive in it after a collection. */
  readonly nodeHeapBytes: number
  readonly wardenBytes: number
  readonly launcherBytes: number
  readonly nodeDescriptors: number
  readonly wardenDescriptors: number
  readonly launcherDescriptors: number
  readonly wardenMounts: number
}

const settings: LoadSettings = JSON.parse(process.argv[2]!)
const { home, task, archive, count, blockMs } = settings
const image = 'load:1'
const say = (fact: LoadFact) => process.stdout.write(`${JSON.stringify(fact)}\n`)
/** Containers that are used at a time, where they come one after another. */
const LANES = 8

function check(what: string, found: unknown, expected: unknown): void {
  if (found !== expected) throw new Error(`${what}: ${JSON.stringify(found)} instead of ${JSON.stringify(expected)}`)
}

async function use(container: Container, number: number): Promise<void> {
  const { exitCode, stdout } = await container.exec(['sh', '-c', `echo ${number} >/file; cat /file`])
  check('exit code of an exec', exitCode, 0)
  check('what an exec printed', stdout, `${number}\n`)
}

/** Nothing of ours runs, as at a breakpoint. Resolves to the lines that a container wrote meanwhile: one every 50 ms if nobody held it up. */
async function block(clock: Container): Promise<number> {
  const begin = BigInt(Date.now()) * 1_000_000n
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, blockMs)
  const end = BigInt(Date.now()) * 1_000_000n
  let lines = 0
  for await (const { time } of clock.logs()) if (time >= begin && time <= end) lines++
  return lines
}

const startClock = (engine: Engine) =>
  engine.start({ image, command: ['sh', '-c', 'while :; do echo tick; sleep 0.05; done'], limits: {} })

async function oneAfterAnother(engine: Engine): Promise<number> {
  const clock = await startClock(engine)
  let begun = 0
  let lines = 0
  const lane = async () => {
    while (begun < count) {
      const number = begun++
      const container = await engine.start({ image, command: ['sleep', '1000'], ports: number % 10 ? [] : [80] })
      if (number === count >> 1) lines = await block(clock)
      await use(container, number)
      await container.remove({ force: true })
    }
  }
  await Promise.all(Array.from({ length: LANES }, lane))
  await clock.remove({ force: true })
  check('containers left', engine.containers().length, 0)
  return lines
}

async function atOnce(engine: Engine): Promise<number> {
  const clock = await startClock(engine)
  const start = (number: number) => engine.start({ image, command: ['sleep', '1000'], ports: number % 10 ? [] : [80] })
  const all = await Promise.all(Array.from({ length: count }, (_, number) => start(number)))
  check('addresses', new Set(all.map(({ address }) => address)).size, count)
  const lines = await block(clock)
  await Promise.all(all.map(use))
  await Promise.all([...all, clock].map((one) => one.remove({ force: true })))
  check('containers left', engine.containers().length, 0)
  return lines
}

async function cycle(engine: Engine, number: number): Promise<void> {
  const network = await engine.networks.create({ name: `n${number}` })
  const volume = await engine.volumes.create({ name: `v${number}` })
  const container = await engine.start({
    image,
    name: `c${number}`,
    command: ['nc', '-ll', '-p', '80', '-e', 'cat', '/file'],
    ports: [80],
    networks: [network.name],
    mounts: [{ type: 'volume', source: volume.name, target: '/data' }],
    limits: { pids: 50 },
  })
  await container.waitForPort(80, { timeoutMs: 20_000 })
  await use(container, number)
  const pieces: Uint8Array[] = []
  for await (const piece of container.copyOut('/file')) pieces.push(piece)
  await container.copyIn('/data', pieces)
  await container.logText()
  await container.remove({ force: true })
  check('a run', (await engine.run({ image, command: ['echo', String(number)] })).stdout, `${number}\n`)
  await volume.remove()
  await network.remove()
  if (number % 5 === 0) {
    const reference = `built:${number}`
    await engine.images.build({
      context: { dockerfile: `FROM ${image}\nRUN echo ${number} >/made`, files: {} },
      tags: [reference],
    })
    await engine.images.remove(reference)
    await engine.images.prune({ buildCache: true })
    const made = await engine.start({
      image,
      command: ['sh', '-c', 'trap "exit 0" TERM; echo ready; while :; do sleep 0.1; done'],
      remove: false,
    })
    await made.waitForLog('ready', { timeoutMs: 20_000 }) // before its trap, nothing ends the first process of a namespace
    await (await made.snapshot()).remove()
    await made.remove({ force: true })
  }
}

function sample(engine: Engine, cycles: number): Sample {
  ;(globalThis as { gc?: () => void }).gc?.()
  const bytes = (pid: number) =>
    Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024
  const descriptors = (pid: number) => readdirSync(`/proc/${pid}/fd`).length
  const { pid: warden, launcher } = engine.info
  return {
    cycles,
    nodeBytes: bytes(process.pid),
    nodeHeapBytes: process.memoryUsage().heapUsed + process.memoryUsage().external,
    wardenBytes: bytes(warden),
    launcherBytes: bytes(launcher),
    nodeDescriptors: descriptors(process.pid),
    wardenDescriptors: descriptors(warden),
    launcherDescriptors: descriptors(launcher),
    wardenMounts: readFileSync(`/proc/${warden}/mountinfo`, 'utf8').split('\n').length,
  }
}

/** The driver answers each sample, so that what it measures itself (the disk) belongs to the same moment. */
async function soak(engine: Engine): Promise<number> {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  const every = Math.max(1, Math.floor(count / 20))
  let ticks = 0
  for (let done = 0; done < count; ) {
    await cycle(engine, done++)
    if (done === count >> 1) {
      const clock = await startClock(engine)
      ticks = await block(clock)
      await clock.remove({ force: true })
    }
    if (done % every === 0) {
      say({ fact: 'sample', ...sample(engine, done) })
      await lines.next()
    }
  }
  process.stdin.destroy()
  return ticks
}

const engine = await Engine.open({ home })
say({ fact: 'open', warden: engine.info.pid, launcher: engine.info.launcher })
const begin = performance.now()
let linesWhileBlocked = 0
if (task === 'prepare') {
  const { createReadStream } = await import('node:fs')
  await engine.images.import(createReadStream(archive), { reference: image })
} else linesWhileBlocked = await { 'one after another': oneAfterAnother, 'at once': atOnce, soak }[task](engine)
const tookMs = performance.now() - begin
await engine.close()
say({ fact: 'done', tookMs, linesWhileBlocked })
process.stdin.destroy()
