/** What is in a tar, by path: one line for each entry, to compare two of them. */

import { createHash } from 'node:crypto'

const KINDS: Readonly<Record<string, string>> = { 0: 'file', 2: 'link', 3: 'char', 4: 'block', 5: 'dir', 6: 'fifo' }

/**
 * `kind mode uid:gid` and, for a link, where it leads, for a file, the time of its change in seconds and the digest of its content. The names of a
 * hard link are alike. Reads ustar with PAX headers for names.
 */
export function tarEntries(tar: Buffer): Record<string, string> {
  const entries: Record<string, string> = {}
  let long: Record<string, string> = {}
  const text = (from: number, length: number) => tar.toString('utf8', from, from + length).replace(/\0.*$/s, '')
  const octal = (from: number, length: number) => Number.parseInt(text(from, length).trim() || '0', 8)
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const size = Number(long.size ?? octal(at + 124, 12))
    const type = text(at + 156, 1) || '0'
    const content = tar.subarray(at + 512, at + 512 + size)
    const header = at
    at += 512 + Math.ceil(size / 512) * 512
    if (type === 'x') {
      long = Object.fromEntries(
        [...content.toString().matchAll(/\d+ ([^=\n]+)=([^\n]*)\n/g)].map(([, k, v]) => [k, v!]),
      )
      continue
    }
    if (type === 'g') continue
    const prefix = text(header + 345, 155)
    const path = clean(long.path ?? (prefix ? `${prefix}/${text(header, 100)}` : text(header, 100)))
    const link = long.linkpath ?? text(header + 157, 100)
    long = {}
    if (type === '1') {
      entries[path] = entries[clean(link)] ?? `hard link to ${link}, which did not come before`
      continue
    }
    const words = [KINDS[type] ?? `type ${type}`, (octal(header + 100, 8) & 0o7777).toString(8).padStart(4, '0')]
    words.push(`${octal(header + 108, 8)}:${octal(header + 116, 8)}`)
    if (type === '2') words.push(link)
    if (type === '0')
      words.push(`@${octal(header + 136, 12)}`, createHash('sha256').update(content).digest('hex').slice(0, 12))
    entries[path] = words.join(' ')
  }
  return entries
}

function clean(path: string): string {
  return `/${path}`.replace(/\/+(\.\/+)*/g, '/').replace(/(.)\/$/, '$1')
}
