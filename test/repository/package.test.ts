/** The package as it is installed: what its manifest names exists, in both formats, and agrees. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

function paths(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  return Object.values(value ?? {}).flatMap(paths) // null keeps what lies there to ourselves
}

/** Whether there is such a file; for a pattern, at least one. */
function exists(path: string): boolean {
  const [before, after] = path.split('*')
  if (after === undefined) return existsSync(join(root, path))
  return existsSync(join(root, before!)) && readdirSync(join(root, before!)).some((name) => name.endsWith(after))
}

/** Runs a script as a user's would be, from the repository's root, where `mayfly` is this package. */
const node = (...args: string[]) => execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8' })

describe('the package', () => {
  test('has every file that its manifest names', () => {
    const old = Object.values(manifest.typesVersions['*']).flat()
    const named = [...paths(manifest.exports), ...paths(manifest.bin), manifest.main, manifest.types, ...old]
    expect(named.filter((path: string) => !exists(path))).toEqual([])
  })

  test('is one library, whether it is imported or required', () => {
    const script = `import { createRequire } from 'node:module'; import * as imported from 'mayfly'
      const required = createRequire(process.cwd() + '/')('mayfly')
      console.log(Object.keys(required).every((name) => imported[name] === required[name]))`
    expect(node('--input-type=module', '-e', script)).toBe('true\n')
  })

  test('exports the same names as ES module and as CommonJS', () => {
    const script =
      'JSON.stringify(Object.keys(library).filter((name) => !/^(default|module\\.exports|__esModule)$/.test(name)).sort())'
    const esModule = node('--input-type=module', '-e', `import * as library from 'mayfly'; console.log(${script})`)
    const commonJs = node('--input-type=commonjs', '-e', `const library = require('mayfly'); console.log(${script})`)
    expect(JSON.parse(esModule)).toContain('Engine')
    expect(commonJs).toBe(esModule)
  })

  test('finds its native program from both', () => {
    const script = 'engine.info.version'
    for (const open of [
      [
        '--input-type=module',
        '-e',
        `import { Engine } from 'mayfly'; const engine = await Engine.open({ network: false }); console.log(${script}); await engine.close()`,
      ],
      [
        '--input-type=commonjs',
        '-e',
        `const { Engine } = require('mayfly'); Engine.open({ network: false }).then((engine) => { console.log(${script}); return engine.close() })`,
      ],
    ]) {
      expect(node(...open).trim()).toBe(manifest.version)
    }
  })

  test('is quick to load', () => {
    const milliseconds = Number(
      node(
        '--input-type=commonjs',
        '-e',
        "const begin = performance.now(); require('mayfly'); console.log(performance.now() - begin)",
      ),
    )
    // About 15 ms on a quiet machine; a heavy dependency would be many times that.
    expect(milliseconds).toBeLessThan(500)
  })

  test('is CommonJS where it says so', () => {
    expect(createRequire(import.meta.url).resolve('mayfly')).toBe(join(root, 'dist/cjs/index.js'))
  })
})
