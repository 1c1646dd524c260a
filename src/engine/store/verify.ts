/** What `mayfly prune --verify` does: reads the whole store. */

import { MayflyError } from '../errors.js'
import type { Store } from './store.js'

export interface VerifyOptions {
  readonly signal?: AbortSignal
}

export interface Verification {
  readonly blobs: number
  readonly layers: number
  readonly images: number
  /** Layers that were read for the first time and have nothing yet to be compared with, by chainID. */
  readonly recorded: readonly string[]
  /** BLOB_DAMAGED, LAYER_DAMAGED and STORE_DAMAGED, each with `path` and, where there is one, `digest`. */
  readonly damages: readonly MayflyError[]
}

export async function verify(store: Store, { signal }: VerifyOptions): Promise<Verification> {
  const damages: MayflyError[] = []
  const recorded: string[] = []
  const stop = store.onDamage((damage) => {
    if (!damages.some(({ message }) => message === damage.message)) damages.push(damage)
  })
  store.disk.forgetDamages() // those told before are to be told again
  try {
    const blobs = await store.blobs.list()
    for (const { digest } of blobs) await toleratingDamage(() => store.blobs.verify(digest, signal))
    const layers = await store.layers.list()
    for (const chainId of layers) {
      signal?.throwIfAborted()
      const verdict = await toleratingDamage(() => store.layers.verify(chainId, signal))
      if (verdict === 'recorded') recorded.push(chainId)
    }
    store.images.names()
    const images = await store.images.ids()
    for (const id of images) await store.images.get(id, { incomplete: true })
    for (const hex of await store.tars.list()) await store.tars.get(hex)
    return { blobs: blobs.length, layers: layers.length, images: images.length, recorded, damages }
  } finally {
    stop()
  }
}

/** Damage has been told already, and what has gone meanwhile needs no check. */
async function toleratingDamage<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof MayflyError && /_DAMAGED$|^BLOB_NOT_FOUND$/.test(error.code)) return undefined
    throw error
  }
}
