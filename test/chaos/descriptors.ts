/** What a process has open. */

import { readdirSync, readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** Open descriptors of a process, as the kernel names them; numbers of pipes and sockets left out. */
export function descriptorsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/\[\d+\]$/, '')]
      } catch {
        return [] // closed meanwhile
      }
    })
  } catch {
    return [] // dead
  }
}

/**
 * What a process has open that it had not `before`, when it should have nothing more; waits for connections that are being closed. What node's own event loops
 * and those of its threads are made of comes and goes as node likes.
 */
export async function stayOpen(pid: number, before: readonly string[], withinMs = 6_000): Promise<string[]> {
  let left: string[] = []
  for (const deadline = performance.now() + withinMs; performance.now() < deadline; await sleep(100)) {
    const spare = [...before]
    left = descriptorsOf(pid).filter((link) => {
      const known = spare.indexOf(link)
      if (known >= 0) spare.splice(known, 1)
      return known < 0 && !/^anon_inode:\[(?:eventpoll|eventfd|io_uring)\]$/.test(link)
    })
    if (left.length === 0) return []
  }
  return left
}
