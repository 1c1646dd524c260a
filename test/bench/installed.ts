/** The package as users get it, of this source: built, packed, and installed with npm into a project. */

import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { packageRoot } from '../../src/engine/where.ts'
import type { World } from './world.ts'

const execute = promisify(execFile)

export interface Installed {
  /** A project with it, and with what tests are written with, in node_modules. */
  readonly directory: string
  /** Sizes of all files of itself and of what it depends on, in bytes: what npm calls its unpacked size. */
  readonly bytes: number
  /** Which packages these are. */
  readonly packages: readonly string[]
}

const projects = new WeakMap<World, Promise<Installed>>()

/** Made once in a run. Takes the time of a build and an `npm install`. */
export function installed(world: World): Promise<Installed> {
  const known = projects.get(world)
  if (known) return known
  const installing = install(world)
  projects.set(world, installing)
  return installing
}

async function install(world: World): Promise<Installed> {
  console.error('building, packing and installing the package')
  const tarball = await pack(world)
  const directory = join(world.directory, 'installed')
  mkdirSync(directory)
  const npm = async (dependencies: Readonly<Record<string, string>>) => {
    writeFileSync(join(directory, 'package.json'), JSON.stringify({ private: true, type: 'module', dependencies }))
    await execute('npm', ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund'], {
      cwd: directory,
    })
  }
  const own = { mayfly: `file:${tarball}` }
  await npm(own)
  const modules = join(directory, 'node_modules')
  const packages = readdirSync(modules).filter((name) => !name.startsWith('.'))
  const bytes = packages.reduce((sum, name) => sum + sizeOf(join(modules, name)), 0)
  await npm({ ...own, ...world.clients })
  return { directory, bytes, packages }
}

/** Builds and packs a copy, so that what lies in the checkout stays. Resolves to the tarball's path. */
async function pack(world: World): Promise<string> {
  const stage = join(world.directory, 'stage')
  const root = packageRoot()
  const isLeftOut = (path: string) => /^\/(\.git|node_modules|dist|native\/prebuilt)(\/|$)/.test(path)
  cpSync(root, stage, {
    recursive: true,
    preserveTimestamps: true,
    filter: (path) => !isLeftOut(path.slice(root.length)),
  })
  symlinkSync(join(root, 'node_modules'), join(stage, 'node_modules'))
  await execute(process.execPath, ['scripts/build.mjs'], { cwd: stage })
  const own = join(stage, 'native/build/mayfly-warden')
  for (const architecture of ['x64', 'arm64']) {
    // Where there is no compiler for the other one, ours stands in: it is as large.
    const built = join(stage, 'native/build', architecture, 'mayfly-warden')
    const target = join(stage, 'native/prebuilt', `linux-${architecture}`)
    mkdirSync(target, { recursive: true })
    cpSync(architecture !== process.arch && existsSync(built) ? built : own, join(target, 'mayfly-warden'))
  }
  const { stdout } = await execute('npm', ['pack', '--json', '--ignore-scripts'], { cwd: stage })
  const tarball = join(world.directory, 'mayfly.tgz')
  cpSync(join(stage, JSON.parse(stdout)[0].filename), tarball)
  rmSync(stage, { recursive: true })
  return tarball
}

function sizeOf(path: string): number {
  const facts = statSync(path)
  if (!facts.isDirectory()) return facts.size
  return readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0)
}
