/** Packages of npm's registry, each set installed once on this machine into a directory of its own. Install scripts never run. */

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { withFileLock } from '../../support/file-lock.js'

export const INSTALL_TIMEOUT_MS = 300_000

const CACHE = join(tmpdir(), `mayfly-test-packages-${process.getuid?.() ?? 0}`)
const INSTALL = ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--no-package-lock']

/** Resolves to what npm printed. Rejects when it fails, and after {@link INSTALL_TIMEOUT_MS}. */
export async function npm(args: readonly string[], cwd: string): Promise<string> {
  const { stdout } = await promisify(execFile)('npm', args, { cwd, timeout: INSTALL_TIMEOUT_MS, maxBuffer: 2 ** 26 })
  return stdout
}

/** Installs what the package.json of the directory asks for. */
export async function install(directory: string): Promise<void> {
  await npm(INSTALL, directory)
}

/** Resolves to a directory `node_modules` with the packages in it, each as `name@version`. It stays from run to run. */
export async function installed(...packages: readonly string[]): Promise<string> {
  const hash = createHash('sha256').update(packages.join(' ')).digest('hex').slice(0, 16)
  const directory = join(CACHE, packages.length === 1 ? packages[0]!.replaceAll(/[@/:]+/g, '-') : hash)
  const done = join(directory, 'complete')
  mkdirSync(directory, { recursive: true })
  await withFileLock(`${directory}.lock`, INSTALL_TIMEOUT_MS, async () => {
    if (existsSync(done)) return
    writeFileSync(join(directory, 'package.json'), '{ "private": true }')
    await npm([...INSTALL, ...packages], directory)
    writeFileSync(done, '')
  })
  return join(directory, 'node_modules')
}

export type Runtime = 'node20' | 'node22' | 'node24' | 'node26' | 'bun' | 'deno'

/** The words that run a file of JavaScript. What is not the node of this process comes from npm, as its platform's package alone. */
export async function runtime(name: Runtime): Promise<readonly string[]> {
  const major = name.startsWith('node') ? name.slice('node'.length) : undefined
  if (major === process.versions.node.split('.')[0]) return [process.execPath]
  if (major) {
    const modules = await installed(`${name}@npm:node-linux-${process.arch}@${major}`)
    return [join(modules, name, 'bin/node')]
  }
  const { bun, deno } = packagesOf(process.arch)
  if (name === 'bun') return [join(await installed(`${bun}@1.4.5`), bun, 'bin/bun'), '--bun']
  return [join(await installed(`${deno}@2.9.6`), deno, 'deno'), 'run', '--allow-all', '--no-lock']
}

function packagesOf(architecture: string): { readonly bun: string; readonly deno: string } {
  if (architecture === 'arm64') return { bun: '@oven/bun-linux-aarch64', deno: '@deno/linux-arm64-glibc' }
  const isOld = !readFileSync('/proc/cpuinfo', 'utf8').includes(' avx2')
  return { bun: isOld ? '@oven/bun-linux-x64-baseline' : '@oven/bun-linux-x64', deno: '@deno/linux-x64-glibc' }
}
