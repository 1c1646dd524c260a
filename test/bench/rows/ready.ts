/** How long after its port is open a container's `start()` has resolved. Measured as `listen` is, through the library. */

import { createReadStream } from 'node:fs'
import { useBackend } from '../../../src/backends/current.ts'
import { EmbeddedBackend } from '../../../src/backends/embedded.ts'
import { GenericContainer } from '../../../src/generic-container.ts'
import { alternate, type Contender, median } from '../measure.ts'
import { milliseconds } from '../table.ts'
import type { Measurement } from './scene.ts'

const IMAGE = 'bench/peer:1'
const PORT = 7000
const GOAL_MS = 2

export const ready: Measurement = async (scene) => {
  await scene.engine.images.import(createReadStream(scene.world.tar), { reference: IMAGE })
  useBackend(new EmbeddedBackend(scene.engine))
  // Late enough that the wait has begun.
  const definition = new GenericContainer(IMAGE)
    .withCommand(['/bin/peer', 'listen', String(PORT), '15'])
    .withExposedPorts(PORT)
  const mayfly: Contender = {
    name: 'mayfly',
    async round() {
      await using started = await definition.start()
      const resolved = process.hrtime.bigint()
      // It prints the time after it listens, so the line may still be under way.
      for (;;) {
        const line = (await started.stdout()).trim()
        // Its CLOCK_MONOTONIC is ours: the time namespace has no offset.
        if (line !== '') return Number(resolved - BigInt(line)) / 1e6
      }
    },
  }
  try {
    const samples = (await alternate([mayfly], { rounds: scene.quick ? 30 : 100, warmUp: 5, restMs: 5 })).get('mayfly')!
    scene.record('ready: mayfly', samples)
    return [
      {
        what: 'an exposed port is listened on → `start()` resolved',
        measured: milliseconds(samples),
        goal: `≤ ${GOAL_MS} ms`,
        ratio: '',
        hit: median(samples) <= GOAL_MS,
      },
    ]
  } finally {
    useBackend(undefined)
  }
}
