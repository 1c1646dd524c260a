/**
 * An ordinary user for a test, known to nobody but the processes in the test's territory: there /etc/passwd, /etc/group,
 * /etc/subuid and /etc/subgid are others, which name the user. The host's files stay as they are.
 */

import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openTerritory, type Territory } from './territory.ts'

export interface UnprivilegedTerritory extends Territory {
  readonly uid: number
  /** Home directory of the user. */
  readonly home: string
  /** Words that, put before a command, run it here as the user. */
  readonly enterAsUser: readonly string[]
}

const NAME = 'mayfly-test'
const RANGE = { first: 1_500_000_000, count: 65_536 }

export interface UserOptions {
  /** 65,536 further ids for user namespaces, as `useradd` gives to people; else the user has its own id alone. */
  readonly range: boolean
}

export async function openUnprivileged({ range }: UserOptions): Promise<UnprivilegedTerritory> {
  const uid = freeId()
  const ranges = `${NAME}:${RANGE.first}:${RANGE.count}\n`
  const texts: Record<string, (path: string) => string> = {
    passwd: (path) => `${readFileSync(path, 'utf8')}${NAME}:x:${uid}:${uid}::/:/bin/sh\n`,
    group: (path) => `${readFileSync(path, 'utf8')}${NAME}:x:${uid}:\n`,
    subuid: () => (range ? ranges : ''),
    subgid: () => (range ? ranges : ''),
  }
  const replace = (directory: string) =>
    Object.fromEntries(
      Object.entries(texts).map(([name, text]) => {
        const replacement = join(directory, name)
        writeFileSync(replacement, text(`/etc/${name}`))
        chmodSync(replacement, 0o644)
        return [`/etc/${name}`, replacement]
      }),
    )
  const territory = await openTerritory({ replace })
  const home = join(territory.directory, 'user')
  mkdirSync(home)
  chownSync(home, uid, uid)
  const become = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--inh-caps=-all']
  const env = ['env', '-u', 'XDG_DATA_HOME', '-u', 'XDG_RUNTIME_DIR', '-u', 'MAYFLY_HOME', `HOME=${home}`]
  return { ...territory, uid, home, enterAsUser: [...territory.enter, ...become, ...env] }
}

/** Outside of what distributions give to people and to services. */
function freeId(): number {
  const taken = new Set(
    readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .map((line) => line.split(':')[2]),
  )
  for (let id = 61_200; ; id++) if (!taken.has(String(id))) return id
}
