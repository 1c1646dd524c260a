/** A suite whose tests each have a fresh Postgres with a migrated schema: one run of Vitest, as a user types it. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Engine } from '../../../src/engine/engine.ts'
import { installed } from '../installed.ts'
import { median, rest } from '../measure.ts'
import { memoryOf, processesBelow, processesOfStore } from '../memory.ts'
import { openRivalry, openServices, type Services } from '../services.ts'
import { duration, milliseconds, type Row, times } from '../table.ts'
import { BENCH } from '../world.ts'
import type { Measurement, Scene } from './scene.ts'

const FILES = 5
const TESTS = 50
const QUICK_TESTS = 10
const FASTER_GOAL = 20
const MEMORY_GOAL = 0.5
/** Between two looks at the memory. Looking takes processor time, of both sides the same share. */
const SAMPLE_MS = 250

interface Run {
  readonly ms: number
  /** The largest sum of shares (PSS) at one moment. */
  readonly peakBytes: number
  /** Of that, what is not Vitest and its workers. */
  readonly peakBesideBytes: number
}

export const suite: Measurement = async (scene) => {
  const tests = scene.quick ? QUICK_TESTS : TESTS
  await using opened = await openServices()
  await using rivalry = await openRivalry(scene, opened)
  const { directory } = await installed(scene.world)
  const home = await storeOfItsOwn(scene, opened)
  const project = prepareProject(directory, 'mayfly')
  const settings = { BENCH_IMAGE: opened.postgres, BENCH_TESTS_PER_FILE: String(tests / FILES) }
  const environment = { ...process.env, ...settings, MAYFLY_HOME: home }
  const runOurs = () => runVitest(project, [], environment, () => processesOfStore(home))
  const first = await runOurs()
  const later: Run[] = []
  for (let round = 0; round < (scene.quick ? 1 : 5); round++) later.push(await runOurs())
  const ours = later.map(({ ms }) => ms)
  const [peak, peakBeside] = [
    median(later.map((run) => run.peakBytes)),
    median(later.map((run) => run.peakBesideBytes)),
  ]
  scene.record('suite: mayfly, first run', [first.ms])
  scene.record('suite: mayfly', ours)
  scene.record('suite: mayfly, peak bytes', [peak])
  const what = `${tests} tests in ${FILES} files, each with its own fresh Postgres with a migrated schema: one run of Vitest`
  const firstTime = `the first, which makes the prepared state: ${duration(first.ms)}`
  if (!rivalry) {
    return [
      { what, measured: milliseconds(ours), goal: `≥ ${FASTER_GOAL} × faster`, ratio: firstTime },
      {
        what: 'the same, memory of everything involved at its peak (PSS)',
        measured: mebibytes(peak),
        goal: '',
        ratio: '',
      },
    ]
  }
  const { testcontainers } = rivalry
  const rivalProject = prepareProject(testcontainers.directory, 'testcontainers')
  const theirEnvironment = { ...testcontainers.env, ...settings }
  const theirs = await runVitest(rivalProject, testcontainers.enter, theirEnvironment, testcontainers.processes)
  scene.record('suite: testcontainers', [theirs.ms])
  scene.record('suite: testcontainers, peak bytes', [theirs.peakBytes])
  const faster = theirs.ms / median(ours)
  const share = peak / theirs.peakBytes
  const rows: Row[] = [
    {
      what: `${what}, beside ${testcontainers.description} on Docker`,
      measured: `${milliseconds(ours)}, testcontainers ${duration(theirs.ms)}; ${firstTime}`,
      goal: `≥ ${FASTER_GOAL} × faster`,
      ratio: `${times(faster)} faster`,
      hit: faster >= FASTER_GOAL,
    },
    {
      what: 'the same, memory of everything involved at its peak (PSS)',
      measured: `${mebibytes(peak)}, testcontainers ${mebibytes(theirs.peakBytes)}; without Vitest and its workers ${mebibytes(peakBeside)}, ${mebibytes(theirs.peakBesideBytes)}`,
      goal: '≤ half',
      ratio: `${times(share)}; without Vitest ${times(peakBeside / theirs.peakBesideBytes)}`,
      hit: share <= MEMORY_GOAL,
    },
  ]
  return rows
}

/** A store with the image alone: no prepared state is there, and engines on it are of the suite. */
async function storeOfItsOwn({ world }: Scene, { engine, postgres }: Services): Promise<string> {
  const home = join(world.directory, 'suite-home')
  mkdirSync(home)
  await using own = await Engine.open({ home })
  await own.images.load(engine.images.save([postgres]))
  return home
}

/** The suite inside a project that has the packages, as so many equal files. Returns its directory. */
function prepareProject(directory: string, library: 'mayfly' | 'testcontainers'): string {
  const project = join(directory, 'suite')
  mkdirSync(project)
  const copy = (from: string, to = from) => cpSync(join(BENCH, 'suite', from), join(project, to), { recursive: true })
  for (const name of ['migrations', 'shop.mjs', 'vitest.config.mjs']) copy(name)
  for (let file = 0; file < FILES; file++) copy(`${library}.mjs`, `orders-${file}.spec.mjs`)
  return project
}

/** Throws with its output when a test fails. `others`: processes that belong to the run and are not below it. */
async function runVitest(
  cwd: string,
  enter: readonly string[],
  env: NodeJS.ProcessEnv,
  others: () => number[],
): Promise<Run> {
  const words = [...enter, process.execPath, join(cwd, '../node_modules/vitest/vitest.mjs'), 'run']
  const start = performance.now()
  const child = spawn(words[0]!, words.slice(1), { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const exit = once(child, 'exit').then(([code]) => ({ code, ms: performance.now() - start }))
  let [peakBytes, peakBesideBytes] = [0, 0]
  let ended = false
  exit.then(() => {
    ended = true
  })
  while (!ended) {
    await Promise.race([exit, rest(SAMPLE_MS)])
    if (ended) break
    const processes = [...new Set([...processesBelow(child.pid!), ...others()])]
    const isVitest = (name: string) => /^(node|vitest|MainThread)/.test(name)
    const beside = bytesOf(processes, (name) => !isVitest(name))
    peakBesideBytes = Math.max(peakBesideBytes, beside)
    peakBytes = Math.max(peakBytes, beside + bytesOf(processes, isVitest))
  }
  const { code, ms } = await exit
  if (code !== 0) throw new Error(`the suite failed in ${cwd}:\n${output}`)
  return { ms, peakBytes, peakBesideBytes }
}

function bytesOf(processes: readonly number[], passes: (name: string) => boolean): number {
  try {
    return memoryOf(processes, passes)
  } catch {
    return 0 // none of them is one: it has not begun, or has ended
  }
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`
}
