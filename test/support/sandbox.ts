/**
 * A place where other container engines can run for real without changing the host: network, mount, pid and cgroup
 * namespaces of their own, /etc, /opt and /var/lib under overlays, /run fresh, control groups below our own.
 *
 * Needs root. Its first process is the namespaces' init: when that ends, the kernel ends and unmounts everything. It ends with whoever
 * opened the sandbox, also by SIGKILL; the directory and the empty groups that are left then go with the next run (temporary.ts).
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync } from 'node:fs'
import { makeGroups, removeGroups } from './groups.ts'
import { temporaryDirectory } from './temporary.ts'

export interface Sandbox {
  /** Process id of the sandbox's init, as the host sees it. */
  readonly pid: number
  /** Scratch directory on the host's disk, seen under the same path inside; removed with the sandbox. */
  readonly directory: string
  /** Words that, put before a command, run it inside. */
  readonly enter: readonly string[]
  [Symbol.dispose](): void
}

/** In the namespaces: what a daemon would change of the host is hidden from it, then init waits for the end of its stdin, which the opener holds. */
const SETUP = `
set -e
mount -n -t tmpfs -o mode=755 tmpfs /run
mount -t sysfs sysfs /sys
mkdir /run/lock
for directory in etc opt var/lib; do
  mkdir -p /run/.sandbox/$directory /run/.sandbox/.work/$directory
  mount -t overlay overlay -o lowerdir=/$directory,upperdir=/run/.sandbox/$directory,workdir=/run/.sandbox/.work/$directory /$directory
done
mount --bind /proc/sys/kernel /proc/sys/kernel
mount -o remount,bind,ro /proc/sys/kernel
if [ "$1" = v2 ]; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mkdir /sys/fs/cgroup/init
  echo 0 > /sys/fs/cgroup/init/cgroup.procs
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do echo +$controller > /sys/fs/cgroup/cgroup.subtree_control; done
else
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  for hierarchy in "$@"; do
    name=\${hierarchy#name=}
    mkdir /sys/fs/cgroup/$name
    if [ $name = unified ]; then mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
    elif [ $name = $hierarchy ]; then mount -t cgroup -o $name cgroup /sys/fs/cgroup/$name
    else mount -t cgroup -o none,$hierarchy cgroup /sys/fs/cgroup/$name
    fi
  done
fi
ip link set lo up
echo ready
cat > /dev/null
`

/** Makes a sandbox. `name` is put in the names of its directory and its control groups. */
export async function openSandbox(name: string): Promise<Sandbox> {
  const directory = temporaryDirectory(name)
  const groups = makeGroups(directory)
  const hierarchies =
    groups.length === 1 && groups[0]!.hierarchy === 'unified' ? ['v2'] : groups.map((g) => g.hierarchy)
  const join_ = groups.map((group) => `echo 0 > '${group.path}/cgroup.procs'`).join(' && ')
  const unshare = 'unshare --net --mount --pid --cgroup --ipc --fork --kill-child --mount-proc --propagation private'
  const outer = spawn('sh', ['-c', `${join_} && exec ${unshare} sh -c "$0" sh "$@"`, SETUP, ...hierarchies], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  // Synchronous, so that it can be done at the exit of this process as well.
  const close = () => {
    process.off('exit', close)
    outer.kill('SIGKILL') // --kill-child: init follows, and with it everything inside
    removeGroups(groups)
    rmSync(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  }
  process.once('exit', close)
  try {
    await ready(outer)
    const pid = await initOf(outer.pid!)
    return {
      pid,
      directory,
      enter: ['nsenter', `--target=${pid}`, '--net', '--mount', '--pid', '--cgroup', '--ipc'],
      [Symbol.dispose]: close,
    }
  } catch (error) {
    close()
    throw error
  }
}

async function ready(outer: ChildProcess): Promise<void> {
  let stderr = ''
  outer.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const exited = once(outer, 'exit').then(() => {
    throw new Error(`Cannot make the sandbox: ${stderr.trim()}`)
  })
  await Promise.race([once(outer.stdout!, 'data'), exited])
  exited.catch(() => {})
}

async function initOf(unshare: number): Promise<number> {
  return Number(readFileSync(`/proc/${unshare}/task/${unshare}/children`, 'utf8').trim())
}
