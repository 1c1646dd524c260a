/** Many containers asked for at the same moment. */

import { alternate, type Contender, median, timed } from '../measure.ts'
import { milliseconds } from '../table.ts'
import { container, type Measurement } from './scene.ts'

const COUNT = 100
const GOAL_MS = 500

export const together: Measurement = async (scene) => {
  const options = container(scene, '/bin/peer', 'wait')
  const mayfly: Contender = {
    name: 'mayfly',
    round: async () => {
      let started: Awaited<ReturnType<typeof scene.engine.start>>[] = []
      const ms = await timed(async () => {
        started = await Promise.all(Array.from({ length: COUNT }, () => scene.engine.start(options)))
      })
      const dead = started.filter(({ state }) => state !== 'running')
      if (dead.length > 0) throw new Error(`${dead.length} of ${COUNT} containers do not run`)
      await Promise.all(started.map((one) => one.remove({ force: true })))
      return ms
    },
  }
  const samples = (await alternate([mayfly], { rounds: scene.quick ? 3 : 9, warmUp: 1, restMs: 500 })).get('mayfly')!
  scene.record('together: mayfly', samples)
  return [
    {
      what: `${COUNT} containers started together, until all run`,
      measured: milliseconds(samples),
      goal: `≤ ${GOAL_MS} ms`,
      ratio: '',
      hit: median(samples) <= GOAL_MS,
    },
  ]
}
