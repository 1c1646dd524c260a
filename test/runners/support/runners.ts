/** The real test runners, each version installed once on this machine, and projects in which they run against the built package. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { Engine } from '../../../src/engine/engine.js'
import { makeWorld } from '../../engine/support/world.js'
import { installed } from '../../package/support/installed.js'
import { type Output, root, run } from '../../package/support/packed.js'

export const RUNNERS = {
  vitest3: 'vitest@3.2.7',
  vitest5: 'vitest@5.1.1',
  jest29: 'jest@29.7.0',
  jest30: 'jest@30.5.2',
}
/** `vitest4` is the one that this repository has. */
export type Runner = keyof typeof RUNNERS | 'vitest4'

export const IMAGE = 'busybox:test'

/** Gives a project its runner, and mayfly as it has been built, or as it lies in the directory of the package. */
export async function makeModules(directory: string, runner: Runner, packed?: string): Promise<void> {
  const source = runner === 'vitest4' ? join(root, 'node_modules') : await installed(RUNNERS[runner])
  linkModules(directory, source, packed)
}

/** Gives a project what its package.json asks for. */
export async function installModules(directory: string): Promise<void> {
  const { dependencies = {}, devDependencies = {} } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'))
  const all: Record<string, string> = { ...dependencies, ...devDependencies }
  const packages = Object.keys(all).filter((name) => name !== 'mayfly')
  linkModules(directory, await installed(...packages.sort().map((name) => `${name}@${all[name]}`)))
}

/** Projects share packages; mayfly is a copy, so that it finds the project's runner and no other. */
export function linkModules(directory: string, source: string, packed?: string): void {
  const target = join(directory, 'node_modules')
  mkdirSync(join(target, '.bin'), { recursive: true })
  const link = (name: string) => symlinkSync(realpathSync(join(source, name)), join(target, name))
  for (const name of readdirSync(source)) if (name !== 'mayfly' && !name.startsWith('.')) link(name)
  const programs = existsSync(join(source, '.bin')) ? readdirSync(join(source, '.bin')) : []
  for (const name of programs) if (name !== 'mayfly') link(join('.bin', name))
  if (packed) cpSync(packed, join(target, 'mayfly'), { recursive: true })
  else {
    for (const file of ['package.json', 'dist', 'native/build/mayfly-warden']) {
      cpSync(join(root, file), join(target, 'mayfly', file), { recursive: true })
    }
  }
  symlinkSync('../mayfly/dist/cli/mayfly.js', join(target, '.bin/mayfly'))
}

export function writeFiles(directory: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true })
    writeFileSync(join(directory, name), text)
  }
}

/** Puts an image of busybox into a store. */
export async function putImage(home: string): Promise<void> {
  const world = makeWorld()
  try {
    await using engine = await Engine.open({ home, network: false })
    const tar = spawn('tar', ['-C', world.rootfs, '-cf', '-', '.'], { stdio: ['ignore', 'pipe', 'inherit'] })
    await engine.images.import(tar.stdout, { reference: IMAGE, changes: ['CMD ["sh"]'] })
  } finally {
    world.remove()
  }
}

const PROGRAMS = { vitest: 'vitest/vitest.mjs', jest: 'jest/bin/jest.js' }

export interface RunOptions {
  readonly node?: string
  readonly env?: NodeJS.ProcessEnv
  readonly nodeOptions?: readonly string[]
  /** Words before the command. */
  readonly enter?: readonly string[]
}

/** The words of a run, and its environment. */
export function commandOf(directory: string, runner: Runner, args: readonly string[], options: RunOptions) {
  const { node = process.execPath, nodeOptions = [], enter = [], env = {} } = options
  const program = join(directory, 'node_modules', PROGRAMS[runner.startsWith('jest') ? 'jest' : 'vitest'])
  return { words: [...enter, node, ...nodeOptions, program, ...args], env: { NO_COLOR: '1', ...env } }
}

export function runTests(
  directory: string,
  runner: Runner,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Output> {
  const { words, env } = commandOf(directory, runner, args, options)
  return run(words[0]!, words.slice(1), { cwd: directory, env })
}

/** A run that goes on: a watch mode, or one to be killed. */
export function startTests(directory: string, runner: Runner, args: readonly string[], options: RunOptions = {}) {
  const { words, env } = commandOf(directory, runner, args, options)
  return startProgram(words, directory, env)
}

/** Starts a program in a process group of its own. It does not learn that it runs in a test. */
export function startProgram(words: readonly string[], cwd: string, env: NodeJS.ProcessEnv) {
  const { VITEST, VITEST_POOL_ID, VITEST_WORKER_ID, NODE_OPTIONS, NODE_ENV, CI, ...own } = process.env
  const child = spawn(words[0]!, words.slice(1), { cwd, env: { ...own, ...env }, stdio: 'pipe', detached: true })
  let text = ''
  const heard: (() => void)[] = []
  const onData = (piece: Buffer) => {
    text += piece
    for (const tell of heard.splice(0)) tell()
  }
  child.stdout.on('data', onData)
  child.stderr.on('data', onData)
  const ended = once(child, 'exit').then(([code, signal]) => {
    for (const tell of heard.splice(0)) tell()
    return { code, signal, text }
  })
  return {
    child,
    ended,
    /** Until the output has the pattern. Rejects when it has ended without. */
    async said(pattern: RegExp): Promise<RegExpExecArray> {
      for (;;) {
        const found = pattern.exec(text)
        if (found) return found
        if (child.exitCode !== null || child.signalCode !== null) throw new Error(`It never said ${pattern}: ${text}`)
        await new Promise<void>((resolve) => heard.push(resolve))
      }
    },
  }
}
