// `npm test`: everything that must hold, in one command, and the count of it on the last line.
//
//   1. the build, so that what is tested is what is in the tree
//   2. native tests, plain and under the sanitizers, and a few seconds of each fuzzer (native/Makefile)
//   3. the kernel that is installed here, in a virtual machine with control groups of version 2: a suite as root and as an ordinary user
//   4. the engine's tests, with the native program under the sanitizers
//   5. type check, formatter and linter
//   6. Vitest: real containers, as root and as an ordinary user
//
// A step that fails does not stop the others. Arguments go to Vitest: `npm test -- test/cli`.
import { spawn } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))

const RESULTS = '.vitest-results.json'
const total = { passed: 0, failed: 0, skipped: 0 }

/** Runs a program with its output passed on; `line` sees each line of its stdout as well. */
function run(title, program, args, line = () => {}) {
  console.log(`\n— ${title}: ${[program, ...args].join(' ')}`)
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], env: environment() })
    let rest = ''
    child.stdout.on('data', (chunk) => {
      process.stdout.write(chunk)
      const lines = (rest + chunk).split('\n')
      rest = lines.pop()
      lines.forEach(line)
    })
    child.on('error', (error) => {
      console.log(`${program}: ${error.message}`)
      resolve(1)
    })
    child.on('close', (code) => resolve(code ?? 1))
  })
}

/** The output is a pipe here, so colours are asked for where this program's own output can show them. */
function environment() {
  const colours = process.stdout.isTTY && !process.env.NO_COLOR ? { FORCE_COLOR: '1' } : {}
  return { ...process.env, ...colours }
}

/** Exit code 77 means skipped; the program has printed why. */
async function check(title, program, args) {
  const verdict = await run(title, program, args).then((code) =>
    code === 0 ? 'passed' : code === 77 ? 'skipped' : 'failed',
  )
  if (verdict === 'failed') console.log(`failed: ${title}`)
  total[verdict]++
}

async function native() {
  const counts = { passed: 0, failed: 0, skipped: 0 }
  const code = await run(
    'native tests',
    'make',
    ['--no-print-directory', '-k', '-j2', '-C', 'native', 'test'],
    (line) => {
      const verdict = /^(?:(passed|failed) native: |(skipped) \S)/.exec(line)
      if (verdict) counts[verdict[1] ?? verdict[2]]++
    },
  )
  for (const verdict of Object.keys(total)) total[verdict] += counts[verdict]
  // What does not compile has printed no verdict.
  if (code !== 0 && counts.failed === 0) total.failed++
}

/** In a virtual machine with control groups of version 2 only; `npm run kernels` has more kernels. */
async function kernels() {
  rmSync(RESULTS, { force: true })
  const code = await run('kernels', process.execPath, ['test/vm/run.mjs', '--kernel', 'installed', '--json', RESULTS])
  if (code === 77) {
    total.skipped++
    return
  }
  try {
    const outcomes = JSON.parse(readFileSync(RESULTS, 'utf8'))
    for (const outcome of outcomes) for (const verdict of Object.keys(total)) total[verdict] += outcome[verdict]
  } catch {
    total.failed++
  } finally {
    rmSync(RESULTS, { force: true })
  }
}

async function vitest() {
  rmSync(RESULTS, { force: true })
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${RESULTS}`]
  const args = ['node_modules/vitest/vitest.mjs', 'run', ...reporters, ...process.argv.slice(2)]
  const code = await run('tests', process.execPath, args)
  try {
    const results = JSON.parse(readFileSync(RESULTS, 'utf8'))
    total.passed += results.numPassedTests
    total.failed += results.numFailedTests
    total.skipped += results.numPendingTests + results.numTodoTests
    // A file that could not be loaded, or an error outside every test, has no failed test to show for it.
    if (code !== 0 && results.numFailedTests === 0) total.failed++
  } catch {
    total.failed++
  } finally {
    rmSync(RESULTS, { force: true })
  }
}

await check('build', process.execPath, ['scripts/build.mjs'])
await native()
// The machine waits more than it computes.
await Promise.all([
  kernels(),
  check('type check', process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit', '-p', 'tsconfig.json']),
])
await check('containers on the sanitized warden', process.execPath, ['scripts/test-sanitized.mjs'])
await check('format and lint', process.execPath, ['node_modules/@biomejs/biome/bin/biome', 'check', '.'])
await vitest()

const skipped = total.skipped ? `, ${total.skipped} skipped` : ''
console.log(`\n${total.passed} passed, ${total.failed} failed${skipped}`)
process.exitCode = total.failed === 0 ? 0 : 1
