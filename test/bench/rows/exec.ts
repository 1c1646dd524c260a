/** A further program in a running container. */

import { alternate, type Contender, median, timed } from '../measure.ts'
import { milliseconds, type Row, times } from '../table.ts'
import { type Measurement, startIdle } from './scene.ts'

const GOAL_MS = 2
const DOCKER_GOAL = 30

export const exec: Measurement = async (scene) => {
  await using idle = await startIdle(scene)
  const mayfly: Contender = {
    name: 'mayfly',
    round: () =>
      timed(async () => {
        const { exitCode } = await idle.exec(['/bin/true'])
        if (exitCode !== 0) throw new Error(`/bin/true exited with ${exitCode}`)
      }),
  }
  const alone = await alternate([mayfly], { rounds: scene.quick ? 50 : 300, warmUp: 20, restMs: 2 })
  const ours = alone.get('mayfly')!
  scene.record('exec: mayfly', ours)
  const rows: Row[] = [
    {
      what: '`exec` of `true` in a running container',
      measured: milliseconds(ours),
      goal: `≤ ${GOAL_MS} ms`,
      ratio: '',
      hit: median(ours) <= GOAL_MS,
    },
  ]
  const able = scene.rivals.flatMap((rival) => (rival.exec ? [rival.exec] : []))
  if (able.length === 0) return rows
  const samples = await alternate([mayfly, ...able], { rounds: scene.quick ? 5 : 20, warmUp: 2, restMs: 20 })
  const beside = samples.get('mayfly')!
  for (const { name } of able) {
    const theirs = samples.get(name)!
    scene.record(`exec: ${name}`, theirs)
    const faster = median(theirs) / median(beside)
    rows.push({
      what: `the same, beside \`${name} exec\``,
      measured: `${milliseconds(beside)}, ${name} ${milliseconds(theirs)}`,
      goal: name === 'docker' ? `≥ ${DOCKER_GOAL} × faster` : '',
      ratio: `${times(faster)} faster`,
      ...(name === 'docker' ? { hit: faster >= DOCKER_GOAL } : {}),
    })
  }
  return rows
}
