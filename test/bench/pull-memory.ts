/** `<home> <reference>`: pulls in a process of its own and prints by how many bytes its resident set has grown at most. */

import { readFileSync, writeFileSync } from 'node:fs'
import { pull } from '../../src/engine/registry/pull.ts'
import { Session } from '../../src/engine/session.ts'
import { Store } from '../../src/engine/store/store.ts'
import { wardenProgram } from '../../src/engine/where.ts'

const [home = '', reference = ''] = process.argv.slice(2)
await new Store(home).prepare()
const session = await Session.open({ home, program: wardenProgram(), network: false })
await import('undici') // its code is no memory of the pull
// Not getrusage's peak: that is inherited from whoever started this process.
writeFileSync('/proc/self/clear_refs', '5')
const before = statusBytes('VmRSS')
await pull({ session, store: new Store(home, session) }, reference)
console.log(statusBytes('VmHWM') - before)
await session.close()

function statusBytes(field: string): number {
  const status = readFileSync('/proc/self/status', 'utf8')
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024
}
