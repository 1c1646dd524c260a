/** What every row of the benchmark works with. */

import type { Engine } from '../../../src/engine/engine.ts'
import type { ContainerOptions } from '../../../src/engine/options.ts'
import type { Contender } from '../measure.ts'
import { timed } from '../measure.ts'
import type { Rival } from '../rivals/rival.ts'
import type { Row } from '../table.ts'
import type { World } from '../world.ts'

export interface Scene {
  readonly world: World
  readonly engine: Engine
  readonly rivals: readonly Rival[]
  /** Fewer rounds, for a look rather than for the record. */
  readonly quick: boolean
  /** Bytes of the engine's own processes when it was new. */
  readonly openingBytes: number
  /** Raw samples in milliseconds for `--json`. */
  record(name: string, samples: readonly number[]): void
}

/** Measures one thing; some things make several lines of the table. */
export type Measurement = (scene: Scene) => Promise<Row[]>

/** Options of a container that runs this. Everything else is the default: network, control groups, seccomp, disk. */
export function container(scene: Pick<Scene, 'world'>, ...command: string[]): ContainerOptions {
  return { rootfs: { tar: scene.world.tar }, command }
}

/** `engine.run` of /bin/true: from the call until its exit is known and every trace is gone. */
export function runTrue(scene: Scene): Contender {
  const options = container(scene, '/bin/true')
  return {
    name: 'mayfly',
    round: () =>
      timed(async () => {
        const { exitCode } = await scene.engine.run(options)
        if (exitCode !== 0) throw new Error(`/bin/true exited with ${exitCode}`)
      }),
  }
}

/** Runs `peer wait` so that it is past its start: a process without a handler would ignore SIGTERM as PID 1. */
export async function startIdle(scene: Pick<Scene, 'engine' | 'world'>) {
  const idle = await scene.engine.start(container(scene, '/bin/peer', 'wait'))
  await idle.waitForLog('ready')
  return idle
}
