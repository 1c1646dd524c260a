// What sessions could leave on this machine: processes, mounts, network links, control groups and their directories. Other sessions may
// come and go meanwhile, so it counts what carries the mark of ours: the id that each has in the store. (Those of others in the same store
// at the same moment cannot be told from ours.)
import { mkdirSync, readdirSync, readFileSync, watch } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const LIMIT_MS = 10_000

/** Notes down the sessions that begin from now on in the store `home`. `left()` resolves to kinds of things and those of them that are left. */
export function watchSessions(home) {
  const directory = join(home, 'sessions')
  mkdirSync(directory, { recursive: true })
  const ids = new Set()
  const linksBefore = links()
  const watcher = watch(directory, (_event, name) => /^[0-9a-f]{12}$/.test(name) && ids.add(name))
  return {
    async left() {
      watcher.close()
      if (ids.size === 0) throw new Error(`No session began in ${home}`)
      // What has to go may take a moment.
      for (const deadline = Date.now() + LIMIT_MS; ; await sleep(50)) {
        const found = look([...ids], directory, linksBefore)
        if (found.every(([, things]) => things.length === 0) || Date.now() > deadline) return found
      }
    },
  }
}

function look(ids, directory, linksBefore) {
  const isOurs = (text) => ids.some((id) => text.includes(id))
  const processes = numbered('/proc').map((pid) => ({
    pid,
    comm: read(`/proc/${pid}/comm`).trim(),
    marks: ['cgroup', 'cmdline', 'mountinfo'].map((name) => read(`/proc/${pid}/${name}`)).join('\n'),
  }))
  const isSomebodyElse = ({ comm, marks }) => /^mayfly-(launcher|warden)$/.test(comm) && !isOurs(marks)
  return [
    ['process', processes.filter(({ marks }) => isOurs(marks)).map(({ pid, comm }) => `${pid} (${comm})`)],
    ['mount', read('/proc/self/mountinfo').split('\n').filter(isOurs)],
    // They have no mark. Where other sessions run, new ones are theirs.
    ['network link', processes.some(isSomebodyElse) ? [] : links().filter((name) => !linksBefore.includes(name))],
    ['control group', groups('/sys/fs/cgroup', 5).filter(isOurs)],
    ['scratch directory', list(directory).filter(isOurs)],
  ]
}

const links = () => list('/sys/class/net').filter((name) => name.startsWith('mf-'))
const numbered = (directory) => list(directory).filter((name) => /^\d+$/.test(name))

/** Control groups to some depth: sessions are made in this process's own group or next to it. */
function groups(directory, depth) {
  if (depth === 0) return []
  return list(directory, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(directory, name))
    .flatMap((path) => [path, ...groups(path, depth - 1)])
}

/** A directory or file that is gone, or not ours to read, has nothing in it. */
function list(directory, options) {
  try {
    return readdirSync(directory, options)
  } catch {
    return []
  }
}

function read(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
