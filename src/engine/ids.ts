/** Ids of containers and of execs: 64 hexadecimal digits of chance. */

import { randomFillSync } from 'node:crypto'

const ID_BYTES = 32
/** The first digits are a container's host name. One of decimal digits alone is a number to resolvers, which refuse to look it up. */
const HOSTNAME_BYTES = 6
/** Asking the kernel's generator costs ten times as much as the bytes, so a page is fetched at once. */
const pool = Buffer.allocUnsafeSlow(4096)
let used = pool.length

export function newId(): string {
  for (;;) {
    if (used === pool.length) {
      randomFillSync(pool)
      used = 0
    }
    const id = pool.toString('hex', used, used + ID_BYTES)
    used += ID_BYTES
    if (/\D/.test(id.slice(0, 2 * HOSTNAME_BYTES))) return id
  }
}
