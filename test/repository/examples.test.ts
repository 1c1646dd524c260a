/**
 * The examples of the engine: the one for Vitest is a test like any other; this runs the one for node's own test runner, against the
 * built package. Those of the library are run by test/runners/examples.test.ts.
 */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

test('the engine’s example for node:test passes', () => {
  const root = fileURLToPath(new URL('../..', import.meta.url))
  // Node's runner notices when it runs below another and then speaks to that one only.
  const { NODE_TEST_CONTEXT, ...env } = process.env
  const args = ['--test', '--test-reporter=tap', 'examples/engine/echo.mjs']
  const output = execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8', env })
  expect(output).toMatch(/^# fail 0$/m)
  expect(output).toMatch(/^# (pass|skipped) 3$/m)
})
