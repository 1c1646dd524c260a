/** What a session holds of the host at this moment, for tests that nothing of a failed or finished container stays. */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Engine } from '../../src/index.js'

/** The warden makes network namespaces ahead whenever it finds the time, up to this many, of so many descriptors each (native/pool.c). */
const SPARE_NAMESPACES = 16
const SPARE_DESCRIPTORS = 5

export interface Holdings {
  /** Paths below the session's directory. */
  readonly files: readonly string[]
  /** Control groups below the session's own. */
  readonly groups: readonly string[]
  /** Ports that the warden listens on, on the host. */
  readonly ports: readonly string[]
  /** Child processes of the warden: containers, their execs and its helpers. */
  readonly processes: readonly string[]
  /** Open descriptors of the warden. */
  readonly descriptors: number
  /** Network namespaces, among them those made ahead. */
  readonly namespaces: number
  /** Mounts in the warden's mount namespace. */
  readonly mounts: number
}

/** Process id of the warden: the first process of the session's PID namespace. */
export function wardenOf(engine: Engine): number {
  const mark = new RegExp(`\\0id[=\\0]${basename(engine.info.session)}\\0`)
  const found = readdirSync('/proc').find((name) => {
    try {
      const isOurs = /^\d+$/.test(name) && mark.test(readFileSync(`/proc/${name}/cmdline`, 'latin1'))
      return isOurs && /^NSpid:\t\d+\t1$/m.test(readFileSync(`/proc/${name}/status`, 'utf8'))
    } catch {
      return false // ended meanwhile
    }
  })
  if (found === undefined) throw new Error(`There is no warden of session ${engine.info.session}`)
  return Number(found)
}

/** Of the warden's memory: what is resident, in KiB. */
export function residentKiB(warden: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${warden}/status`, 'utf8'))![1])
}

export function holdings(engine: Engine): Holdings {
  const warden = wardenOf(engine)
  const links = descriptorsOf(warden)
  const groups = links.filter((path) => /\/mayfly-[0-9a-f]{12}$/.test(path))
  return {
    files: readdirSync(engine.info.session, { recursive: true }).map(String).filter(isNoStock).sort(),
    groups: [...new Set(groups)].flatMap(directoriesBelow).sort(),
    ports: listening(new Set(links)),
    processes: readFileSync(`/proc/${warden}/task/${warden}/children`, 'utf8').split(' ').filter(Boolean),
    descriptors: links.filter(isNoLock).length,
    namespaces: links.filter((link) => link.startsWith('net:')).length,
    mounts: readFileSync(`/proc/${warden}/mountinfo`, 'utf8')
      .split('\n')
      .filter((line) => !/\/c\/\d+\.m /.test(line)).length,
  }
}

/**
 * Overlays that nothing was written to are kept for the next container: directories with nothing in them but what the kernel put there.
 * `store` is where this process writes what is to be renamed into the store.
 */
function isNoStock(path: string): boolean {
  return !/^c\/\d+\.(?:[um]|w(?:\/work(?:\/.*)?)?)$|^store$/.test(path)
}

/** For the same reason the layers below them stay locked: one descriptor a layer, until the overlay is given up. */
function isNoLock(link: string): boolean {
  return !/\/layers\/[^/]+(?:\/tree)?$/.test(link)
}

/** The same once it has come to rest: what is made ahead or taken down in the background is neither half there nor half gone. */
export async function settledHoldings(engine: Engine): Promise<Holdings> {
  for (let last = holdings(engine); ; ) {
    await sleep(15)
    const now = holdings(engine)
    if (now.descriptors === last.descriptors && now.mounts === last.mounts) return now
    last = now
  }
}

/** Waits until the session holds no more than before. Throws with what is left. */
export async function expectNoMore(engine: Engine, before: Holdings, withinMs = 5_000): Promise<void> {
  const deadline = performance.now() + withinMs
  for (;;) {
    const now = holdings(engine)
    const left = (['files', 'groups', 'ports', 'processes'] as const).flatMap((kind) =>
      now[kind].filter((one) => !before[kind].includes(one)).map((one) => `${kind}: ${one}`),
    )
    const { namespaces } = before
    const madeAhead = Math.min(Math.max(now.namespaces - namespaces, 0), SPARE_NAMESPACES)
    const most = {
      namespaces: namespaces + madeAhead,
      descriptors: before.descriptors + madeAhead * SPARE_DESCRIPTORS,
      mounts: before.mounts,
    }
    for (const kind of ['descriptors', 'namespaces', 'mounts'] as const)
      if (now[kind] > most[kind]) left.push(`${kind}: ${now[kind]}, expected ${most[kind]} at most`)
    if (left.length === 0) return
    if (performance.now() > deadline) throw new Error(`Left after ${withinMs} ms:\n  ${left.join('\n  ')}`)
    await sleep(20)
  }
}

function descriptorsOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((name) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${name}`)]
    } catch {
      return [] // closed meanwhile
    }
  })
}

function directoriesBelow(path: string): string[] {
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => [join(path, name), ...directoriesBelow(join(path, name))])
}

function listening(links: ReadonlySet<string>): string[] {
  return ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((protocol) =>
    readFileSync(`/proc/self/net/${protocol}`, 'utf8')
      .split('\n')
      .slice(1)
      .map((row) => row.trim().split(/\s+/))
      .filter(
        ([, , , state, , , , , , inode]) =>
          links.has(`socket:[${inode}]`) && (state === '0A' || protocol.startsWith('udp')),
      )
      .map(([, local]) => `${protocol} ${Number.parseInt(local!.slice(local!.lastIndexOf(':') + 1), 16)}`),
  )
}
