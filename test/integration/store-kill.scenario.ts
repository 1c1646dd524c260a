/**
 * The processes of store-kill.test.ts: each has an engine of its own in the store that it is told and does one thing after the other, as lines
 * of JSON on its stdin say. Tells by lines of JSON when it begins and what has come of it.
 */

import { createReadStream, createWriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import { Engine } from '../../src/index.ts'

export type Task =
  | { readonly kind: 'pull'; readonly reference: string }
  | { readonly kind: 'push'; readonly reference: string }
  | { readonly kind: 'load' | 'save'; readonly reference: string; readonly archive: string }
  | { readonly kind: 'import'; readonly reference: string; readonly archive: string }
  | {
      readonly kind: 'build'
      readonly dockerfile: string
      readonly files: Record<string, string>
      readonly tag: string
    }
  | { readonly kind: 'prune'; readonly all: boolean }
  | { readonly kind: 'remove'; readonly reference: string }
  /** What the files of the image sum up to, as a program in a container sees them. */
  | { readonly kind: 'sum'; readonly reference: string }
  /** What a container of the image prints that counts to 20,000. */
  | { readonly kind: 'print'; readonly reference: string }
  | { readonly kind: 'volume'; readonly name: string }
  | { readonly kind: 'verify' }

/** Processes to kill for those who want everything dead at once. */
export interface Opened {
  readonly pid: number
  readonly launcher: number
}

export type Outcome = { readonly result: string; readonly tookMs: number } | { readonly error: string }

const say = (fact: unknown) => process.stdout.write(`${JSON.stringify(fact)}\n`)

async function perform(engine: Engine, task: Task): Promise<string> {
  const { images } = engine
  switch (task.kind) {
    case 'pull':
      return (await images.pull(task.reference)).id
    case 'push':
      return (await images.push(task.reference)).digest
    case 'load':
      return (await images.load(createReadStream(task.archive))).map(({ image }) => image.id).join()
    case 'save':
      await pipeline(images.save(task.reference), createWriteStream(task.archive))
      return (await images.get(task.reference)).id
    case 'import':
      return (await images.import(createReadStream(task.archive), { reference: task.reference })).id
    case 'build': {
      const { dockerfile, files, tag } = task
      return (await images.build({ context: { dockerfile, files }, tags: [tag] })).image.id
    }
    case 'prune': {
      await images.prune({ buildCache: true, all: task.all })
      return 'pruned'
    }
    case 'remove':
      await images.remove(task.reference).catch((error) => {
        if (error.code !== 'IMAGE_NOT_FOUND') throw error
      })
      return 'removed'
    case 'sum': {
      const script = 'find /data /made -type f 2>/dev/null | sort | xargs md5sum | md5sum'
      const { exitCode, stdout, stderr } = await engine.run({ image: task.reference, command: ['sh', '-c', script] })
      return exitCode === 0 ? stdout.trim() : `exit code ${exitCode}: ${stderr}`
    }
    case 'volume':
      return (await engine.volumes.create({ name: task.name })).name
    case 'print':
      return (await engine.run({ image: task.reference, command: ['seq', '20000'] })).stdout
    case 'verify': {
      const { damages } = await images.verify()
      return damages.map(({ message }) => message).join('; ')
    }
  }
}

const engine = await Engine.open({ home: process.argv[2]!, network: false })
say({ pid: engine.info.pid, launcher: engine.info.launcher } satisfies Opened)
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'end') break
  say('begins')
  const begin = performance.now()
  try {
    const result = await perform(engine, JSON.parse(line))
    say({ result, tookMs: performance.now() - begin } satisfies Outcome)
  } catch (error) {
    say({ error: (error as Error).stack ?? String(error) } satisfies Outcome)
  }
}
process.stdin.destroy()
await engine.close()
