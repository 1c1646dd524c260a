/**
 * A part of the host that belongs to one test, so that what is found there afterwards was left by that test and by no
 * neighbour: a network namespace with a loopback and one address, a control group in every hierarchy, and a directory whose
 * unique name marks all processes and mounts. Processes and mounts stay the host's own. Needs root.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { killMembers, makeGroups, membersOf, removeGroups } from './groups.ts'
import { temporaryDirectory } from './temporary.ts'

export interface Territory {
  /** On the host's disk, readable by everybody; removed with the territory. Its path is the mark. */
  readonly directory: string
  /** Directories of the control groups. */
  readonly groups: readonly string[]
  /** Process whose network namespace (and mount namespace, if files are replaced) is the territory's. */
  readonly keeper: number
  /** Words that, put before a command, run it here. The process is replaced, so its id is the command's. */
  readonly enter: readonly string[]
  /** Ids of the processes in the control groups: all that were started here, but for the keeper. */
  members(): number[]
  /** Kills them, so that what one test has left does not disturb the next. Resolves when they are gone, at most 2 s later. */
  clear(): Promise<void>
  [Symbol.dispose](): void
}

/** An address of the territory's host outside of 127.0.0.0/8. */
export const OUTSIDE = '203.0.113.1'

export interface TerritoryOptions {
  /** Files of the host that processes here see otherwise: path → path of the replacement. The host does not see it. */
  readonly replace?: (directory: string) => Readonly<Record<string, string>>
}

export async function openTerritory(options: TerritoryOptions = {}): Promise<Territory> {
  const directory = temporaryDirectory()
  chmodSync(directory, 0o755)
  const groups = makeGroups(directory)
  let keeper: ChildProcess | undefined
  const members = () => [...new Set(groups.flatMap(({ path }) => membersOf(path)))]
  const killAll = () => {
    for (const { path } of groups) killMembers(path)
  }
  const close = () => {
    process.off('exit', close)
    killAll()
    keeper?.kill('SIGKILL')
    removeGroups(groups)
    rmSync(directory, { recursive: true, force: true })
  }
  process.once('exit', close)
  try {
    const replaced = Object.entries(options.replace?.(directory) ?? {})
    const binds = replaced.map(([path, by]) => `mount --bind '${by}' '${path}'`)
    const script = [
      'ip link set lo up',
      `ip address add ${OUTSIDE}/32 dev lo`,
      ...binds,
      'echo ready',
      'exec cat',
    ].join(' && ')
    const namespaces = replaced.length > 0 ? ['--net', '--mount'] : ['--net']
    keeper = spawn('unshare', [...namespaces, 'sh', '-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
    const exited = once(keeper, 'exit').then(([code]) => {
      throw new Error(`Cannot make namespaces for the test: exit code ${code}`)
    })
    exited.catch(() => {})
    await Promise.race([once(keeper.stdout!, 'data'), exited])
    const pid = keeper.pid!
    const mount = replaced.length > 0 ? `--mount=/proc/${pid}/ns/mnt` : ''
    const join_ = groups.map(({ path }) => `echo 0 > '${path}/cgroup.procs'`).join(' && ')
    return {
      directory,
      groups: groups.map(({ path }) => path),
      keeper: pid,
      enter: ['sh', '-c', `${join_} && exec nsenter --net=/proc/${pid}/ns/net ${mount} "$@"`, 'sh'],
      members,
      clear: async () => {
        for (const deadline = Date.now() + 2_000; members().length > 0 && Date.now() < deadline; await sleep(10))
          killAll()
      },
      [Symbol.dispose]: close,
    }
  } catch (error) {
    close()
    throw error
  }
}
