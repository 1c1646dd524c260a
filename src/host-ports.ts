/** Ports of this machine that containers may reach. */

import type { Backend } from './backends/backend.js'
import { currentBackend } from './backends/current.js'
import { integer, list } from './engine/launch/check.js'

const portsOf = list(integer(1, 65_535))
/** Names of this machine inside containers. */
const HOST_NAMES = ['host.testcontainers.internal', 'host.mayfly.internal']

/** For all containers of this process. */
const exposed = new Set<number>()
/** What each backend knows of. */
const told = new WeakMap<Backend, Set<number>>()

/** Settings for all containers of this process. */
// biome-ignore lint/complexity/noStaticOnlyClass: testcontainers has it so, and users know it
export class TestContainers {
  /**
   * Lets containers that are started from now on reach these ports of this machine, also those that listen on its loopback address
   * only. Inside, the machine is `host.testcontainers.internal` or `host.mayfly.internal`.
   *
   * @example
   * import { GenericContainer, TestContainers } from 'mayfly'
   *
   * await TestContainers.exposeHostPorts(8000)
   * await using container = await new GenericContainer('alpine:3.22').withCommand(['sleep', '60']).start()
   * await container.exec(['wget', '-qO-', 'http://host.testcontainers.internal:8000'])
   */
  static async exposeHostPorts(...ports: readonly number[]): Promise<void> {
    const checked = portsOf(ports, 'ports')
    const backend = await currentBackend()
    await backend.exposeHostPorts(checked)
    for (const port of checked) exposed.add(port)
  }
}

/** Throws INVALID_OPTION. */
export function hostPorts(ports: readonly number[]): readonly number[] {
  return portsOf(ports, 'hostPorts')
}

/** Opens a container's own host ports. Resolves to its lines for /etc/hosts: names of this machine, if it may reach any port. */
export async function hostAccess(
  backend: Backend,
  ports: readonly number[],
  signal: AbortSignal,
): Promise<Readonly<Record<string, string>>> {
  // Those of the process, too: the container may be of another backend than the one that was told.
  const all = [...new Set([...exposed, ...ports])]
  if (all.length === 0) return {}
  const known = told.get(backend) ?? new Set()
  const others = all.filter((port) => !known.has(port))
  if (others.length > 0) await backend.exposeHostPorts(others, { signal })
  told.set(backend, new Set([...known, ...others]))
  return Object.fromEntries(HOST_NAMES.map((name) => [name, 'host-gateway']))
}
