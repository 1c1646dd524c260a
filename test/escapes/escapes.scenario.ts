/** The cases for escapes.test.ts in a process of an ordinary user: the directory as argument, the name of a case a line, an answer each. */

import { createInterface } from 'node:readline'
import { cases } from './cases/all.ts'
import { openWorld } from './world.ts'

const world = await openWorld(process.argv[2]!)
process.stdout.write(`${JSON.stringify(world.engine.info)}\n`)
for await (const line of createInterface({ input: process.stdin })) {
  let failure = ''
  try {
    const late = AbortSignal.timeout(25_000)
    const tooLate = new Promise<never>((_, reject) => late.addEventListener('abort', () => reject(late.reason)))
    await Promise.race([cases.find(({ name }) => name === line)!.run(world), tooLate])
    world.assertUntouched()
  } catch (error) {
    failure = (error as Error).stack ?? String(error)
  }
  process.stdout.write(`${JSON.stringify(failure)}\n`)
}
await world.engine.close()
