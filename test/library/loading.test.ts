/** What the library costs a process that has it: little to load, and nothing to keep it alive. */
import { execFileSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { temporaryDirectory } from '../support/temporary.js'
import { IMAGE, type LibraryWorld, libraryWorld, obstacle } from './support/world.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
let directory: string
let modules: readonly string[]

beforeAll(async () => {
  directory = temporaryDirectory('load')
  const { metafile } = await build({
    entryPoints: [join(root, 'src/index.ts')],
    outdir: directory,
    absWorkingDir: root,
    bundle: true,
    splitting: true,
    packages: 'external',
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    metafile: true,
    // As in the package: the program is found beside package.json.
    banner: { js: `process.env.MAYFLY_WARDEN ??= ${JSON.stringify(join(root, 'native/build/mayfly-warden'))}` },
  })
  const chunk = (name: string): string[] => {
    const output = Object.entries(metafile.outputs).find(([path]) => path === name)![1]
    const loaded = output.imports.filter(({ kind, external }) => kind === 'import-statement' && !external)
    return [...Object.keys(output.inputs), ...loaded.flatMap(({ path }) => chunk(path))]
  }
  modules = chunk(Object.keys(metafile.outputs).find((path) => path.endsWith('/index.js'))!)
})

afterAll(() => rmSync(directory, { recursive: true, force: true }))

const node = (script: string, env: NodeJS.ProcessEnv = {}) => {
  const file = join(directory, 'script.mjs')
  writeFileSync(file, script)
  return execFileSync(process.execPath, [file], { encoding: 'utf8', timeout: 20_000, env: { ...process.env, ...env } })
}

test('importing the library loads no engine', () => {
  expect(modules.length).toBeGreaterThan(20)
  expect(
    modules.filter((path) => /engine\/(engine|session|container|images)\.ts|backends\/embedded/.test(path)),
  ).toEqual([])
})

test('importing the library is quick', () => {
  const script = `const begin = performance.now(); await import('./index.js'); console.log(performance.now() - begin)`
  const times = Array.from({ length: 5 }, () => Number(node(script)))
  // 30 ms is the goal on a machine of its own.
  expect(Math.min(...times)).toBeLessThan(60)
})

const why = obstacle()
describe.skipIf(why)('a process that forgets its containers', () => {
  const opened: LibraryWorld = libraryWorld()

  test('ends by itself, also while a log is listened to', () => {
    const script = `
      import { GenericContainer } from './index.js'
      const container = await new GenericContainer('${IMAGE}').withCommand(['sh', '-c', 'echo out; exec sleep 600'])
        .withLogConsumer((stream) => stream.on('data', () => {})).start()
      ;(await container.logs()).on('data', () => {})
      console.log(container.getId().length)`
    const begin = performance.now()
    expect(node(script, { MAYFLY_HOME: opened.world.home })).toBe('64\n')
    expect(performance.now() - begin).toBeLessThan(15_000)
  })

  test('does not end while something is awaited', () => {
    const script = `
      import { GenericContainer } from './index.js'
      const container = await new GenericContainer('${IMAGE}').withCommand(['sh', '-c', 'echo a; sleep 0.3; echo b']).start()
      let text = ''
      for await (const piece of await container.logs()) text += piece
      const { exitCode } = await container.wait()
      console.log(JSON.stringify([text, exitCode]))`
    expect(JSON.parse(node(script, { MAYFLY_HOME: opened.world.home }))).toEqual(['a\nb\n', 0])
  })
})
