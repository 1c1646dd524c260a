/** Zstandard in JavaScript, for Node before 22.15. Bundled into the package (scripts/build.mjs) and loaded when needed. */

import { Decompress } from 'fzstd'

export interface ZstdDecoder {
  /** Decodes what it can; complete output comes through the callback before this returns. Throws on damage. */
  push(piece: Uint8Array, isLast: boolean): void
}

export function zstdDecoder(output: (piece: Uint8Array) => void): ZstdDecoder {
  const decoder = new Decompress((piece) => output(piece))
  return { push: (piece, isLast) => void decoder.push(piece, isLast) }
}
