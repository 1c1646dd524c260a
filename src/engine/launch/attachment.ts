/** A container's place on a network, and the names that networks, volumes and hosts may have. */

import { isIP } from 'node:net'
import { type Check, defaulted, list, optional, refuse, shape, string } from './check.js'
import type { CompleteAttachment } from './complete.js'

/** Id and name of the network that every engine has. */
export const DEFAULT_NETWORK = 'bridge'

/** Labels of letters, digits, `-` and (as tests have them) `_`; hostname(7) allows 64 bytes in all. */
const LABELS = /^[a-z\d_]([\w-]{0,61}[a-z\d_])?(\.[a-z\d_]([\w-]{0,61}[a-z\d_])?)*$/i

/** A name of the name system. */
export function domain(what: string, most: number): Check<string> {
  return (value, field) => {
    const text = string(value, field)
    if (text.length > most) return refuse(field, text, `expected at most ${most} characters`)
    return LABELS.test(text) ? text : refuse(field, text, `expected ${what} of letters, digits and hyphens`)
  }
}

export const address: Check<string> = (value, field) =>
  isIP(string(value, field)) ? (value as string) : refuse(field, value, 'expected an IP address')

const addressOf =
  (family: 4 | 6): Check<string> =>
  (value, field) => {
    const text = string(value, field)
    // A zone is a link of the machine that reads it.
    return isIP(text) === family && !text.includes('%')
      ? text
      : refuse(field, value, `expected an IPv${family} address`)
  }

export const ipv4Address = addressOf(4)
export const ipv6Address = addressOf(6)

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/

/** As Docker names containers, networks and volumes. */
export const referenceName: Check<string> = (value, field) => {
  const text = string(value, field)
  if (text.length > 253) return refuse(field, text, 'expected at most 253 characters')
  return NAME.test(text) ? text : refuse(field, text, 'expected a letter or digit, then letters, digits, _, . and -')
}

/** A name for a volume, which is a directory's too. */
export const volumeName: Check<string> = (value, field) => {
  const name = referenceName(value, field)
  return name.length < 2 ? refuse(field, name, 'expected at least two characters, as with Docker') : name
}

const EMPTY_LIST: readonly never[] = Object.freeze([])

const attachmentShape = shape({
  network: referenceName,
  aliases: defaulted(list(domain('a name', 253)), EMPTY_LIST),
  address: optional(ipv4Address),
  ipv6Address: optional(ipv6Address),
})

/** A network by name or id, or with names and an address on it. */
export const attachment: Check<CompleteAttachment> = (value, field) =>
  typeof value === 'string' ? attachmentShape({ network: value }, field) : attachmentShape(value, field)
