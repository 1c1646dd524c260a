/** A world of its own for tests of the engine: a store and a root file system with busybox in it, both temporary. */

import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { wardenProgram } from '../../../src/engine/where.js'
import { temporaryDirectory } from '../../support/temporary.js'

const BUSYBOX = '/bin/busybox'
const APPLETS =
  'cat chmod cut date dd echo env false grep head hostname httpd id kill ls mkdir mv nc ping printf ps pwd readlink rm seq sh sleep sort stat stty tail tar test touch tr true umount uname wc wget yes'

/** Why there can be no containers here; '' when there can. */
export function obstacle(): string {
  if (process.platform !== 'linux') return `this is ${process.platform}`
  if (!existsSync(BUSYBOX)) return `${BUSYBOX} is missing: apt-get install busybox-static`
  try {
    wardenProgram()
  } catch (error) {
    return (error as Error).message
  }
  return ''
}

export interface World {
  readonly home: string
  /** A directory with busybox, users root, alice (1000) and bob (1001), and the group staff (50). */
  readonly rootfs: string
  /** A temporary directory for whatever else. */
  readonly directory: string
  remove(): void
}

export function makeWorld(): World {
  const directory = temporaryDirectory()
  const rootfs = join(directory, 'rootfs')
  for (const name of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'root', 'home/alice'])
    mkdirSync(join(rootfs, name), { recursive: true })
  chmodSync(join(rootfs, 'tmp'), 0o1777)
  copyFileSync(BUSYBOX, join(rootfs, 'bin/busybox'))
  for (const applet of APPLETS.split(' ')) symlinkSync('busybox', join(rootfs, 'bin', applet))
  writeFileSync(
    join(rootfs, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n',
  )
  writeFileSync(join(rootfs, 'etc/group'), 'root:x:0:\nstaff:x:50:alice\nalice:x:1000:\nbob:x:1001:\n')
  chmodSync(rootfs, 0o755)
  return {
    home: join(directory, 'home'),
    rootfs,
    directory,
    remove: () => removeTree(directory),
  }
}

/** An ordinary user's layers have files of other ids, which are its own in a user namespace only. */
function removeTree(directory: string): void {
  const isRoot = process.getuid?.() === 0
  const words = ['--map-root-user', '--map-auto', 'rm', '-rf', directory]
  if (isRoot || spawnSync('unshare', words).status !== 0) rmSync(directory, { recursive: true, force: true })
}
