/** What it costs to have the package: its size, and the time of an import in a new process. */

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { installed } from '../installed.ts'
import { alternate, type Contender, median } from '../measure.ts'
import { milliseconds, type Row } from '../table.ts'
import type { Measurement } from './scene.ts'

const execute = promisify(execFile)
const IMPORT_GOAL_MS = 30
const SIZE_GOAL = 5e6

/** Imports what the argument names, and prints the milliseconds. The first import pays for node's own loader. */
const SCRIPT = `await import('node:util'); const start = performance.now(); await import(process.argv[1])
  console.log(performance.now() - start)`

export const packed: Measurement = async (scene) => {
  const { directory, bytes, packages } = await installed(scene.world)
  const rival = await scene.rivals.find((one) => one.testcontainers)?.testcontainers?.()
  const importer = (name: string, specifier: string, cwd: string): Contender => ({
    name,
    async round() {
      const { stdout } = await execute(process.execPath, ['--input-type=module', '-e', SCRIPT, specifier], { cwd })
      return Number(stdout)
    },
  })
  const contenders = [importer('mayfly', 'mayfly', directory)]
  if (rival) contenders.push(importer('testcontainers', 'testcontainers', rival.directory))
  const turns = await alternate(contenders, { rounds: scene.quick ? 5 : 20, warmUp: 2, restMs: 20 })
  for (const [name, samples] of turns) scene.record(`import of ${name}`, samples)
  const ours = turns.get('mayfly')!
  const theirs = turns.get('testcontainers')
  const rows: Row[] = [
    {
      what: "`import 'mayfly'` in a new process",
      measured: milliseconds(ours),
      goal: `≤ ${IMPORT_GOAL_MS} ms`,
      ratio: theirs ? `testcontainers: ${milliseconds(theirs)}` : '',
      hit: median(ours) <= IMPORT_GOAL_MS,
    },
    {
      what: `the installed package with its dependencies (${packages.join(', ')})`,
      measured: `${(bytes / 1e6).toFixed(1)} MB`,
      goal: '≤ 5 MB',
      ratio: '',
      hit: bytes <= SIZE_GOAL,
    },
  ]
  scene.record('installed package, bytes', [bytes])
  return rows
}
