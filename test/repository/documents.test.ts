/** What the documents say of files and code is true. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))
const read = (file: string) => readFileSync(join(root, file), 'utf8')
const DOCUMENTS = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md']

describe('documents', () => {
  test.each(DOCUMENTS)('every file that %s names exists', (document) => {
    const names = [
      ...read(document).matchAll(/(?<![\w/.-])((?:src|native|test|scripts|examples|\.ci)\/[\w./-]*[\w/])/g),
    ].map(([, name]) => name!)
    expect([...new Set(names)].filter((name) => !existsSync(join(root, name)))).toEqual([])
  })

  test.each(DOCUMENTS)('every link of %s to a file leads somewhere', (document) => {
    const links = [...read(document).matchAll(/\]\(([^)#:]+)\)/g)].map(([, link]) => link!)
    expect(links.filter((link) => !existsSync(join(root, link)))).toEqual([])
  })

  test('ARCHITECTURE.md has every native source in its reading order, by name or as a neighbour', () => {
    const text = read('ARCHITECTURE.md')
    const families = [...text.matchAll(/`native\/(\w+)\.c` and its neighbours/g)].map(([, name]) => name!)
    const sources = readdirSync(join(root, 'native')).filter((name) => name.endsWith('.c'))
    const missing = sources.filter(
      (name) => !text.includes(`native/${name}`) && !families.some((family) => name.startsWith(`${family}_`)),
    )
    expect(missing).toEqual([])
  })

  test('every development dependency has its line in CONTRIBUTING.md', () => {
    const { dependencies = {}, devDependencies } = JSON.parse(read('package.json'))
    const names = Object.keys({ ...dependencies, ...devDependencies })
    expect(names.filter((name) => !read('CONTRIBUTING.md').includes(name))).toEqual([])
  })

  test('the version is the same everywhere', () => {
    const { version } = JSON.parse(read('package.json'))
    expect(/^## (\d+\.\d+\.\d+)/m.exec(read('CHANGELOG.md'))?.[1]).toBe(version)
    expect(JSON.parse(read('package-lock.json')).version).toBe(version)
  })

  test('the lock file names no registry host', () => {
    expect(read('package-lock.json')).not.toMatch(/"resolved"|https?:\/\/[^"]*registry/)
  })
})

/** Blocks of a document, each a file of its own. */
function codeBlocks(document: string): [name: string, text: string][] {
  const blocks = [...read(document).matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code!)
  return blocks.map((code, index) => [`${document}.${index + 1}.ts`, code])
}

/** What examples may use without saying where it comes from: objects of the engine, a test runner's globals, and packages that only their readers have. */
const GIVEN: [name: string, text: string] = [
  'given.d.ts',
  `declare const engine: import('mayfly').Engine, container: import('mayfly').Container, signal: AbortSignal
declare function test(name: string, run: () => unknown): void
declare function expect(value: unknown): { toBe(other: unknown): void; toEqual(other: unknown): void }
declare module 'jest-environment-jsdom' {
  export { TestEnvironment } from 'jest-environment-node'
}
`,
]

/** The example of each docstring. One that imports is a module; others are bodies of functions, with `Engine` and `MayflyError`. */
function docstringExamples(file: string): [name: string, text: string][] {
  const comments = [...read(file).matchAll(/\/\*\*.*?\*\//gs)].map(([comment]) => comment)
  return comments.flatMap((comment, index) => {
    const lines = comment.split('\n').map((line) => line.replace(/^\s*\*\/?( |$)/, ''))
    const start = lines.findIndex((line) => line.startsWith('@example'))
    if (start < 0) return []
    const end = lines.findIndex((line, at) => at > start && /^@|^\/?$/.test(line.trim()) && line.trim() !== '')
    const body = lines.slice(start + 1, end < 0 ? undefined : end).filter((line) => line.trim() !== '/')
    const isModule = body.some((line) => line.startsWith('import '))
    const text = isModule
      ? `${body.join('\n')}\nexport {}\n`
      : `import { Engine, MayflyError } from 'mayfly'
export async function example(): Promise<void> {
${body.join('\n')}
}
`
    return [[`${file.replaceAll('/', '.')}.${index + 1}.ts`, text] as [string, string]]
  })
}

/** Type errors of files that exist in memory only, seen as if they lay in the repository's root. */
function typeErrors(sources: readonly [name: string, text: string][]): string[] {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: [] }, ts.sys, root)
  const inMemory = new Map(sources.map(([name, text]) => [join(root, name), text]))
  const host = ts.createCompilerHost(options)
  const { readFile, fileExists } = host
  host.readFile = (path) => inMemory.get(path) ?? readFile(path)
  host.fileExists = (path) => inMemory.has(path) || fileExists(path)
  const getSourceFile = host.getSourceFile.bind(host)
  host.getSourceFile = (path, version, ...rest) => {
    const text = inMemory.get(path)
    return text === undefined ? getSourceFile(path, version, ...rest) : ts.createSourceFile(path, text, version, true)
  }
  const program = ts.createProgram(
    [...inMemory.keys()],
    { ...options, noUnusedLocals: false, noUnusedParameters: false },
    host,
  )
  return ts
    .getPreEmitDiagnostics(program)
    .filter(({ file }) => file && inMemory.has(file.fileName))
    .map(({ file, start = 0, messageText }) => {
      const line = file!.getLineAndCharacterOfPosition(start).line + 1
      return `${file!.fileName.slice(root.length)}:${line} ${ts.flattenDiagnosticMessageText(messageText, ' ')}`
    })
}

describe('code in documents', () => {
  const readme = codeBlocks('README.md')
  const examples = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.startsWith('cli/'))
    .flatMap((file) => docstringExamples(`src/${file}`))

  test('the README’s blocks and the docstrings’ examples type-check', { timeout: 120_000 }, () => {
    expect(readme.length).toBeGreaterThan(1)
    expect(examples.length).toBeGreaterThan(5)
    // The wrong one shows that errors are found at all.
    const wrong: [string, string] = ['wrong.ts', "import { Engine } from 'mayfly'\nEngine.open({ colour: 'red' })\n"]
    const errors = typeErrors([GIVEN, ...readme, ...examples, wrong])
    expect(errors.filter((error) => !error.startsWith('wrong.ts:2'))).toEqual([])
    expect(errors).toHaveLength(1)
  })
})
