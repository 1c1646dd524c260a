/** Waiting for TCP ports: the container's own `listen` calls are told, so it needs no shell, no tools and no polling. */

import { MayflyError } from '../engine/errors.js'
import { AbstractWaitStrategy, type WaitControl, type WaitTarget } from './strategy.js'

/** See `Wait.forListeningPorts`. */
export class ListeningPortsWaitStrategy extends AbstractWaitStrategy {
  /** None: all that are exposed. */
  protected readonly ports: readonly number[]
  protected override readonly what: string

  constructor(ports: readonly number[] = []) {
    super()
    for (const port of ports) {
      if (Number.isInteger(port) && port >= 1 && port <= 65_535) continue
      throw new MayflyError('INVALID_OPTION', `ports: expected numbers from 1 to 65535, got ${String(port)}`, {
        field: 'ports',
        value: port,
      })
    }
    this.ports = ports
    this.what = ports.length > 0 ? `port ${ports.join(', ')}` : 'its ports'
  }

  protected override async check(target: WaitTarget, { signal }: WaitControl): Promise<void> {
    const exposed = target.exposedPorts.filter(({ protocol }) => protocol === 'tcp').map(({ container }) => container)
    const ports = this.ports.length > 0 ? this.ports : exposed
    await Promise.all(ports.map((port) => target.container.waitForPort(port, { signal })))
  }

  protected override hint({ container, exposedPorts }: WaitTarget): string {
    const wanted = this.ports.length > 0 ? this.ports : exposedPorts.map((port) => port.container)
    const open = container.listeningPorts()
    const local = open.filter(({ port, address }) => wanted.includes(port) && /^(127\.|::1$)/.test(address))
    if (local.length > 0) {
      const list = local.map(({ address, port }) => `${address}:${port}`).join(', ')
      return `something listens on ${list} only, which nobody outside the container can reach`
    }
    if (open.length === 0) return 'it listens on no port at all'
    return `it listens on ${[...new Set(open.map(({ port }) => port))].join(', ')}`
  }
}
