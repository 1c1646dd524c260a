/** A root file system for the examples: one static busybox under all its names. A real test has its own tar file. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const BUSYBOX = '/bin/busybox'

/** Why there can be none, or undefined. */
export function whyNoBusybox(): string | undefined {
  return existsSync(BUSYBOX) ? undefined : 'there is no static busybox: apt-get install busybox-static'
}

export function makeRootfsTar(file: string): void {
  const directory = mkdtempSync(join(tmpdir(), 'mayfly-busybox-'))
  try {
    for (const name of ['bin', 'etc', 'tmp']) mkdirSync(join(directory, name))
    execFileSync('cp', [BUSYBOX, join(directory, 'bin/busybox')])
    for (const name of ['sh', 'cat', 'echo', 'mkdir', 'httpd', 'ps', 'grep', 'hostname', 'nc', 'sleep']) {
      execFileSync('ln', ['-s', 'busybox', join(directory, 'bin', name)])
    }
    execFileSync('tar', ['-C', directory, '-cf', file, '.'])
  } finally {
    rmSync(directory, { recursive: true })
  }
}
