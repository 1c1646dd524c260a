/** A root file system that can do nearly everything and needs no registry: one static busybox under all its names. */

import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

const BUSYBOX = '/bin/busybox'

/** What to install where there is no busybox, or undefined. */
export function missingBusybox(): string | undefined {
  return existsSync(BUSYBOX) ? undefined : 'apt-get install busybox-static'
}

/** Makes one in `directory`, which must not exist. Its users are root, alice (1000) and nobody (65534). */
export function makeRootfs(directory: string): void {
  for (const name of ['bin', 'dev', 'etc', 'home/alice', 'mnt', 'proc', 'root', 'sys', 'tmp', 'var'])
    mkdirSync(join(directory, name), { recursive: true, mode: 0o755 })
  chmodSync(directory, 0o755)
  chmodSync(join(directory, 'tmp'), 0o1777)
  copyFileSync(BUSYBOX, join(directory, 'bin/busybox'))
  for (const applet of execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).trim().split('\n'))
    if (applet !== 'busybox') symlinkSync('busybox', join(directory, 'bin', basename(applet)))
  const users = [
    'root:x:0:0:root:/root:/bin/sh',
    'alice:x:1000:1000::/home/alice:/bin/sh',
    'nobody:x:65534:65534::/:/bin/sh',
  ]
  writeFileSync(join(directory, 'etc/passwd'), `${users.join('\n')}\n`)
  writeFileSync(join(directory, 'etc/group'), 'root:x:0:\nalice:x:1000:\nnogroup:x:65534:\n')
}
