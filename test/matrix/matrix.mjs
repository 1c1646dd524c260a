// `npm run matrix [-- --node 20,22,24,26,bun,deno] [--runner none,jest@29,jest@30,vitest@3,vitest@4,vitest@5]`
//
// Plays the small suites of projects/ with the packed package on each of these with each of those, and prints a table. It ends with 1
// when a pair fails, with 2 for a wrong call. What a pair has to do is in matrix.test.ts, which `npm test` plays with a few of them.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const NODES = ['20', '22', '24', '26', 'bun', 'deno']
const RUNNERS = ['none', 'jest@29', 'jest@30', 'vitest@3', 'vitest@4', 'vitest@5']
const IMPOSSIBLE = {
  '20 vitest@5': 'Vitest 5 asks for Node 22',
  'bun vitest@5': 'its pool calls channel.unref() on a child process, which Bun 1.4 does not have',
}
const USAGE = `npm run matrix [-- --node ${NODES}] [--runner ${RUNNERS}]`

function chosen(option, given, known) {
  const words = given === undefined ? known : given.split(',')
  const wrong = words.find((word) => !known.includes(word))
  if (wrong !== undefined) throw new Error(`--${option} knows ${known.join(', ')}, not "${wrong}"`)
  return words
}

function pairs() {
  const { values } = parseArgs({ options: { node: { type: 'string' }, runner: { type: 'string' } } })
  const runners = chosen('runner', values.runner, RUNNERS)
  const all = chosen('node', values.node, NODES).flatMap((node) => runners.map((runner) => `${node} ${runner}`))
  for (const pair of all) if (IMPOSSIBLE[pair]) console.log(`left out: ${pair}: ${IMPOSSIBLE[pair]}`)
  const possible = all.filter((pair) => !IMPOSSIBLE[pair])
  if (possible.length === 0) throw new Error('No pair is left')
  return possible
}

try {
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const words = [
    'node_modules/vitest/vitest.mjs',
    'run',
    'test/matrix',
    '--reporter=dot',
    '--disable-console-intercept',
  ]
  const env = { ...process.env, MAYFLY_MATRIX: pairs().join(',') }
  process.exitCode = spawnSync(process.execPath, words, { cwd: root, env, stdio: 'inherit' }).status ?? 1
} catch (error) {
  console.error(`${error.message}\n\n${USAGE}`)
  process.exitCode = 2
}
