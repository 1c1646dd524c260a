/** Memory of processes, as /proc/<pid>/smaps_rollup has it: what is shared is counted in shares (PSS). */

import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'

/** Process ids below this one, itself included. Other PID namespaces inside are seen through. */
export function processesBelow(pid: number): number[] {
  const found = [pid]
  // The list of an array that grows: breadth first.
  for (const parent of found) {
    try {
      for (const thread of readdirSync(`/proc/${parent}/task`)) {
        const children = readFileSync(`/proc/${parent}/task/${thread}/children`, 'utf8')
        found.push(...children.split(' ').filter(Boolean).map(Number))
      }
    } catch {
      // It has ended in the meantime.
    }
  }
  return found
}

export function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}

/** Process ids of the engines on this store and of their containers. No engine is a child of who opened it. */
export function processesOfStore(home: string): number[] {
  const isOurs = (pid: string) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`\0home\0${home}\0`)
    } catch {
      return false // it has ended in the meantime
    }
  }
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return [...new Set(all.filter(isOurs).map(Number).flatMap(processesBelow))]
}

/** Process ids in the PID namespace of this process; not those in namespaces below it. */
export function processesBeside(pid: number): number[] {
  const namespaceOf = (process: number) => {
    try {
      return readlinkSync(`/proc/${process}/ns/pid`)
    } catch {
      return undefined // it has ended in the meantime
    }
  }
  const namespace = namespaceOf(pid)
  const all = readdirSync('/proc').map(Number).filter(Number.isInteger)
  return all.filter((process) => namespaceOf(process) === namespace)
}

/**
 * Bytes (PSS) of those of the processes whose name passes. A program that runs from a memfd, a copy in memory, counts with all
 * of the copy and once: its pages stay whether or not they are mapped.
 */
export function memoryOf(processes: readonly number[], passes: (name: string) => boolean): number {
  const copies = new Map<number, number>()
  let bytes = 0
  for (const process of processes) {
    try {
      if (!passes(readFileSync(`/proc/${process}/comm`, 'utf8').trim())) continue
      const rollup = readFileSync(`/proc/${process}/smaps_rollup`, 'utf8')
      const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(rollup)?.[1]) * 1024
      bytes += field('Pss')
      if (!readlinkSync(`/proc/${process}/exe`).startsWith('/memfd:')) continue
      const { ino, blocks } = statSync(`/proc/${process}/exe`)
      copies.set(ino, blocks * 512)
      bytes -= field('Pss_Shmem')
    } catch (error) {
      if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    }
  }
  if (bytes === 0) throw new Error('none of the processes is one to be measured')
  return [...copies.values()].reduce((sum, size) => sum + size, bytes)
}

/** Bytes that the kernel uses for itself: slabs, page tables, stacks, per-processor areas. */
export function kernelMemory(): number {
  const text = readFileSync('/proc/meminfo', 'utf8')
  const fields = ['Slab', 'PageTables', 'KernelStack', 'Percpu']
  return fields.reduce(
    (sum, field) => sum + Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0) * 1024,
    0,
  )
}
