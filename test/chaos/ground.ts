/**
 * Where the rounds of a chaos run happen: a territory, and inside of it a mount namespace with /tmp, /var/tmp and /dev/shm of its own, so that whatever
 * is found there was left by us. The store lies on the disk, or on a tmpfs that is small enough to fill.
 */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { wardenProgram } from '../../src/engine/where.ts'
import { type Registry, startRegistry } from '../support/registry.ts'
import { makeRootfs } from '../support/rootfs.ts'
import { bundleScenario, type Scenario, startScenario } from '../support/scenario.ts'
import { openTerritory, type Territory } from '../support/territory.ts'
import type { Settings } from './workload.ts'

export interface Ground {
  readonly territory: Territory
  readonly registry: Registry
  /** The store as the host sees it. Its processes know it by another path. */
  home(): string
  /** What is compared file by file: path, and the name to show. */
  directories(): { readonly path: string; readonly name: string }[]
  /** Makes the mount namespace anew. @param tmpfsMib puts a copy of the store onto a tmpfs of this size */
  lay(tmpfsMib: number | undefined): Promise<void>
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
for place in /tmp /var/tmp /dev/shm; do mount -n -t tmpfs -o mode=1777 tmpfs $place; done
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

/** @param sources the directory of this file */
export async function openGround(seed: string, sources: string): Promise<Ground> {
  const territory = await openTerritory()
  const { directory } = territory
  const home = join(directory, 'home')
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
    copyFileSync(wardenProgram(), join(directory, 'warden'))
    mkdirSync(home)
    await bundleScenario(join(sources, 'workload.ts'), join(directory, 'workload.mjs'))
    // It is no part of what is tested: not in the control groups, so no limit or kill reaches it.
    registry = await startRegistry({ enter: ['nsenter', `--net=/proc/${territory.keeper}/ns/net`] })
    const { host } = registry
    const ground: Ground = {
      territory,
      registry,
      home: () => join(`/proc/${holder!.pid}/root`, home),
      directories: () => [
        { path: join(`/proc/${holder!.pid}/root`, home), name: 'store' },
        ...['/var/tmp', '/dev/shm'].map((path) => ({ path: `/proc/${holder!.pid}/root${path}`, name: path })),
      ],
      async lay(tmpfsMib) {
        await leave()
        const kept = [directory, dirname(process.execPath)].filter(
          (path) => path === directory || /^\/tmp\//.test(path),
        )
        const words = ['--mount', '--propagation', 'private', 'sh', '-c', NAMESPACE, 'sh', home, `${tmpfsMib ?? ''}`]
        holder = spawn('unshare', [...words, ...kept], { stdio: ['pipe', 'pipe', 'inherit'] })
        const failed = once(holder, 'exit').then(([code]) => {
          throw new Error(`Cannot make a mount namespace for the store: exit code ${code}`)
        })
        failed.catch(() => {})
        await Promise.race([once(holder.stdout!, 'data'), failed])
        // Now it becomes what it is compared as later.
        while (!readFileSync(`/proc/${holder.pid}/stat`, 'utf8').includes('(cat)')) await sleep(5)
      },
      start(settings) {
        const complete: Settings = { task: 'work', home, directory, registry: host, seed, ...settings }
        const namespaces = ['nsenter', `--mount=/proc/${holder!.pid}/ns/mnt`, '--wd=/']
        const node = [process.execPath, join(directory, 'workload.mjs'), JSON.stringify(complete)]
        const env = {
          MAYFLY_WARDEN: join(directory, 'warden'),
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
