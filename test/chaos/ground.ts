/**
 * Where the rounds of a chaos run happen: a territory, and inside of it a mount namespace with /tmp, /var/tmp and /dev/shm of its own, so that whatever
 * is found there was left by us. The store lies on the disk, or on a tmpfs that is small enough to fill.
 */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { wardenProgram } from '../../src/engine/where.ts'
import { type Registry, startRegistry } from '../support/registry.ts'
import { makeRootfs } from '../support/rootfs.ts'
import { bundleScenario, type Scenario, startScenario } from '../support/scenario.ts'
import { openTerritory, type Territory } from '../support/territory.ts'
import { countFailed, wordsOfStrace } from './torments.ts'
import type { Settings } from './workload.ts'

export interface Watched {
  readonly path: string
  /** To show. */
  readonly name: string
  /** What is not looked at, by the name to show. */
  readonly except?: readonly string[]
}

/** What is looked at before and after. */
export interface Site {
  readonly territory: Territory
  /** The store as the host sees it. Its processes know it by another path. */
  home(): string
  /** What is compared file by file. */
  directories(): Watched[]
  /** The process whose mount namespace it is. */
  holder(): number
}

export interface Ground extends Site {
  readonly registry: Registry
  /** Name of the native program's file, which no other run has. */
  readonly program: string
  /** Makes the mount namespace anew. @param tmpfsMib puts a copy of the store onto a tmpfs of this size */
  lay(tmpfsMib: number | undefined): Promise<void>
  /**
   * System calls fail, as strace's rules say, in what a process starts of the engine meanwhile, from its first call to its end. Resolves to how many calls have
   * failed so far.
   */
  lie(process: number, rules: readonly string[], forMs: number): Promise<number>
  /** A process of workload.ts. */
  start(settings: Partial<Settings>): Scenario
  close(): Promise<void>
}

const NAMESPACE = `
set -e
home=$1 size=$2
shift 2
fd=3
for directory; do
  eval "exec $fd<'$directory'"
  fd=$((fd + 1))
done
for place in /tmp /var/tmp /dev/shm /run; do mount -n -t tmpfs -o mode=1777 tmpfs $place; done
fd=3
for directory; do
  mkdir -p "$directory"
  mount -n --no-canonicalize --bind /proc/self/fd/$fd "$directory"
  fd=$((fd + 1))
done
if [ -n "$size" ]; then
  mount -n -t tmpfs -o "size=\${size}m" tmpfs "$home"
  cp -a "$home-pristine/." "$home/"
fi
echo ready
exec cat
`

/** In the place of the native program: traced, and lied to, where there is something for the process that starts it. */
const PROGRAM = `#!/bin/sh
lies=\${0%/*}/lies/$PPID
[ -r $lies ] && exec strace -D -o $lies.$$ $(cat $lies) "$0-itself" "$@"
exec "$0-itself" "$@"
`

/** @param sources the directory of this file */
export async function openGround(seed: string, sources: string): Promise<Ground> {
  const territory = await openTerritory()
  const { directory } = territory
  const home = join(directory, 'home')
  const lies = join(directory, 'lies')
  const program = join(directory, `warden-of-${basename(directory)}`)
  /** What else the processes need of this machine's /tmp: node, where it lies there. */
  const shared = () => [dirname(process.execPath)].filter((path) => path.startsWith('/tmp/'))
  let registry: Registry | undefined
  let holder: ChildProcess | undefined
  const leave = async () => {
    if (!holder || holder.exitCode !== null || holder.signalCode !== null) return
    const exited = once(holder, 'exit')
    holder.kill('SIGKILL')
    await exited
  }
  const close = async () => {
    await registry?.[Symbol.asyncDispose]()
    await territory.clear()
    await leave()
    territory[Symbol.dispose]()
  }
  try {
    makeRootfs(join(directory, 'rootfs'))
    execFileSync('tar', ['-C', join(directory, 'rootfs'), '-cf', join(directory, 'base.tar'), '.'])
    copyFileSync(wardenProgram(), `${program}-itself`)
    writeFileSync(program, PROGRAM, { mode: 0o755 })
    mkdirSync(home)
    await bundleScenario(join(sources, 'workload.ts'), join(directory, 'workload.mjs'))
    // It is no part of what is tested: not in the control groups, so no limit or kill reaches it.
    registry = await startRegistry({ enter: ['nsenter', `--net=/proc/${territory.keeper}/ns/net`] })
    const { host } = registry
    const ground: Ground = {
      territory,
      registry,
      program: `${basename(program)}-itself`,
      home: () => join(`/proc/${holder!.pid}/root`, home),
      holder: () => holder!.pid!,
      directories: () => [
        { path: join(`/proc/${holder!.pid}/root`, home), name: 'store' },
        // The store is told already, and of what was put there the rounds have only a view.
        ...['/tmp', '/var/tmp', '/dev/shm', '/run'].map((path) => ({
          path: `/proc/${holder!.pid}/root${path}`,
          name: path,
          except: [home, `${home}-pristine`, lies, ...shared()],
        })),
      ],
      async lay(tmpfsMib) {
        await leave()
        rmSync(lies, { recursive: true, force: true })
        mkdirSync(lies)
        const words = ['--mount', '--propagation', 'private', 'sh', '-c', NAMESPACE, 'sh', home, `${tmpfsMib ?? ''}`]
        holder = spawn('unshare', [...words, directory, ...shared()], { stdio: ['pipe', 'pipe', 'inherit'] })
        const failed = once(holder, 'exit').then(([code]) => {
          throw new Error(`Cannot make a mount namespace for the store: exit code ${code}`)
        })
        failed.catch(() => {})
        await Promise.race([once(holder.stdout!, 'data'), failed])
        // Now it becomes what it is compared as later.
        while (!readFileSync(`/proc/${holder.pid}/stat`, 'utf8').includes('(cat)')) await sleep(5)
      },
      async lie(process, rules, forMs) {
        const path = join(lies, String(process))
        writeFileSync(path, wordsOfStrace(rules, true).join(' '))
        await sleep(forMs)
        rmSync(path, { force: true }) // another lie to the same process may have ended it
        const said = readdirSync(lies).filter((name) => name.startsWith(`${process}.`))
        return said.reduce((sum, name) => sum + countFailed(readFileSync(join(lies, name), 'utf8')), 0)
      },
      start(settings) {
        const complete: Settings = { task: 'work', home, directory, registry: host, seed, ...settings }
        const namespaces = ['nsenter', `--mount=/proc/${holder!.pid}/ns/mnt`, '--wd=/']
        const node = [process.execPath, join(directory, 'workload.mjs'), JSON.stringify(complete)]
        const env = {
          MAYFLY_WARDEN: program,
          DOCKER_CONFIG: '/nonexistent',
          DOCKER_AUTH_CONFIG: undefined,
        }
        return startScenario([...territory.enter, ...namespaces, ...node], env)
      },
      close,
    }
    await ground.lay(undefined)
    for (const [task, at] of [
      ['publish', join(directory, 'maker')],
      ['prepare', home],
    ] as const) {
      const { code, stderr } = await ground.start({ task, home: at }).ended
      if (code !== 0) throw new Error(`Cannot ${task} what the rounds need: ${stderr}`)
    }
    execFileSync('rm', ['-rf', join(directory, 'maker')])
    execFileSync('cp', ['-a', home, `${home}-pristine`])
    return ground
  } catch (error) {
    await close()
    throw error
  }
}

/** Why there can be no chaos here, or undefined. */
export function obstacleToChaos(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root'
  const program = ['ip', 'nft', 'sysctl', 'nsenter', 'prlimit', 'docker-registry', 'busybox'].find(
    (name) => !['/usr/bin', '/bin', '/usr/sbin', '/sbin'].some((path) => existsSync(join(path, name))),
  )
  return (
    program &&
    `${program} is missing: apt-get install iproute2 nftables procps util-linux docker-registry busybox-static`
  )
}
