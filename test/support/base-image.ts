/** An image with busybox in it, made without a registry: a base for builds, and something to start containers from. */

import { spawn } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { encodeConfig, type RuntimeConfig } from '../../src/engine/image/config.js'
import { hostPlatform } from '../../src/engine/image/platform.js'
import type { Session } from '../../src/engine/session.js'
import type { StoredImage } from '../../src/engine/store/images.js'
import { unpackLayer } from '../../src/engine/store/layer-archive.js'
import type { Store } from '../../src/engine/store/store.js'

/** Puts a directory into the store as an image of one layer. */
export async function putBaseImage(
  world: { readonly session: Session; readonly store: Store },
  rootfs: string,
  reference: string,
  config: RuntimeConfig = { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['sh'] },
): Promise<StoredImage> {
  const { session, store } = world
  const directory = await store.temporary()
  await mkdir(directory, { mode: 0o700 })
  const tar = spawn('tar', ['-C', rootfs, '--numeric-owner', '--owner=0', '--group=0', '-cf', '-', '.'])
  const { digest, bytes } = await unpackLayer(session, join(directory, 'tree'), tar.stdout, {
    layer: true,
    sync: false,
  })
  await store.layers.adopt(directory, { diffId: digest, parent: undefined, sizeBytes: bytes, origin: 'unpacked' })
  const { os, architecture, variant } = hostPlatform()
  const image = {
    os,
    architecture,
    ...(variant ? { variant } : {}),
    created: '2024-01-02T03:04:05Z',
    config,
    rootfs: { type: 'layers' as const, diff_ids: [digest] },
    history: [{ created: '2024-01-02T03:04:05Z', created_by: 'busybox' }],
  }
  return store.images.put({ config: encodeConfig(image), references: [reference], durable: false })
}
