/** What the doctor reads of this machine before it tries anything: plain facts from /proc and the environment. */
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmdirSync, statfsSync } from 'node:fs'
import { release, userInfo } from 'node:os'
import { dirname, join } from 'node:path'

/** What kind of container this process itself runs in. */
export type Surroundings =
  | 'none'
  | 'docker'
  | 'podman'
  | 'kubernetes'
  | 'lxc'
  | 'sysbox'
  | 'gvisor'
  | 'unknown container'

export interface Machine {
  readonly platform: string
  readonly architecture: string
  readonly nodeVersion: string
  /** Such as `6.1.0-18-amd64`. */
  readonly kernel: string
  readonly uid: number
  readonly userName: string
  /** Effective capabilities of this process, as bits. */
  readonly capabilities: bigint
  readonly noNewPrivileges: boolean
  /** 0 none, 1 strict, 2 filter. */
  readonly seccompMode: number
  readonly surroundings: Surroundings
  /** The runner's own name for itself, where this is continuous integration. */
  readonly ci: 'GitHub Actions' | 'GitLab CI' | 'CI' | undefined
  /** Something is mounted over parts of /proc, as container runtimes do. */
  readonly isProcMasked: boolean
  /** Values of {@link SYSCTLS}, undefined where this kernel has none. */
  readonly sysctls: Readonly<Record<Sysctl, string | undefined>>
  /** `START:COUNT`, the first range of this user. */
  readonly subuid: string | undefined
  readonly subgid: string | undefined
  /** Which of {@link PROGRAMS} are installed. */
  readonly programs: readonly Program[]
  readonly hasSystemd: boolean
  readonly store: StoreDisk
}

export interface StoreDisk {
  /** The store's directory, which need not exist yet. */
  readonly home: string
  /** Its nearest directory that does exist. */
  readonly existing: string
  readonly isWritable: boolean
  /** Such as `ext4`. */
  readonly fileSystem: string
  /** Mount options, such as `nodev`. */
  readonly options: readonly string[]
  readonly freeBytes: number
}

const SYSCTLS = [
  'user.max_user_namespaces',
  'kernel.unprivileged_userns_clone',
  'kernel.apparmor_restrict_unprivileged_userns',
  'vm.memfd_noexec',
] as const
export type Sysctl = (typeof SYSCTLS)[number]

export const PROGRAMS = ['newuidmap', 'newgidmap'] as const
export type Program = (typeof PROGRAMS)[number]

export function readMachine(home: string): Machine {
  const status = read('/proc/self/status')
  const mounts = read('/proc/self/mountinfo').split('\n').filter(Boolean).map(parseMount)
  const { username, uid } = currentUser()
  return {
    platform: process.platform,
    architecture: process.arch,
    nodeVersion: process.versions.node,
    kernel: release(),
    uid,
    userName: username,
    capabilities: BigInt(`0x${field(status, 'CapEff') || '0'}`),
    noNewPrivileges: field(status, 'NoNewPrivs') === '1',
    seccompMode: Number(field(status, 'Seccomp') || 0),
    surroundings: findSurroundings(mounts),
    ci: findCi(),
    isProcMasked: mounts.some(({ target }) => /^\/proc\/(?!sys\/fs\/binfmt_misc)/.test(target)),
    sysctls: Object.fromEntries(
      SYSCTLS.map((name) => [name, read(`/proc/sys/${name.replaceAll('.', '/')}`).trim() || undefined]),
    ) as Machine['sysctls'],
    subuid: findRange('/etc/subuid', username, uid),
    subgid: findRange('/etc/subgid', username, uid),
    programs: PROGRAMS.filter(isInstalled),
    hasSystemd: existsSync('/run/systemd/system'),
    store: readStore(home, mounts),
  }
}

interface MountLine {
  readonly target: string
  readonly fileSystem: string
  readonly options: readonly string[]
}

/** One line of /proc/self/mountinfo (proc(5)). */
export function parseMount(line: string): MountLine {
  const [before = '', after = ''] = line.split(' - ')
  const fields = before.split(' ')
  const plain = (text: string) =>
    text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
  return {
    target: plain(fields[4] ?? ''),
    options: (fields[5] ?? '').split(','),
    fileSystem: after.split(' ')[0] ?? '',
  }
}

/** `START:COUNT` of the user's first line in /etc/subuid, by name or number. */
export function parseRange(text: string, userName: string, uid: number): string | undefined {
  for (const line of text.split('\n')) {
    const [owner, start, count] = line.trim().split(':')
    if (start && count && (owner === userName || owner === String(uid))) return `${start}:${count}`
  }
  return undefined
}

function findRange(path: string, userName: string, uid: number): string | undefined {
  return parseRange(read(path), userName, uid)
}

function readStore(home: string, mounts: readonly MountLine[]): StoreDisk {
  let existing = home
  while (!existsSync(existing)) existing = dirname(existing)
  const inside = ({ target }: MountLine) => target === '/' || existing === target || existing.startsWith(`${target}/`)
  // The longest path wins, and of mounts on the same path the last.
  const mount = mounts
    .filter(inside)
    .reduce<MountLine | undefined>(
      (best, next) => (best && best.target.length > next.target.length ? best : next),
      undefined,
    )
  const { bavail, bsize } = statfsSync(existing)
  return {
    home,
    existing,
    isWritable: canMakeDirectory(existing),
    fileSystem: mount?.fileSystem ?? 'unknown',
    options: mount?.options ?? [],
    freeBytes: bavail * bsize,
  }
}

function findSurroundings(mounts: readonly MountLine[]): Surroundings {
  if (mounts.some(({ fileSystem, target }) => fileSystem === 'fuse.sysboxfs' || target.startsWith('/var/lib/sysboxfs')))
    return 'sysbox'
  if (/gvisor/i.test(read('/proc/version'))) return 'gvisor'
  if (process.env.KUBERNETES_SERVICE_HOST) return 'kubernetes'
  if (existsSync('/run/.containerenv')) return 'podman'
  if (existsSync('/.dockerenv')) return 'docker'
  const named = /(?:^|\0)container=([^\0]*)/.exec(read('/proc/1/environ'))?.[1]
  if (named)
    return named.startsWith('lxc') ? 'lxc' : named === 'docker' || named === 'podman' ? named : 'unknown container'
  return 'none'
}

function findCi(): Machine['ci'] {
  if (process.env.GITHUB_ACTIONS) return 'GitHub Actions'
  if (process.env.GITLAB_CI) return 'GitLab CI'
  return process.env.CI ? 'CI' : undefined
}

function currentUser(): { username: string; uid: number } {
  const uid = process.geteuid?.() ?? -1
  try {
    return { username: userInfo().username, uid }
  } catch {
    // A user id without a line in /etc/passwd, usual in containers.
    return { username: String(uid), uid }
  }
}

function isInstalled(program: string): boolean {
  const path = process.env.PATH || '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
  return path.split(':').some((directory) => isAccessible(join(directory, program), constants.X_OK))
}

/** Tried, since permission bits say nothing of read-only and of pseudo file systems. */
function canMakeDirectory(parent: string): boolean {
  try {
    rmdirSync(mkdtempSync(join(parent, '.mayfly-doctor-')))
    return true
  } catch {
    return false
  }
}

function isAccessible(path: string, mode: number): boolean {
  try {
    accessSync(path, mode)
    return true
  } catch {
    return false
  }
}

function field(status: string, name: string): string {
  return new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1] ?? ''
}

/** '' for what does not exist or may not be read. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
