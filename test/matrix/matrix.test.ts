/**
 * The packed package on versions of node, on Bun and on Deno, by itself and in test runners. `npm run matrix` plays every pair; `npm test` a
 * few which, with what test/package and test/runners play, have each once.
 */

import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { obstacle } from '../engine/support/world.js'
import { INSTALL_TIMEOUT_MS, type Runtime, runtime } from '../package/support/installed.js'
import { missingRegistry, type Output, pack, run } from '../package/support/packed.js'
import {
  commandOf,
  IMAGE,
  linkModules,
  makeModules,
  putImage,
  type Runner,
  startProgram,
} from '../runners/support/runners.js'
import { expectNothingLeft, type Leftovers, snapshotHost } from '../support/leftovers.js'
import { copyServiceImages, missingServiceImages, SERVICE_IMAGE_TIMEOUT_MS } from '../support/service-images.js'
import { openTerritory, type Territory } from '../support/territory.js'

const FEW = ['26 vitest@3', '26 jest@29', 'bun none', 'deno none']
const REDIS = 'redis:8'
const PAIR_TIMEOUT_MS = 180_000
const PROJECTS = fileURLToPath(new URL('./projects/', import.meta.url))

const pairs = (process.env.MAYFLY_MATRIX?.split(',') ?? FEW).map((pair) => pair.split(' ') as [string, string])
const why =
  obstacle() ||
  (process.getuid?.() === 0 ? undefined : 'a territory needs root') ||
  (await missingServiceImages()) ||
  (await missingRegistry())
if (why) console.warn(`skipped: other versions of node and of runners: ${why}`)

describe.skipIf(why)('the packed package', () => {
  let territory: Territory
  let before: Leftovers
  let packed: string
  const programs = new Map<string, readonly string[]>()
  const projects = new Map<string, Promise<string>>()
  const seconds = new Map<string, number>()

  beforeAll(async () => {
    territory = await openTerritory()
    const home = join(territory.directory, 'home')
    await Promise.all([
      unpack(territory.directory).then((directory) => {
        packed = directory
      }),
      putImage(home),
      copyServiceImages(home, { [REDIS]: 'redis' }),
    ])
    for (const node of new Set(pairs.map(([node]) => node))) programs.set(node, await runtime(runtimeOf(node)))
    before = snapshotHost(territory)
  }, INSTALL_TIMEOUT_MS + SERVICE_IMAGE_TIMEOUT_MS)
  afterAll(() => {
    console.log(table())
    territory?.[Symbol.dispose]()
  })

  function project(runner: string): Promise<string> {
    const made = projects.get(runner) ?? makeProject(runner, join(territory.directory, runner), packed)
    projects.set(runner, made)
    return made
  }

  /** The words that play a suite, those that stay until they are killed, and the environment of both. */
  async function play(node: string, runner: string) {
    const directory = await project(runner)
    const notes = join(territory.directory, 'notes')
    writeFileSync(notes, '')
    const env = { MAYFLY_HOME: join(territory.directory, 'home'), IMAGE, REDIS, NOTES: notes, NO_COLOR: '1' }
    const [program, ...options] = programs.get(node)!
    const words = (...names: string[]) => {
      if (runner === 'none') return [...territory.enter, program!, ...options, `${names[0]}.js`]
      const files = names.map((name) => `${name}.spec.js`)
      const args = runner.startsWith('vitest') ? ['run', ...files] : ['--cacheDirectory=cache', '-w=2', ...files]
      return commandOf(directory, runnerOf(runner), args, {
        node: program!,
        nodeOptions: options,
        enter: territory.enter,
      }).words
    }
    return {
      suite: (): Promise<Output> => {
        const [first, ...rest] = words('suite', 'other')
        return run(first!, rest, { cwd: directory, env })
      },
      stay: () => startProgram(words('stays'), directory, env),
      notes: () => readFileSync(notes, 'utf8').trim().split('\n'),
    }
  }

  test.each(pairs)(
    'passes its suite, and leaves nothing when it is killed: %s, %s',
    async (node, runner) => {
      const began = performance.now()
      const { suite, stay, notes } = await play(node, runner)
      const { exitCode, text } = await suite()
      expect(text).toMatch(/the suite has passed|Tests:? +4 passed/)
      expect(text).not.toMatch(/open handle|did not exit|Unhandled|MaxListeners/)
      expect(exitCode, text).toBe(0)
      if (runner !== 'none') {
        expect(notes()).toHaveLength(2)
        expect(new Set(notes()).size, 'two files have one shared container').toBe(1)
      }
      await expectNothingLeft(territory, before)

      const going = stay()
      await going.said(/it runs with \w+/)
      process.kill(-going.child.pid!, 'SIGKILL')
      await going.ended
      await expectNothingLeft(territory, before, { ignore: (line) => /sleep 601$/.test(line) })
      await territory.clear()
      seconds.set(`${node} ${runner}`, (performance.now() - began) / 1000)
    },
    PAIR_TIMEOUT_MS,
  )

  test.runIf(pairs.some(([node]) => node === 'deno'))('is refused by Deno without --allow-all, in words', async () => {
    const [program, command] = programs.get('deno')!
    const rights = ['read', 'write', 'env', 'run', 'net', 'sys'].map((right) => `--allow-${right}`)
    const words = [command!, '--no-prompt', '--no-lock', ...rights, 'suite.js']
    const env = { MAYFLY_HOME: join(territory.directory, 'home'), IMAGE, REDIS, NO_COLOR: '1' }
    const { exitCode, text } = await run(program!, words, { cwd: await project('none'), env })
    expect(text).toContain('Cannot read /proc/self/status')
    expect(text).toContain('under Deno, only --allow-all gives access to it')
    expect(exitCode).toBe(1)
  })

  /** Seconds of each pair, the installation not counted. */
  function table(): string {
    const [nodes, runners] = [0, 1].map((index) => [...new Set(pairs.map((pair) => pair[index]!))])
    const cell = (node: string, runner: string) => {
      if (!pairs.some((pair) => pair[0] === node && pair[1] === runner)) return '–'
      return seconds.get(`${node} ${runner}`)?.toFixed(1).concat(' s') ?? 'FAILED'
    }
    const rows = [
      ['', ...runners!.map((runner) => (runner === 'none' ? 'no runner' : runner))],
      ...nodes!.map((node) => [versionOf(node, programs.get(node)), ...runners!.map((runner) => cell(node, runner))]),
    ]
    const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
    const lines = rows.map((row) => row.map((word, column) => word.padEnd(widths[column]!)).join('  '))
    return lines.map((line) => line.trimEnd()).join('\n')
  }
})

function runtimeOf(node: string): Runtime {
  return (/^\d+$/.test(node) ? `node${node}` : node) as Runtime
}

function runnerOf(runner: string): Runner {
  return runner.replace('@', '') as Runner
}

function versionOf(node: string, words: readonly string[] | undefined): string {
  if (!words) return node
  const text = execFileSync(words[0]!, ['--version'], { encoding: 'utf8' })
  return `${/^\d+$/.test(node) ? 'node' : node} ${/\d+\.\d+\.\d+/.exec(text)?.[0]}`
}

/** The package as npm would lay it into node_modules. */
async function unpack(directory: string): Promise<string> {
  const { tarball } = await pack(directory)
  execFileSync('tar', ['-xzf', tarball, '-C', directory])
  return join(directory, 'package')
}

async function makeProject(runner: string, directory: string, packed: string): Promise<string> {
  cpSync(join(PROJECTS, runner === 'none' ? 'core' : runner.split('@')[0]!), directory, { recursive: true })
  if (runner === 'none') {
    mkdirSync(join(directory, 'nothing'))
    linkModules(directory, join(directory, 'nothing'), packed)
  } else await makeModules(directory, runnerOf(runner), packed)
  return directory
}
