/** A run of tests that leaves what it has made when it is killed. Ends, in order, with its stdin. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { temporaryDirectory } from './temporary.ts'
import { openTerritory } from './territory.ts'

export interface Made {
  readonly directories: readonly string[]
  readonly groups: readonly string[]
  /** A process in the groups; undefined where there are none. */
  readonly member?: number
}

const plain = temporaryDirectory('plain')
if (process.argv[2] === 'territory') {
  using territory = await openTerritory()
  const [program = '', ...words] = [...territory.enter, 'sleep', '1000']
  const member = spawn(program, words, { stdio: 'ignore', detached: true })
  while (!territory.members().includes(member.pid!)) await new Promise((resolve) => setTimeout(resolve, 10))
  tell({ directories: [plain, territory.directory], groups: territory.groups, member: member.pid! })
  await end()
} else {
  tell({ directories: [plain], groups: [] })
  await end()
}

function tell(made: Made): void {
  console.log(JSON.stringify(made))
}

async function end(): Promise<void> {
  process.stdin.resume()
  await once(process.stdin, 'end')
}
