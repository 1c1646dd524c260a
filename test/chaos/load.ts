/**
 * `npm run load [-- --scale 0.1]` and `npm run soak [-- --cycles N]`: many containers, and the same over and over, each with node standing still in the
 * middle of it. Nothing may be left afterwards, and what a session holds may not grow.
 */

import { execFileSync } from 'node:child_process'
import { lstatSync, readdirSync, type Stats } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { wardenProgram } from '../../src/engine/where.ts'
import { expectNothingLeft, snapshotHost } from '../support/leftovers.ts'
import { makeRootfs, missingBusybox } from '../support/rootfs.ts'
import { bundleScenario, startScenario } from '../support/scenario.ts'
import { openTerritory } from '../support/territory.ts'
import type { LoadFact, LoadSettings, Sample } from './load-process.ts'

export type Measured = Sample & { readonly diskBytes: number }

export interface LoadDone {
  readonly tookMs: number
  readonly linesWhileBlocked: number
  /** Of a soak. */
  readonly samples: readonly Measured[]
}

/** A store of its own with an image in it, in a territory. */
export class LoadGround implements AsyncDisposable {
  readonly #directory: string
  readonly #enter: readonly string[]
  readonly #close: () => Promise<void>
  readonly #nothingLeft: () => Promise<void>

  private constructor(territory: Awaited<ReturnType<typeof openTerritory>>) {
    this.#directory = territory.directory
    this.#enter = territory.enter
    const before = snapshotHost(territory)
    this.#nothingLeft = () => expectNothingLeft(territory, before)
    this.#close = async () => {
      await territory.clear()
      territory[Symbol.dispose]()
    }
  }

  /** @param program the path of load-process.ts */
  static async open(program: string): Promise<LoadGround> {
    const territory = await openTerritory()
    const ground = new LoadGround(territory)
    try {
      const { directory } = territory
      makeRootfs(join(directory, 'rootfs'))
      execFileSync('tar', ['-C', join(directory, 'rootfs'), '-cf', join(directory, 'base.tar'), '.'])
      await bundleScenario(program, join(directory, 'load.mjs'))
      await ground.run({ task: 'prepare', count: 0, blockMs: 0 })
      return ground
    } catch (error) {
      await ground[Symbol.asyncDispose]()
      throw error
    }
  }

  /** A process that does this. Throws what it throws. */
  async run(
    settings: Pick<LoadSettings, 'task' | 'count' | 'blockMs'>,
    tell: (sample: Measured) => void = () => {},
  ): Promise<LoadDone> {
    const home = join(this.#directory, 'home')
    const complete: LoadSettings = { home, archive: join(this.#directory, 'base.tar'), ...settings }
    const node = [process.execPath, '--expose-gc', join(this.#directory, 'load.mjs'), JSON.stringify(complete)]
    const scenario = startScenario([...this.#enter, ...node], { MAYFLY_WARDEN: wardenProgram() })
    const samples: Measured[] = []
    for (;;) {
      const fact = await scenario.fact<LoadFact>()
      if (fact.fact === 'sample') {
        const { fact: _fact, ...rest } = fact
        samples.push({ ...rest, diskBytes: diskBytes(home) })
        tell(samples.at(-1)!)
        scenario.tell('on')
      }
      if (fact.fact !== 'done') continue
      const { code, stderr } = await scenario.ended
      if (code !== 0) throw new Error(`The process ended with ${code}: ${stderr}`)
      return { ...fact, samples }
    }
  }

  /** Throws with what is left of all processes. */
  nothingLeft(): Promise<void> {
    return this.#nothingLeft()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close()
  }
}

/** Blocks that the files of a tree take, and one byte for each name: a file too many shows, though it is empty. What goes meanwhile does not count: the warden prepares
 * overlays, and discards them, at its own time. */
function diskBytes(path: string): number {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (!stat) return 0
  return namesIn(path, stat).reduce((bytes, name) => bytes + diskBytes(join(path, name)), stat.blocks * 512 + 1)
}

function namesIn(path: string, stat: Stats): string[] {
  try {
    return stat.isDirectory() ? readdirSync(path) : []
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** How much more of each may be there in the last third of a soak than in the middle one, by the least that was seen: noise, not growth. */
const ALLOWED: Readonly<Record<Exclude<keyof Measured, 'cycles'>, (before: number) => number>> = {
  // Pages that malloc keeps come and go by the tens of megabytes; a leak shows in the heap.
  nodeBytes: (before) => before * 0.25,
  // V8 compiles, and compiles again, for thousands of cycles, and keeps what it has learned: some hundred bytes a cycle. With `node --no-opt --no-sparkplug` the
  // heap after 800 cycles is that after 400.
  nodeHeapBytes: () => 1024 * 1024,
  wardenBytes: () => 256 * 1024,
  launcherBytes: () => 64 * 1024,
  nodeDescriptors: () => 2,
  // Namespaces made ahead, and layers of overlays kept for the next start.
  wardenDescriptors: () => 16,
  launcherDescriptors: () => 0,
  wardenMounts: () => 4,
  diskBytes: () => 64 * 1024,
}

/** What has grown, in words; nothing where all is flat. */
export function growth(samples: readonly Measured[]): string[] {
  const third = Math.floor(samples.length / 3)
  const least = (kind: keyof Measured, from: number, to: number) =>
    Math.min(...samples.slice(from, to).map((one) => one[kind]))
  return (Object.keys(ALLOWED) as (keyof typeof ALLOWED)[]).flatMap((kind) => {
    const before = least(kind, third, 2 * third)
    const after = least(kind, 2 * third, samples.length)
    return after > before + ALLOWED[kind](before) ? [`${kind} grew from ${before} to ${after}`] : []
  })
}

/** Of a container that writes a line every 50 ms: half of them, for a machine that is busy. */
export const linesExpected = (blockMs: number) => blockMs / 100

declare const CHAOS_DIRECTORY: string

export async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      scale: { type: 'string', default: '1' },
      soak: { type: 'boolean', default: false },
      cycles: { type: 'string', default: '1000' },
    },
  })
  const why = process.getuid?.() !== 0 ? 'needs root' : missingBusybox()
  if (why) {
    console.log(`skipped: load: ${why}`)
    return 77
  }
  await using ground = await LoadGround.open(join(CHAOS_DIRECTORY, 'load-process.ts'))
  const blockMs = 10_000
  const isBad = (title: string, dones: readonly LoadDone[]) => {
    const ms = Math.max(...dones.map(({ tookMs }) => tookMs))
    const lines = Math.min(...dones.map(({ linesWhileBlocked }) => linesWhileBlocked))
    const isStalled = lines < linesExpected(blockMs)
    console.log(
      `${title}: ${(ms / 1000).toFixed(1)} s, of which node stood still ${blockMs / 1000} s, in which a container wrote ${lines} lines${isStalled ? ': STALLED' : ''}`,
    )
    return isStalled
  }
  let bad = false
  if (values.soak) {
    const show = (sample: Measured) =>
      console.log(
        Object.entries(sample)
          .map(([kind, number]) => `${kind} ${number}`)
          .join(', '),
      )
    const done = await ground.run({ task: 'soak', count: Number(values.cycles), blockMs }, show)
    bad = isBad(`${values.cycles} cycles`, [done])
    for (const line of growth(done.samples)) {
      console.log(`GROWTH: ${line}`)
      bad = true
    }
  } else {
    const scaled = (number: number) => Math.max(1, Math.round(number * Number(values.scale)))
    const run = (task: LoadSettings['task'], count: number) => ground.run({ task, count, blockMs })
    bad = isBad(`${scaled(1000)} containers started, used and removed`, [await run('one after another', scaled(1000))])
    bad = isBad(`${scaled(200)} containers at once`, [await run('at once', scaled(200))]) || bad
    const eight = await Promise.all(Array.from({ length: 8 }, () => run('at once', scaled(20))))
    bad = isBad(`8 processes with ${scaled(20)} containers each`, eight) || bad
  }
  await ground.nothingLeft()
  console.log(bad ? 'not all is well' : 'nothing left, nothing grown')
  return bad ? 1 : 0
}
