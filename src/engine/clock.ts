/**
 * Timers as they were when mayfly was loaded: a test that fakes time (`vi.useFakeTimers()`, `jest.useFakeTimers()`) must not
 * stop the clock of its containers.
 */

export const { setTimeout, clearTimeout, setImmediate } = globalThis
export const { nextTick } = process
/** Milliseconds from some moment on, as `performance.now()`. */
export const now: () => number = performance.now.bind(performance)
