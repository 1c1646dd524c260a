/** Numbers of system calls by name. */

import { SYSCALL_RUNS } from './syscalls.generated.js'

/** Architectures that containers run on, named as `process.arch` does. */
export type Architecture = 'x64' | 'arm64'

const numbers = new Map<Architecture, ReadonlyMap<string, number>>()

/** Name → number; made when first asked for. */
export function syscallNumbers(architecture: Architecture): ReadonlyMap<string, number> {
  let table = numbers.get(architecture)
  if (!table) {
    table = new Map(
      SYSCALL_RUNS[architecture].flatMap(([first, names]) =>
        names.split(' ').map((name, index): [string, number] => [name, first + index]),
      ),
    )
    numbers.set(architecture, table)
  }
  return table
}
