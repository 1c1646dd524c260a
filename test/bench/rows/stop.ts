/** The end of a container whose process obeys at once. */

import { alternate, type Contender, median, timed } from '../measure.ts'
import { milliseconds } from '../table.ts'
import { type Measurement, startIdle } from './scene.ts'

const GOAL_MS = 2

export const stop: Measurement = async (scene) => {
  const mayfly: Contender = {
    name: 'mayfly',
    round: async () => {
      const idle = await startIdle(scene)
      return timed(async () => {
        const { exitCode } = await idle.stop()
        if (exitCode !== 0) throw new Error(`peer did not end by itself: ${exitCode}`)
      })
    },
  }
  const samples = (await alternate([mayfly], { rounds: scene.quick ? 50 : 200, warmUp: 10, restMs: 5 })).get('mayfly')!
  scene.record('stop: mayfly', samples)
  return [
    {
      what: '`stop` and remove, the process exits at once',
      measured: milliseconds(samples),
      goal: `≤ ${GOAL_MS} ms`,
      ratio: '',
      hit: median(samples) <= GOAL_MS,
    },
  ]
}
