/** A whole container: made, run, removed. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { resolveCapabilities } from '../../../src/engine/launch/capabilities.ts'
import { readHost } from '../../../src/engine/launch/host.ts'
import { compileSeccomp } from '../../../src/engine/launch/seccomp/compile.ts'
import { DEFAULT_SECCOMP_PROFILE } from '../../../src/engine/launch/seccomp/default-profile.ts'
import { alternate, type Contender, median } from '../measure.ts'
import { Stepper } from '../stepper.ts'
import { duration, milliseconds, type Row, times } from '../table.ts'
import { type Measurement, runTrue, type Scene } from './scene.ts'

const FLOOR_GOAL = 1.5
const DOCKER_GOAL = 60

export const run: Measurement = async (scene) => {
  await using floor = openFloor(scene)
  await using confined = openFloor(scene, 'confined floor', ['--confine', writeFilter(scene)])
  const mayfly = runTrue(scene)
  const rounds = { rounds: scene.quick ? 50 : 300, warmUp: 20, restMs: 10 }
  const turns = await alternate([floor, mayfly, confined], rounds)
  for (const [name, samples] of turns) scene.record(`run: ${name}`, samples)
  const [ours, least, least2] = [turns.get('mayfly')!, turns.get('floor')!, turns.get('confined floor')!]
  const overFloor = median(ours) / median(least)
  const rows: Row[] = [
    {
      what: '`run` of `true`: call → exit known, everything removed',
      measured: milliseconds(ours),
      goal: `≤ ${FLOOR_GOAL} × floor`,
      ratio: `${times(overFloor)} floor (${milliseconds(least)})`,
      hit: overFloor <= FLOOR_GOAL,
    },
    {
      what: 'the same, against a floor that also has our capabilities and seccomp filter',
      measured: milliseconds(ours),
      goal: '',
      ratio: `${times(median(ours) / median(least2))} floor (${milliseconds(least2)})`,
    },
  ]
  if (scene.rivals.length === 0) return rows
  const everyone = [mayfly, ...scene.rivals.map((rival) => rival.run)]
  const samples = await alternate(everyone, { rounds: scene.quick ? 5 : 20, warmUp: 2, restMs: 50 })
  const beside = samples.get('mayfly')!
  scene.record('run beside rivals: mayfly', beside)
  for (const { name, description } of scene.rivals) {
    const theirs = samples.get(name)!
    scene.record(`run: ${name}`, theirs)
    const faster = median(theirs) / median(beside)
    rows.push({
      what: `the same, beside ${name === 'runc' ? '`runc run`' : `\`${name} run --rm\``} (${description})`,
      measured: `${duration(median(beside))}, ${name} ${milliseconds(theirs)}`,
      goal: name === 'docker' ? `≥ ${DOCKER_GOAL} × faster` : '',
      ratio: `${times(faster)} faster`,
      ...(name === 'docker' ? { hit: faster >= DOCKER_GOAL } : {}),
    })
  }
  return rows
}

/** floor.c in its own process; a round is its time from the start to everything being removed. */
export function openFloor({ world }: Scene, name = 'floor', options: string[] = []): Contender & AsyncDisposable {
  const stepper = new Stepper([world.floor, world.rootfs, world.directory, '/bin/true', ...options])
  return {
    name,
    round: async () => Number((await stepper.step()).split(' ')[1]) / 1e6,
    [Symbol.asyncDispose]: () => stepper[Symbol.asyncDispose](),
  }
}

/** The default seccomp program as the engine compiles it. Returns its path. */
function writeFilter({ world }: Scene): string {
  const { arch, kernel } = readHost()
  const capabilities = resolveCapabilities([], [], false)
  const path = join(world.directory, 'filter')
  writeFileSync(path, compileSeccomp(DEFAULT_SECCOMP_PROFILE, { architecture: arch, capabilities, kernel }).code)
  return path
}
