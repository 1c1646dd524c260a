import fc from 'fast-check'
import { expect, test } from 'vitest'
import { FrameReader } from '../../src/engine/frames.js'

function frame(stream: number, time: bigint, data: Buffer): Buffer {
  const header = Buffer.alloc(16)
  header[0] = stream
  header.writeUInt32LE(data.length, 4)
  header.writeBigUInt64LE(time, 8)
  return Buffer.concat([header, data])
}

/** Everything a reader was told, with pieces of one frame put together again. */
function read(chunks: Buffer[]) {
  const told = { replies: [] as unknown[], notices: [] as unknown[], output: ['', '', ''], times: [] as bigint[] }
  const reader = new FrameReader({
    reply: (reply) => told.replies.push(reply),
    data: (stream, piece, time) => {
      expect(piece.length).toBeGreaterThan(0)
      told.output[stream] += piece.toString('latin1')
      told.times.push(time())
    },
    notice: (notice) => told.notices.push(notice),
  })
  for (const chunk of chunks) reader.feed(chunk)
  return told
}

const STREAM = Buffer.concat([
  Buffer.from('{"seq":1,"ok":true}\n'),
  frame(1, 5n, Buffer.from('out')),
  frame(2, 6n, Buffer.from('err')),
  frame(1, 7n, Buffer.alloc(0)),
  frame(1, 2n ** 63n, Buffer.from('more\n')),
  frame(3, 8n, Buffer.from('{"code":3}')),
])

test('reads reply, frames and notice from one chunk', () => {
  const told = read([STREAM])
  expect(told.replies).toEqual([{ seq: 1, ok: true }])
  expect(told.output).toEqual(['', 'outmore\n', 'err'])
  expect(told.times).toEqual([5n, 6n, 2n ** 63n])
  expect(told.notices).toEqual([{ code: 3 }])
})

test('reads the same however the bytes are cut', () => {
  const whole = read([STREAM])
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: STREAM.length }), { maxLength: 30 }), (cuts) => {
      const ends = [...cuts.sort((a, b) => a - b), STREAM.length]
      const chunks = ends.map((end, index) => STREAM.subarray(index === 0 ? 0 : ends[index - 1]!, end))
      const { times: _, ...told } = read(chunks)
      const { times: __, ...expected } = whole
      expect(told).toEqual(expected)
    }),
  )
})

test('refuses a reply line without end', () => {
  const reader = new FrameReader({ reply: () => {} })
  expect(() => {
    for (let i = 0; i < 20; i++) reader.feed(Buffer.alloc(100_000, 0x61))
  }).toThrow('line without end')
})
