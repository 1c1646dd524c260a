/** Tar archives for copies into containers, and the first file of one that comes out. POSIX ustar, with PAX records where it must be. */

/** What goes into an archive. Contents are read when their turn comes. */
export interface TarEntry {
  /** Without a leading slash. */
  readonly path: string
  readonly type: 'file' | 'directory' | 'symlink'
  readonly mode: number
  readonly uid?: number
  readonly gid?: number
  readonly mtime?: Date
  /** Target of a symbolic link. */
  readonly link?: string
  /** Bytes of a file. */
  readonly size?: number
  readonly content?: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>
}

const BLOCK = 512
const TYPES = { file: '0', directory: '5', symlink: '2' } as const
/** What fits in the 12 octal digits of a header. */
const MAX_OCTAL_SIZE = 8 ** 11 - 1

/** The archive's bytes. Throws when a file turns out to have another size than announced. */
export async function* packTar(entries: AsyncIterable<TarEntry> | Iterable<TarEntry>): AsyncGenerator<Uint8Array> {
  for await (const entry of entries) {
    yield* header(entry)
    if (entry.type !== 'file' || !entry.content) continue
    const { size = 0 } = entry
    let written = 0
    for await (const piece of entry.content()) {
      written += piece.length
      if (written > size) break
      yield piece
    }
    if (written !== size) throw new Error(`${entry.path} changed while it was copied: expected ${size} bytes`)
    if (size % BLOCK !== 0) yield new Uint8Array(BLOCK - (size % BLOCK))
  }
  yield new Uint8Array(2 * BLOCK)
}

function* header(entry: TarEntry): Generator<Uint8Array> {
  const path = entry.type === 'directory' && !entry.path.endsWith('/') ? `${entry.path}/` : entry.path
  const link = entry.link ?? ''
  const size = entry.type === 'file' ? (entry.size ?? 0) : 0
  const records: [string, string][] = []
  if (!fits(path)) records.push(['path', path])
  if (!fits(link)) records.push(['linkpath', link])
  if (size > MAX_OCTAL_SIZE) records.push(['size', String(size)])
  if (records.length > 0) {
    const body = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)))
    yield block({ path: 'PaxHeader', link: '', type: 'x', mode: 0o644, size: body.length, uid: 0, gid: 0, seconds: 0 })
    yield body
    if (body.length % BLOCK !== 0) yield new Uint8Array(BLOCK - (body.length % BLOCK))
  }
  yield block({
    path: fits(path) ? path : 'long',
    link: fits(link) ? link : 'long',
    type: TYPES[entry.type],
    mode: entry.mode & 0o7777,
    size: Math.min(size, MAX_OCTAL_SIZE),
    uid: entry.uid ?? 0,
    gid: entry.gid ?? 0,
    seconds: Math.floor((entry.mtime ?? new Date()).getTime() / 1000),
  })
}

function fits(name: string): boolean {
  return name.length <= 100 && /^[\x20-\x7e]*$/.test(name)
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function paxRecord(key: string, value: string): Buffer {
  const rest = Buffer.from(` ${key}=${value}\n`)
  let length = rest.length + 1
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length
  return Buffer.concat([Buffer.from(String(length)), rest])
}

interface Header {
  readonly path: string
  readonly link: string
  readonly type: string
  readonly mode: number
  readonly size: number
  readonly uid: number
  readonly gid: number
  readonly seconds: number
}

function block({ path, link, type, mode, size, uid, gid, seconds }: Header): Uint8Array {
  const bytes = Buffer.alloc(BLOCK)
  const octal = (value: number, offset: number, length: number) =>
    bytes.write(value.toString(8).padStart(length - 1, '0'), offset, 'latin1')
  bytes.write(path, 0, 'latin1')
  octal(mode, 100, 8)
  octal(uid, 108, 8)
  octal(gid, 116, 8)
  octal(size, 124, 12)
  octal(Math.max(seconds, 0), 136, 12)
  bytes.write('        ', 148, 'latin1')
  bytes.write(type, 156, 'latin1')
  bytes.write(link, 157, 'latin1')
  bytes.write('ustar\x0000', 257, 'latin1')
  const sum = bytes.reduce((total, byte) => total + byte, 0)
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return bytes
}

/** What an archive begins with. */
export interface FirstEntry {
  readonly type: 'file' | 'directory' | 'link' | 'other'
  /** Where a symbolic link leads, else ''. */
  readonly link: string
  /** Of a file; nothing has any besides. */
  readonly contents: Uint8Array
}

/**
 * The first entry of an archive, which is then left.
 *
 * @param maxBytes at most so many of its contents
 */
export async function firstEntry(
  tar: AsyncIterable<Uint8Array>,
  maxBytes: number = Number.MAX_SAFE_INTEGER,
): Promise<FirstEntry> {
  let buffered: Buffer = Buffer.alloc(0)
  let entry: { type: FirstEntry['type']; link: string; wanted: number } | undefined
  let longLink: string | undefined
  // Put together once: at each piece it would take the square of the file's size.
  const contents: Uint8Array[] = []
  let length = 0
  for await (const piece of tar) {
    let rest = piece
    if (!entry) {
      buffered = Buffer.concat([buffered, piece])
      while (entry === undefined && buffered.length >= BLOCK) {
        const flag = String.fromCharCode(buffered[156]!)
        const size = Number.parseInt(text(buffered, 124, 136).trim() || '0', 8)
        if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
          const skipped = BLOCK + Math.ceil(size / BLOCK) * BLOCK
          if (buffered.length < skipped) break
          const extra = buffered.toString('utf8', BLOCK, BLOCK + size)
          if (flag === 'K') longLink = extra.replace(/\0.*$/s, '')
          if (flag === 'x') longLink = /^\d+ linkpath=(.*)$/m.exec(extra)?.[1] ?? longLink
          buffered = buffered.subarray(skipped)
          continue
        }
        const type = TYPE_OF_FLAG[flag] ?? 'other'
        const link = type === 'link' ? (longLink ?? text(buffered, 157, 257)) : ''
        entry = { type, link, wanted: type === 'file' ? Math.min(size, maxBytes) : 0 }
        buffered = buffered.subarray(BLOCK)
      }
      if (!entry) continue
      rest = buffered
    }
    contents.push(rest)
    length += rest.length
    if (length >= entry.wanted) {
      return { type: entry.type, link: entry.link, contents: Buffer.concat(contents, entry.wanted) }
    }
  }
  throw new Error('The archive ends before its first entry does')
}

const TYPE_OF_FLAG: Readonly<Record<string, FirstEntry['type']>> = {
  '0': 'file',
  '\0': 'file',
  '2': 'link',
  '5': 'directory',
}

/** A field of a header, up to its first NUL. */
function text(header: Buffer, start: number, end: number): string {
  const nul = header.indexOf(0, start)
  return header.toString('utf8', start, nul >= 0 && nul < end ? nul : end)
}
