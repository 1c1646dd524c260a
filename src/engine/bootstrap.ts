/**
 * Base images without a registry: Debian and Ubuntu from their package mirrors, by mmdebstrap, else debootstrap. The program's tar goes
 * straight into the store; nothing lies around in between.
 */

import { customizeScript, slimOptions } from './bootstrap/customize.js'
import { type Release, releaseOf } from './bootstrap/distribution.js'
import { type Archive, archivesOf, readAptSources } from './bootstrap/mirror.js'
import { exists, isInstalled, output } from './bootstrap/program.js'
import { MayflyError } from './errors.js'
import type { RuntimeConfig } from './image/config.js'
import { hostPlatform } from './image/platform.js'
import { formatReference, parseReference } from './image/reference.js'
import { importImage } from './image-import.js'
import { DEFAULT_PATH } from './launch/defaults.js'
import { type ProgressListener, tell } from './registry/progress.js'
import type { Session } from './session.js'
import type { StoredImage } from './store/images.js'
import type { Store } from './store/store.js'

export interface BootstrapOptions {
  /**
   * Where packages come from, such as `http://deb.debian.org/debian`.
   *
   * @default the mirror that this machine's own apt uses for the distribution, else deb.debian.org or archive.ubuntu.com
   */
  readonly mirror?: string
  /** The program. @default mmdebstrap where it is installed, else debootstrap */
  readonly tool?: 'mmdebstrap' | 'debootstrap'
  /** Hears what the program says. */
  readonly onProgress?: ProgressListener
  /** Ends the program; nothing stays. */
  readonly signal?: AbortSignal
}

type Tool = 'mmdebstrap' | 'debootstrap'

interface Job {
  readonly release: Release
  readonly archives: readonly Archive[]
  readonly architecture: string
}

const COMPONENTS = { debian: ['main'], ubuntu: ['main', 'universe', 'restricted', 'multiverse'] } as const

/**
 * Makes the image that the reference means on Docker Hub (`debian:bookworm-slim`, `ubuntu:24.04`), and names it so: `FROM` and `run` then
 * find it. An image that has the name already loses it.
 *
 * Takes half a minute, most of it downloading and unpacking packages. Throws INVALID_OPTION for an unknown release, BOOTSTRAP_FAILED
 * with the program's last lines, or when there is no program for it.
 */
export async function bootstrap(
  context: { readonly session: Session; readonly store: Store },
  reference: string,
  { mirror, tool: wanted, onProgress, signal }: BootstrapOptions = {},
): Promise<StoredImage> {
  signal?.throwIfAborted()
  const release = releaseOf(reference)
  const { architecture } = hostPlatform()
  const name = formatReference(parseReference(reference))
  checkMirror(mirror)
  const archives = archivesOf(release, await readAptSources(), { mirror, architecture })
  const tool = findTool(wanted, release)
  const job: Job = { release, archives, architecture: architecture === '386' ? 'i386' : architecture }
  tell(onProgress, {
    type: 'status',
    text: `Installing ${release.distribution} ${release.suite} from ${archives[0]!.uri} with ${tool}`,
  })
  const directory = await context.store.temporary()
  try {
    const script = customizeScript(release, archives, componentsOf(release))
    const tar = output(commandOf(tool, job, directory), { tool, release, script, onProgress, signal })
    return await importImage(
      context,
      tar,
      { references: [name], history: { created_by: `mayfly bootstrap ${reference}` }, config: configOf(release) },
      signal,
    )
  } finally {
    await context.store.discard(directory)
  }
}

/** As the official images have it. */
function configOf({ distribution, suite }: Release): RuntimeConfig {
  const env = [`PATH=${DEFAULT_PATH}`]
  if (distribution === 'debian') return { Cmd: ['bash'], Env: env }
  return {
    Cmd: ['/bin/bash'],
    Env: env,
    Labels: { 'org.opencontainers.image.ref.name': 'ubuntu', 'org.opencontainers.image.version': suite },
  }
}

function checkMirror(mirror: unknown): void {
  if (mirror === undefined || (typeof mirror === 'string' && /^https?:\/\/[^\s'"]+$/.test(mirror))) return
  throw new MayflyError('INVALID_OPTION', 'mirror: expected an address such as http://deb.debian.org/debian', {
    field: 'mirror',
    value: mirror,
  })
}

// --- The program -----------------------------------------------------------------------------------------------------------

function findTool(wanted: Tool | undefined, { distribution }: Release): Tool {
  const isRoot = process.getuid?.() === 0
  const tools = wanted ? [wanted] : (['mmdebstrap', 'debootstrap'] as const)
  // debootstrap makes device nodes and enters a chroot, which takes root.
  const found = tools.find((tool) => isInstalled(tool) && (tool === 'mmdebstrap' || isRoot))
  if (!found) {
    const which = wanted ?? (isRoot ? 'mmdebstrap or debootstrap' : 'mmdebstrap')
    throw new MayflyError('BOOTSTRAP_FAILED', `A base image is made by ${which}, which is not installed`, {
      hint: `apt-get install ${wanted ?? 'mmdebstrap'}${isRoot ? '' : ' uidmap'}`,
    })
  }
  if (distribution === 'ubuntu' && !exists('/usr/share/keyrings/ubuntu-archive-keyring.gpg')) {
    throw new MayflyError('BOOTSTRAP_FAILED', 'The keys that Ubuntu signs its packages with are not installed', {
      hint: 'apt-get install ubuntu-keyring',
    })
  }
  return found
}

function componentsOf({ distribution }: Release): readonly string[] {
  return COMPONENTS[distribution]
}

/** A program and its arguments that write the root file system to stdout as a tar. */
function commandOf(tool: Tool, job: Job, directory: string): string[] {
  const { release, archives, architecture } = job
  const components = componentsOf(release)
  const keyring = `/usr/share/keyrings/${release.distribution}-archive-keyring.gpg`
  if (tool === 'debootstrap') {
    // It installs one suite; updates of it come with the first `apt-get upgrade`.
    const install = `debootstrap --variant=minbase --arch=${architecture} --keyring='${keyring}' --components=${components.join(',')} '${release.suite}' "$1" '${archives[0]!.uri}' >&2`
    const slim = release.isSlim ? SLIM_TREES.map((path) => `rm -rf "$1/${path}"/*`).join('\n') : ''
    const pack =
      'tar --create --numeric-owner --xattrs --one-file-system --sort=name --directory="$1" --exclude=./dev/* --exclude=./proc/* --exclude=./sys/* .'
    // What it mounts in the new root is seen by nobody else, and gone with it.
    const apart = ['unshare', '--mount', '--propagation', 'private']
    return [
      ...apart,
      'sh',
      '-c',
      ['set -e', install, slim, 'eval "$MAYFLY_CUSTOMIZE"', pack].join('\n'),
      'sh',
      directory,
    ]
  }
  const isRoot = process.getuid?.() === 0
  const lines = archives.flatMap(({ uri, suites }) =>
    suites.map((suite) => `deb [signed-by="${keyring}"] ${uri} ${suite} ${components.join(' ')}`),
  )
  return [
    'mmdebstrap',
    `--mode=${isRoot ? 'root' : 'unshare'}`,
    '--variant=minbase',
    '--format=tar',
    `--architectures=${architecture}`,
    '--aptopt=Acquire::Retries "3"',
    '--skip=chroot/policy-rc.d', // it would remove ours in the end
    // Else apt merges /usr with a program that brings all of Perl along.
    ...(isMerged(release) ? [`--hook-dir=${MERGED_USR}`, '--include=usr-is-merged'] : []),
    ...(release.isSlim ? slimOptions().map((option) => `--dpkgopt=${option}`) : []),
    '--customize-hook=eval "$MAYFLY_CUSTOMIZE"', // the text of a hook is part of what is printed
    release.suite,
    '-',
    ...lines,
  ]
}

const MERGED_USR = '/usr/share/mmdebstrap/hooks/merged-usr'

function isMerged({ suite }: Release): boolean {
  return !['bullseye', 'jammy'].includes(suite) && exists(MERGED_USR)
}

/** What dpkg is told to leave out, for debootstrap, which cannot be told. */
const SLIM_TREES = [
  'usr/share/man',
  'usr/share/groff',
  'usr/share/info',
  'usr/share/lintian',
  'usr/share/linda',
  'usr/share/locale',
]
