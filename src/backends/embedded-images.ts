/** Images for the embedded backend: those of the engine's store and of registries. */

import type { BuildEvent } from '../engine/build/events.js'
import type { Engine } from '../engine/engine.js'
import { MayflyError } from '../engine/errors.js'
import type { ImageConfig } from '../engine/image/config.js'
import { imageDefaults } from '../engine/launch/image.js'
import type { StoredImage } from '../engine/store/images.js'
import type { BuildRequest, EnsureImageOptions, HealthCheck, ImageFacts } from './backend.js'

const NANOSECONDS_PER_MS = 1_000_000

export class EmbeddedImages {
  readonly #engine: Engine

  constructor(engine: Engine) {
    this.#engine = engine
  }

  async find(reference: string): Promise<ImageFacts | undefined> {
    try {
      return toFacts(await this.#engine.images.get(reference))
    } catch (error) {
      if (error instanceof MayflyError && error.code === 'IMAGE_NOT_FOUND') return undefined
      throw error
    }
  }

  async ensure(reference: string, { pull, platform, signal }: EnsureImageOptions): Promise<ImageFacts> {
    const options = { ...(platform === undefined ? {} : { platform }), ...(signal ? { signal } : {}) }
    if (pull === 'always') return toFacts(await this.#engine.images.pull(reference, options))
    const request = { image: reference, pull, ...(platform === undefined ? {} : { platform }) }
    const known = this.#engine.images.recall(request)
    const { id, config } = known ?? (await this.#engine.images.resolve(request, signal ? { signal } : {}))
    return factsOf(id, config, undefined)
  }

  async build(request: BuildRequest): Promise<ImageFacts> {
    const { context, file, tag, target, platform, noCache, pull, labels, secrets, onLine, signal } = request
    const { image } = await this.#engine.images.build({
      context,
      tags: [tag],
      noCache,
      pull,
      labels,
      buildArgs: request.buildArgs,
      secrets: Object.fromEntries(Object.entries(secrets).map(([id, value]) => [id, { value }])),
      ...(file === undefined ? {} : { file }),
      ...(target === undefined ? {} : { target }),
      ...(platform === undefined ? {} : { platform }),
      ...(onLine ? { onEvent: (event) => tellLines(event, onLine) } : {}),
      ...(signal ? { signal } : {}),
    })
    if (request.temporary) await this.keepNoLonger(tag)
    return toFacts(image)
  }

  /** The name goes at the end of the session. */
  keepNoLonger(reference: string): Promise<void> {
    return this.#engine.images.forgetAtEnd(reference)
  }

  async remove(reference: string): Promise<void> {
    try {
      await this.#engine.images.remove(reference)
    } catch (error) {
      if (!(error instanceof MayflyError && error.code === 'IMAGE_NOT_FOUND')) throw error
    }
  }

  /** Forgets temporary names. What cannot be removed stays for `prune`. */
  close(): Promise<void> {
    return this.#engine.images.forgetTemporary()
  }
}

function toFacts(image: StoredImage): ImageFacts {
  return factsOf(image.id, image.config, image.addedAt)
}

function factsOf(id: string, { config = {} }: ImageConfig, arrivedAt: Date | undefined): ImageFacts {
  const exposedPorts = Object.keys(config.ExposedPorts ?? {}).map((text) => {
    const [port, protocol = 'tcp'] = text.split('/') as [string, ('tcp' | 'udp' | 'sctp')?]
    return { port: Number(port), protocol }
  })
  return {
    id,
    exposedPorts,
    healthCheck: toHealthCheck(config.Healthcheck),
    arrivedAt,
    labels: config.Labels ?? {},
    entrypoint: config.Entrypoint ?? [],
    command: config.Cmd ?? [],
    env: imageDefaults({ config }).env,
    user: config.User || '0',
  }
}

/** Times of an image are nanoseconds; 0 is the default. */
function toHealthCheck(check: NonNullable<ImageConfig['config']>['Healthcheck']): HealthCheck | undefined {
  if (!check?.Test || check.Test.length === 0) return undefined
  const milliseconds = (value: number | undefined) => (value ? value / NANOSECONDS_PER_MS : undefined)
  const times = {
    interval: milliseconds(check.Interval),
    timeout: milliseconds(check.Timeout),
    startPeriod: milliseconds(check.StartPeriod),
    retries: check.Retries || undefined,
  }
  const given = Object.entries(times).filter(([, value]) => value !== undefined)
  return { test: check.Test, ...Object.fromEntries(given) }
}

function tellLines(event: BuildEvent, onLine: (line: string) => void): void {
  if (event.type === 'started') onLine(`#${event.vertex} ${event.text}`)
  else if (event.type === 'cached') onLine(`#${event.vertex} CACHED`)
  else if (event.type === 'done') onLine(`#${event.vertex} DONE ${(event.durationMs / 1000).toFixed(1)}s`)
  else if (event.type === 'failed') onLine(`#${event.vertex} ERROR: ${event.error.message}`)
  else if (event.type === 'warning') onLine(`WARNING: ${event.message}`)
  else if (event.type === 'output') {
    for (const line of Buffer.from(event.data).toString().split('\n')) if (line) onLine(`#${event.vertex} ${line}`)
  }
}
