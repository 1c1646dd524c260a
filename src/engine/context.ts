/** What a container needs of the engine that holds it. Inside the engine only. */

import type { EventDetail } from './events.js'
import type { SessionFacts } from './launch/facts.js'
import type { Life } from './life.js'
import type { Session } from './session.js'

export interface EngineContext {
  readonly session: Session
  readonly facts: SessionFacts
  /** Tells the listeners of `engine.events()`. */
  emit(life: Life, event: EventDetail): void
  /** Removes every trace of a container and its record. One removal, however often it is asked for. */
  remove(life: Life, force: boolean): Promise<void>
  /** Drops the log that outlives an automatic removal. */
  forgetLog(life: Life): void
  /** Drops the record of a container that the warden has removed. */
  forget(id: string): void
  /** No such container, as far as the engine is concerned. */
  drop(life: Life): void
  /** Throws NAME_TAKEN. */
  rename(life: Life, name: string): Promise<void>
}
