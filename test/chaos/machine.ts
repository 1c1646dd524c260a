/**
 * What is on the machine, seen from outside: the kernel's own lists and the files on the disk. Nothing here asks mayfly, or reads anything that
 * mayfly has written down about itself.
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { availableParallelism, loadavg } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { snapshotHost } from '../support/leftovers.ts'
import type { Territory } from '../support/territory.ts'
import type { Site, Watched } from './ground.ts'

/** Kind of thing → one line for each. */
export type Machine = Readonly<Record<string, readonly string[]>>

/** These may stay until the next session opens, where nobody was left alive to remove them. */
export const SWEPT_LATER: readonly string[] = ['group', 'session', 'file']

/** Changes by itself, or by what others do on this machine. */
const RESTLESS =
  /^(?:fs\.(?:dentry-state|file-nr|inode-nr|inode-state|aio-nr|quota\.)|kernel\.(?:random\.|ns_last_pid|pty\.nr|tainted|perf_event_max_sample_rate)|vm\.min_free_kbytes|net\.netfilter\.nf_conntrack_count)/

/** The namespaces, control groups and directories of a territory, and of the mount namespace that its processes share. */
export function lookAtMachine(site: Site): Machine {
  const { territory } = site
  const { session: _session, ...host } = snapshotHost(territory)
  const enter = (program: string, ...args: string[]) => inside(site, program, args)
  return {
    ...host,
    mount: [...new Set([...host.mount, ...mountsEverywhere(territory), ...mountsOf(site)])],
    rule: [...enter('ip', 'rule'), ...enter('ip', '-6', 'rule')],
    'every route': [
      ...enter('ip', 'route', 'show', 'table', 'all'),
      ...enter('ip', '-6', 'route', 'show', 'table', 'all'),
    ],
    firewall: [
      'nft list ruleset',
      'iptables-save',
      'iptables-legacy-save',
      'ip6tables-save',
      'ip6tables-legacy-save',
    ].flatMap((line) => {
      const [program, ...args] = line.split(' ')
      // Counters and dates are not rules.
      return enter(program!, ...args)
        .filter((rule) => !rule.startsWith('#'))
        .map((rule) => rule.replace(/\[\d+:\d+\]|packets \d+ bytes \d+/g, ''))
    }),
    sysctl: enter('sysctl', '--all').filter((line) => !RESTLESS.test(line)),
    'open socket': openSockets(territory),
    'setting of a group': territory.groups.flatMap(settingsOf),
    session: directoriesIn(join(site.home(), 'sessions')),
    file: site.directories().flatMap(filesBelow),
  }
}

/**
 * Waits until nothing is there that was not there before, and nothing is missing. Resolves to what is wrong: nothing, if all is well.
 *
 * @param without kinds that are left out: what the next session may sweep
 */
export async function differences(
  site: Site,
  before: Machine,
  without: readonly string[],
  withinMs = 4_000,
): Promise<string[]> {
  // Where more processes want to run than there are processors, the kernel's own clean-up takes its time too.
  const deadline = performance.now() + withinMs * Math.max(1, loadavg()[0]! / availableParallelism())
  for (;;) {
    const isLate = performance.now() > deadline
    const now = lookAtMachine(site)
    const found = Object.keys(before)
      .filter((kind) => !without.includes(kind))
      .flatMap((kind) => [
        ...now[kind]!.filter((line) => !before[kind]!.includes(line)).map((line) => `left: ${kind}: ${line}`),
        ...before[kind]!.filter((line) => !now[kind]!.includes(line)).map((line) => `lost: ${kind}: ${line}`),
      ])
    if (found.length === 0 || isLate) return found
    await sleep(100)
  }
}

/**
 * What the kernel has written down about a program that did what no program may. It tells which by the name of its file, where it knows it.
 *
 * @param begun of `performance.now()`
 */
export function crashesSince(begun: number, program: string): string[] {
  const uptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0])
  const since = uptime - (performance.now() - begun) / 1_000
  const { stdout } = spawnSync('dmesg', { encoding: 'utf8', maxBuffer: 1 << 26 })
  return (stdout ?? '').split('\n').filter((line) => {
    const [, at, what] = /^\[ *([\d.]+)\] (.*)$/.exec(line) ?? []
    return (
      Number(at) > since &&
      /^(?:traps: )?mayfly-\S*\[\d+\]:? .*(?:segfault|trap|general protection|fault)/.test(what!) &&
      (what!.includes(` in ${program}[`) || !what!.includes(' in '))
    )
  })
}

/** Lines that a program prints in the territory's network namespace; none where it is not installed. */
function inside(site: Site, program: string, args: readonly string[]): string[] {
  try {
    const words = [`--net=/proc/${site.territory.keeper}/ns/net`, program, ...args]
    const text = execFileSync('nsenter', words, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      maxBuffer: 1 << 26,
    })
    return text
      .split('\n')
      .map((line) => line.trimEnd())
      .filter(Boolean)
  } catch (error) {
    const { status, stdout } = error as { status?: number; stdout?: string }
    if (status === 127) return []
    return (stdout ?? '').split('\n').filter(Boolean) // sysctl: some files may not be read by anybody
  }
}

/** In each mount namespace that some process has: what is mounted from or onto the territory's directory. */
function mountsEverywhere({ directory, keeper }: Territory): string[] {
  const seen = new Set<string>()
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return []
    try {
      const namespace = readlinkSync(`/proc/${pid}/ns/mnt`)
      if (seen.has(namespace)) return []
      seen.add(namespace)
      const mine = pid === String(keeper) ? '' : ` in ${namespace}, as process ${pid} has it`
      return readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
        .split('\n')
        .filter((line) => line.includes(directory))
        .map((line) => `${line.replace(/^\d+ \d+ /, '')}${mine}`)
    } catch {
      return [] // gone meanwhile
    }
  })
}

/** All that is mounted where the rounds happen, whoever mounted it there. */
function mountsOf({ holder }: Site): string[] {
  return readFileSync(`/proc/${holder()}/mountinfo`, 'utf8')
    .split('\n')
    .map((line) => line.replace(/^\d+ \d+ /, ''))
}

/** What the groups that were there before allow, and hand down. Not how much of it is used, nor what the kernel counts. */
function settingsOf(group: string): string[] {
  return listed(group)
    .filter((file) =>
      /\.(?:max|min|low|high|weight|subtree_control|limit_in_bytes|shares|cfs_quota_us|cpus|mems)$/.test(file),
    )
    .map((file) => `${join(group, file)} ${readFileSync(join(group, file), 'utf8').trim()}`)
}

/** Everything but connections that wait for their last timer; of unix sockets, those with a name; of netlink, those of processes. */
function openSockets({ keeper }: Territory): string[] {
  const rows = (file: string) => {
    try {
      return readFileSync(`/proc/${keeper}/net/${file}`, 'utf8').trim().split('\n').slice(1)
    } catch {
      return [] // not in this kernel
    }
  }
  const inet = ['tcp', 'tcp6', 'udp', 'udp6', 'raw', 'raw6', 'icmp'].flatMap((file) =>
    rows(file)
      .map((row) => row.trim().split(/\s+/))
      .filter(([, , , state]) => state !== '06')
      .map(([, local, remote, state]) => `${file} ${local} ${remote} ${state}`),
  )
  const named = rows('unix').flatMap((row) => row.trim().split(/\s+/)[7] ?? [])
  const netlink = rows('netlink').map((row) => row.trim().split(/\s+/))
  return [
    ...inet,
    ...named.map((name) => `unix ${name}`),
    ...rows('packet').map((row) => `packet ${row}`),
    ...netlink.filter(([, , pid]) => pid !== '0').map(([, protocol, pid]) => `netlink ${protocol} of ${pid}`),
  ]
}

/**
 * One line for each file below, with its kind, mode, owner and digest; of what is in layers and volumes also the time. Times elsewhere, and times and sizes
 * of directories, say nothing.
 */
function filesBelow({ path: root, name, except = [] }: Watched): string[] {
  const lines: string[] = []
  const walk = (path: string, shown: string) => {
    for (const entry of listed(path)) {
      const below = join(path, entry)
      const told = `${shown}/${entry}`
      if (except.includes(told)) continue
      try {
        const facts = lstatSync(below)
        const isContent = /^store\/(?:layers|volumes)\//.test(told)
        const owner = `${(facts.mode & 0o7777).toString(8)} ${facts.uid}:${facts.gid}${isContent ? ` ${facts.mtimeMs}` : ''}`
        if (facts.isDirectory()) lines.push(`${told}/ ${(facts.mode & 0o7777).toString(8)} ${facts.uid}:${facts.gid}`)
        else if (facts.isSymbolicLink()) lines.push(`${told} -> ${readlinkSync(below)} ${owner}`)
        else if (facts.isFile()) lines.push(`${told} ${owner} ${digestOf(below)}`)
        else lines.push(`${told} ${owner} special ${(facts.mode & 0o170000).toString(8)} ${facts.rdev}`)
        if (facts.isDirectory()) walk(below, told)
      } catch {
        lines.push(`${told} came or went`)
      }
    }
  }
  walk(root, name)
  return lines
}

function digestOf(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex').slice(0, 16)
}

function listed(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

function directoriesIn(path: string): string[] {
  return listed(path).filter((name) => {
    try {
      return lstatSync(join(path, name)).isDirectory()
    } catch {
      return false
    }
  })
}
