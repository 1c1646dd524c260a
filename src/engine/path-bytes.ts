/**
 * File names as strings. The kernel's names are bytes, nearly always UTF-8; what is not valid UTF-8 must survive the way through a
 * string and back. Such a byte becomes a lone low surrogate, U+DC80 to U+DCFF, which valid UTF-8 never gives (Python's
 * `surrogateescape`, PEP 383).
 */

const ESCAPE = 0xdc00
const REPLACEMENT = '\ufffd'

/** The string for these bytes. Any bytes; {@link encodePath} gives them back exactly. */
export function decodePath(bytes: Buffer): string {
  const text = bytes.toString('utf8')
  if (!text.includes(REPLACEMENT)) return text
  let escaped = ''
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes, at)
    escaped += length ? bytes.toString('utf8', at, at + length) : String.fromCharCode(ESCAPE + bytes[at]!)
    at += length || 1
  }
  return escaped
}

/** The bytes of a string that {@link decodePath} made, or of any other. */
export function encodePath(text: string): Buffer {
  if (!hasEscapes(text)) return Buffer.from(text)
  const parts = text.split(/([\udc80-\udcff])/u)
  return Buffer.concat(
    parts.map((part) => {
      const code = part.length === 1 ? part.charCodeAt(0) : 0
      return code >= ESCAPE + 0x80 && code <= ESCAPE + 0xff ? Buffer.of(code - ESCAPE) : Buffer.from(part)
    }),
  )
}

/** Whether the string stands for bytes that are not UTF-8. */
export function hasEscapes(text: string): boolean {
  return /[\udc80-\udcff]/u.test(text) // with the u flag, the second half of a pair does not match
}

/** Length of the well-formed UTF-8 sequence that begins here, 0 when there is none. */
function sequenceLength(bytes: Buffer, at: number): number {
  const first = bytes[at]!
  const length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0
  if (!length || at + length > bytes.length) return 0
  const piece = bytes.subarray(at, at + length)
  return Buffer.from(piece.toString('utf8')).equals(piece) ? length : 0 // overlong forms and surrogates do not come back
}
