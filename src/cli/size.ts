/** Docker's notation for bytes. */
import { UsageError } from './usage-error.js'

const UNITS: Readonly<Record<string, number>> = {
  b: 1,
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  t: 1024 ** 4,
  p: 1024 ** 5,
}

/**
 * Bytes of `64m`, `1g`, `1.5GiB`, `512kb` or `1048576`: powers of 1024, as Docker counts.
 *
 * Throws {@link UsageError} that names the flag.
 */
export function parseSize(flag: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([bkmgtp])(?:i?b)?)?$/i.exec(text.trim())
  const unit = UNITS[(match?.[2] ?? 'b').toLowerCase()]
  const bytes = match && unit ? Math.floor(Number(match[1]) * unit) : Number.NaN
  if (!Number.isSafeInteger(bytes)) {
    throw new UsageError(`${flag} must be a size such as 64m or 1g, not "${text}"`)
  }
  return bytes
}

/** As {@link parseSize}, where -1 means unlimited. */
export function parseSizeOrUnlimited(flag: string, text: string): number {
  return text.trim() === '-1' ? -1 : parseSize(flag, text)
}

/** A decimal number; whole unless told otherwise. The engine checks its range. */
export function parseNumber(flag: string, text: string, { fraction = false } = {}): number {
  const value = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)$/.test(text) ? Number(text) : Number.NaN
  if (!(fraction ? Number.isFinite(value) : Number.isSafeInteger(value))) {
    throw new UsageError(`${flag} must be a ${fraction ? '' : 'whole '}number, not "${text}"`)
  }
  return value
}
