/** The program that installs a distribution: looked up, run in a process group of its own, and ended with all that it has started. */

import type { ChildProcessByStdio } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Readable } from 'node:stream'
import { spawnChild } from '../child.js'
import { MayflyError } from '../errors.js'
import { type ProgressListener, tell } from '../registry/progress.js'
import type { Release } from './distribution.js'

const LINES_KEPT = 20
/** From SIGTERM, at which mmdebstrap removes what it has made, to SIGKILL. */
const GRACE_MS = 10_000

export interface Run {
  readonly tool: string
  readonly release: Release
  /** For the new root, in `$MAYFLY_CUSTOMIZE`. */
  readonly script: string
  readonly onProgress: ProgressListener | undefined
  readonly signal: AbortSignal | undefined
}

/** What the command writes. Ends when the program has ended well; throws BOOTSTRAP_FAILED when it has not. */
export async function* output(command: readonly string[], run: Run): AsyncGenerator<Uint8Array, void, undefined> {
  const { tool, release, script, onProgress, signal } = run
  const child = spawnChild(command[0]!, command.slice(1), {
    detached: true, // a process group of its own, which can be ended as a whole
    env: {
      ...process.env,
      PATH: searchPath(),
      LC_ALL: 'C',
      DEBIAN_FRONTEND: 'noninteractive',
      MAYFLY_CUSTOMIZE: script,
      ...(await proxy()),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = new Promise<{ readonly code: number | null; readonly error?: Error }>((resolve) => {
    child.once('error', (error) => resolve({ code: null, error }))
    child.once('close', (code) => resolve({ code }))
  })
  const lines: string[] = []
  readLines(child.stderr, (line) => {
    lines.push(line)
    if (lines.length > LINES_KEPT) lines.shift()
    tell(onProgress, { type: 'status', text: line })
  })
  let isWhole = false
  const onAbort = () => endGroup(child, ended)
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    for await (const piece of child.stdout) yield piece as Uint8Array
    const { code, error } = await ended
    isWhole = true
    signal?.throwIfAborted()
    if (code === 0) return
    throw new MayflyError(
      'BOOTSTRAP_FAILED',
      `${tool} could not install ${release.distribution} ${release.suite}${error ? `: ${error.message}` : ` (exit code ${code})`}`,
      { ...(lines.length > 0 ? { logTail: lines.join('\n') } : {}), ...(code === null ? {} : { exitCode: code }) },
    )
  } finally {
    signal?.removeEventListener('abort', onAbort)
    if (!isWhole) await endGroup(child, ended)
  }
}

type Child = ChildProcessByStdio<null, Readable, Readable>

/** Asks all processes of it to end, and sees to it that they do. */
async function endGroup(child: Child, ended: Promise<unknown>): Promise<void> {
  child.stdout.resume() // whoever writes to it must not wait for a reader
  const send = (signal: NodeJS.Signals) => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal)
    } catch {
      // gone already
    }
  }
  send('SIGTERM')
  const timer = setTimeout(() => send('SIGKILL'), GRACE_MS)
  await ended
  clearTimeout(timer)
}

function readLines(stream: Readable, tellLine: (line: string) => void): void {
  let rest = ''
  stream.setEncoding('utf8').on('data', (text: string) => {
    // A carriage return begins a line anew: progress bars.
    const parts = (rest + text).split(/[\r\n]+/)
    rest = parts.pop()!.slice(-4096)
    for (const line of parts) if (line.trim() !== '') tellLine(line.trimEnd())
  })
  stream.on('end', () => {
    if (rest.trim() !== '') tellLine(rest.trimEnd())
  })
}

/** mmdebstrap's apt knows nothing of the host's settings: a proxy that they name is handed on by the environment. */
async function proxy(): Promise<NodeJS.ProcessEnv> {
  const found: NodeJS.ProcessEnv = {}
  if (!isInstalled('apt-config')) return found
  for (const scheme of ['http', 'https'] as const) {
    const name = `${scheme}_proxy`
    if (process.env[name] || process.env[name.toUpperCase()]) continue
    const value = await aptSetting(`Acquire::${scheme}::Proxy`)
    if (value && value !== 'DIRECT') found[name] = value
  }
  return found
}

function aptSetting(name: string): Promise<string> {
  return new Promise((resolve) => {
    const child = spawnChild('apt-config', ['shell', 'VALUE', name], {
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 10_000,
    })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (piece: string) => {
      text += piece
    })
    child.once('error', () => resolve(''))
    child.once('close', () => resolve(/^VALUE='(.*)'$/m.exec(text)?.[1] ?? ''))
  })
}

export function isInstalled(program: string): boolean {
  return searchPath()
    .split(delimiter)
    .some((directory) => exists(join(directory, program), constants.X_OK))
}

export function exists(path: string, mode: number = constants.F_OK): boolean {
  try {
    accessSync(path, mode)
    return true
  } catch {
    return false
  }
}

/** An ordinary user's PATH may lack where debootstrap is. */
function searchPath(): string {
  return `${process.env.PATH || '/usr/bin:/bin'}:/usr/sbin:/sbin`
}
