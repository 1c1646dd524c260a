/**
 * What a machine runs: existing tests, chosen so that each thing a user needs of the kernel is among them.
 *
 * Under emulation everything takes some twenty times as long, and loading TypeScript through Vitest longest. So the test files are bundled
 * here into plain modules that share what they import, which Vitest in the machine imports as they are; and what tests would compile
 * while they run, programs in C and scenarios, is compiled here too.
 */

import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { build, type Plugin } from 'esbuild'

interface Part {
  readonly file: string
  /** Beginnings of the tests' full names. */
  readonly names: readonly string[]
  /** More of them, of what only root can do or see. */
  readonly rootNames?: readonly string[]
}

export const SUITE: readonly Part[] = [
  {
    file: 'engine/engine',
    names: [
      'an engine run tells exit code',
      'an engine a container lives from create',
      'an engine a container is killed when it does not stop',
      'an engine a container is paused',
      'an engine a container tells what it uses',
      'an engine a container is told as out of memory',
      'an engine exec collects',
      'an engine exec has a terminal',
      'an engine logs are told apart',
      'an engine waiting for a port ends',
      'an engine ports are published',
      'an engine copying brings a tree',
      'an engine rootfs',
    ],
  },
  {
    file: 'integration/isolation',
    names: [
      'a container has of privileges the 14 capabilities',
      'a container sees of the kernel nothing of what is masked',
      'a container sees of the kernel no writable part',
      'a container takes its options a read-only root',
      // Not: in processor time, which is measured against a clock that the emulation does not hold to. The tests in C have it.
      'a container is bounded in memory',
      'a container is bounded in processes',
      'a container is bounded and sees its limit',
      'a container is bounded while paused',
    ],
    rootNames: [
      'a container may call what the default profile allows',
      'a container sees of the kernel the mounts',
      'a container takes its options the namespaces of the host',
    ],
  },
  {
    file: 'engine/mounts',
    names: ['mounts of directories', 'mounts of images hold', 'mounts of volumes may be a part'],
  },
  {
    file: 'engine/networks',
    names: [
      'the networks of an engine keep',
      'the networks of an engine have no way out',
      'the networks of an engine are connected',
    ],
  },
  {
    file: 'integration/network',
    names: [
      'on the network of a session a published port carries datagrams',
      'on the network of a session containers find',
    ],
    rootNames: ['on a host of its own, a container reaches the outside'],
  },
  { file: 'engine/volumes', names: ['the volumes of a store keep', 'the volumes of a store get what the image has'] },
  {
    file: 'engine/snapshot',
    names: [
      'a snapshot is what others begin with',
      'a snapshot is returned to',
      'a snapshot leaves nothing of a preparation',
    ],
  },
  { file: 'engine/build/run', names: ['RUN keeps what was written'] },
  { file: 'engine/build/copy', names: [], rootNames: ['COPY takes the contents of a directory'] },
  { file: 'library/waits', names: ['waiting for ports takes all', 'waiting for HTTP takes'] },
  {
    file: 'integration/teardown',
    names: [],
    rootNames: [
      'teardown, round 1 a process that ends with containers of every kind SIGKILL of node',
      'teardown, round 1 a process that goes on when its session is killed SIGKILL of the warden leaves',
    ],
  },
]

const PROGRAMS = [
  'integration/peer.c',
  'integration/calls.c',
  'integration/int80.c',
  'support/udp-echo.c',
  'vm/guest/delegate.c',
]

/** Puts the suite into a directory that is /work in the machine. */
export async function writeSuite(checkout: string, work: string): Promise<void> {
  await bundleTests(checkout, join(work, 'node_modules/suite'))
  await bundleScenarios(checkout, join(work, 'scenarios'))
  compilePrograms(checkout, join(work, 'programs'))
  mkdirSync(join(work, 'suite'))
  for (const { file } of SUITE)
    writeFileSync(join(work, 'suite', `${file.replaceAll('/', '-')}.test.mjs`), `import 'suite/${file}.test.js'\n`)
  writeFileSync(join(work, 'suite/setup.mjs'), `export { setup } from 'suite/setup.js'\n`)
  writeFileSync(join(work, 'suite.config.mjs'), config())
}

/** Of the full names of the tests that a user runs. */
export function pattern(user: string): string {
  const names = SUITE.flatMap(({ names, rootNames = [] }) => (user === 'root' ? [...names, ...rootNames] : names))
  return `^\\s*(?:${names.map(escaped).join('|')})`
}

function config(): string {
  return `export default {
  cacheDir: '/tmp/vite-' + process.getuid(),
  test: {
    include: ['suite/*.test.mjs'],
    globalSetup: ['suite/setup.mjs'],
    testNamePattern: process.getuid() === 0 ? ${JSON.stringify(pattern('root'))} : ${JSON.stringify(pattern('user'))},
    pool: 'forks',
    maxWorkers: 2,
    isolate: false,
    testTimeout: 300_000,
    hookTimeout: 300_000,
    teardownTimeout: 60_000,
    reporters: ['verbose', 'json'],
    outputFile: { json: process.env.RESULTS },
  },
}
`
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

const BANNER = `import { createRequire as requireOf } from 'node:module'\nconst require = requireOf(import.meta.url)`

async function bundleTests(checkout: string, directory: string): Promise<void> {
  await build({
    entryPoints: {
      setup: join(checkout, 'test/vm/setup.ts'),
      ...Object.fromEntries(SUITE.map(({ file }) => [`${file}.test`, join(checkout, 'test', `${file}.test.ts`)])),
    },
    outdir: directory,
    bundle: true,
    splitting: true,
    external: ['vitest'],
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    banner: { js: BANNER },
    plugins: [inPlace(checkout), compiledAhead],
    logLevel: 'warning',
  })
  writeFileSync(join(directory, 'package.json'), '{ "name": "suite", "type": "module" }\n')
}

/** In a bundle every file would take itself for the bundle: here each goes on to say where it lies, which is /work in the machine. */
function inPlace(checkout: string): Plugin {
  return {
    name: 'in-place',
    setup({ onLoad }) {
      onLoad({ filter: /\/(?:src|test)\/.*\.ts$/ }, ({ path }) => {
        const here = JSON.stringify(`file:///work/${relative(checkout, path)}`)
        return { contents: readFileSync(path, 'utf8').replaceAll('import.meta.url', here), loader: 'ts' }
      })
    },
  }
}

/** esbuild itself, for tests in the machine: hands out what was bundled ahead. */
const compiledAhead: Plugin = {
  name: 'compiled-ahead',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^esbuild$/ }, () => ({ path: 'esbuild', namespace: 'ahead' }))
    onLoad({ filter: /.*/, namespace: 'ahead' }, () => ({
      contents: `import { copyFile } from 'node:fs/promises'
import { basename } from 'node:path'
export const build = ({ entryPoints, outfile }) =>
  copyFile('/work/scenarios/' + basename(entryPoints[0]).replace(/ts$/, 'mjs'), outfile)`,
    }))
  },
}

async function bundleScenarios(checkout: string, directory: string): Promise<void> {
  const found = readdirSync(join(checkout, 'test'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.scenario.ts'),
  )
  for (const name of found) {
    await build({
      entryPoints: [join(checkout, 'test', name)],
      outfile: join(directory, basename(name).replace(/ts$/, 'mjs')),
      bundle: true,
      external: ['vitest'],
      format: 'esm',
      platform: 'node',
      target: 'node20.19',
      banner: {
        js: BANNER.replace('createRequire as requireOf', 'createRequire').replace('requireOf(', 'createRequire('),
      },
      logLevel: 'error',
    })
  }
}

function compilePrograms(checkout: string, directory: string): void {
  mkdirSync(directory)
  for (const source of PROGRAMS) {
    const program = join(directory, basename(source, '.c'))
    execFileSync('gcc', ['-static', '-O1', '-o', program, join(checkout, 'test', source)], { stdio: 'pipe' })
  }
  // Called as the tests call it: options, `-o` with the program, and the source last.
  const gcc = join(dirname(directory), 'gcc')
  writeFileSync(
    gcc,
    `#!/bin/sh
while [ $# -gt 1 ]; do [ "$1" != -o ] || to=$2; shift; done
exec cp /work/programs/$(basename "$1" .c) "$to"
`,
  )
  chmodSync(gcc, 0o755)
}
