/**
 * How long after listen(2) has returned in the container somebody here knows of it. Less than nothing is possible: the kernel
 * has opened the port and we know, but the process in the container has not had the processor since. Being told too early would
 * look the same, so each time a connection is made at once, and none may be refused.
 */

import { once } from 'node:events'
import { connect } from 'node:net'
import { alternate, type Contender, median } from '../measure.ts'
import { milliseconds } from '../table.ts'
import { container, type Measurement } from './scene.ts'

const PORT = 7000
const GOAL_MS = 1

export const listen: Measurement = async (scene) => {
  // Late enough that the wait has begun.
  const options = container(scene, '/bin/peer', 'listen', String(PORT), '15')
  let refused = 0
  const mayfly: Contender = {
    name: 'mayfly',
    async round() {
      await using server = await scene.engine.start(options)
      await server.waitForPort(PORT)
      const told = process.hrtime.bigint()
      if (scene.engine.info.isHostReachable && !(await accepts(server.address))) refused++
      // Its CLOCK_MONOTONIC is ours: the time namespace has no offset.
      const listened = BigInt((await server.waitForLog(/^\d+$/)).trim())
      return Number(told - listened) / 1e6
    },
  }
  const samples = (await alternate([mayfly], { rounds: scene.quick ? 30 : 100, warmUp: 5, restMs: 5 })).get('mayfly')!
  scene.record('listen: mayfly', samples)
  return [
    {
      what: '`listen()` in the container → `waitForPort` resolved',
      measured: milliseconds(samples) + (refused > 0 ? `; ${refused} times too early` : ''),
      goal: `≤ ${GOAL_MS} ms`,
      ratio: '',
      hit: median(samples) <= GOAL_MS && refused === 0,
    },
  ]
}

async function accepts(address: string): Promise<boolean> {
  const socket = connect(PORT, address)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
