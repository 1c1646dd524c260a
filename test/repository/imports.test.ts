/** Who may import whom: ARCHITECTURE.md's arrow, held against every file. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Later stages may import earlier ones, never the other way round. The first pattern that fits decides. */
const STAGES: readonly (readonly [pattern: RegExp, stage: string])[] = [
  [/^src\/engine\/(errors|options|clock|signals|descriptors)\.ts$/, 'words'],
  [/^src\/engine\/image\//, 'image'],
  [/^src\/engine\/launch\//, 'launch'],
  [/^src\/engine\/(engine|doctor|images|container|run|snapshot)\.ts$|^src\/engine\/doctor\//, 'engine'],
  [/^src\/engine\/((build|archive-formats|bootstrap)\/|(bootstrap|changes|commit|image-[a-z]+)\.ts$)/, 'image sources'],
  [/^src\/engine\/registry\//, 'registry'],
  [/^src\/engine\/(store\/|(rootfs|volumes)\.ts$)/, 'store'],
  [/^src\/engine\//, 'engine parts'],
  [/^src\/backends\//, 'backends'],
  [/^src\/(wait\/|[^/]+\.ts$)/, 'library'],
  [/^src\/runner\//, 'runner'],
  [/^src\/(fixtures|vitest|jest|cli)\//, 'doors'],
]
const ORDER = [
  'words',
  'image',
  'launch',
  'engine parts',
  'store',
  'registry',
  'image sources',
  'engine',
  'backends',
  'library',
  'runner',
  'doors',
]

/** What may be needed at run time, and by which file alone: test runners by their integrations, which those who use them have. */
const PACKAGES: Readonly<Record<string, RegExp>> = {
  vitest: /^src\/vitest\//,
  jest: /^src\/jest\//,
}

const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => `src/${file}`)

function stageOf(file: string): string {
  const found = STAGES.find(([pattern]) => pattern.test(file))
  if (!found) throw new Error(`${file} belongs to no stage: add its folder to ARCHITECTURE.md and to this test`)
  return found[1]
}

/** What a file imports, statically or not, types included. */
function importsOf(file: string): string[] {
  const { importedFiles } = ts.preProcessFile(readFileSync(join(root, file), 'utf8'), true, true)
  return importedFiles.map(({ fileName }) => fileName)
}

function ownImportsOf(file: string): string[] {
  return importsOf(file)
    .filter((name) => name.startsWith('.'))
    .map((name) => normalize(join(dirname(file), name)).replace(/\.js$/, '.ts'))
    .filter((name) => name.startsWith('src/'))
}

/** `vitest/node` is of `vitest`, and what Jest consists of is of `jest`. */
function packageOf(name: string): string {
  const [scope, second] = name.split('/')
  if (scope === '@jest' || /^jest(-|$)/.test(scope!)) return 'jest'
  return name.startsWith('@') ? `${scope}/${second}` : scope!
}

describe('imports', () => {
  test('there are files to look at', () => {
    expect(files.length).toBeGreaterThan(30)
  })

  test.each(files)('%s imports no later stage', (file) => {
    const own = ORDER.indexOf(stageOf(file))
    expect(ownImportsOf(file).filter((name) => ORDER.indexOf(stageOf(name)) > own)).toEqual([])
  })

  test('one door does not use another', () => {
    const doorOf = (file: string) => (stageOf(file) === 'doors' ? file.split('/')[1] : undefined)
    const wrong = files.flatMap((file) =>
      ownImportsOf(file)
        .filter((name) => doorOf(file) && doorOf(name) && doorOf(file) !== doorOf(name))
        .map((name) => `${file} → ${name}`),
    )
    expect(wrong).toEqual([])
  })

  test('only the packages that were agreed on are needed at run time', () => {
    const needed = files
      .filter((file) => !file.startsWith('src/cli/') && !file.startsWith('src/engine/vendor/')) // both are bundled
      .flatMap((file) => importsOf(file).map((name) => ({ file, name })))
      .filter(({ name }) => !name.startsWith('.') && !name.startsWith('node:'))
    expect(needed.filter(({ file, name }) => !PACKAGES[packageOf(name)]?.test(file))).toEqual([])
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    expect(manifest.dependencies ?? {}).toEqual({})
    expect(Object.keys(manifest.peerDependenciesMeta)).toEqual(Object.keys(manifest.peerDependencies))
    expect(Object.keys(manifest.peerDependencies)).toEqual(expect.arrayContaining(Object.keys(PACKAGES)))
  })

  test('modules of node are named with node:', () => {
    expect(
      files
        .flatMap(importsOf)
        .filter((name) => /^(fs|path|os|net|child_process|util|url|stream|events)(\/|$)/.test(name)),
    ).toEqual([])
  })
})
