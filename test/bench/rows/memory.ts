/** Memory of the engine's own processes, without and with containers that do nothing. */

import type { Engine } from '../../../src/engine/engine.ts'
import { rest } from '../measure.ts'
import { kernelMemory, memoryOf, parentOf, processesBelow } from '../memory.ts'
import type { Row } from '../table.ts'
import { type Measurement, type Scene, startIdle } from './scene.ts'

const WARDEN_GOAL = 1 << 20
const CONTAINER_GOAL = 50 << 10
const OTHERS = 200
const RIVALS_OTHERS = 5

/**
 * What a new engine holds, with one container. Taken at the start and not here: of two engines at once, each would count for
 * half of the program that they share.
 */
export async function memoryAtOpening(scene: Pick<Scene, 'engine' | 'world'>): Promise<number> {
  await using _idle = await startIdle(scene) // whatever the first container makes once is not the container's
  await rest(500) // the pool of network namespaces fills up
  return bytesOf(scene.engine)
}

export const memory: Measurement = async (scene) => {
  const { engine, openingBytes } = scene
  const idle = await startIdle(scene)
  await rest(500)
  const [before, kernel] = [bytesOf(engine), kernelMemory()]
  const others = await Promise.all(Array.from({ length: OTHERS }, () => startIdle(scene)))
  await rest(1_000)
  const each = (bytesOf(engine) - before) / OTHERS
  const kernelEach = (kernelMemory() - kernel) / OTHERS
  await Promise.all([idle, ...others].map((one) => one.remove({ force: true })))
  scene.record('memory: warden, bytes', [openingBytes])
  scene.record('memory: used warden, bytes', [before])
  scene.record('memory: each container, bytes', [each])
  const rows: Row[] = [
    {
      what: 'memory of ours: launcher and warden with one container (PSS)',
      measured: kibibytes(openingBytes),
      goal: '≤ 1 MiB',
      ratio: `${kibibytes(before)} after all of the above`,
      hit: openingBytes <= WARDEN_GOAL,
    },
    {
      what: `the same, more for each idle container (${OTHERS}; the kernel’s own ${kibibytes(kernelEach)} each not counted)`,
      measured: kibibytes(each),
      goal: '≤ 50 KiB',
      ratio: '',
      hit: each <= CONTAINER_GOAL,
    },
  ]
  for (const { name, memory: bytes, startIdle: start } of scene.rivals) {
    if (!bytes || !start) continue
    const empty = bytes()
    await start(RIVALS_OTHERS)
    const theirs = (bytes() - empty) / RIVALS_OTHERS
    rows.push({
      what: `memory of ${name}’s daemons and shims, one idle container; more for each further one`,
      measured: `${kibibytes(empty)}; ${kibibytes(theirs)}`,
      goal: '',
      ratio: '',
    })
  }
  return rows
}

/** The launcher, the warden, and what of ours may run beside them. */
function bytesOf(engine: Engine): number {
  return memoryOf(processesBelow(parentOf(engine.info.pid)), (name) => name.startsWith('mayfly'))
}

function kibibytes(bytes: number): string {
  return bytes < 10 << 20 ? `${(bytes / 1024).toFixed(0)} KiB` : `${(bytes / (1 << 20)).toFixed(0)} MiB`
}
