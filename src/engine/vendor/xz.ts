/** xz in WebAssembly: several streams in a row, integrity checks. Bundled into the package and loaded when needed. */

import { ReadableStream } from 'node:stream/web'
import * as exported from 'xz-decompress'

// CommonJS whose names Node cannot see: as a module it has a default export only.
const { XzReadableStream } = ('default' in exported ? exported.default : exported) as typeof exported

/** Left before its end, it must be told by `return()`, as `for await` does: streams are decoded one after the other. */
export async function* unxz(source: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const first = await source.next()
  if (first.done) throw new Error('it is empty') // the decoder would look into nothing
  const compressed = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(first.value),
    pull: async (controller) => {
      const next = await source.next()
      if (next.done) controller.close()
      else controller.enqueue(next.value)
    },
  })
  yield* new XzReadableStream(compressed as never) as unknown as AsyncIterable<Uint8Array>
}
