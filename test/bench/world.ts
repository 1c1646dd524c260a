/** What the benchmark needs before it can measure: compiled programs, a root file system, an engine, the machine's name. */

import { execFile } from 'node:child_process'
import { cpSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { packageRoot } from '../../src/engine/where.ts'
import { temporaryDirectory } from '../support/temporary.ts'

/** The directory of this file in the checkout; set by bench.mjs, since the bundle lies elsewhere. */
declare const BENCH_DIRECTORY: string
export const BENCH = BENCH_DIRECTORY

const run = promisify(execFile)

export interface World {
  /** Temporary directory that holds all of the benchmark's files. */
  readonly directory: string
  /** The compiled floor.c and peer.c. */
  readonly floor: string
  readonly peer: string
  /** A directory with /bin/busybox, /bin/peer, and /bin/true, which is peer again. */
  readonly rootfs: string
  /** The same as a tar file, for engines that import. */
  readonly tar: string
  readonly machine: string
  /** npm packages, with versions, that everyone is asked with: the same for us and for rivals. */
  readonly clients: Readonly<Record<'pg' | 'vitest', string>>
  [Symbol.dispose](): void
}

/** Throws when there is no C compiler or no static busybox. */
export async function makeWorld(): Promise<World> {
  const directory = temporaryDirectory('bench')
  // A session that ends at the same moment still removes its own.
  const remove = () => rmSync(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  process.once('exit', remove)
  try {
    const [floor, peer, rootfs, tar] = ['floor', 'peer', 'rootfs', 'rootfs.tar'].map((name) => join(directory, name))
    const compile = (source: string, target: string) =>
      run('cc', ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-static', '-o', target, join(BENCH, source)])
    await Promise.all([compile('floor.c', floor!), compile('peer.c', peer!)])
    for (const name of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp']) mkdirSync(join(rootfs!, name), { recursive: true })
    for (const name of ['hosts', 'hostname', 'resolv.conf']) writeFileSync(join(rootfs!, 'etc', name), '')
    writeFileSync(join(rootfs!, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n')
    cpSync('/bin/busybox', join(rootfs!, 'bin/busybox'))
    cpSync(peer!, join(rootfs!, 'bin/peer'))
    linkSync(join(rootfs!, 'bin/peer'), join(rootfs!, 'bin/true'))
    await run('tar', ['-C', rootfs!, '-cf', tar!, '.'])
    return {
      directory,
      floor: floor!,
      peer: peer!,
      rootfs: rootfs!,
      tar: tar!,
      machine: await describeMachine(directory),
      clients: clientVersions(),
      [Symbol.dispose]: remove,
    }
  } catch (error) {
    remove()
    throw error
  }
}

function clientVersions(): World['clients'] {
  const { devDependencies } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8'))
  const { pg, vitest } = devDependencies
  return { pg, vitest }
}

async function describeMachine(directory: string): Promise<string> {
  const processors = cpus()
  const { stdout } = await run('stat', ['--file-system', '--format=%T', directory])
  const fileSystem = stdout.trim().replace('ext2/ext3', 'ext4')
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`
  const load = Number(readFileSync('/proc/loadavg', 'utf8').split(' ')[0])
  const busy = load > processors.length / 2 ? `, **not a quiet machine: load ${load} before**` : ''
  const name = `${processors.length} × ${processors[0]?.model.trim() ?? 'unknown processor'}`
  return `${name}, ${memory}, Linux ${release()} ${process.arch}, ${fileSystem}, node ${process.version}${busy}`
}
