/** Computing digests. Apart from their form, because node's cryptography takes some milliseconds to load. */

import { createHash } from 'node:crypto'

/** The digest of these bytes. @default algorithm: 'sha256' */
export function digestOfBytes(bytes: Uint8Array | string, algorithm = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`
}
