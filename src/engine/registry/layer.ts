/**
 * One layer on its way into the store, in one pass: its bytes go into a blob and at the same time through the decompressor to
 * the warden, which unpacks them and tells the diffID.
 */

import { join } from 'node:path'
import { deleteTree } from '../archive.js'
import { MayflyError } from '../errors.js'
import { splitDigest } from '../image/digest.js'
import type { Descriptor } from '../image/manifest.js'
import { layerCompression } from '../image/media-types.js'
import type { Session } from '../session.js'
import type { BlobWriter } from '../store/blobs.js'
import { decompress } from '../store/decompress.js'
import { type UnpackedLayer, unpackLayer } from '../store/layer-archive.js'
import { layerLimits } from '../store/layer-limits.js'
import type { Store } from '../store/store.js'
import type { RegistryClient } from './client.js'
import { fail } from './failure.js'
import type { LayerProgress } from './progress.js'

export interface LayerSource {
  readonly session: Session
  readonly store: Pick<Store, 'blobs'>
  readonly client: RegistryClient
  readonly descriptor: Descriptor
  readonly progress: LayerProgress
  readonly signal: AbortSignal
}

/** Unpacks the layer into `target`, from its blob if that is here and whole, else from the registry. */
export async function unpackFrom(source: LayerSource, target: string): Promise<UnpackedLayer> {
  const { store, descriptor, progress } = source
  if (await store.blobs.has(descriptor.digest, descriptor.size)) {
    progress.tell('extracting')
    const unpacked = await unpackLocal(source, target)
    if (unpacked) return unpacked
  }
  return unpackRemote(source, target)
}

/** Undefined when the blob turns out to be damaged: it has been removed then, and so has what was unpacked. */
async function unpackLocal(source: LayerSource, target: string): Promise<UnpackedLayer | undefined> {
  const { session, store, descriptor, signal } = source
  try {
    return await unpack(source, store.blobs.open(descriptor.digest, signal), target)
  } catch (error) {
    signal.throwIfAborted()
    // A damaged blob may break the decompressor before its digest can tell.
    const damage = await store.blobs.verify(descriptor.digest, signal).catch((found) => found)
    signal.throwIfAborted()
    if (!(damage instanceof MayflyError) || !['BLOB_DAMAGED', 'BLOB_NOT_FOUND'].includes(damage.code)) throw error
    await deleteTree(session, target)
    return undefined
  }
}

/** How receiving a blob went. The decompressor may fail over bad content before the reason for it is known. */
interface Reception {
  /** All of it is here. Whether it is what the digest says is another question. */
  isWhole: boolean
  failure?: { readonly error: unknown }
}

async function unpackRemote(source: LayerSource, target: string): Promise<UnpackedLayer> {
  const { store, descriptor, signal } = source
  const writer = await store.blobs.writer(splitDigest(descriptor.digest).algorithm)
  const reception: Reception = { isWhole: false }
  const pieces = receive(source, writer, reception)
  const readOn = async () => {
    await pieces.return() // its last piece may still be under way: it goes to the writer too
    if (reception.failure) throw reception.failure.error
    if (!reception.isWhole) for await (const _ of receive(source, writer, reception)) signal.throwIfAborted()
  }
  try {
    const unpacked = await unpack(source, pieces, target)
    await readOn() // what comes after the end of the compressed archive belongs to the digest as well
    return unpacked
  } catch (error) {
    // Nothing is wrong with an archive that is not the one that was asked for: read on to see which it was.
    if (error instanceof MayflyError && error.code === 'ARCHIVE_INVALID' && !signal.aborted) await readOn()
    throw error
  } finally {
    // What ends the pieces fails where their last write has failed.
    await pieces.return().finally(() => writer.abort())
  }
}

/**
 * What the registry sends, from where the writer is, kept by the writer on its way. Fails at the end if it is not what the digest
 * says.
 */
async function* receive(
  { client, descriptor, progress }: LayerSource,
  writer: BlobWriter,
  reception: Reception,
): AsyncGenerator<Uint8Array, void, undefined> {
  // The next piece is on its way through hash and decompressor while this one is written.
  let written: Promise<void> = Promise.resolve()
  try {
    try {
      for await (const piece of client.blob(descriptor, writer.size)) {
        await written
        written = writer.write(piece)
        written.catch(() => {}) // told by the next await
        progress.tell('downloading', writer.size + piece.length)
        yield piece
      }
    } finally {
      await written
    }
    reception.isWhole = true
    await commit(client, descriptor, writer)
  } catch (error) {
    reception.failure = { error }
    throw error
  }
  progress.tell('extracting')
}

async function commit(client: RegistryClient, descriptor: Descriptor, writer: BlobWriter): Promise<void> {
  try {
    await writer.commit(descriptor)
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'DIGEST_MISMATCH') throw error
    const why = `what ${client.registry} sends as layer ${descriptor.digest} has the digest ${writer.digest}`
    throw fail('DIGEST_MISMATCH', client.purpose, why, { digest: descriptor.digest, value: writer.digest }, error)
  }
}

async function unpack(
  { session, descriptor, client, signal }: LayerSource,
  archive: AsyncIterable<Uint8Array>,
  target: string,
): Promise<UnpackedLayer> {
  const limits = layerLimits(descriptor.size)
  // As docker does: a compression's own mark counts for more than the media type, which some tools get wrong.
  const stated = layerCompression(descriptor)
  const tar = decompress(archive, stated === 'none' ? 'none' : undefined, { name: 'it' })
  try {
    return await unpackLayer(session, target, tar, { layer: true, sync: false, ...limits }, signal)
  } catch (error) {
    if (!(error instanceof MayflyError) || !/^ARCHIVE_/.test(error.code)) throw error
    const why = `layer ${descriptor.digest}: ${error.message.replace(`"${target}"`, 'it')}`
    throw fail(error.code, client.purpose, why, { digest: descriptor.digest }, error)
  }
}

/** Where the tree of a layer goes in a directory of its own. */
export function treeIn(directory: string): string {
  return join(directory, 'tree')
}
