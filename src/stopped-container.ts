/** A container that was stopped. */

import type { Readable } from 'node:stream'
import type { RunningContainer } from './running-container.js'

/** What is left of a container after `stop()`; its files only if it was not removed. */
export class StoppedTestContainer {
  /** @internal */
  protected readonly running: RunningContainer

  /** @internal */
  constructor(running: RunningContainer) {
    this.running = running
  }

  /** 64 hexadecimal digits. */
  getId(): string {
    return this.running.container.id
  }

  /** As it was when it ran. */
  getName(): string {
    return this.running.container.name
  }

  /** A file or directory of it as a tar. Throws NO_SUCH_CONTAINER when it was removed: see `remove` of `stop()`. */
  copyArchiveFromContainer(path: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Readable> {
    return this.running.archive(path, signal)
  }
}

/** Base for what a fixture's `stop()` resolves to. */
export class AbstractStoppedContainer extends StoppedTestContainer {
  constructor(stopped: StoppedTestContainer) {
    super((stopped as AbstractStoppedContainer).running)
  }
}
