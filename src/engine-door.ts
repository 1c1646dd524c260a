/** The engine as this package exports it: loaded when it is opened, so that importing the library loads none. */

import type { EngineOptions, Engine as RealEngine } from './engine/engine.js'

/** See {@link Engine.open}. */
export type Engine = RealEngine

/** mayfly's own engine, for who wants containers without the library around them. */
export const Engine = {
  /**
   * Starts the native process. One engine serves a whole process: open it once.
   *
   * Throws ENGINE_UNAVAILABLE with the reason, INVALID_OPTION for the home.
   *
   * @example
   * await using another = await Engine.open()
   * const { exitCode } = await another.run({ rootfs: { directory: '/srv/rootfs' }, command: ['true'] })
   */
  async open(options: EngineOptions = {}): Promise<RealEngine> {
    const { Engine: Loaded } = await import('./engine/engine.js')
    return Loaded.open(options)
  },
} as const
