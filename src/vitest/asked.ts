/**
 * Which fixtures each test asks for, before it runs. Vitest initialises a test's fixtures one after the other; who knows them all can
 * start them side by side.
 *
 * Tests are known by their names. Of two with one name only what both ask for is told: nothing is ever started in vain.
 */

/** The test's names of fixtures; `others` if it also asks for what is not ours and may need ours. */
export interface Asked {
  readonly names: ReadonlySet<string>
  readonly others: boolean
}

/** What Vitest's own test context has. */
const OWN = new Set([
  'task', 'expect', 'skip', 'signal', 'annotate', 'onTestFailed', 'onTestFinished', 'bench',
]) // biome-ignore format: a list
/** Those that give another function of the same shape. */
const CHAINED = new Set(['only', 'skip', 'concurrent', 'sequential', 'fails', 'todo', 'shuffle'])
/** Those that give one when they are called. */
const CALLED = new Set(['skipIf', 'runIf', 'extend', 'override', 'scoped'])

type Callable = (...args: never[]) => unknown

/** The name is undefined for tests that get theirs from their cases. */
type OnTest = (name: string | undefined, fn: Callable) => void

/** A `test` that is the same in all respects and calls `onTest` for each test that is written with it. */
export function observeTests<Test extends Callable>(test: Test, onTest: OnTest): Test {
  return new Proxy(test, {
    apply(target, self, args: unknown[]) {
      const [name] = args
      const fn = args.find((arg, index): arg is Callable => index > 0 && typeof arg === 'function')
      if (fn) onTest(typeof name === 'function' ? name.name : String(name), fn)
      return Reflect.apply(target, self, args)
    },
    get(target, key) {
      const value = Reflect.get(target, key, target)
      if (typeof key !== 'string' || typeof value !== 'function') return value
      if (CHAINED.has(key)) return observeTests(value as Callable, onTest)
      if (key === 'for') {
        return (...cases: unknown[]) => {
          const register = Reflect.apply(value, target, cases) as (...args: unknown[]) => unknown
          return observeTests(register, (_name, fn) => onTest(undefined, fn))
        }
      }
      if (!CALLED.has(key)) return value
      return (...args: unknown[]) => {
        const result = Reflect.apply(value, target, args)
        return typeof result === 'function' ? observeTests(result as Callable, onTest) : result
      }
    },
  })
}

/** Reads the names out of `({ db, cache }) => …`, as Vitest itself does. */
export function askedBy(fn: Callable, known: ReadonlySet<string>): Asked {
  const source = fn.toString().replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
  const list = /^(?:async\b)?\s*(?:function\b\s*\*?\s*[\w$]*)?\s*\(?\s*\{([^{}]*)/.exec(source)?.[1] ?? ''
  const names = list.split(',').map((part) => part.split(/[:=]/)[0]!.trim())
  return {
    names: new Set(names.filter((name) => known.has(name))),
    others: names.some((name) => name !== '' && !known.has(name) && !OWN.has(name)),
  }
}

/** What both ask for. */
export function inCommon(one: Asked, other: Asked): Asked {
  return {
    names: new Set([...one.names].filter((name) => other.names.has(name))),
    others: one.others || other.others || one.names.size !== other.names.size,
  }
}
