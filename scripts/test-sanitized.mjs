// `npm run test:sanitized`: real containers on a warden built with AddressSanitizer and UndefinedBehaviorSanitizer.
//
// A report fails the run, whichever process wrote it and whatever its test made of it: launcher, warden, the children that become
// containers, execs and copies. Leaks are not looked for: the warden ends by _exit, with all that it holds.
// Arguments go to Vitest; the default are the suites that make the warden do most.
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const SUITES = [
  ...['engine', 'workspace', 'snapshot', 'networks', 'volumes', 'images'].map((name) => `test/engine/${name}.test.ts`),
  ...['layers', 'layer-archive', 'lock'].map((name) => `test/engine/store/${name}.test.ts`),
  ...['copy', 'run'].map((name) => `test/engine/build/${name}.test.ts`),
  'test/integration/isolation.test.ts',
]

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
const given = process.argv.slice(2)
const directory = mkdtempSync(join(tmpdir(), 'mayfly-reports-'))
const report = join(directory, 'report')
// Made here, so that a warden of another user can write to it.
chmodSync(directory, 0o711)
writeFileSync(report, '')
chmodSync(report, 0o666)

function run(program, args, env = {}) {
  const { status, error } = spawnSync(program, args, { stdio: 'inherit', env: { ...process.env, ...env } })
  if (error) throw error
  return status === 0
}

const vitest = ['node_modules/vitest/vitest.mjs', 'run', ...(given.length > 0 ? given : SUITES)]
try {
  if (!run('make', ['--no-print-directory', '-s', '-j2', '-C', 'native', 'sanitize'])) process.exit(1)
  const hasPassed = run(process.execPath, vitest, {
    MAYFLY_WARDEN: join(process.cwd(), 'native/build/sanitize/mayfly-warden'),
    MAYFLY_SANITIZER_REPORT: report,
    ASAN_OPTIONS: 'detect_leaks=0:handle_abort=1',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  })
  const reports = readFileSync(report, 'utf8')
  if (reports) console.error(`\nreports of the sanitizers:\n\n${reports}`)
  process.exitCode = hasPassed && !reports ? 0 : 1
} finally {
  rmSync(directory, { recursive: true, force: true })
}
