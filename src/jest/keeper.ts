/**
 * What the test environment does for the containers of a test file: it shows what they printed with a test that fails, and ends them
 * when the file's own hooks are done with them. The environment lives outside the file's context and sees its events; the file's
 * side leaves here what is to be called.
 */

/** Some containers of a test file. */
export interface Held {
  readonly scope: 'test' | 'file'
  /** What those that run printed last, as paragraphs. */
  tails(): Promise<string>
  /** Called at the end of each test, or of the describe block in which they were asked for. */
  close(): Promise<void>
}

export interface Keeper {
  hold(held: Held): void
  /** Called when everything else of the file is over. */
  atEnd(close: () => Promise<void>): void
}

/** Property of the context's global object. */
export const KEEPER = Symbol.for('mayfly.jest.keeper')

/** The environment's, if the file runs in ours. */
export function currentKeeper(): Keeper | undefined {
  return (globalThis as { readonly [KEEPER]?: Keeper })[KEEPER]
}
