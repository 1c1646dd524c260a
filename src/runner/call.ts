/**
 * A call as bytes: JSON, and behind it what is bytes in it. Not `v8.serialize`: in Node 20 that keeps hold of what it has written, and
 * with it of the whole context of a test file of Jest.
 *
 *     u32 length of all that follows | u32 length of the JSON | JSON | bytes
 */

export interface Call {
  readonly secret: string
  /** Of the container. */
  readonly id: string
  readonly method: string
  readonly args: readonly unknown[]
}

/** Of each length. */
export const LENGTH_BYTES = 4
/** Stand for what JSON has not: bytes by where they begin and end, and a time by its milliseconds. */
const BYTES = '$bytes'
const TIME = '$time'

export function packCall(call: Call): Buffer {
  const pieces: Uint8Array[] = []
  let size = 0
  const text = JSON.stringify(call, function replace(this: Record<string, unknown>, key: string, value: unknown) {
    // As it was before its toJSON.
    const original = this[key]
    if (original instanceof Date) return { [TIME]: original.getTime() }
    if (!(original instanceof Uint8Array || Buffer.isBuffer(original))) return value
    pieces.push(original)
    size += original.length
    return { [BYTES]: [size - original.length, size] }
  })
  const json = Buffer.from(text)
  return Buffer.concat([lengthOf(LENGTH_BYTES + json.length + size), lengthOf(json.length), json, ...pieces])
}

/** `packed` is without the first length. Throws for what is no call. */
export function unpackCall(packed: Buffer): Call {
  const end = LENGTH_BYTES + packed.readUInt32LE()
  const bytes = packed.subarray(end)
  return JSON.parse(packed.toString('utf8', LENGTH_BYTES, end), (_key, value) => {
    if (Array.isArray(value?.[BYTES])) return bytes.subarray(value[BYTES][0], value[BYTES][1])
    return typeof value?.[TIME] === 'number' ? new Date(value[TIME]) : value
  })
}

function lengthOf(size: number): Buffer {
  const length = Buffer.alloc(LENGTH_BYTES)
  length.writeUInt32LE(size)
  return length
}
