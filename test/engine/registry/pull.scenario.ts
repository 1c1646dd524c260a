/** A process of its own that pulls: `<home> <reference>`. Prints the image's id. */

import { pull } from '../../../src/engine/registry/pull.js'
import { Session } from '../../../src/engine/session.js'
import { Store } from '../../../src/engine/store/store.js'
import { wardenProgram } from '../../../src/engine/where.js'

const [home = '', reference = ''] = process.argv.slice(2)
await new Store(home).prepare()
const session = await Session.open({ home, program: wardenProgram(), network: false })
try {
  const image = await pull({ session, store: new Store(home, session) }, reference)
  console.log(image.id)
} catch (error) {
  console.log((error as { code?: string }).code, (error as Error).message.split('\n')[0])
  process.exitCode = 1
} finally {
  await session.close()
}
