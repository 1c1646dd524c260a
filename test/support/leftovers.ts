/**
 * What a session can leave on a host, and the proof that it did not: processes, mounts, links, routes, nftables tables,
 * listening sockets, control groups, session directories.
 */

import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { availableParallelism, loadavg } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Territory } from './territory.ts'

/** Kind of thing → one line for each, in words that say what it is and where. */
export type Leftovers = Readonly<Record<(typeof KINDS)[number], readonly string[]>>

const KINDS = ['process', 'mount', 'link', 'route', 'table', 'socket', 'group', 'session'] as const

/** What is there now that carries the territory's mark or lies in its namespaces and groups. */
export function snapshotHost(territory: Territory): Leftovers {
  return {
    process: processes(territory),
    mount: mounts(territory),
    link: links(territory),
    route: routes(territory),
    table: tables(territory),
    socket: sockets(territory),
    group: territory.groups.flatMap((group) => subgroups(group)),
    session: sessions(territory.directory),
  }
}

/** How much longer everything takes where a processor is emulated: test/vm/guest/init. */
const SLOWNESS = Number(process.env.MAYFLY_TEST_SLOWNESS ?? 1)

export interface ExpectOptions {
  /** @default 2000, and more in proportion where more processes want to run than there are processors */
  readonly withinMs?: number
  /**
   * Empty control groups and session directories may stay: where launcher and warden were killed, nobody is left to
   * remove them before the next start of mayfly. @default false
   */
  readonly untilNextStart?: boolean
  /** Lines that are not of interest. */
  readonly ignore?: (line: string) => boolean
}

/** Waits until nothing is there that was not there before. Throws with everything that has stayed. */
export async function expectNothingLeft(territory: Territory, before: Leftovers, options: ExpectOptions = {}) {
  const {
    withinMs = 2_000 * SLOWNESS * Math.max(1, loadavg()[0]! / availableParallelism()),
    untilNextStart = false,
    ignore = () => false,
  } = options
  const deadline = performance.now() + withinMs
  for (;;) {
    const isLate = performance.now() > deadline
    const now = snapshotHost(territory)
    const left = KINDS.filter((kind) => !untilNextStart || (kind !== 'group' && kind !== 'session')).flatMap((kind) =>
      now[kind].filter((line) => !before[kind].includes(line) && !ignore(line)).map((line) => `${kind}: ${line}`),
    )
    if (left.length === 0) return
    if (isLate)
      throw new Error(`Left behind after ${Math.round(withinMs)} ms:\n  ${left.map(withContents).join('\n  ')}`)
    await sleep(20)
  }
}

/** What still lies in a directory says why nobody could remove it. */
function withContents(line: string): string {
  const path = /^session: (.*)$/.exec(line)?.[1]
  if (path === undefined || !existsSync(path)) return line
  return `${line}: ${readdirSync(path, { recursive: true, encoding: 'utf8' }).slice(0, 20).join(' ')}`
}

/** A file of /proc whose process may be gone, or in the act of dying. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/**
 * Three marks, since a process can drop two of them: the directory's path among its arguments or variables, a mount below
 * that directory in its mount namespace, and the control group that it cannot leave without being let out. A zombie has none and
 * is known by its parent.
 */
function processes(territory: Territory): string[] {
  const members = new Set(territory.members().map(String))
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
  const found = new Set(all.filter((pid) => members.has(pid) || isMarked(pid, territory.directory)))
  const parent = (pid: string) => /^\d+ \(.*\) Z (\d+) /s.exec(read(`/proc/${pid}/stat`))?.[1] ?? ''
  for (const pid of all) if (found.has(parent(pid))) found.add(pid)
  return [...found].flatMap((pid) => describe(pid))
}

function isMarked(pid: string, mark: string): boolean {
  return ['cmdline', 'environ', 'mountinfo'].some((file) => read(`/proc/${pid}/${file}`).includes(mark))
}

/** Pid, state and start time, so that a later process with the same number is another one. Gone meanwhile: nothing. */
function describe(pid: string): string[] {
  const stat = /^\d+ \((.*)\) (\S) (\d+) (.*)$/s.exec(read(`/proc/${pid}/stat`))
  if (!stat) return []
  const [, name, state, parent, rest] = stat
  const started = rest!.split(' ')[17]
  const words = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim().slice(0, 120)
  const kind = /(?:^|\0)KIND=([^\0]*)/.exec(read(`/proc/${pid}/environ`))?.[1]
  const dead = state === 'Z' ? ', zombie' : ''
  return [`${pid} (${name}${dead}) of ${parent}, since ${started}${kind ? `, container "${kind}"` : ''}: ${words}`]
}

/** In the host's mount namespace, and in the territory's where that is another. */
function mounts({ directory, keeper }: Territory): string[] {
  const lines = new Set([...read('/proc/self/mountinfo').split('\n'), ...read(`/proc/${keeper}/mountinfo`).split('\n')])
  return [...lines].filter((line) => line.includes(directory) || /mayfly/.test(line.split(' ')[4] ?? ''))
}

function links({ keeper }: Territory): string[] {
  const rows = read(`/proc/${keeper}/net/dev`).split('\n').slice(2)
  return rows.map((row) => row.split(':')[0]!.trim()).filter(Boolean)
}

/** Leaves of the kernel's tree of all routing tables: its inner nodes depend on what else is there. */
function routes({ keeper }: Territory): string[] {
  return [...read(`/proc/${keeper}/net/fib_trie`).matchAll(/\|-- (\S+)/g)].map(([, destination]) => destination!)
}

function tables({ keeper }: Territory): string[] {
  try {
    const args = [`--net=/proc/${keeper}/ns/net`, 'nft', 'list', 'tables']
    return execFileSync('nsenter', args, { encoding: 'utf8' }).split('\n').filter(Boolean)
  } catch (error) {
    if ((error as { status?: number }).status === 127) return [] // without nft there is no way to look
    throw error
  }
}

/** Listening TCP sockets and bound UDP sockets. Connections that wait for their last timer are the kernel's own. */
function sockets({ keeper }: Territory): string[] {
  return ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((protocol) =>
    read(`/proc/${keeper}/net/${protocol}`)
      .split('\n')
      .slice(1)
      .map((row) => row.trim().split(/\s+/))
      .filter(([, local, , state]) => local && (protocol.startsWith('udp') || state === '0A'))
      .map(([, local]) => `${protocol} port ${Number.parseInt(local!.slice(local!.lastIndexOf(':') + 1), 16)}`),
  )
}

function subgroups(group: string): string[] {
  return directoriesIn(group).flatMap((name) => [join(group, name), ...subgroups(join(group, name))])
}

/** What is in every directory `sessions` of a store, wherever the store lies below. */
function sessions(directory: string, depth = 0): string[] {
  return directoriesIn(directory).flatMap((name) => {
    const path = join(directory, name)
    if (name === 'sessions') return directoriesIn(path).map((session) => join(path, session))
    return depth < 4 && name !== 'rootfs' && name !== 'layers' ? sessions(path, depth + 1) : []
  })
}

function directoriesIn(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
  } catch {
    return []
  }
}
