/**
 * Temporary directories of tests. A name says whose it is: the process by its number, when it began, and its PID namespace. That is a lock which
 * dies with its owner, so whatever a killed run has left goes when the next one makes a directory: its directories here, and the control groups
 * of the same names in groups.ts.
 */

import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

let hasSwept = false

/** Makes one, which whoever makes it removes. `purpose` is for people who look. */
export function temporaryDirectory(purpose = ''): string {
  if (!hasSwept && isLinux) sweep() // elsewhere nobody can tell who is gone
  hasSwept = true
  return mkdtempSync(join(tmpdir(), `${OWN}${purpose && `${purpose}-`}`))
}

/** Whether a directory or a control group has such a name, of a process that is gone. Another PID namespace's are nobody's business. */
export function isAbandoned(name: string): boolean {
  const [, namespace, pid, began] = /^mf-([0-9a-z]+)\.([0-9a-z]+)\.([0-9a-z]+)-/.exec(name) ?? []
  return namespace === NAMESPACE && beginningOf(Number.parseInt(pid!, 36)) !== began
}

/** The host's own has always this number: PROC_PID_INIT_INO in the kernel's linux/proc_ns.h. */
const FIRST_NAMESPACE = 0xeffffffc
const isLinux = process.platform === 'linux'
const NAMESPACE = isLinux ? Math.abs(statSync('/proc/self/ns/pid').ino - FIRST_NAMESPACE).toString(36) : '0'
const OWN = `mf-${NAMESPACE}.${process.pid.toString(36)}.${beginningOf(process.pid)}-`

/** When a process began, in ticks since the machine did; undefined for one that is gone, also where nobody has asked how it ended. */
function beginningOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : Number(fields[19]).toString(36)
  } catch {
    return undefined
  }
}

function sweep(): void {
  for (const name of readdirSync(tmpdir()).filter(isAbandoned)) {
    const path = join(tmpdir(), name)
    try {
      if (lstatSync(path).uid === process.getuid?.()) rmSync(path, { recursive: true, force: true })
    } catch {
      // Somebody else is at it, or it is a range of ids' that this user may not remove.
    }
  }
}
