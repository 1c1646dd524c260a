/** From what a step has written to a layer of the store. */

import { digestLayer } from '../store/layer-archive.js'
import type { Layer } from '../store/layers.js'
import { keepContainer, type Workspace } from '../workspace.js'
import type { BuildContext } from './context.js'

/**
 * Keeps what was written in a container (which has exited, or never ran and is gone afterwards) as a layer upon `parent`. Undefined when
 * nothing was written.
 */
export async function makeLayer(
  { session, store }: BuildContext,
  container: string,
  parent: Layer | undefined,
  signal: AbortSignal,
): Promise<Layer | undefined> {
  const target = await store.temporary()
  const { empty } = await keepContainer(session, container, target)
  if (empty) return undefined
  try {
    const { digest, size } = await digestLayer(session, { tree: `${target}/tree` }, signal)
    return await store.layers.adopt(
      target,
      { diffId: digest, parent: parent?.chainId, sizeBytes: size, origin: 'packed' },
      signal,
    )
  } catch (error) {
    await store.discard(target)
    throw error
  }
}

/** Does work in a workspace, which is taken away if the work fails. */
export async function withWorkspace<T>(workspace: Workspace, work: (workspace: Workspace) => Promise<T>): Promise<T> {
  try {
    return await work(workspace)
  } catch (error) {
    await workspace.remove().catch(() => {}) // it goes with the session at the latest
    throw error
  }
}
