/** What a build works with. Inside the engine only. */

import type { SessionFacts } from '../launch/facts.js'
import type { PullOptions } from '../registry/pull.js'
import type { Session } from '../session.js'
import type { StoredImage } from '../store/images.js'
import type { Store } from '../store/store.js'

export interface BuildContext {
  readonly session: Session
  readonly store: Store
  readonly facts: SessionFacts
  /** Fetches a base image that is not here. */
  pull(reference: string, options: PullOptions): Promise<StoredImage>
}
