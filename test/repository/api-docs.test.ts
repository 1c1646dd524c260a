/** The documentation of the API is made of the docstrings: it can be made, and nothing that is exported is missing in it. */
import { execFile } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as library from '../../src/index.js'
import { temporaryDirectory } from '../support/temporary.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
/** Fixtures are one pattern there, and have a page each. */
const ENTRIES = Object.keys(manifest.exports)
  .filter((name) => name !== './package.json' && !name.includes('*'))
  .map((name) => (name === '.' ? 'index' : name.slice(2)))

interface Output {
  readonly code: number
  readonly text: string
}

describe('npm run docs', () => {
  let directory: string
  let made: Output

  /** Makes the documentation of what `options` say, in place of what typedoc.json says. */
  async function make(...options: readonly string[]): Promise<Output> {
    const args = ['node_modules/typedoc/bin/typedoc', '--out', directory, ...options]
    const running = promisify(execFile)(process.execPath, args, { cwd: root, env: { ...process.env, NO_COLOR: '1' } })
    return running.then(
      ({ stdout, stderr }) => ({ code: 0, text: stdout + stderr }),
      ({ code, stdout, stderr }) => ({ code, text: stdout + stderr }),
    )
  }

  beforeAll(async () => {
    directory = temporaryDirectory('docs')
    made = await make()
  }, 180_000)
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  test('documents every export without a warning', () => {
    expect(made.text).not.toMatch(/\[(warning|error)\]/)
    expect(made.code).toBe(0)
  })

  test.each([...ENTRIES, 'fixtures/postgres', 'fixtures/redis'])('has a page for %s', (entry) => {
    expect(existsSync(join(directory, `${entry}.md`))).toBe(true)
  })

  test('has everything that the library exports, with its examples', () => {
    const page = readFileSync(join(directory, 'index.md'), 'utf8')
    expect(
      Object.keys(library).filter((name) => !new RegExp(`^#+ (\`abstract\` )?${name}\\b`, 'm').test(page)),
    ).toEqual([])
    expect(page).toContain("await using redis = await new GenericContainer('redis:8')")
  })

  test('fails where a docstring is missing', { timeout: 180_000 }, async () => {
    const options = JSON.parse(readFileSync(join(root, 'typedoc.json'), 'utf8'))
    const write = (name: string, text: string) => {
      writeFileSync(join(directory, name), text)
      return join(directory, name)
    }
    const tsconfig = write('tsconfig.json', '{ "compilerOptions": { "types": [] }, "files": ["undocumented.ts"] }')
    const entryPoints = [write('undocumented.ts', 'export function nameless(): void {}\n')]
    const config = write('typedoc.json', JSON.stringify({ ...options, tsconfig, entryPoints }))
    const { code, text } = await make('--options', config)
    expect(text).toMatch(/\[warning\] nameless \(CallSignature\).* does not have any documentation/)
    expect(code).not.toBe(0)
  })
})
