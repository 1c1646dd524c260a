/** Archives as the real programs compress them, and what is left of them after an accident. */

import { execFileSync, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import * as zlib from 'node:zlib'
import { describe, expect, test, vi } from 'vitest'
import { type Compression, compressionOf, decompress, unzstdInScript } from '../../../src/engine/store/decompress.js'
import { zstdFrames } from '../../../src/engine/store/zstd-frames.js'

/** Some of it can be compressed, some cannot, and it is longer than every buffer. */
const PLAIN = Buffer.concat([
  Buffer.alloc(1_500_000, 'all work and no play '),
  randomBytes(700_000),
  Buffer.alloc(3_000_000),
  randomBytes(50_000),
])

const has = (program: string) => spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined
const filter = (program: string, args: string[], input: Uint8Array = PLAIN) =>
  execFileSync(program, args, { input, maxBuffer: 64 * 1024 * 1024 })

const WRITERS: readonly (readonly [program: string, compression: Compression, args: string[]])[] = [
  ['gzip', 'gzip', ['-c']],
  ['pigz', 'gzip', ['-c']],
  ['zstd', 'zstd', ['-qc']],
  ['bzip2', 'bzip2', ['-c']],
  ['xz', 'xz', ['-c', '-1']],
]

async function* pieces(bytes: Uint8Array, size = 65_536): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function gather(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = []
  for await (const piece of source) all.push(piece)
  return Buffer.concat(all)
}

const sum = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const damaged = (compression: string) =>
  expect.objectContaining({
    code: 'ARCHIVE_INVALID',
    message: expect.stringContaining(`The archive is compressed with ${compression} and damaged: `),
  })

describe.each(WRITERS.filter(([program]) => has(program)))('%s', (program, compression, args) => {
  const packed = filter(program, args)

  test('is recognised and undone, in pieces of any size', async () => {
    expect(compressionOf(packed)).toBe(compression)
    for (const size of [1_009, 65_536, packed.length]) {
      expect(sum(await gather(decompress(pieces(packed, size))))).toBe(sum(PLAIN))
    }
  })

  test('tells how long it was', async () => {
    const onEnd = vi.fn()
    await gather(decompress(pieces(packed), undefined, { onEnd }))
    expect(onEnd).toHaveBeenCalledExactlyOnceWith({ compressed: packed.length, decompressed: PLAIN.length })
  })

  test('several in a row are one', async () => {
    const short = filter(program, args, Buffer.from('and more'))
    for (const size of [1, 65_536, 10_000_000]) {
      const all = gather(decompress(pieces(Buffer.concat([short, short, short]), size)))
      expect((await all).toString()).toBe('and moreand moreand more')
    }
    const all = await gather(decompress(pieces(Buffer.concat([packed, short]), 10_000_000)))
    expect(all.length).toBe(PLAIN.length + 8)
  })

  test('one that is cut off is an error', async () => {
    for (const length of [8, packed.length >> 1, packed.length - 9, packed.length - 1]) {
      const cut = packed.subarray(0, length)
      await expect(gather(decompress(pieces(cut), compression))).rejects.toThrow(damaged(compression))
    }
    await expect(gather(decompress(pieces(Buffer.alloc(0)), compression))).rejects.toThrow(damaged(compression))
  })

  test('a flipped bit is an error', async () => {
    const flipped = Buffer.from(packed)
    flipped[flipped.length >> 1]! ^= 16
    const result = gather(decompress(pieces(flipped)))
    // The decoder in script knows no check sums: there it is the digest that tells.
    if (compression === 'zstd' && !('createZstdDecompress' in zlib)) {
      expect(await result.then(sum, () => 'damaged')).not.toBe(sum(PLAIN))
    } else {
      await expect(result).rejects.toThrow(damaged(compression))
    }
  })

  test('something that follows it is an error', async () => {
    for (const more of [Buffer.from('something else'), Buffer.alloc(512), Buffer.alloc(300_000, 7)]) {
      if (compression === 'xz' && more[0] === 0) continue // the format has padding
      for (const all of [pieces(Buffer.concat([packed, more])), pieces(Buffer.concat([packed, more]), 10_000_000)]) {
        await expect(gather(decompress(all))).rejects.toThrow(damaged(compression))
      }
    }
  })

  test('a bomb ends at the limit', async () => {
    const bomb = filter(program, args, Buffer.alloc(60_000_000))
    let taken = 0
    const take = async () => {
      for await (const piece of decompress(pieces(bomb), compression, { maxBytes: 5_000_000, name: 'Layer x' })) {
        taken += piece.length
      }
    }
    await expect(take()).rejects.toThrow(
      expect.objectContaining({
        code: 'ARCHIVE_TOO_LARGE',
        message: 'Layer x is longer than the 5000000 bytes allowed once it is decompressed',
      }),
    )
    expect(taken).toBeLessThanOrEqual(5_000_000)
  })

  test('what the source throws is thrown, and a reader who leaves ends the source', async () => {
    const broken = new Error('the network is gone')
    const source = async function* () {
      yield* pieces(packed.subarray(0, 300_000))
      throw broken
    }
    await expect(gather(decompress(source()))).rejects.toBe(broken)
    let hasEnded = false
    const watched = async function* () {
      try {
        for (;;) yield* pieces(packed)
      } finally {
        hasEnded = true
      }
    }
    for await (const _ of decompress(watched(), compression)) break
    expect(hasEnded).toBe(true)
    expect(sum(await gather(decompress(pieces(packed))))).toBe(sum(PLAIN)) // and the next one works
  })
})

test('what is not compressed passes through, however short', async () => {
  for (const length of [0, 1, 5, 6, 7, 512]) {
    const plain = Buffer.alloc(length, 'x')
    expect(await gather(decompress(pieces(plain, 2)))).toEqual(plain)
  }
})

test('the limit holds for what is not compressed too', async () => {
  await expect(gather(decompress(pieces(Buffer.alloc(100)), 'none', { maxBytes: 99 }))).rejects.toThrow(/99 bytes/)
})

describe.runIf(has('zstd'))('zstd without help of Node (before 22.15)', () => {
  const inScript = (bytes: Uint8Array, size?: number) => gather(unzstdInScript(zstdFrames(pieces(bytes, size))))
  const packed = filter('zstd', ['-qc', '--check'])
  const skippable = Buffer.alloc(12)
  skippable.writeUInt32LE(0x184d2a53, 0)
  skippable.writeUInt32LE(4, 4)

  test.each([['-1'], ['-19'], ['--ultra', '-22', '--long=27'], ['--no-check'], ['--stream-size=5250000']])(
    'level %s',
    async (...args) => {
      expect(sum(await inScript(filter('zstd', ['-qc', ...args])))).toBe(sum(PLAIN))
    },
  )

  test('several frames, and some to be skipped', async () => {
    for (const size of [5, 65_536, 10_000_000]) {
      const short = filter('zstd', ['-qc'], Buffer.from('short'))
      const empty = filter('zstd', ['-qc'], Buffer.alloc(0))
      const all = Buffer.concat([skippable, short, skippable, empty, short, skippable])
      expect((await inScript(all, size)).toString()).toBe('shortshort')
      expect((await gather(decompress(pieces(all, size), 'zstd'))).toString()).toBe('shortshort')
    }
  })

  test('cut off, or followed by something else', async () => {
    await expect(inScript(packed.subarray(0, -1))).rejects.toThrow()
    await expect(inScript(packed.subarray(0, 1000))).rejects.toThrow()
    await expect(inScript(Buffer.concat([packed, Buffer.from('abcdef')]))).rejects.toThrow('something follows its end')
    await expect(inScript(Buffer.concat([packed, skippable.subarray(0, 9)]))).rejects.toThrow('it is cut off')
  })
})
