/** Headers of tar entries for the archives that we make: plain ustar, nothing in them that differs between two runs. */

const BLOCK = 512
const NAME_BYTES = 100
/** Eleven octal digits. What is larger takes a PAX record. */
const MAX_SIZE = 8 * 1024 ** 3 - 1

/** The end of an archive. */
export const END_OF_ARCHIVE = new Uint8Array(2 * BLOCK)

/** Header of a file of this size (its name ASCII), whose bytes and `padding` follow. */
export function fileHeader(name: string, size: number): Buffer {
  const isLong = Buffer.byteLength(name) > NAME_BYTES
  const isLarge = size > MAX_SIZE
  const plain = header(isLong ? name.slice(-NAME_BYTES) : name, isLarge ? 0 : size, '0', 0o644)
  if (!isLong && !isLarge) return plain
  const records = Buffer.concat([
    ...(isLong ? [paxRecord('path', name)] : []),
    ...(isLarge ? [paxRecord('size', String(size))] : []),
  ])
  return Buffer.concat([header('PaxHeader', records.length, 'x', 0o644), records, padding(records.length), plain])
}

/** Header of a directory; its name ends with a slash. */
export function directoryHeader(name: string): Buffer {
  return header(name, 0, '5', 0o755)
}

/** What fills the last block of a file of this size. */
export function padding(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK)
}

/** The length at the beginning counts itself. */
function paxRecord(key: string, value: string): Buffer {
  const rest = ` ${key}=${value}\n`
  let length = rest.length + 1
  while (`${length}${rest}`.length !== length) length = `${length}${rest}`.length
  return Buffer.from(`${length}${rest}`)
}

function header(name: string, size: number, type: string, mode: number): Buffer {
  const block = Buffer.alloc(BLOCK)
  block.write(name, 0)
  block.write(octal(mode, 8), 100)
  block.write(octal(0, 8), 108) // uid
  block.write(octal(0, 8), 116) // gid
  block.write(octal(size, 12), 124)
  block.write(octal(0, 12), 136) // time of modification
  block.fill(' ', 148, 156) // the checksum counts itself as blanks
  block.write(type, 156)
  block.write('ustar\x0000', 257, 'latin1')
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${octal(sum, 7)} `, 148)
  return block
}

function octal(value: number, bytes: number): string {
  return `${value.toString(8).padStart(bytes - 1, '0')}\0`
}
