/** What node and the warden say to each other, as types (native/PROTOCOL.md). */

import { MayflyError } from './errors.js'

/** A reply that says what went wrong. */
export interface Refusal {
  readonly ok: false
  readonly step: string
  readonly subject: string
  readonly errno: string
  readonly message: string
}

/** A reply to one request; which fields an `ok` one has depends on the verb. */
export type Reply = ({ readonly ok: true } & LaunchFacts) | Refusal

/** Facts of a container that was made or started. */
export interface LaunchFacts {
  /** '' or absent where it has none. */
  readonly address?: string
  readonly gateway?: string
  readonly ports?: readonly PublishedFact[]
  /** Absent where it is on the default network alone, or on none. */
  readonly networks?: readonly LinkFact[]
  readonly pid?: number
  /** Nanoseconds since the epoch. */
  readonly startedAt?: string
}

/** A container's place on one network. */
export interface LinkFact {
  readonly network: string
  readonly address: string
  readonly gateway: string
  /** Absent on a network without IPv6. */
  readonly ipv6?: { readonly address: string; readonly gateway: string; readonly prefixLength: number }
}

/** Facts of a network that was made. */
export interface NetworkReply {
  readonly ok: true
  readonly subnet: string
  readonly gateway: string
  readonly ipv6?: { readonly subnet: string; readonly gateway: string }
}

/** A published port as the warden opened it. */
export interface PublishedFact {
  readonly container: number
  readonly protocol: 'tcp' | 'udp'
  readonly ip: string
  readonly host: number
}

/** The first line of a session. */
export interface ReadyEvent {
  readonly event: 'ready'
  /** Process ids of the warden and of its launcher, as the host numbers them. */
  readonly pid: number
  readonly launcher: number
  readonly version: string
  /** The session's directory. */
  readonly session: string
  readonly rootless: boolean
  readonly ids: 'root' | 'single' | 'range'
  readonly cgroups: {
    readonly mode: 'v1' | 'v2' | 'hybrid' | 'none'
    readonly controllers?: Readonly<Record<string, string>>
  }
  readonly subnet: string
  readonly gateway: string
  readonly egress: boolean
  readonly hostReachable: boolean
  readonly warnings: readonly string[]
}

/** The first line of a session that could not be. */
export interface FailedEvent extends Omit<Refusal, 'ok'> {
  readonly event: 'failed'
}

/** A container's first process has ended. */
export interface ExitEvent {
  readonly event: 'exit'
  readonly container: string
  readonly code?: number
  readonly signal?: number
  readonly oom: boolean
  readonly startedAt: string
  readonly finishedAt: string
  readonly logBytes: number
  /** Every trace but the log is gone. */
  readonly removed: boolean
}

/** A process of a container listens. */
export interface ListenEvent {
  readonly event: 'listen'
  readonly container: string
  readonly port: number
  readonly address: string
  readonly family: 4 | 6
}

/** Something that does not end the container but that somebody should know. */
export interface WarningEvent {
  readonly event: 'warning'
  readonly container?: string
  readonly message: string
}

export type WardenEvent = ReadyEvent | FailedEvent | ExitEvent | ListenEvent | WarningEvent

/** Limits of a request, the warden's. */
const MAX_REQUEST_BYTES = 8 * 1024 * 1024
const MAX_REQUEST_WORDS = 65_536

/**
 * One request as it goes over the socket.
 *
 * A word with a NUL byte would smuggle in further words, so it throws, also where the options were checked before.
 */
export function encodeRequest(verb: string, sequence: number, pairs: readonly string[]): string {
  let payload = `${verb}\0${sequence}\0`
  for (const [index, word] of pairs.entries()) {
    if (word.includes('\0')) {
      const field = pairs[index - (index % 2)]!
      throw new MayflyError('INVALID_OPTION', `${field}: must not hold a NUL byte`, { field, value: word })
    }
    payload += `${word}\0`
  }
  const length = Buffer.byteLength(payload)
  if (length > MAX_REQUEST_BYTES || pairs.length + 2 > MAX_REQUEST_WORDS) {
    throw new MayflyError(
      'ARGUMENTS_TOO_LONG',
      `Options of ${length} bytes in ${pairs.length} words are too long: at most ${MAX_REQUEST_BYTES} bytes in ${MAX_REQUEST_WORDS} words`,
      { hint: 'pass large data as a file: a bind mount or copyIn()' },
    )
  }
  return `${length}\0${payload}`
}
