/** Ports of containers as people write them. */

import type { PublishedPortFact } from './backends/backend.js'
import { MayflyError } from './engine/errors.js'
import { type Check, integer, oneOf, optional, refuse, sparse, string } from './engine/launch/check.js'
import type { PublishedPort } from './engine/options.js'

/** A port of the container and the port of the host that leads to it. */
export interface PortWithBinding {
  readonly container: number
  readonly host: number
  readonly protocol?: 'tcp' | 'udp'
  /** Address of the host. @default 127.0.0.1 and ::1 */
  readonly hostIp?: string
}

/** A port to expose: `8080`, `'53/udp'`, or with the host's port. The host's is a free one unless given. */
export type PortWithOptionalBinding = number | `${number}` | `${number}/${'tcp' | 'udp'}` | PortWithBinding

const number = integer(1, 65_535)
/** In testcontainers the call alone is enough. */
const KEEP = ', and use what that returns: it changes nothing itself'
const shape = sparse({
  container: number,
  host: number,
  protocol: optional(oneOf('tcp', 'udp')),
  hostIp: optional(string),
}) as unknown as Check<PublishedPort>

/** In the form of a container's spec. Throws INVALID_OPTION. */
export const portToExpose: Check<PublishedPort> = (value, field) => {
  if (typeof value === 'object' && value !== null) return Object.freeze({ protocol: 'tcp', ...shape(value, field) })
  return Object.freeze(parsePort(value, field))
}

/** `80` and `'80/udp'`. Throws INVALID_OPTION. */
export function parsePort(value: unknown, field: string): { container: number; protocol: 'tcp' | 'udp' } {
  if (typeof value === 'number') return { container: number(value, field), protocol: 'tcp' }
  const [, digits, protocol = 'tcp'] = /^(\d{1,5})(?:\/(tcp|udp))?$/i.exec(string(value, field)) ?? []
  if (digits === undefined) return refuse(field, value, "expected a port such as 80 or '53/udp'")
  return { container: number(Number(digits), field), protocol: protocol.toLowerCase() as 'tcp' | 'udp' }
}

/** The host's port for one of the container's. Throws PORT_NOT_EXPOSED. */
export function mappedPort(
  ports: readonly PublishedPortFact[],
  name: string,
  port: number | string,
  protocol?: string,
): number {
  const wanted = parsePort(typeof port === 'number' && protocol ? `${port}/${protocol}` : port, 'port')
  const found = ports.find((one) => one.container === wanted.container && one.protocol === wanted.protocol)
  if (found) return found.host
  const known = [...new Set(ports.map((one) => `${one.container}/${one.protocol}`))].join(', ') || 'none'
  const text = `${wanted.container}/${wanted.protocol}`
  const other = ports.find((one) => one.container === wanted.container)
  const hint = other
    ? `did you mean '${other.container}/${other.protocol}'?`
    : `add withExposedPorts(${wanted.protocol === 'tcp' ? wanted.container : `'${text}'`}) to its definition${KEEP}`
  throw new MayflyError('PORT_NOT_EXPOSED', `Port ${text} of "${name}" is not exposed (exposed: ${known})`, {
    container: name,
    value: text,
    hint,
  })
}

/** Throws PORT_NOT_EXPOSED when there is none. */
export function firstMappedPort(ports: readonly PublishedPortFact[], name: string): number {
  const [first] = ports
  if (first) return first.host
  throw new MayflyError('PORT_NOT_EXPOSED', `"${name}" exposes no port`, {
    container: name,
    hint: `add withExposedPorts(…) to its definition${KEEP}`,
  })
}
