import { expect, test } from 'vitest'
import { firstEntry, packTar, type TarEntry } from '../../src/tar.js'

const MIB = 1024 * 1024

/** The archive in pieces of this size. */
async function* inPieces(pieceBytes: number, ...entries: TarEntry[]): AsyncGenerator<Uint8Array> {
  const pieces: Uint8Array[] = []
  for await (const piece of packTar(entries)) pieces.push(piece)
  const tar = Buffer.concat(pieces)
  for (let at = 0; at < tar.length; at += pieceBytes) yield tar.subarray(at, at + pieceBytes)
}

const file = (content: Uint8Array): TarEntry => ({
  path: 'data',
  type: 'file',
  mode: 0o644,
  size: content.length,
  content: () => [content],
})

test.each([1, 100, 512, 700, 4096])('finds the first file in pieces of %i bytes', async (pieceBytes) => {
  const content = Buffer.from('0123456789'.repeat(150))
  const entry = await firstEntry(inPieces(pieceBytes, file(content), file(Buffer.from('another'))))
  expect(entry).toEqual({ type: 'file', link: '', contents: content })
  const start = await firstEntry(inPieces(pieceBytes, file(content)), 7)
  expect(start.contents).toEqual(Buffer.from('0123456'))
})

test.each([1, 100, 512, 700, 4096])('finds a long link in pieces of %i bytes', async (pieceBytes) => {
  const link = `/${'a'.repeat(200)}/ä`
  const entry = await firstEntry(inPieces(pieceBytes, { path: 'here', type: 'symlink', mode: 0o777, link }))
  expect(entry).toEqual({ type: 'link', link, contents: Buffer.alloc(0) })
})

test('refuses an archive that ends within its first file', async () => {
  const cut = async function* () {
    for await (const piece of inPieces(1024, file(Buffer.alloc(4096)))) {
      yield piece
      return
    }
  }
  await expect(firstEntry(cut())).rejects.toThrow('ends before')
})

test('reads a large file in a time that grows with its size, not with the square of it', async () => {
  const content = Buffer.alloc(64 * MIB)
  for (let at = 0; at < content.length; at += MIB) content.writeUInt32LE(at, at)
  const begun = performance.now()
  const { contents } = await firstEntry(inPieces(64 * 1024, file(content)))
  // A fraction of a second; at each piece put together anew, half a minute.
  expect(performance.now() - begun).toBeLessThan(10_000)
  expect(content.equals(contents)).toBe(true)
})
