/**
 * Before the first test: an engine asks for a limit, so that whoever is in the suite's delegated group is moved below it (native/cgroup_delegate.c)
 * now, and not while a test moves a process to a group of its own. The kernel has no way to move only who is still there.
 */

import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { Engine } from '../../src/index.ts'
import { makeRootfs } from '../support/rootfs.ts'
import { temporaryDirectory } from '../support/temporary.ts'

export async function setup(): Promise<void> {
  const directory = temporaryDirectory()
  try {
    const rootfs = join(directory, 'rootfs')
    makeRootfs(rootfs)
    await using engine = await Engine.open({ home: join(directory, 'home'), network: false })
    await engine.run({ rootfs: { directory: rootfs }, command: ['true'], limits: { pids: 10 } })
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
