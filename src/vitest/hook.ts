/** Something to do before each test that asks for our fixtures, in the time of a hook instead of the test's. */

import { type Asked, askedBy, inCommon, observeTests } from './asked.js'
import type { Task } from './failure.js'
import { vitest } from './runner.js'

export interface HookContext {
  readonly task: Task
  readonly onTestFailed: (done: () => Promise<void>) => void
  readonly onTestFinished: (done: () => Promise<void>) => void
}

type BeforeTest = (asked: Asked, context: HookContext) => Promise<void>

interface WithTestRunner {
  readonly TestRunner?: { readonly getCurrentSuite?: () => object }
}

const NONE: ReadonlySet<string> = new Set()

/** The `test` that does `before` first, and `after` at the end of each suite that has such tests. */
export function withHook<Test extends (...args: never[]) => unknown>(
  test: Test,
  names: ReadonlySet<string>,
  before: BeforeTest,
  timeoutMs: number,
  after?: () => Promise<void>,
): Test {
  const askedByTest = new Map<string, Asked>()
  const suites = new WeakSet<object>()
  const everywhere = {}
  // Since Vitest 4.1. Before, hooks go to the suite in which the fixtures are defined.
  const { getCurrentSuite } = (vitest as WithTestRunner).TestRunner ?? {}
  let isOneUnnamed = false

  const hook = () => {
    const suite = getCurrentSuite?.() ?? everywhere
    if (suites.has(suite)) return
    suites.add(suite)
    vitest.beforeEach(async ({ task, onTestFailed, onTestFinished }) => {
      const asked = askedByTest.get(task.name) ?? { names: NONE, others: isOneUnnamed }
      // Tests of the same suite that have nothing to do with us.
      if (asked.names.size > 0 || asked.others) await before(asked, { task, onTestFailed, onTestFinished })
    }, timeoutMs)
    if (after) vitest.afterAll(after, timeoutMs)
  }

  if (!getCurrentSuite) hook()
  return observeTests(test, (name, fn, derived) => {
    if (getCurrentSuite) hook()
    if (name === undefined) {
      isOneUnnamed = true
      return
    }
    const asked = askedBy(fn, names, derived)
    const known = askedByTest.get(name)
    askedByTest.set(name, known ? inCommon(known, asked) : asked)
  })
}
