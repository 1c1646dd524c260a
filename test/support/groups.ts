/** Control groups of tests: one of a name in each hierarchy, below the group that this process is in. Needs root. */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isAbandoned } from './temporary.ts'

export interface Group {
  /** Controllers of a v1 hierarchy (`cpu,cpuacct`), `name=systemd`, or `unified`. */
  readonly hierarchy: string
  readonly path: string
}

/** Named as the temporary directory that they belong to. Those whose owner is gone are removed first, with the processes in them. */
export function makeGroups(directory: string): Group[] {
  const name = directory.slice(directory.lastIndexOf('/') + 1)
  return ownGroups().map(({ hierarchy, parent }) => {
    sweep(parent)
    const path = join(parent, name)
    mkdirSync(path)
    if (existsSync(join(path, 'cpuset.mems')) && hierarchy !== 'unified') {
      for (const file of ['cpuset.cpus', 'cpuset.mems'])
        writeFileSync(join(path, file), readFileSync(join(parent, file)))
    }
    return { hierarchy, path }
  })
}

/** The processes in them are dead or dying; a group is busy until the last has gone. */
export function removeGroups(groups: readonly Group[]): void {
  for (const { path } of groups) removeGroup(path)
}

/** Ids of the processes in a group and below it. */
export function membersOf(group: string): number[] {
  try {
    const inside = readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number)
    const below = readdirSync(group, { withFileTypes: true }).filter((entry) => entry.isDirectory())
    return [...inside, ...below.flatMap(({ name }) => membersOf(join(group, name)))]
  } catch {
    return [] // a group that has just been removed
  }
}

/** Kills the processes in a group and below it. */
export function killMembers(group: string): void {
  for (const pid of membersOf(group)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {} // gone
  }
}

/** The group in each hierarchy that this process is in. */
function ownGroups(): { readonly hierarchy: string; readonly parent: string }[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  const lines = readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n')
  return lines.flatMap((line) => {
    const [, controllers = '', own = ''] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    const mount = mounts.find((text) =>
      controllers
        ? / - cgroup /.test(text) && text.split(/[ ,]/).includes(controllers.split(',')[0]!)
        : / - cgroup2 /.test(text),
    )
    return mount ? [{ hierarchy: controllers || 'unified', parent: join(mount.split(' ')[4]!, own) }] : []
  })
}

function sweep(parent: string): void {
  for (const name of readdirSync(parent).filter(isAbandoned)) {
    const path = join(parent, name)
    killMembers(path)
    try {
      removeGroup(path)
    } catch {
      // A process in it cannot die yet: it is the next one's to remove.
    }
  }
}

function removeGroup(path: string): void {
  for (let attempt = 0; ; attempt++) {
    try {
      removeTree(path)
      return
    } catch (error) {
      if (!existsSync(path)) return // somebody else has done it
      if (attempt === 100) throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)
    }
  }
}

function removeTree(path: string): void {
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) removeTree(join(path, entry.name))
  rmdirSync(path)
}
