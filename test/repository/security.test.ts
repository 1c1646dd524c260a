/** What SECURITY.md says was tried is tried. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { cases } from '../escapes/cases/all.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const table = /^## Escapes tried$(.*?)^## /ms.exec(readFileSync(join(root, 'SECURITY.md'), 'utf8'))![1]!
const named = [...table.matchAll(/`((?:test|native)\/[^`]+)`: “([^”]+)”/g)].map(
  ([, file, name]) => [file!, name!] as const,
)

describe('the escapes of SECURITY.md', () => {
  test.each(named)('%s has a test that is called “%s”', (file, name) => {
    expect(existsSync(join(root, file))).toBe(true)
    const quotes = ["'", '"', '`'].map((quote) => `${quote}${name}${quote}`)
    const text = readFileSync(join(root, file), 'utf8')
    expect(quotes.filter((quoted) => text.includes(quoted))).not.toEqual([])
  })

  test('are all of test/escapes, and each row has a result', () => {
    const names = named.map(([, name]) => name)
    expect(cases.map(({ name }) => name).filter((name) => !names.includes(name))).toEqual([])
    const rows = table.split('\n').filter((line) => /^\| [^-W]/.test(line))
    expect(rows.length).toBeGreaterThan(30)
    for (const row of rows) expect(row).toMatch(/\| (holds|does not hold)[^|]* \|$/)
  })
})
