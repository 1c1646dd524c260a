/**
 * A process that may open few files opens them all but some, and asks for an engine: tells how that ended and how many sockets it has more than before, for each
 * number of descriptors that are left, and at last whether an engine opens when all are closed.
 */

import { closeSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Engine } from '../../src/index.ts'
import { descriptorsOf } from '../chaos/descriptors.ts'

const attempt = () =>
  Engine.open({ home: process.argv[2]!, network: false }).then(
    (engine) => engine.close().then(() => 'open'),
    (error) => ({ code: error.code, message: error.message }),
  )
const countSockets = () => descriptorsOf(process.pid).filter((name) => name === 'socket:').length

console.log(JSON.stringify(await attempt())) // what is loaded when it is needed is loaded now
for (let left = 0; left < 30; left++) {
  const sockets = countSockets()
  const files: number[] = []
  try {
    for (;;) files.push(openSync('/dev/null', 'r'))
  } catch {} // EMFILE
  for (const file of files.splice(0, left)) closeSync(file)
  const outcome = await attempt()
  for (const file of files) closeSync(file)
  const deadline = performance.now() + 2_000
  while (countSockets() > sockets && performance.now() < deadline) await sleep(5)
  console.log(JSON.stringify({ outcome, more: countSockets() - sockets }))
}
console.log(JSON.stringify(await attempt()))
