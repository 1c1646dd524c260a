/** Ports of this machine that containers may reach. */

import type { Backend } from './backends/backend.js'
import { currentBackend } from './backends/current.js'
import { integer, list } from './engine/launch/check.js'

const portsOf = list(integer(1, 65_535))
/** Names of this machine inside containers. */
const HOST_NAMES = ['host.testcontainers.internal', 'host.mayfly.internal']

let isExposed = false

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
    isExposed = true
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
  if (ports.length > 0) await backend.exposeHostPorts(ports, { signal })
  if (ports.length === 0 && !isExposed) return {}
  return Object.fromEntries(HOST_NAMES.map((name) => [name, 'host-gateway']))
}
