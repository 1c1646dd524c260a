/**
 * What is done to the processes of a round: killed, stopped, starved of disk, processes, memory and descriptors, and lied to by the kernel. A plan of
 * them is data, made from dice alone; all of them but a kill are taken back.
 */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Dice } from './dice.ts'
import type { Ground } from './ground.ts'

export type Victim = 'node' | 'launcher' | 'warden'

export type Torment = {
  /** From the beginning of the round. */
  readonly atMs: number
  /** Until it is taken back. */
  readonly forMs: number
  /** Which process of the workload, by number. */
  readonly of: number
} & (
  | { readonly kind: 'kill'; readonly victims: readonly Victim[] }
  | { readonly kind: 'stop'; readonly victim: Victim; readonly thenKill: boolean }
  /** Only where the store has a disk of its own. */
  | { readonly kind: 'fill disk'; readonly leaveBytes: number }
  | { readonly kind: 'few processes'; readonly more: number }
  | { readonly kind: 'little memory'; readonly moreBytes: number }
  | { readonly kind: 'few descriptors'; readonly victim: Victim; readonly more: number }
  | { readonly kind: 'small address space'; readonly victim: Victim; readonly moreBytes: number }
  | { readonly kind: 'failing calls'; readonly victim: Liars; readonly rules: readonly string[] }
  /** Launchers that the process starts meanwhile, and all that comes of them. */
  | { readonly kind: 'failing starts'; readonly rules: readonly string[] }
)

/** A process of the workload, as the round knows it. */
export interface Tormented {
  readonly node: number
  /** Of its engine, the latest. */
  readonly warden: number | undefined
  readonly launcher: number | undefined
}

type Liars = 'launcher' | 'warden' | 'children'

/**
 * Calls that a kernel can refuse, how, and who makes them. Left out is what no kernel refuses for want of something, because a tracer that refuses it also keeps it
 * from being done, and that is then lost: close and close_range (the descriptor stays open), wait4 with WNOHANG (the dead child is never told of again; the only
 * error that it has is ECHILD), and signals to processes that are there. Nor brk: it has no errors but leaves the end of memory where it is, and libc would take the
 * number of an error for an address.
 */
const REFUSALS: readonly (Readonly<Partial<Record<Liars, string>>> & { readonly errnos: readonly string[] })[] = [
  // What makes and changes things in a file system.
  {
    warden: 'openat,openat2,mkdir,mkdirat,fchmod,pwrite64,pwritev',
    children:
      'openat,openat2,mkdir,mkdirat,rename,symlinkat,mknodat,ftruncate,fchmod,utimensat,fremovexattr,fsetxattr,fchownat,linkat,copy_file_range',
    launcher: 'openat,openat2',
    errnos: ['ENOSPC', 'EIO', 'ENOMEM', 'EMFILE', 'EACCES'],
  },
  {
    warden: 'unlinkat,rmdir,getdents64,newfstatat,lseek,flock,fcntl,flistxattr',
    children: 'unlinkat,getdents64,newfstatat,fstatfs,readlinkat,flistxattr,fgetxattr,llistxattr,lseek,flock,fcntl',
    launcher: 'unlinkat,rmdir,getdents64,newfstatat,fcntl,flock',
    errnos: ['EIO', 'ENOMEM', 'EINTR'],
  },
  { warden: 'fsync,fdatasync,syncfs', children: 'fsync,fdatasync,syncfs', errnos: ['EIO', 'ENOSPC'] },
  {
    warden: 'mount,fsopen,fsconfig,fsmount,move_mount,umount2',
    children: 'mount,fsopen,fsconfig,fsmount,move_mount,open_tree,mount_setattr,umount2',
    errnos: ['ENOMEM', 'EPERM', 'EBUSY', 'EINVAL'],
  },
  { warden: 'clone,clone3', launcher: 'clone,clone3', errnos: ['EAGAIN', 'ENOMEM'] },
  {
    warden: 'pipe2,socket,socketpair,accept4,epoll_ctl',
    launcher: 'socket',
    children: 'socket,pipe2',
    errnos: ['EMFILE', 'ENFILE', 'ENOMEM'],
  },
  {
    warden: 'bind,listen,connect,sendto,sendmsg,recvmsg,recvmmsg,recvfrom,setsockopt,getsockopt,getsockname',
    launcher: 'sendmsg,recvfrom',
    children: 'sendto,recvfrom,setsockopt',
    errnos: ['ENOBUFS', 'ENOMEM', 'EINTR', 'ECONNRESET'],
  },
  // Not EAGAIN: no kernel says that of a pipe in which there is something to read.
  { warden: 'read,pread64', children: 'read,pread64', errnos: ['EIO', 'EINTR'] },
  {
    warden: 'write,pwrite64,splice',
    children: 'write,pwrite64,sendfile',
    errnos: ['EIO', 'EINTR', 'ENOSPC', 'EAGAIN'],
  },
  { warden: 'mmap', children: 'mmap,mprotect', launcher: 'mmap', errnos: ['ENOMEM'] },
  { warden: 'setns,unshare,epoll_ctl,ioctl,bpf', errnos: ['ENOMEM', 'EPERM', 'EINTR'] },
  // What a child of the warden's does before it is the program of a container.
  {
    children: 'chdir,fchdir,pivot_root,sethostname,setgroups,setresuid,setresgid,capset,prctl,prlimit64,seccomp,dup2',
    errnos: ['ENOMEM', 'EPERM', 'EAGAIN'],
  },
]

/** Of strace: one call that fails once or some times, counted in each process by itself. */
function planRules(dice: Dice, liars: Liars): string[] {
  const known = REFUSALS.flatMap(({ errnos, ...calls }) => (calls[liars] ? [[calls[liars], errnos] as const] : []))
  return dice.some(known, dice.between(2, 5)).map(([calls, errnos]) => {
    // Most calls are made a few times only, some hundreds of times.
    const first = dice.happens(0.6) ? dice.between(1, 3) : dice.between(1, 40)
    const times = dice.pick(['', '', `..${first + dice.between(1, 5)}`, `+${dice.between(2, 10)}`])
    return `inject=${dice.pick(calls.split(','))}:error=${dice.pick(errnos)}:when=${first}${times}`
  })
}

export const hasStrace = existsSync('/usr/bin/strace')

export function planTorments(dice: Dice, processes: number, lastsMs: number, hasOwnDisk: boolean): Torment[] {
  const count = dice.between(1, 7)
  return Array.from({ length: count }, () => planOne(dice, processes, lastsMs, hasOwnDisk)).sort(
    (a, b) => a.atMs - b.atMs,
  )
}

function planOne(dice: Dice, processes: number, lastsMs: number, hasOwnDisk: boolean): Torment {
  const when = { atMs: dice.between(0, lastsMs), forMs: dice.between(20, 1_500), of: dice.between(0, processes - 1) }
  const victim = () => dice.pick(['warden', 'warden', 'launcher', 'node'] as const)
  const kinds = [
    'kill',
    'kill',
    'stop',
    'stop',
    'processes',
    'memory',
    'descriptors',
    'space',
    ...(hasOwnDisk ? ['disk', 'disk', 'disk'] : []),
  ]
  switch (dice.pick([...kinds, ...(hasStrace ? ['calls', 'calls', 'calls', 'starts'] : [])])) {
    case 'kill':
      return { ...when, kind: 'kill', victims: dice.some(['node', 'launcher', 'warden'], dice.pick([1, 1, 1, 2, 3])) }
    case 'stop':
      return { ...when, kind: 'stop', victim: victim(), thenKill: dice.happens(0.3) }
    case 'disk':
      return { ...when, kind: 'fill disk', leaveBytes: dice.pick([0, 4_096, 65_536, 1 << 20]) }
    case 'processes':
      return { ...when, kind: 'few processes', more: dice.between(0, 12) }
    case 'memory':
      return { ...when, kind: 'little memory', moreBytes: dice.between(0, 16) << 20 }
    case 'descriptors':
      return { ...when, kind: 'few descriptors', victim: victim(), more: dice.between(0, 12) }
    case 'space':
      return {
        ...when,
        kind: 'small address space',
        victim: dice.pick(['warden', 'launcher']),
        moreBytes: dice.between(0, 64) << 12,
      }
    case 'starts':
      return {
        ...when,
        kind: 'failing starts',
        forMs: dice.between(500, 3_000),
        rules: planRules(dice, dice.pick(['launcher', 'warden', 'children'])),
      }
    default: {
      const victim = dice.pick(['warden', 'warden', 'children', 'children', 'launcher'] as const)
      const forMs = dice.between(300, 2_500) // it takes a moment to attach
      return { ...when, kind: 'failing calls', forMs, victim, rules: planRules(dice, victim) }
    }
  }
}

/** Does it, waits, and takes it back. Resolves to how many calls have failed, where they were to. Never throws for a victim that is dead already. */
export async function torment(one: Torment, ground: Ground, target: Tormented): Promise<number> {
  if (one.kind === 'failing calls') return failCalls(one, one.victim === 'launcher' ? target.launcher : target.warden)
  if (one.kind === 'failing starts') return ground.lie(target.node, one.rules, one.forMs)
  await afflict(one, ground, target)
  return 0
}

async function afflict(
  one: Exclude<Torment, { kind: 'failing calls' | 'failing starts' }>,
  ground: Ground,
  target: Tormented,
): Promise<void> {
  switch (one.kind) {
    case 'kill': {
      // Stopped first, so that none of them sees another one die and acts on it.
      const pids = one.victims.map((victim) => target[victim])
      for (const pid of pids) signal(pid, 'SIGSTOP')
      for (const pid of pids) signal(pid, 'SIGKILL')
      return
    }
    case 'stop':
      signal(target[one.victim], 'SIGSTOP')
      await sleep(one.forMs)
      if (one.thenKill) signal(target[one.victim], 'SIGKILL')
      signal(target[one.victim], 'SIGCONT')
      return
    case 'fill disk': {
      const path = join(ground.home(), 'filler')
      // By a program: the file is as large as there is room, and no larger than the disk.
      spawnSync(
        'sh',
        [
          '-c',
          `dd if=/dev/zero of='${path}' bs=65536; dd if=/dev/zero of='${path}' bs=4096 oflag=append conv=notrunc; truncate -s -${one.leaveBytes} '${path}'`,
        ],
        { stdio: 'ignore' },
      )
      await sleep(one.forMs)
      rmSync(path, { force: true })
      return
    }
    case 'few processes':
      return limited(ground, ['pids.max'], () => String(numberIn(ground, 'pids.current') + one.more), 'max', one.forMs)
    case 'little memory': {
      const usage = ['memory.usage_in_bytes', 'memory.current'].map((file) => numberIn(ground, file)).find(Boolean) ?? 0
      const [file, none] = groupOf(ground, 'memory.max') ? ['memory.max', 'max'] : ['memory.limit_in_bytes', '-1']
      return limited(ground, [file!], () => String(usage + one.moreBytes), none!, one.forMs)
    }
    case 'few descriptors':
      return rlimited(
        target[one.victim],
        'nofile',
        (pid) => readdirSync(`/proc/${pid}/fd`).length + one.more,
        one.forMs,
      )
    case 'small address space':
      return rlimited(
        target[one.victim],
        'as',
        (pid) => Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[0]) * 4096 + one.moreBytes,
        one.forMs,
      )
  }
}

/** Words for strace. Children are followed until they run another program: those of containers are told the truth, so what they say must be true. */
export function wordsOfStrace(rules: readonly string[], alsoChildren: boolean): string[] {
  const calls = rules.map((rule) => /inject=([^:]*)/.exec(rule)![1]).join(',')
  const follow = alsoChildren ? ['-f', '-b', 'execve'] : []
  return ['-qqq', ...follow, '-e', 'status=failed', '-e', `trace=${calls}`, ...rules.flatMap((rule) => ['-e', rule])]
}

async function failCalls(
  { rules, victim, forMs }: Extract<Torment, { kind: 'failing calls' }>,
  pid: number | undefined,
): Promise<number> {
  if (!pid) return 0
  const words = [...wordsOfStrace(rules, victim === 'children'), '-p', String(pid)]
  const strace = spawn('strace', words, { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  strace.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  await Promise.race([sleep(forMs), ended(strace)])
  strace.kill('SIGTERM')
  await Promise.race([ended(strace), sleep(2_000)])
  strace.kill('SIGKILL')
  await ended(strace)
  return countFailed(said)
}

export const countFailed = (said: string) => said.split('(INJECTED)').length - 1

/** Whatever is left of them at the end of a round, for instance because this was killed in between. */
export function relieve(ground: Ground): void {
  for (const [file, none] of [
    ['pids.max', 'max'],
    ['memory.max', 'max'],
    ['memory.limit_in_bytes', '-1'],
  ] as const) {
    const group = groupOf(ground, file)
    if (group) writeFileSync(join(group, file), none)
  }
}

function signal(pid: number | undefined, name: NodeJS.Signals): void {
  try {
    if (pid) process.kill(pid, name)
  } catch {} // dead
}

async function limited(
  ground: Ground,
  files: readonly string[],
  value: () => string,
  none: string,
  forMs: number,
): Promise<void> {
  for (const file of files) {
    const group = groupOf(ground, file)
    if (!group) continue
    try {
      writeFileSync(join(group, file), value())
    } catch {} // EBUSY: so little that the kernel cannot bring it about
    await sleep(forMs)
    writeFileSync(join(group, file), none)
  }
}

/** Only the soft limit: raising the hard one again takes a capability that root of a container lacks. */
async function rlimited(
  pid: number | undefined,
  what: string,
  value: (pid: number) => number,
  forMs: number,
): Promise<void> {
  if (!pid) return
  try {
    const before = /Max (?:open files|address space) +(\S+)/.exec(
      readFileSync(`/proc/${pid}/limits`, 'utf8')
        .split('\n')
        .find((line) => line.startsWith(what === 'as' ? 'Max address' : 'Max open'))!,
    )![1]!
    const set = (soft: string) => spawnSync('prlimit', [`--pid=${pid}`, `--${what}=${soft}:`], { stdio: 'ignore' })
    set(String(value(pid)))
    await sleep(forMs)
    set(before)
  } catch {} // dead
}

function groupOf({ territory }: Ground, file: string): string | undefined {
  return territory.groups.find((group) => existsSync(join(group, file)))
}

function numberIn(ground: Ground, file: string): number {
  const group = groupOf(ground, file)
  return group ? Number(readFileSync(join(group, file), 'utf8')) : 0
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve()
    else child.once('exit', () => resolve()).once('error', () => resolve())
  })
}
