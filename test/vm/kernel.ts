/**
 * Kernels of Debian's releases, from the package mirror that this machine uses, and the one that is installed here. They are kept in the temporary
 * directory of the system for a month: `vmlinuz`, an ext4 image of its modules, and a RAM disk that can mount the disks of a virtual machine.
 */

import { execFileSync } from 'node:child_process'
import { accessSync, constants, existsSync, readdirSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { archivesOf, readAptSources } from '../../src/engine/bootstrap/mirror.js'
import { withFileLock } from '../support/file-lock.js'

/** Debian's releases whose kernels are tried, and their suites. */
export const SUITES = { '11': 'bullseye', '12': 'bookworm', '13': 'trixie', sid: 'sid' } as const
export type Release = keyof typeof SUITES | 'installed'
export const RELEASES = [...Object.keys(SUITES), 'installed'] as readonly Release[]

export interface Kernel {
  readonly release: Release
  /** What `uname -r` says. */
  readonly version: string
  /** Holds `vmlinuz`, `initrd` and `modules.img`. */
  readonly directory: string
}

export const CACHE = join(tmpdir(), `mayfly-kernels-${process.getuid?.() ?? 0}`)
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
const FETCH_TIMEOUT_MS = 300_000
const KEPT_MS = 30 * 24 * 3600 * 1000
/** The image's packages, as they are cut in different releases. */
const PACKAGE = /^linux-(?:image|base|binary|modules)-\d/
/** What the RAM disk needs before it can mount the others. */
const BOOT_MODULES = ['virtio_pci', 'virtio_blk', 'ext4']

/** What is missing here, or undefined. */
export function missingForKernels(releases: readonly Release[]): string | undefined {
  if (process.arch !== 'x64') return 'the machines are x86-64, and so must the programs in them be'
  if (releases.includes('installed') && !installedVersion()) return 'apt-get install linux-image-cloud-amd64'
  const isFetching = releases.some((release) => release !== 'installed')
  return isFetching && !existsSync(KEYRING) ? 'apt-get install debian-archive-keyring' : undefined
}

/** The newest kernel in /boot that may be read and whose modules are here. */
function installedVersion(): string | undefined {
  const versions = existsSync('/boot')
    ? readdirSync('/boot').flatMap((name) => /^vmlinuz-(.+)/.exec(name)?.[1] ?? [])
    : []
  const isUsable = (version: string) => {
    try {
      accessSync(`/boot/vmlinuz-${version}`, constants.R_OK)
      return existsSync(`/lib/modules/${version}`)
    } catch {
      return false
    }
  }
  return versions
    .filter(isUsable)
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1)
}

/** The kernel of a release, fetched by the first who asks; others wait. */
export async function kernelOf(release: Release): Promise<Kernel> {
  await mkdir(CACHE, { recursive: true, mode: 0o755 })
  const note = join(CACHE, `${release === 'installed' ? installedVersion() : release}.json`)
  if (!(await isFresh(note))) {
    await withFileLock(`${note}.lock`, FETCH_TIMEOUT_MS, async () => {
      if (!(await isFresh(note))) await get(release, note)
    })
  }
  const { version } = JSON.parse(await readFile(note, 'utf8')) as { version: string }
  return { release, version, directory: join(CACHE, `${release}-${version}`) }
}

async function isFresh(note: string): Promise<boolean> {
  const found = await stat(note).catch(() => undefined)
  return found !== undefined && Date.now() - found.mtimeMs < KEPT_MS
}

async function get(release: Release, note: string): Promise<void> {
  const work = await mkdtemp(join(CACHE, 'get-'))
  try {
    const found = release === 'installed' ? installed() : await fetched(SUITES[release], work)
    const { version } = found
    const result = join(work, 'kernel')
    const modules = join(result, 'root/lib/modules', version)
    await cp(found.modules, modules, { recursive: true, filter: isUseful })
    await cp(found.image, join(result, 'vmlinuz'))
    run('depmod', '-b', join(result, 'root'), version)
    await makeInitrd(join(result, 'root'), version, result)
    makeImage(dirname(modules), join(result, 'modules.img'), 8)
    await rm(join(result, 'root'), { recursive: true })
    await rm(join(CACHE, `${release}-${version}`), { recursive: true, force: true })
    await rename(result, join(CACHE, `${release}-${version}`))
    await writeFile(`${note}.new`, JSON.stringify({ version }))
    await rename(`${note}.new`, note)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** Drivers of what no such machine has are hundreds of megabytes; links lead to headers. */
function isUseful(path: string): boolean {
  return !/\/drivers\/(?:gpu|media|infiniband|scsi|hwmon|usb|iio|staging|net\/(?:ethernet|wireless))$|\/(?:build|source)$/.test(
    path,
  )
}

interface Found {
  readonly version: string
  readonly image: string
  readonly modules: string
}

function installed(): Found {
  const version = installedVersion()!
  return { version, image: `/boot/vmlinuz-${version}`, modules: `/lib/modules/${version}` }
}

async function fetched(suite: string, work: string): Promise<Found> {
  const tree = join(work, 'tree')
  await mkdir(tree)
  for (const file of await download(suite, work)) run('dpkg-deb', '-x', file, tree)
  // Newer releases put modules, and the kernel beside them, into /usr.
  const modules = [join(tree, 'usr/lib/modules'), join(tree, 'lib/modules')].find(existsSync)
  const version = modules && (await readdir(modules))[0]
  const images = [join(tree, 'boot', `vmlinuz-${version}`), join(modules ?? '', version ?? '', 'vmlinuz')]
  const image = images.find(existsSync)
  if (!version || !image) throw new Error(`The kernel packages of ${suite} hold no kernel that is known here`)
  return { version, image, modules: join(modules, version) }
}

/** Paths of the release's kernel packages, downloaded by an apt that has nothing to do with this machine's own packages. */
async function download(suite: string, work: string): Promise<string[]> {
  const archives = archivesOf({ distribution: 'debian', suite, isSlim: false }, await readAptSources(), {
    architecture: 'amd64',
  })
  const lines = archives.flatMap(({ uri, suites }) =>
    suites.map((name) => `deb [signed-by=${KEYRING}] ${uri} ${name} main\n`),
  )
  for (const directory of ['lists/partial', 'cache/archives/partial', 'packages'])
    await mkdir(join(work, directory), { recursive: true })
  await writeFile(join(work, 'status'), '')
  await writeFile(join(work, 'sources.list'), lines.join(''))
  const settings: Readonly<Record<string, string>> = {
    'Dir::Etc::sourcelist': join(work, 'sources.list'),
    'Dir::Etc::sourceparts': '-',
    'Dir::State': work,
    'Dir::State::lists': join(work, 'lists'),
    'Dir::State::status': join(work, 'status'),
    'Dir::Cache': join(work, 'cache'),
    'APT::Architecture': 'amd64',
    'APT::Architectures': 'amd64',
    'APT::Sandbox::User': 'root',
    'Acquire::Retries': '3',
    'Acquire::Languages': 'none',
  }
  const options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  const packages = join(work, 'packages')
  run('apt-get', ...options, '--quiet', 'update')
  const plan = run('apt-get', ...options, '--simulate', '--no-install-recommends', 'install', 'linux-image-cloud-amd64')
  const names = [...plan.matchAll(/^Inst (\S+) \((\S+)/gm)].filter(([, name = '']) => PACKAGE.test(name))
  execFileSync(
    'apt-get',
    [...options, '--quiet', 'download', ...names.map(([, name, version]) => `${name}=${version}`)],
    {
      cwd: packages,
      stdio: 'pipe',
    },
  )
  return (await readdir(packages)).map((name) => join(packages, name))
}

/** busybox, our init, and the modules in the order in which they are to be loaded, unpacked. */
async function makeInitrd(root: string, version: string, result: string): Promise<void> {
  const disk = join(result, 'ramdisk')
  for (const name of ['bin', 'dev', 'proc', 'sys', 'root', 'modules'])
    await mkdir(join(disk, name), { recursive: true })
  await cp('/bin/busybox', join(disk, 'bin/busybox'))
  await cp(join(CHECKOUT, 'test/vm/guest/boot'), join(disk, 'init'))
  const lines = BOOT_MODULES.flatMap((name) =>
    run('modprobe', '--dirname', root, '--set-version', version, '--show-depends', name).split('\n'),
  )
  const files = new Set(lines.flatMap((line) => /^insmod (\S+)/.exec(line)?.[1] ?? []))
  for (const [index, file] of [...files].entries()) {
    const unpack = file.endsWith('.xz') ? ['xz', '-dc'] : file.endsWith('.zst') ? ['zstd', '-qdc'] : ['cat']
    const module = execFileSync(unpack[0]!, [...unpack.slice(1), file], { maxBuffer: 64 * 1024 * 1024 })
    await writeFile(join(disk, 'modules', `${String(index).padStart(2, '0')}.ko`), module)
  }
  const archive = execFileSync('sh', ['-c', 'find . | cpio --quiet -o -H newc -R 0:0 | gzip -1'], {
    cwd: disk,
    maxBuffer: 256 * 1024 * 1024,
  })
  await writeFile(join(result, 'initrd'), archive)
  await rm(disk, { recursive: true })
}

/** An ext4 image with a directory's contents, all of it root's, and so much room more. */
export function makeImage(directory: string, image: string, roomMebibytes: number): void {
  const usedKibibytes = Number(/^\d+/.exec(run('du', '-sk', '--apparent-size', directory))![0])
  const count = Number(run('sh', '-c', 'find "$1" | wc -l', 'sh', directory))
  const size = Math.ceil((usedKibibytes * 1.15) / 1024) + Math.ceil(count / 200) + 16 + roomMebibytes
  const words = ['mke2fs', '-q', '-t', 'ext4', '-O', '^has_journal', '-d', directory, image, `${size}M`]
  // To others than root their own files are root's in a user namespace, which is all that is needed.
  const [program = '', ...args] = process.getuid?.() === 0 ? words : ['unshare', '--map-root-user', ...words]
  execFileSync(program, args, { stdio: 'pipe' })
}

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 * 1024 * 1024,
  })
}

declare const CHECKOUT: string
