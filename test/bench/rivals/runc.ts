/** runc alone: a bundle from `runc spec`, so no network, no overlay, no seccomp. The least that a tool of that kind does. */

import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { openSandbox } from '../../support/sandbox.ts'
import { stopwatch } from '../stepper.ts'
import type { World } from '../world.ts'
import type { Rival } from './rival.ts'

const execute = promisify(execFile)

/** Resolves to what to install where it is missing. */
export async function openRunc(world: World): Promise<Rival | string> {
  if (!existsSync('/usr/sbin/runc') && !existsSync('/usr/bin/runc')) return 'apt-get install runc'
  const sandbox = await openSandbox('runc')
  const { directory, enter } = sandbox
  const bundle = join(directory, 'bundle')
  mkdirSync(bundle)
  cpSync(world.rootfs, join(bundle, 'rootfs'), { recursive: true })
  await execute('runc', ['spec', '--bundle', bundle])
  const file = join(bundle, 'config.json')
  const spec = JSON.parse(readFileSync(file, 'utf8'))
  Object.assign(spec.process, { terminal: false, args: ['/bin/true'] })
  writeFileSync(file, JSON.stringify(spec))
  const { stdout } = await execute('runc', ['--version'])
  const words = ['runc', '--root', join(directory, 'state'), 'run', '--bundle', bundle, 'bench']
  const run = stopwatch('runc', world.peer, words, enter)
  return {
    name: 'runc',
    description: `runc ${/\d\S*/.exec(stdout)?.[0] ?? ''}, without network, overlay, seccomp`,
    run,
    async [Symbol.asyncDispose]() {
      await run[Symbol.asyncDispose]()
      sandbox[Symbol.dispose]()
    },
  }
}
