/** The benchmark's command line. What is measured is in rows/, against what in rivals/ and floor.c. */

import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { Engine } from '../../src/engine/engine.ts'
import { packageRoot } from '../../src/engine/where.ts'
import { openRivals } from './rivals/rival.ts'
import { application } from './rows/application.ts'
import { build } from './rows/build.ts'
import { exec } from './rows/exec.ts'
import { fresh } from './rows/fresh.ts'
import { listen } from './rows/listen.ts'
import { memory, memoryAtOpening } from './rows/memory.ts'
import { networks } from './rows/networks.ts'
import { packed } from './rows/package.ts'
import { ports } from './rows/ports.ts'
import { pull } from './rows/pull.ts'
import { ready } from './rows/ready.ts'
import { run } from './rows/run.ts'
import type { Measurement, Scene } from './rows/scene.ts'
import { services } from './rows/services.ts'
import { stop } from './rows/stop.ts'
import { suite } from './rows/suite.ts'
import { sustained } from './rows/sustained.ts'
import { together } from './rows/together.ts'
import { type MeasuredRun, mergeRuns, readRun } from './runs.ts'
import { needsServices } from './services.ts'
import { markdownTable, plainTable, type Row, writeBetweenMarkers } from './table.ts'
import { makeWorld } from './world.ts'

const MEASUREMENTS: Readonly<Record<string, Measurement>> = {
  run,
  sustained,
  exec,
  stop,
  together,
  memory,
  ports,
  networks,
  listen,
  pull,
  build,
  ready,
  services: needsServices(services),
  application: needsServices(application),
  fresh: needsServices(fresh),
  suite: needsServices(suite),
  package: packed,
}

const USAGE = `npm run bench -- [options]

  --vs docker,podman,runc  measure these too, where they are installed
  --only ${Object.keys(MEASUREMENTS).join(',')}
                           only these measurements
  --quick                  fewer rounds
  --json FILE              all samples, in milliseconds unless their name says otherwise
  --from FILE,FILE         measure nothing: take what such files hold, of several parts of one run
  --write                  put the table into README.md`

/** Resolves to the exit code: 0 when everything was measured, whether or not the goals are met; 2 for a wrong option. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    const options = parse(args)
    if (options.help) console.log(USAGE)
    else if (options.json && !existsSync(dirname(options.json)))
      throw new RangeError(`There is no ${dirname(options.json)}`)
    else if (options.from.length > 0) report(mergeRuns(options.from.map(readRun)), options)
    else await bench(options)
    return 0
  } catch (error) {
    // The code of a program that failed is a number.
    const isUsage =
      error instanceof RangeError || String((error as { code?: unknown }).code).startsWith('ERR_PARSE_ARGS')
    if (!isUsage) throw error
    console.error(`${(error as Error).message}\n\n${USAGE}`)
    return 2
  }
}

interface Options {
  readonly rivals: readonly string[]
  readonly measurements: readonly string[]
  readonly quick: boolean
  readonly json: string | undefined
  readonly from: readonly string[]
  readonly write: boolean
  readonly help: boolean
}

function parse(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      vs: { type: 'string', default: '' },
      only: { type: 'string', default: '' },
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
      from: { type: 'string', default: '' },
      write: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const words = (list: string) => list.split(',').filter(Boolean)
  const measurements = values.only ? words(values.only) : Object.keys(MEASUREMENTS)
  const unknown = measurements.find((name) => !MEASUREMENTS[name])
  if (unknown) throw new RangeError(`--only knows ${Object.keys(MEASUREMENTS).join(', ')}, not "${unknown}"`)
  const { quick, json, write, help } = values
  return { rivals: words(values.vs), measurements, quick, json, from: words(values.from), write, help }
}

async function bench(options: Options): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('The benchmark needs root: the floor makes namespaces, mounts and control groups')
  // What is on the disk and in control groups is removed at exit.
  process.once('SIGINT', () => process.exit(130))
  process.once('SIGTERM', () => process.exit(143))

  using world = await makeWorld()
  // Beside the floor's scratch directory, on the same file system.
  const home = join(world.directory, 'home')
  mkdirSync(home)
  await using engine = await Engine.open({ home })
  const openingBytes = await memoryAtOpening({ world, engine })
  await using rivals = await openRivals(options.rivals, world)

  const samples: Record<string, readonly number[]> = {}
  const scene: Scene = {
    world,
    engine,
    rivals: rivals.list,
    quick: options.quick,
    openingBytes,
    record: (name, values) => {
      samples[name] = values
    },
  }
  const rows: Row[] = []
  for (const name of options.measurements) {
    const start = performance.now()
    const lines = await MEASUREMENTS[name]!(scene)
    console.error(`${name}: measured in ${((performance.now() - start) / 1_000).toFixed(1)} s`)
    rows.push(...lines)
  }
  const versions = rivals.list.map(({ description }) => description).join('; ')
  const about = `${world.machine}${versions ? `. Beside it: ${versions}` : ''}.`
  report({ about, rows, samples }, options)
}

function report(run: MeasuredRun, { json, write }: Options): void {
  const { about, rows } = run
  const misses = rows.filter(({ hit }) => hit === false).length
  console.log(`\n${about}\n\n${plainTable(rows)}\n\n${misses === 0 ? 'Every goal is met' : `Goals missed: ${misses}`}`)
  if (json) writeFileSync(json, `${JSON.stringify(run, undefined, 2)}\n`)
  if (write) writeBetweenMarkers(join(packageRoot(), 'README.md'), `\nMeasured on ${about}\n\n${markdownTable(rows)}\n`)
}
