/**
 * A process of a chaos round: it does at random what test processes do, several things at a time, and tells by lines of JSON what it has begun and
 * how that ended. What it does is checked where it is done: an answer may be an error, but never a wrong one.
 */

import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { isMainThread, threadId, Worker, workerData } from 'node:worker_threads'
import { Engine, MayflyError } from '../../src/index.ts'
import { base, deeds, dockerfileOf, kept, WrongAnswer } from './deeds.ts'
import { Dice } from './dice.ts'

export interface Settings {
  /** `publish` fills the registry, `prepare` the store; `work` is chaos; `verify` puts the store back to what `prepare` has made, and checks that. */
  readonly task: 'publish' | 'prepare' | 'work' | 'verify'
  /** The store. */
  readonly home: string
  /** Has the root file system's archive in it. */
  readonly directory: string
  /** Such as `localhost:41234`. */
  readonly registry: string
  readonly seed: string
  /** How much is done at a time. @default 3 */
  readonly atOnce?: number
}

export type Fact =
  /** Nothing was done yet: what is open now is node's own. Goes on when it is told to. */
  | { readonly fact: 'ready' }
  /** An engine is open. */
  | { readonly fact: 'open'; readonly warden: number; readonly launcher: number }
  | { readonly fact: 'begins'; readonly deed: string; readonly number: number }
  | { readonly fact: 'ends'; readonly number: number; readonly code?: string; readonly error?: string }
  /** Nothing is being done any more, and all engines are closed. */
  | { readonly fact: 'quiet' }
  /** An answer that is not true. */
  | { readonly fact: 'wrong'; readonly what: string }
  /** An error that nobody has thought of. */
  | { readonly fact: 'broken'; readonly what: string }

const settings: Settings = isMainThread ? JSON.parse(process.argv[2]!) : workerData
const say = (fact: Fact) => process.stdout.write(`${JSON.stringify(fact)}\n`)
const { home, directory, registry, seed, atOnce = 3 } = settings

let isEnough = false
const enough = new AbortController()

/** An engine that is opened again when its session has died, as a user would who catches ENGINE_UNAVAILABLE. */
class Reopened {
  #engine: Promise<Engine> | undefined

  async get(): Promise<Engine> {
    this.#engine ??= this.#open()
    return this.#engine
  }

  async #open(): Promise<Engine> {
    try {
      const engine = await Engine.open({ home })
      if (isMainThread) say({ fact: 'open', warden: engine.info.pid, launcher: engine.info.launcher })
      return engine
    } catch (error) {
      this.#engine = undefined
      throw error
    }
  }

  /** @param engine is not the one any more */
  async dead(engine: Engine): Promise<void> {
    if ((await this.#engine?.catch(() => {})) === engine) this.#engine = undefined
    await engine.close()
  }

  async close(): Promise<void> {
    await (await this.#engine?.catch(() => undefined))?.close()
  }
}

async function work(): Promise<void> {
  const engines = new Reopened()
  let number = threadId * 1_000_000 // they share one stdout
  const dice = new Dice(seed)
  const doOne = async (own: Dice) => {
    const mine = ++number
    const names = Object.keys(deeds).filter((name) => isMainThread || name !== 'thread')
    const deed = own.pick(names)
    say({ fact: 'begins', deed, number: mine })
    let engine: Engine | undefined
    try {
      engine = await engines.get()
      const tag = `${process.pid}-${isMainThread ? '' : 'w'}${mine}`
      await deeds[deed]!({ engine, dice: own, tag, registry, thread: inThread, signal: enough.signal })
      say({ fact: 'ends', number: mine })
    } catch (thrown) {
      const error = worstOf(thrown)
      const { message, stack } = error as Error
      const code = codeOf(error)
      if (error instanceof WrongAnswer) say({ fact: 'wrong', what: `${deed}: ${message}` })
      say({ fact: 'ends', number: mine, code, error: String(stack ?? message).slice(0, 1500) })
      if (engine && (code === 'ENGINE_UNAVAILABLE' || code === 'ENGINE_CLOSED')) await engines.dead(engine)
      await sleep(20) // an engine that cannot be opened is not asked again at once
    }
  }
  await Promise.all(
    Array.from({ length: atOnce }, async (_, lane) => {
      for (let turn = 0; !isEnough; turn++) await doOne(dice.fork(lane).fork(turn))
    }),
  )
  await engines.close()
}

/** Errors have a code of ours, or say that this process itself is short of something. What else is thrown is `unnamed`. */
function codeOf(error: unknown): string {
  const { code, name, syscall } = error as NodeJS.ErrnoException
  if (name === 'AbortError') return 'aborted'
  if (error instanceof MayflyError) return error.code
  if (error instanceof WrongAnswer) return 'wrong'
  // Of node's own calls, by their names: its user can do something about it.
  const isShort = /^E(?:MFILE|NFILE|NOMEM|AGAIN|NOBUFS|NOSPC)$/.test(code ?? '') && syscall !== undefined
  if (isShort || code === 'ERR_WORKER_INIT_FAILED' || code === 'ERR_WORKER_OUT_OF_MEMORY') return `node's ${code}`
  return `unnamed ${code ?? name}`
}

/** What an `await using` has thrown: of a deed that failed and an end that failed too, the one that is a defect, if there is one. */
function worstOf(error: unknown): unknown {
  const { name, error: later, suppressed } = error as SuppressedError
  if (name !== 'SuppressedError') return error
  const parts = [suppressed, later].map(worstOf)
  return parts.find((part) => /^(?:wrong|unnamed)/.test(codeOf(part))) ?? parts[0]
}

/** A worker thread that does the same with an engine of its own, until it is ended in the middle of it. */
async function inThread(forMs: number): Promise<void> {
  const worker = new Worker(new URL(import.meta.url), {
    workerData: { ...settings, seed: `${seed}/thread`, atOnce: 2 },
  })
  const failed = new Promise<never>((_, reject) => worker.once('error', reject))
  failed.catch(() => {})
  await Promise.race([sleep(forMs), failed])
  await worker.terminate()
}

const archive = () => createReadStream(join(directory, 'base.tar'))

async function publish(): Promise<void> {
  await using engine = await Engine.open({ home, network: false })
  await engine.images.import(archive(), { reference: base })
  for (const name of ['kept', 'app', 'other']) {
    const reference = `${registry}/${name}:1`
    await engine.images.build({ context: { dockerfile: dockerfileOf(name), files: {} }, tags: [reference] })
    await engine.images.push(reference)
  }
}

async function prepare(): Promise<void> {
  await using engine = await Engine.open({ home, network: false })
  await engine.images.import(archive(), { reference: base })
  await engine.images.pull(kept(registry))
  const script =
    'for i in $(seq 200); do echo $i >/data/$i; done; mkdir /data/deep; echo x >/data/deep/x; chmod 700 /data/deep'
  const mounts = [{ type: 'volume' as const, source: 'kept', target: '/data' }]
  const { exitCode } = await engine.run({ image: base, command: ['sh', '-c', script], mounts })
  if (exitCode !== 0) throw new Error(`The volume cannot be filled: ${exitCode}`)
  // What the first build, the first verification and each image that was ever here leave in the store for good is there from the beginning.
  for (const name of ['app', 'other']) await engine.images.pull(`${registry}/${name}:1`)
  const dockerfile = `FROM ${base}\nRUN --mount=type=cache,target=/cache true`
  await engine.images.build({ context: { dockerfile, files: {} }, tags: ['first:1'] })
  for (const reference of ['first:1', `${registry}/app:1`, `${registry}/other:1`]) await engine.images.remove(reference)
  await engine.images.prune({ buildCache: true })
  await engine.images.verify()
}

/** Everything that the rounds have made and that is meant to stay is removed as users remove it. Then nothing may be left of it. */
async function verify(): Promise<void> {
  await using engine = await Engine.open({ home })
  const { damages } = await engine.images.verify()
  for (const { message } of damages) say({ fact: 'wrong', what: `damaged: ${message}` })
  for (const { id, references } of await engine.images.list()) {
    const others = references.filter((reference) => reference !== kept(registry) && !reference.endsWith(base))
    for (const reference of others) await engine.images.remove(reference)
    // One whose pull ended between its digest and its tag is whole, and has the digest for a name: no prune takes it.
    if (references.length === 0) await engine.images.remove(id, { force: true })
  }
  for (const volume of await engine.volumes.list()) if (volume.name !== 'kept') await volume.remove()
  await engine.images.prune({ buildCache: true })
  await deeds.base!({ engine, dice: new Dice(seed), tag: 'verify', registry, thread: inThread, signal: enough.signal })
  await deeds.kept!({ engine, dice: new Dice(seed), tag: 'verify', registry, thread: inThread, signal: enough.signal })
}

if (isMainThread) {
  process.on('unhandledRejection', (error) =>
    say({ fact: 'broken', what: `unhandled rejection: ${(error as Error)?.stack ?? error}` }),
  )
  if (settings.task === 'work') {
    const lines = createInterface({ input: process.stdin })
    let go = () => {}
    const started = new Promise<void>((resolve) => {
      go = resolve
    })
    const goodbye = new Promise<void>((resolve) => {
      lines.on('line', (line) => {
        if (line === 'go') go()
        if (line === 'enough') {
          isEnough = true
          enough.abort()
        }
        if (line === 'bye') resolve()
      })
      lines.on('close', () => process.exit(0))
    })
    say({ fact: 'ready' })
    await started
    await work()
    say({ fact: 'quiet' })
    await goodbye
    process.exit(0)
  }
  await { publish, prepare, verify }[settings.task]()
  process.exit(0)
} else await work()
