/** The package as users get it: packed, and installed with npm into projects of their own. Install scripts never run. */

import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { temporaryDirectory } from '../../support/temporary.js'
import { install, npm, type Runtime, runtime } from './installed.js'

export const root = fileURLToPath(new URL('../../../', import.meta.url))
export const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

const PROJECTS = fileURLToPath(new URL('../projects/', import.meta.url))
const OTHER_ARCHITECTURE = process.arch === 'x64' ? 'arm64' : 'x64'

const execute = promisify(execFile)

export interface Output {
  readonly exitCode: number
  /** stdout, then stderr. */
  readonly text: string
}

/** Runs a program to its end, whatever its exit code. Rejects when there is none within two minutes. */
export async function run(
  program: string,
  args: readonly string[],
  options: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv },
): Promise<Output> {
  const { VITEST, VITEST_POOL_ID, VITEST_WORKER_ID, NODE_OPTIONS, NODE_ENV, TEST, FORCE_COLOR, ...env } = process.env
  try {
    const settings = { cwd: options.cwd, env: { ...env, ...options.env }, timeout: 120_000, maxBuffer: 2 ** 26 }
    const { stdout, stderr } = await execute(program, args, settings)
    return { exitCode: 0, text: stdout + stderr }
  } catch (error) {
    const { code, stdout = '', stderr = '', message } = error as Error & { code: unknown } & Record<string, string>
    if (typeof code !== 'number') throw error
    return { exitCode: code, text: stdout + stderr || message! }
  }
}

/** Why nothing can be installed; undefined when npm's registry, or what npm has kept of it, will do. */
export async function missingRegistry(): Promise<string | undefined> {
  try {
    await npm(['view', '--prefer-offline', 'wait-on', 'name'], root)
    return undefined
  } catch (error) {
    return `npm reaches no registry: ${(error as Error).message.split('\n').find((line) => line.includes('code'))}`
  }
}

export interface PackedFile {
  readonly path: string
  readonly size: number
}

/**
 * Packs what has been built into `directory`. The native program of the other architecture stands in for by our own where it has not
 * been cross-built.
 */
export async function pack(directory: string): Promise<{ readonly tarball: string; readonly files: PackedFile[] }> {
  const stage = join(directory, 'stage')
  const isLeftOut = (path: string) => /^(\.git|node_modules|dist\/\.|native\/build|native\/prebuilt)(\/|$)/.test(path)
  cpSync(root, stage, { recursive: true, filter: (path) => !isLeftOut(path.slice(root.length)) })
  const native = join(root, 'native/build')
  const other = join(native, OTHER_ARCHITECTURE, 'mayfly-warden')
  const own = join(native, 'mayfly-warden')
  for (const [architecture, program] of [
    [process.arch, own],
    [OTHER_ARCHITECTURE, existsSync(other) ? other : own],
  ] as const) {
    const target = join(stage, 'native/prebuilt', `linux-${architecture}`)
    mkdirSync(target, { recursive: true })
    cpSync(program, join(target, 'mayfly-warden'))
  }
  const [packed] = JSON.parse(await npm(['pack', '--json', '--ignore-scripts'], stage))
  const tarball = join(directory, packed.filename)
  cpSync(join(stage, packed.filename), tarball)
  rmSync(stage, { recursive: true })
  return { tarball, files: packed.files }
}

/** A copy of `test/package/projects/<name>` with the tarball and the packages, of the versions that we have, installed. */
export async function installProject(name: string, tarball: string, packages: readonly string[]): Promise<string> {
  const directory = temporaryDirectory(name)
  cpSync(join(PROJECTS, name), directory, { recursive: true })
  cpSync(tarball, join(directory, 'mayfly.tgz'))
  const others = Object.fromEntries(packages.map((wanted) => [wanted, manifest.devDependencies[wanted] ?? 'latest']))
  const path = join(directory, 'package.json')
  const given = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {}
  writeFileSync(
    path,
    JSON.stringify({ ...given, private: true, dependencies: { mayfly: 'file:mayfly.tgz', ...others } }),
  )
  await install(directory)
  return directory
}

/** Paths of node by major version. Those that are not ours come from npm. */
export async function nodes(): Promise<ReadonlyMap<number, string>> {
  const majors = [20, 22, 24, 26]
  const words = await Promise.all(majors.map((major) => runtime(`node${major}` as Runtime)))
  return new Map(majors.map((major, index) => [major, words[index]![0]!] as const))
}
