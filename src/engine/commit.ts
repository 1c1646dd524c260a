/** An image of what a container has become. */

import { receiveArchive } from './archive.js'
import { MayflyError } from './errors.js'
import { encodeConfig, type ImageConfig } from './image/config.js'
import { chainIds } from './image/manifest.js'
import { parseReference } from './image/reference.js'
import { importImage, importLayer } from './image-import.js'
import { runtimeConfig } from './launch/image.js'
import type { Life } from './life.js'
import type { Session } from './session.js'
import type { StoredImage } from './store/images.js'
import { packLayer } from './store/layer-archive.js'
import type { Store } from './store/store.js'

export interface CommitOptions {
  /** Name of the image. @default none: it is known by its id */
  readonly reference?: string
  readonly author?: string
  /** Goes into the history. */
  readonly message?: string
  /**
   * Dockerfile instructions that change what containers of the image run: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL,
   * ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR.
   */
  readonly changes?: readonly string[]
  /** Freezes a running container meanwhile, so that its files belong together. @default true */
  readonly pause?: boolean
  /** Gives up; nothing stays. */
  readonly signal?: AbortSignal
}

export interface CommitContext {
  readonly session: Session
  readonly store: Store
}

/** What the container has written becomes a layer upon its image's; of a container without an image, its whole root becomes the layer. */
export async function commitContainer(
  context: CommitContext,
  life: Life,
  { reference, author, message, changes = [], signal }: CommitOptions,
): Promise<StoredImage> {
  const { applyChanges } = await import('./changes.js')
  const references = reference === undefined ? [] : [reference]
  const { image, command } = life.options
  const runtime = runtimeConfig(life.options)
  const history = {
    created_by: command.join(' '),
    ...(author ? { author } : {}),
    ...(message ? { comment: message } : {}),
  }
  if (!image) {
    const root = exportContainer(context.session, life, signal)
    const change = (config: ImageConfig) => applyChanges(config, changes)
    return importImage(context, root, { references, author, history, config: runtime, change }, signal)
  }
  for (const name of references) parseReference(name)
  const { config: base } = image
  const { author: _author, ...kept } = base
  const created = new Date().toISOString()
  const changed = applyChanges({ ...kept, ...(author ? { author } : {}), created, config: runtime }, changes)
  const { store } = context
  return store.writing(signal, async () => {
    const below = [...base.rootfs.diff_ids]
    const snapshots = life.layers.slice(0, life.layers.length - Math.max(below.length, 1)).reverse()
    // What it was started from lies between the image and its own: the image knows nothing of that.
    for (const tree of snapshots) {
      const { bytes } = packLayer(context.session, { tree }, signal)
      below.push((await importLayer(context, bytes, chainIds(below).at(-1), signal)).diffId)
    }
    const { bytes } = packLayer(context.session, { container: life.id }, signal)
    const layer = await importLayer(context, bytes, chainIds(below).at(-1), signal)
    const config: ImageConfig = {
      ...changed,
      rootfs: { type: 'layers', diff_ids: [...below, layer.diffId] },
      history: [
        ...(base.history ?? []),
        ...snapshots.map(() => ({ created, comment: 'snapshot' })),
        { created, ...history },
      ],
    }
    return store.images.put({ config: encodeConfig(config), references }, signal)
  })
}

/** The whole root file system as a tar, without what is mounted in it. */
export function exportContainer(session: Session, life: Life, signal?: AbortSignal): AsyncIterableIterator<Uint8Array> {
  if (life.removal) {
    throw new MayflyError('NO_SUCH_CONTAINER', `Cannot export "${life.name}": it was removed`, { container: life.name })
  }
  const attempt = { verb: 'export', container: life.name }
  return receiveArchive(session, ['id', life.id, 'path', '/', 'alone', '1'], attempt, signal)
}
