/** An image of one layer, made of a root file system. */

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ByteSource } from './archive.js'
import { piecesOf } from './archive-formats/pieces.js'
import { MayflyError } from './errors.js'
import { encodeConfig, type HistoryEntry, type ImageConfig, type RuntimeConfig } from './image/config.js'
import { hostPlatform, type Platform } from './image/platform.js'
import { parseNewName } from './image/reference.js'
import type { Session } from './session.js'
import { decompress } from './store/decompress.js'
import type { StoredImage } from './store/images.js'
import { digestLayer, unpackLayer } from './store/layer-archive.js'
import type { Layer } from './store/layers.js'
import type { Store } from './store/store.js'
import { listTree } from './tree.js'

export interface ImportedImage {
  readonly references: readonly string[]
  /** @default the host's */
  readonly platform?: Platform | undefined
  readonly author?: string | undefined
  readonly history: Omit<HistoryEntry, 'created'>
  /** What containers of it run. */
  readonly config: RuntimeConfig
  /** Gives the config its last form. */
  readonly change?: ((config: ImageConfig) => ImageConfig) | undefined
}

interface ImportContext {
  readonly session: Session
  readonly store: Store
}

/**
 * Unpacks a tar (compressed or not) and keeps it as an image. The id depends on the files, the config and the time only, not on the
 * archive's form: the layer's digest is of the archive that we make of the tree, so nothing of the original need be kept.
 *
 * Throws ARCHIVE_INVALID, IMAGE_INVALID for an archive of images, INVALID_REFERENCE, DISK_FULL.
 */
export async function importImage(
  context: ImportContext,
  source: ByteSource,
  { references, platform = hostPlatform(), author, history, config: runtime, change }: ImportedImage,
  signal?: AbortSignal,
): Promise<StoredImage> {
  const { store } = context
  for (const reference of references) parseNewName(reference) // before the work
  const created = new Date().toISOString()
  const plain: ImageConfig = {
    ...platform,
    created,
    ...(author ? { author } : {}),
    config: runtime,
    rootfs: { type: 'layers', diff_ids: [] },
    history: [{ created, ...history }],
  }
  const config = change ? change(plain) : plain
  return store.writing(signal, async () => {
    const refuse = (tree: string) => refuseImages(context.session, tree, signal)
    const { diffId } = await importLayer(context, source, undefined, signal, refuse)
    const whole: ImageConfig = { ...config, rootfs: { type: 'layers', diff_ids: [diffId] } }
    return store.images.put({ config: encodeConfig(whole), references }, signal)
  })
}

/** Unpacks a layer's tar upon `parent`. Its diffID is that of our own archive of the tree, which `check` may refuse. */
export async function importLayer(
  { session, store }: ImportContext,
  source: ByteSource,
  parent: string | undefined,
  signal?: AbortSignal,
  check?: (tree: string) => Promise<void>,
): Promise<Layer & { readonly isEmpty: boolean }> {
  const temporary = await store.temporary()
  try {
    await mkdir(temporary, { mode: 0o700 })
    const tree = join(temporary, 'tree')
    const unpacked = await unpackLayer(
      session,
      tree,
      decompress(piecesOf(source)),
      { layer: true, sync: false },
      signal,
    )
    await check?.(tree)
    const { digest } = await digestLayer(session, { tree }, signal)
    const facts = { diffId: digest, parent, sizeBytes: unpacked.bytes, origin: 'packed' } as const
    return { ...(await store.layers.adopt(temporary, facts, signal)), isEmpty: unpacked.entries === 0 }
  } catch (error) {
    await store.discard(temporary)
    throw error
  }
}

/** What `save` wrote is easily mistaken for what `export` wrote, and would become an image that runs nothing. */
async function refuseImages(session: Session, tree: string, signal: AbortSignal | undefined): Promise<void> {
  const names = new Set<string>()
  for await (const { path } of listTree(session, { directory: tree }, '/', {
    depth: 1,
    ...(signal ? { signal } : {}),
  })) {
    names.add(path)
  }
  const isLayout = names.has('index.json') && names.has('oci-layout')
  const isRoot = ['bin', 'etc', 'usr', 'dev'].some((name) => names.has(name))
  if (!isLayout && (!names.has('manifest.json') || isRoot)) return
  const what = isLayout ? 'an OCI layout' : 'a docker-archive'
  throw new MayflyError('IMAGE_INVALID', `The tar is ${what}, and no root file system`, {
    field: 'archive',
    hint: '`load` takes archives of images',
  })
}
