/** A store of its own for a test, and small layers and images to put into it. */

import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { encodeConfig, type ImageConfig } from '../../../src/engine/image/config.js'
import { digestOfBytes } from '../../../src/engine/image/digest-of.js'
import { chainId } from '../../../src/engine/image/manifest.js'
import { Session } from '../../../src/engine/session.js'
import type { StoredImage } from '../../../src/engine/store/images.js'
import { unpackLayer } from '../../../src/engine/store/layer-archive.js'
import type { Layer, LayerFacts } from '../../../src/engine/store/layers.js'
import { Store } from '../../../src/engine/store/store.js'
import { wardenProgram } from '../../../src/engine/where.js'
import { temporaryDirectory } from '../../support/temporary.js'

export interface OpenStore {
  readonly store: Store
  readonly session: Session
  close(): Promise<void>
}

export interface StoreWorld {
  readonly home: string
  /** Another session in the same store, as another process has one. */
  open(): Promise<OpenStore>
  remove(): Promise<void>
}

export function makeStoreWorld(): StoreWorld {
  const directory = temporaryDirectory()
  const home = join(directory, 'home')
  const opened: OpenStore[] = []
  return {
    home,
    async open() {
      const one = await openStore(home)
      opened.push(one)
      return one
    },
    async remove() {
      await Promise.all(opened.map((one) => one.close()))
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

export async function openStore(home: string): Promise<OpenStore> {
  await new Store(home).prepare()
  const session = await Session.open({ home, program: wardenProgram(), network: false })
  return { store: new Store(home, session), session, close: () => session.close() }
}

/** A tar of regular files, as plain as can be. */
export function tarOf(files: Readonly<Record<string, string>>): Buffer {
  const blocks = Object.entries(files).flatMap(([name, text]) => {
    const header = Buffer.alloc(512)
    const content = Buffer.from(text)
    header.write(name, 0)
    header.write('0000644\0', 100)
    header.write('0000000\0', 108)
    header.write('0000000\0', 116)
    header.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124)
    header.write('00000000000\0', 136)
    header.write('        ', 148)
    header.write('0', 156)
    header.write('ustar\x0000', 257)
    const sum = header.reduce((total, byte) => total + byte, 0)
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
    return [header, content, Buffer.alloc((512 - (content.length % 512)) % 512)]
  })
  return Buffer.concat([...blocks, Buffer.alloc(1024)])
}

/** Unpacks a layer of these files into a temporary directory, as `Layers.ensure` wants it. */
export async function unpackFiles(
  session: Session,
  temporary: string,
  files: Readonly<Record<string, string>>,
  parent?: string,
): Promise<LayerFacts> {
  const options = { layer: true, sync: false }
  const { digest, bytes } = await unpackLayer(session, join(temporary, 'tree'), tarOf(files), options)
  return { diffId: digest, parent, sizeBytes: bytes, origin: 'unpacked' }
}

/** A layer of these files, upon another one. */
export async function putLayer(
  { store, session }: OpenStore,
  files: Readonly<Record<string, string>>,
  parent?: string,
): Promise<Layer> {
  const chain = chainId(parent, digestOfBytes(tarOf(files)))
  return store.layers.ensure(chain, (temporary) => unpackFiles(session, temporary, files, parent))
}

/** An image with these layers, lowest first. */
export function putImage(
  { store }: OpenStore,
  layers: readonly Layer[],
  references: readonly string[],
  config: Partial<ImageConfig> = {},
): Promise<StoredImage> {
  const bytes = encodeConfig({
    architecture: 'amd64',
    os: 'linux',
    ...config,
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
  })
  return store.images.put({ config: bytes, references, durable: false })
}
