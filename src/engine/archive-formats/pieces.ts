import type { ByteSource } from '../archive.js'

/** The bytes of any source as one stream. */
export async function* piecesOf(source: ByteSource): AsyncGenerator<Uint8Array, void, undefined> {
  if (source instanceof Uint8Array) yield source
  else yield* source
}
