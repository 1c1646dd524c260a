/**
 * Vitest itself. A global setup imports us in Vitest's main process, in which version 3 refuses to be imported: there its functions
 * throw when they are used, and a global setup uses none.
 */

type Vitest = typeof import('vitest')

// This folder is built as ES modules only, as Vitest is: so it may wait here.
export const vitest: Vitest = await import('vitest').catch((error: Error) => {
  if (!/internal state/.test(error.message)) throw error
  return new Proxy({} as Vitest, {
    get(_target, key) {
      if (key === 'then') return undefined
      throw error
    },
  })
})
