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
const CALLED = new Set(['skipIf', 'runIf', 'extend'])
/** Those that put other fixtures in the place of some. */
const REPLACING = new Set(['override', 'scoped'])

type Callable = (...args: never[]) => unknown

/** A fixture that was made on top of others, by the names of those. */
interface Derived {
  readonly needs: readonly string[]
  /** It is there for every test. */
  readonly isAuto: boolean
}
export type DerivedFixtures = ReadonlyMap<string, Derived>

/** The name is undefined for tests that get theirs from their cases. */
type OnTest = (name: string | undefined, fn: Callable, derived: DerivedFixtures) => void

/** A `test` that is the same in all respects and calls `onTest` for each test that is written with it. */
export function observeTests<Test extends Callable>(
  test: Test,
  onTest: OnTest,
  derived: Map<string, Derived> = new Map(),
): Test {
  return new Proxy(test, {
    apply(target, self, args: unknown[]) {
      const [name] = args
      const fn = args.find((arg, index): arg is Callable => index > 0 && typeof arg === 'function')
      if (fn) onTest(typeof name === 'function' ? name.name : String(name), fn, derived)
      return Reflect.apply(target, self, args)
    },
    get(target, key) {
      const value = Reflect.get(target, key, target)
      if (typeof key !== 'string' || typeof value !== 'function') return value
      if (CHAINED.has(key)) return observeTests(value as Callable, onTest, derived)
      if (key === 'for') {
        return (...cases: unknown[]) => {
          const register = Reflect.apply(value, target, cases) as (...args: unknown[]) => unknown
          return observeTests(register, (_name, fn) => onTest(undefined, fn, derived))
        }
      }
      if (!CALLED.has(key) && !REPLACING.has(key)) return value
      return (...args: unknown[]) => {
        const result = Reflect.apply(value, target, args)
        const given = key === 'extend' ? fixturesOf(args) : []
        // What comes in the place of one is known to Vitest alone: it depends on the suite.
        if (REPLACING.has(key)) for (const [name] of fixturesOf(args)) derived.delete(name)
        return typeof result === 'function'
          ? observeTests(result as Callable, onTest, new Map([...derived, ...given]))
          : result
      }
    },
  })
}

/** Of `extend({ name: fixture })`, in which options may stand beside it, and `extend('name', options, fixture)`. */
function fixturesOf([first, ...rest]: readonly unknown[]): [string, Derived][] {
  const entries: [string, unknown][] =
    typeof first === 'string'
      ? [[first, rest]]
      : typeof first === 'object' && first !== null
        ? Object.entries(first)
        : []
  return entries.map(([name, value]) => {
    const parts: unknown[] = Array.isArray(value) ? value : [value]
    const fixture = parts.find((part): part is Callable => typeof part === 'function')
    const isAuto = parts.some((part) => (part as { auto?: unknown } | undefined)?.auto === true)
    return [name, { needs: fixture ? parametersOf(fixture) : [], isAuto }]
  })
}

/** Reads the names out of `({ db, cache }) => …`, as Vitest itself does. */
function parametersOf(fn: Callable): string[] {
  const source = fn.toString().replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
  const list =
    /^(?:async\b)?\s*(?:function\b\s*\*?\s*[\w$]*|[\w$]+(?=\s*\())?\s*\(?\s*\{([^{}]*)/.exec(source)?.[1] ?? ''
  const names = list.split(',').map((part) => part.split(/[:=]/)[0]!.trim())
  return names.filter((name) => name !== '')
}

/** The names that a test's function has, and what those need. */
export function askedBy(fn: Callable, known: ReadonlySet<string>, derived: DerivedFixtures): Asked {
  const seen = new Set<string>()
  const names = new Set<string>()
  let others = false
  const ask = (name: string): void => {
    if (seen.has(name) || OWN.has(name)) return
    seen.add(name)
    const fixture = derived.get(name)
    if (known.has(name)) names.add(name)
    if (fixture) fixture.needs.forEach(ask)
    else others ||= !known.has(name)
  }
  parametersOf(fn).forEach(ask)
  for (const [name, { isAuto }] of derived) if (isAuto) ask(name)
  return { names, others }
}

/** What both ask for. */
export function inCommon(one: Asked, other: Asked): Asked {
  return {
    names: new Set([...one.names].filter((name) => other.names.has(name))),
    others: one.others || other.others || one.names.size !== other.names.size,
  }
}
