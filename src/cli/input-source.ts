/** Bytes from a file, from stdin or from an address, as `load`, `import` and `build` take them. */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { addAbortSignal } from 'node:stream'
import { UsageError } from './usage-error.js'

/** stdin. Throws {@link UsageError} when nothing was redirected to it. Whoever waits for it is rejected when the signal aborts. */
export function standardInput(what: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
  if (process.stdin.isTTY) throw new UsageError(`${what} would be read from a terminal`, 'redirect stdin from a file')
  return addAbortSignal(signal, process.stdin)
}

/** A file of this machine. Throws at once when it cannot be read. */
export async function inputFile(path: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
  try {
    const file = await open(path, constants.O_RDONLY)
    if ((await file.stat()).isDirectory()) {
      await file.close()
      throw Object.assign(new Error(), { code: 'EISDIR' })
    }
    return addAbortSignal(signal, file.createReadStream({ highWaterMark: 1024 * 1024 }))
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const why =
      code === 'ENOENT' ? 'there is no such file' : code === 'EISDIR' ? 'it is a directory' : (code ?? message)
    throw new Error(`Cannot read ${path}: ${why}`, { cause: error })
  }
}

export function isAddress(text: string): boolean {
  return /^https?:\/\//i.test(text)
}

/** What a server has at an address. A user name and password in it are sent, and never shown. */
export async function download(address: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
  let url: URL
  try {
    url = new URL(address)
  } catch {
    throw new UsageError('The address is not a URL')
  }
  const { username, password } = url
  url.username = ''
  url.password = ''
  const name = `${url.origin}${url.pathname}`
  const credentials = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64')
  const response = await fetch(url, {
    signal,
    headers: username || password ? { authorization: `Basic ${credentials}` } : {},
  }).catch((error) => {
    signal.throwIfAborted()
    const cause = (error as Error).cause as NodeJS.ErrnoException | undefined
    throw new Error(`Cannot fetch ${name}: ${cause?.code ?? cause?.message ?? (error as Error).message}`, {
      cause: error,
    })
  })
  if (!response.ok || !response.body) {
    await response.body?.cancel()
    throw new Error(`Cannot fetch ${name}: the server answers ${response.status}`)
  }
  return response.body as unknown as AsyncIterable<Uint8Array>
}

const HEAD_BYTES = 512
const MAX_TEXT_BYTES = 16 * 1024 * 1024

/** A tar, compressed or not, or else a text: what it is, is seen by its first bytes, as docker does for `build -`. */
export async function tarOrText(
  source: AsyncIterable<Uint8Array>,
): Promise<{ readonly tar: AsyncIterable<Uint8Array> } | { readonly text: string }> {
  const pieces = source[Symbol.asyncIterator]()
  const head: Uint8Array[] = []
  let length = 0
  while (length < HEAD_BYTES) {
    const { value, done } = await pieces.next()
    if (done) break
    head.push(value)
    length += value.length
  }
  if (isArchive(Buffer.concat(head))) return { tar: rejoined(head, pieces) }
  for (;;) {
    const { value, done } = await pieces.next()
    if (done) return { text: Buffer.concat(head).toString('utf8') }
    head.push(value)
    length += value.length
    if (length > MAX_TEXT_BYTES) throw new UsageError('The Dockerfile is longer than 16 MiB')
  }
}

async function* rejoined(
  head: readonly Uint8Array[],
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  yield* head
  yield* { [Symbol.asyncIterator]: () => rest }
}

/** gzip, bzip2, xz, zstd */
const MAGICS = ['1f8b', '425a68', 'fd377a585a00', '28b52ffd']

function isArchive(head: Buffer): boolean {
  const start = head.subarray(0, 6).toString('hex')
  if (MAGICS.some((magic) => start.startsWith(magic))) return true
  return head.length >= HEAD_BYTES && isTarHeader(head)
}

/** Old tars have no magic, but every header has the sum of its bytes in it, the sum's own field counted as spaces. */
function isTarHeader(head: Buffer): boolean {
  const told = Number.parseInt(
    head
      .subarray(148, 156)
      .toString('latin1')
      .replace(/[\0 ]+$/, '')
      .trim(),
    8,
  )
  let sum = 0
  for (const [index, byte] of head.subarray(0, HEAD_BYTES).entries()) sum += index >= 148 && index < 156 ? 0x20 : byte
  return told === sum
}
