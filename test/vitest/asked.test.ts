import { describe, expect, test } from 'vitest'
import { type Asked, askedBy, observeTests } from '../../src/vitest/asked.js'

const KNOWN = new Set(['db', 'cache', 'queue'])

/** What stands for Vitest's `test`. */
function makeTest() {
  const found: [string | undefined, string[], boolean][] = []
  const make = (): never => {
    const plain = (..._args: unknown[]) => {}
    const methods = {
      only: plain,
      skipIf: () => make(),
      extend: () => make(),
      override: () => make(),
      for: () => plain,
    }
    return Object.assign(plain, methods) as never
  }
  // biome-ignore lint/suspicious/noExplicitAny: any of Vitest's many forms
  const observed: any = observeTests(make(), (name, fn, derived) => {
    const { names, others }: Asked = askedBy(fn, KNOWN, derived)
    found.push([name, [...names], others])
  })
  return { observed, found }
}

describe('what a test asks for', () => {
  test.each([
    ['nothing', () => {}, [], false],
    ['two', async ({ db, cache: renamed }: Record<string, unknown>) => [db, renamed], ['db', 'cache'], false],
    ['what is Vitest’s own too', ({ db, expect, task }: Record<string, unknown>) => [db, expect, task], ['db'], false],
    ['a fixture of somebody else', ({ db, browser }: Record<string, unknown>) => [db, browser], ['db'], true],
    [
      'one in a function of the old kind',
      async function named({ db }: Record<string, unknown>) {
        return db
      },
      ['db'],
      false,
    ],
  ])('%s', (_what, fn, names, others) => {
    const { observed, found } = makeTest()
    observed('a test', fn)
    expect(found).toEqual([['a test', names, others]])
  })

  test('is known of every form of test', () => {
    const { observed, found } = makeTest()
    const fn = ({ db }: Record<string, unknown>) => db
    observed.only('only', fn)
    observed.skipIf(false)('skipIf', { timeout: 1 }, fn)
    observed.for([1, 2])('for %i', fn)
    expect(found.map(([name]) => name)).toEqual(['only', 'skipIf', undefined])
    expect(found.every(([, names]) => names.join() === 'db')).toBe(true)
  })

  test('is known of fixtures that are made on top, and of those on top of them', () => {
    const { observed, found } = makeTest()
    const extended = observed
      .extend({ client: async ({ db }: Record<string, unknown>, use: (db: unknown) => unknown) => use(db), size: 3 })
      .extend({
        async app({ client, cache, size }: Record<string, unknown>, use: (all: unknown) => unknown) {
          await use([client, cache, size])
        },
      })
    extended('app', ({ app }: Record<string, unknown>) => app)
    extended('size', ({ size }: Record<string, unknown>) => size)
    observed('not extended', ({ app }: Record<string, unknown>) => app)
    expect(found).toEqual([
      ['app', ['db', 'cache'], false],
      ['size', [], false],
      ['not extended', [], true],
    ])
  })

  test('is known of fixtures that every test has, in both ways of writing them', () => {
    const { observed, found } = makeTest()
    const fixture = async ({ queue }: Record<string, unknown>, use: (queue: unknown) => unknown) => use(queue)
    observed.extend({ worker: [fixture, { auto: true }] })('a list', () => {})
    observed.extend('worker', { auto: true }, fixture)('by name', () => {})
    expect(found).toEqual([
      ['a list', ['queue'], false],
      ['by name', ['queue'], false],
    ])
  })

  test('is not known of what a suite has put in the place of a fixture', () => {
    const { observed, found } = makeTest()
    const extended = observed.extend({ client: async ({ db }: Record<string, unknown>) => db })
    extended.override({ client: 'none' })
    extended('a test', ({ client }: Record<string, unknown>) => client)
    expect(found).toEqual([['a test', [], true]])
  })
})
