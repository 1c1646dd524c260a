/** One container after another, without rest: what is put off comes back here. */

import { alternate, type Contender, median, rest } from '../measure.ts'
import { milliseconds, times } from '../table.ts'
import { openFloor } from './run.ts'
import { type Measurement, runTrue, startIdle } from './scene.ts'

const RATE_GOAL = 300
/** The last hundred may take this much longer than the first. */
const FLAT = 1.15
const OTHERS = 200

export const sustained: Measurement = async (scene) => {
  const mayfly = runTrue(scene)
  const count = scene.quick ? 400 : 1_000
  await inARow(mayfly, 50)
  const alone = await inARow(mayfly, count)
  scene.record('sustained: mayfly', alone.samples)

  await using floor = openFloor(scene)
  const least = await inARow(floor, 200)

  const others = await Promise.all(Array.from({ length: OTHERS }, () => startIdle(scene)))
  await rest(1_000)
  const crowded = await inARow(mayfly, scene.quick ? 200 : 500)
  const crowdedLeast = await inARow(floor, 100)
  scene.record(`sustained with ${OTHERS} others: mayfly`, crowded.samples)
  await Promise.all(others.map((other) => other.remove({ force: true })))

  const growth = median(alone.samples.slice(-100)) / median(alone.samples.slice(0, 100))
  const crowding = median(crowded.samples) / median(alone.samples)
  return [
    {
      what: `the same, one after another, ${count} times`,
      measured: `${alone.rate.toFixed(0)} a second`,
      goal: `≥ ${RATE_GOAL} a second`,
      ratio: `floor: ${least.rate.toFixed(0)} a second`,
      hit: alone.rate >= RATE_GOAL,
    },
    {
      what: `the last 100 of them against the first 100`,
      measured: `${milliseconds(alone.samples.slice(0, 100))} → ${milliseconds(alone.samples.slice(-100))}`,
      goal: `flat (≤ ${FLAT} ×)`,
      ratio: times(growth),
      hit: growth <= FLAT,
    },
    {
      what: `the same with ${OTHERS} others running`,
      measured: `${crowded.rate.toFixed(0)} a second`,
      goal: `≥ ${RATE_GOAL} a second`,
      ratio: `${times(crowding)} as long each; floor: ${crowdedLeast.rate.toFixed(0)} a second`,
      hit: crowded.rate >= RATE_GOAL,
    },
  ]
}

async function inARow(contender: Contender, count: number): Promise<{ samples: number[]; rate: number }> {
  const start = performance.now()
  const samples = await alternate([contender], { rounds: count, warmUp: 0, restMs: 0 })
  return { samples: samples.get(contender.name)!, rate: (count * 1_000) / (performance.now() - start) }
}
