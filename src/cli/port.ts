/** Docker's notation for published ports: `[host ip:][host port[-last]:]container port[-last][/protocol]`. */
import type { PublishedPort } from '../engine/options.js'
import { UsageError } from './usage-error.js'

const HINT = 'such as 8080:80, 80, 127.0.0.1:8080:80/udp, 127.0.0.1::80, [::1]:8080:80 or 8000-8003:80-83'

/** One `-p` may stand for several ports. Throws {@link UsageError}. */
export function parsePort(text: string): PublishedPort[] {
  const wrong = (why: string) => new UsageError(`--publish "${text}": ${why}`, HINT)
  const [addresses = '', protocol = 'tcp', ...rest] = text.split('/')
  if (rest.length > 0 || (protocol !== 'tcp' && protocol !== 'udp')) {
    throw wrong('the protocol must be tcp or udp')
  }
  const match = /^(?:(?:\[([^\]]*)\]|([^:[\]]*)):(?=[^:]*:))?(?:([^:]*):)?([^:]+)$/.exec(addresses)
  if (!match) throw wrong('not a port')
  const hostIp = match[1] ?? match[2]
  const container = parseRange(match[4] ?? '', wrong)
  // Docker has 0 for a free one as well.
  const host = match[3] && match[3] !== '0' ? parseRange(match[3], wrong) : undefined
  if (host && host.length !== container.length) {
    throw wrong(`${host.length} host ports cannot lead to ${container.length} container ports`)
  }
  return container.map((port, index) => ({
    container: port,
    ...(host ? { host: host[index] as number } : {}),
    ...(hostIp ? { hostIp } : {}),
    protocol,
  }))
}

function parseRange(text: string, wrong: (why: string) => UsageError): number[] {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text)
  const first = Number(match?.[1])
  const last = Number(match?.[2] ?? match?.[1])
  if (!match || first < 1 || last > 65535) throw wrong(`"${text}" is not a port from 1 to 65535`)
  if (last < first) throw wrong(`the range ${text} ends before it begins`)
  return Array.from({ length: last - first + 1 }, (_, index) => first + index)
}
