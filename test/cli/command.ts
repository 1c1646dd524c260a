/** Runs the command line as a user does: the built program, in a process of its own, with a store of its own. */
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { makeRootfs, missingBusybox } from '../support/rootfs.js'
import { temporaryDirectory } from '../support/temporary.js'

export const PROGRAM = fileURLToPath(new URL('../../dist/cli/mayfly.js', import.meta.url))
const NOBODY = 65534

export interface Finished {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Why real containers cannot be run here, or undefined. */
export function whyNoContainers(): string | undefined {
  const missing = missingBusybox()
  return missing ? `there is no busybox to make a root file system of: ${missing}` : undefined
}

export class Bench {
  readonly directory = temporaryDirectory('cli')
  readonly rootfs = join(this.directory, 'rootfs')
  readonly home = join(this.directory, 'home')
  readonly #identity: SpawnOptions

  /** @param user `nobody` runs everything as an ordinary user; only root can. */
  constructor(user: 'self' | 'nobody' = 'self') {
    makeRootfs(this.rootfs)
    mkdirSync(this.home)
    this.#identity = user === 'nobody' ? { uid: NOBODY, gid: NOBODY } : {}
    if (user === 'self') return
    // In a user namespace nobody may write to what belongs to an id that is not mapped, so the root file system is the user's.
    execFileSync('chown', ['-R', `${NOBODY}:${NOBODY}`, this.directory])
  }

  /** Starts `mayfly …`. */
  start(words: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const env = { ...process.env, MAYFLY_HOME: this.home, HOME: this.directory, ...options.env }
    return spawn(process.execPath, [PROGRAM, ...words], { cwd: this.directory, ...this.#identity, ...options, env })
  }

  /** Runs `mayfly …` to its end. */
  async call(words: readonly string[], input = '', options: SpawnOptions = {}): Promise<Finished> {
    const child = this.start(words, options)
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
    return finished(child)
  }

  /** Runs `mayfly …` to its end by way of another program, which is given its words. */
  callThrough([program, ...before]: readonly [string, ...string[]], words: readonly string[]): Promise<Finished> {
    const env = { ...process.env, MAYFLY_HOME: this.home, HOME: this.directory }
    return finished(spawn(program, [...before, process.execPath, PROGRAM, ...words], { cwd: this.directory, env }))
  }

  /** Runs `mayfly run --rootfs … …` to its end. */
  run(words: readonly string[], input = ''): Promise<Finished> {
    return this.call(['run', '--rootfs', this.rootfs, ...words], input)
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}

export function finished(child: ChildProcess): Promise<Finished> {
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (piece) => {
    stdout += piece
  })
  child.stderr?.on('data', (piece) => {
    stderr += piece
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
}

/** Resolves when the child has printed this. */
export function printed(child: ChildProcess, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen = ''
    child.stdout?.on('data', (piece) => {
      seen += piece
      if (seen.includes(text)) resolve()
    })
    child.once('close', () => reject(new Error(`Ended without printing "${text}": ${seen}`)))
  })
}
