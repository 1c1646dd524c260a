/**
 * A call as bytes: JSON, and behind it what is bytes in it. Not `v8.serialize`: in Node 20 that keeps hold of what it has written, and
 * with it of the whole context of a test file of Jest.
 *
 *     u32 length of the JSON | JSON | bytes
 */

import { MayflyError } from '../engine/errors.js'

export interface Call {
  readonly secret: string
  /** Of the container or network; '' is the backend. */
  readonly id: string
  readonly method: string
  readonly args: readonly unknown[]
}

/** Of the length. */
const LENGTH_BYTES = 4
/** Stand for what JSON has not: bytes by where they begin and end, and a time by its milliseconds. */
const BYTES = '$bytes'
const TIME = '$time'

/** Throws NOT_SUPPORTED, with the option, for what cannot be told to another process. */
export function packCall(call: Call): Buffer {
  const pieces: Uint8Array[] = []
  let size = 0
  const text = JSON.stringify(call, function replace(this: Record<string, unknown>, key: string, value: unknown) {
    // As it was before its toJSON.
    const original = this[key]
    if (original instanceof Date) return { [TIME]: original.getTime() }
    if (isImpossible(original)) throw notTold(key, original)
    if (!(original instanceof Uint8Array || Buffer.isBuffer(original))) return value
    pieces.push(original)
    size += original.length
    return { [BYTES]: [size - original.length, size] }
  })
  const json = Buffer.from(text)
  const length = Buffer.alloc(LENGTH_BYTES)
  length.writeUInt32LE(json.length)
  return Buffer.concat([length, json, ...pieces])
}

/** Throws for what is no call. */
export function unpackCall(packed: Buffer): Call {
  const end = LENGTH_BYTES + packed.readUInt32LE()
  const bytes = packed.subarray(end)
  return JSON.parse(packed.toString('utf8', LENGTH_BYTES, end), (_key, value) => {
    if (Array.isArray(value?.[BYTES])) return bytes.subarray(value[BYTES][0], value[BYTES][1])
    return typeof value?.[TIME] === 'number' ? new Date(value[TIME]) : value
  })
}

/** JSON would leave it out, or make something else of it. */
function isImpossible(value: unknown): boolean {
  if (typeof value === 'number') return !Number.isFinite(value)
  return typeof value === 'function' || typeof value === 'symbol' || typeof value === 'bigint'
}

function notTold(field: string, value: unknown): MayflyError {
  const what = typeof value === 'number' ? String(value) : `a ${typeof value}`
  return new MayflyError('NOT_SUPPORTED', `${field}: ${what} cannot be told to the process of the shared network`, {
    field,
    value,
    hint: 'hooks, waits and modifiers of the definition run here; what the container is made of has to be plain data',
  })
}
