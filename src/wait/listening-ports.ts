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
    this.what = describePorts(ports)
  }

  override waitUntilReady(target: WaitTarget, control: WaitControl): Promise<void> {
    if (this.ports.length > 0) return super.waitUntilReady(target, control)
    const exposed = target.exposedPorts.filter(({ protocol }) => protocol === 'tcp').map(({ container }) => container)
    if (exposed.length === 0) return Promise.resolve()
    return this.with({ ports: exposed, what: describePorts(exposed) }).waitUntilReady(target, control)
  }

  protected override async check(target: WaitTarget, { signal }: WaitControl): Promise<void> {
    await Promise.all(this.ports.map((port) => target.container.waitForPort(port, { signal })))
  }

  protected override hint({ container }: WaitTarget): string {
    const open = container.listeningPorts()
    const local = open.filter(({ port, address }) => this.ports.includes(port) && /^(127\.|::1$)/.test(address))
    if (local.length > 0) {
      const list = local.map(({ address, port }) => `${address}:${port}`).join(', ')
      return `something listens on ${list} only, which nobody outside the container can reach: tell it to listen on 0.0.0.0`
    }
    if (open.length === 0) return 'it listens on no port at all; if it needs longer, withStartupTimeout(milliseconds)'
    const missing = this.ports.filter((port) => !open.some((one) => one.port === port))
    return `it listens on ${[...new Set(open.map(({ port }) => port))].join(', ')}, and not on ${missing.join(', ')}`
  }
}

function describePorts(ports: readonly number[]): string {
  return ports.length > 1 ? `ports ${ports.join(', ')}` : `port ${ports.join()}`
}
