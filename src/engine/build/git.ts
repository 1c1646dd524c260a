/** Git repositories as a context or as a source of ADD, fetched with the git of this machine. */

import { execFile } from 'node:child_process'
import { mkdir, rm } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { MayflyError } from '../errors.js'
import type { BuildContext } from './context.js'
import { withoutSecrets } from './remote-file.js'

export interface GitReference {
  readonly remote: string
  /** Branch, tag, or commit; undefined: what the repository has as its HEAD. */
  readonly ref: string | undefined
  /** Directory inside, without slashes at its ends; '' for all. */
  readonly subdirectory: string
  /** Commit that it must be, or the beginning of its name. */
  readonly checksum: string | undefined
}

/** What docker takes for a repository: `git://`, `git@host:…`, `ssh://`, or `http(s)` with a path that ends in `.git`. */
export function parseGitReference(text: string): GitReference | undefined {
  const [address = '', fragment] = splitOnce(text, '#')
  const [plain = '', query] = splitOnce(address, '?')
  const isGit =
    /^(git|ssh|git\+ssh):\/\//.test(text) ||
    /^[\w.-]+@[\w.-]+:/.test(text) ||
    (/^https?:\/\//.test(text) && /\.git$/.test(plain)) ||
    (/^file:\/\//.test(text) && /\.git$/.test(plain))
  if (!isGit) return undefined
  const [ref, directory] = splitOnce(fragment ?? '', ':')
  const options = new URLSearchParams(query ?? '')
  const named = options.get('ref') ?? options.get('branch') ?? options.get('tag') ?? options.get('commit')
  return {
    remote: plain,
    ref: ref || named || undefined,
    subdirectory: inside(directory ?? options.get('subdir') ?? '', text),
    checksum: options.get('checksum') ?? options.get('commit') ?? undefined,
  }
}

function splitOnce(text: string, separator: string): [string | undefined, string | undefined] {
  const at = text.indexOf(separator)
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}

function inside(directory: string, text: string): string {
  const path = posix.normalize(`./${directory}`).replace(/\/+$/, '')
  if (path === '..' || path.startsWith('../')) {
    throw new MayflyError('SOURCE_OUTSIDE', `The directory in ${withoutSecrets(text)} is outside of the repository`, {
      value: directory,
    })
  }
  return path === '.' ? '' : path
}

const COMMIT = /^[0-9a-f]{40}([0-9a-f]{24})?$/

/** The commit that a reference means now. */
export async function resolveCommit(git: GitReference, signal: AbortSignal): Promise<string> {
  const { remote, ref } = git
  if (ref !== undefined && COMMIT.test(ref)) return checked(ref, git)
  // After `--`, a name that begins with a dash is no option.
  const output = await runGit(
    ['ls-remote', '--', remote, ...(ref === undefined ? ['HEAD'] : [ref, `${ref}^{}`])],
    remote,
    signal,
  )
  const found = new Map(output.split('\n').map((line) => line.split('\t').reverse() as [string, string]))
  const names = ref === undefined ? ['HEAD'] : [ref, `refs/heads/${ref}`, `refs/tags/${ref}^{}`, `refs/tags/${ref}`]
  const commit = names.map((name) => found.get(name)).find((one) => one !== undefined && COMMIT.test(one))
  if (commit === undefined) {
    const address = withoutSecrets(remote)
    throw new MayflyError('FETCH_FAILED', `${address} has no branch or tag "${ref ?? 'HEAD'}"`, { value: address })
  }
  return checked(commit, git)
}

function checked(commit: string, { checksum, remote }: GitReference): string {
  if (checksum === undefined || commit.startsWith(checksum)) return commit
  throw new MayflyError('DIGEST_MISMATCH', `${withoutSecrets(remote)} is at commit ${commit}, not ${checksum}`, {
    value: checksum,
  })
}

/** Checks a commit out into a new directory on the store's disk, which the caller discards. */
export async function checkout(
  { store }: BuildContext,
  git: GitReference,
  commit: string,
  keepGitDirectory: boolean,
  signal: AbortSignal,
): Promise<string> {
  const { remote, ref, subdirectory } = git
  const directory = await store.temporary()
  await mkdir(directory, { mode: 0o700 })
  const run = (...args: string[]) => runGit(['-C', directory, ...args], remote, signal)
  try {
    await run('init', '--quiet', '--initial-branch=main')
    await run('remote', 'add', 'origin', '--', remote)
    // Most servers give single commits; where one does not, its branch or tag has it.
    await run('fetch', '--quiet', '--depth=1', 'origin', '--', commit).catch((error) => {
      if (signal.aborted) throw error
      return run('fetch', '--quiet', '--tags', 'origin', '--', ref ?? 'HEAD')
    })
    await run('checkout', '--quiet', '--detach', commit)
    await run('submodule', 'update', '--quiet', '--init', '--recursive', '--depth=1')
    if (!keepGitDirectory || subdirectory !== '') await rm(join(directory, '.git'), { recursive: true, force: true })
    return directory
  } catch (error) {
    await store.discard(directory)
    throw error
  }
}

function runGit(args: readonly string[], remote: string, signal: AbortSignal): Promise<string> {
  const address = withoutSecrets(remote)
  return new Promise((resolve, reject) => {
    const environment = {
      ...process.env,
      GIT_TERMINAL_PROMPT: '0', // nobody is there to answer
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_ALLOW_PROTOCOL: 'http:https:git:ssh:file',
    }
    execFile(
      'git',
      ['-c', 'core.hooksPath=/dev/null', ...args],
      { env: environment, signal, maxBuffer: 1 << 26 },
      (error, stdout, stderr) => {
        if (!error) {
          resolve(stdout)
          return
        }
        if (signal.aborted) {
          reject(signal.reason)
          return
        }
        const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
        // Advice may follow what failed, and the reason may stand before it.
        const lines = stderr.replaceAll(remote, address).trim().split('\n')
        const end = lines.findLastIndex((line) => /^(fatal|error): /.test(line))
        const said = end < 0 ? lines.at(-1) : lines.slice(Math.max(0, end - 1), end + 1).join('; ')
        const why = isMissing ? 'there is no git on this machine' : said || 'git failed'
        const hint = isMissing ? { hint: 'install git' } : {}
        reject(new MayflyError('FETCH_FAILED', `Cannot fetch ${address}: ${why}`, { value: address, ...hint }))
      },
    )
  })
}
