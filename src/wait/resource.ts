/**
 * Waiting for what the `wait-on` package can wait for, in its own notation. The package is an optional peer, loaded when it is used.
 *
 * Ports are those of the container where it exposes them: `tcp:5432` means the port of this host that leads to 5432.
 */

import { MayflyError } from '../engine/errors.js'
import { AbstractWaitStrategy, type WaitControl, type WaitTarget } from './strategy.js'

/** A resource as `wait-on` writes it, such as `tcp:5432` or `http-get://localhost:8080/health`. */
export type Resource =
  | `tcp:${string}`
  | `http:${string}`
  | `https:${string}`
  | `http-get:${string}`
  | `https-get:${string}`
  | `socket:${string}`
  | `file:${string}`

/** Options of the `wait-on` package. */
export interface ResourceOptions {
  /** Further options of `wait-on`, such as `headers`, `auth` or `strictSSL`. */
  readonly [name: string]: unknown
}

type WaitOn = (options: object) => Promise<void>

/** `wait-on` cannot be told to stop, so it runs in rounds: none outlives the wait by more than this. */
const ROUND_MS = 500
const INTERVAL_MS = 25
/** Only a variable keeps bundlers from looking for the package. */
const PACKAGE: string = 'wait-on'

/** See `Wait.on`. */
export class ResourceWaitStrategy extends AbstractWaitStrategy {
  protected readonly resource: string
  protected readonly options: ResourceOptions
  protected override readonly what: string
  protected last: string | undefined = undefined

  constructor(resource: Resource, options: ResourceOptions = {}) {
    super()
    // An array of one resource looks like it as a text.
    const given: unknown = resource
    if (typeof given !== 'string' || !/^(tcp|http|https|http-get|https-get|socket|file):/.test(given)) {
      throw new MayflyError(
        'INVALID_OPTION',
        `resource: expected one such as 'tcp:5432', got ${typeof given === 'string' ? JSON.stringify(given) : typeof given}`,
        {
          field: 'resource',
          value: resource,
          hint: 'known are tcp:, http:, https:, http-get:, https-get:, socket: and file:',
        },
      )
    }
    this.resource = resource
    this.options = options
    this.what = resource.split('?')[0]!
  }

  protected override async check(target: WaitTarget, { signal }: WaitControl): Promise<void> {
    const waitOn = await loadWaitOn()
    const resource = toHostPorts(this.resource, target)
    const port = containerPort(this.resource, target)
    if (port !== undefined) await target.container.waitForPort(port, { signal })
    const settings = {
      interval: INTERVAL_MS,
      window: INTERVAL_MS,
      ...this.options,
      resources: [resource],
      timeout: ROUND_MS,
    }
    for (;;) {
      try {
        await waitOn(settings)
        return
      } catch (error) {
        this.last = (error as Error).message
        signal.throwIfAborted()
      }
    }
  }

  protected override hint(): string | undefined {
    return this.last
  }
}

async function loadWaitOn(): Promise<WaitOn> {
  try {
    const loaded = await import(PACKAGE)
    return loaded.default ?? loaded
  } catch (error) {
    const message = 'Wait.on needs the package wait-on, which is not installed'
    throw new MayflyError('WAIT_IMPOSSIBLE', message, { hint: 'npm install --save-dev wait-on' }, { cause: error })
  }
}

const HOST_AND_PORT =
  /^((?:tcp|https?(?:-get)?):(?:\/\/)?)(?:(localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\]):)?(\d{1,5})(?=\/|\?|$)/

/** The exposed port of the container that the resource is on. */
function containerPort(resource: string, { exposedPorts }: WaitTarget): number | undefined {
  const port = Number(HOST_AND_PORT.exec(resource)?.[3])
  return exposedPorts.some(({ container, protocol }) => container === port && protocol === 'tcp') ? port : undefined
}

/** @internal */
export function toHostPorts(resource: string, target: WaitTarget): string {
  const port = containerPort(resource, target)
  if (port === undefined) return resource
  return resource.replace(HOST_AND_PORT, (_all, scheme) => `${scheme}${target.getHost()}:${target.getMappedPort(port)}`)
}
