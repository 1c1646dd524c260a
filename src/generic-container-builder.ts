/** Images from Dockerfiles. */

import type { BuildRequest } from './backends/backend.js'
import { currentBackend } from './backends/current.js'
import { abortSignal, checkReference, flag, platformName, text, textsByName } from './checks.js'
import { optional, refuse, sparse } from './engine/launch/check.js'
import type { GenericContainer } from './generic-container.js'
import type { ImagePullPolicy } from './pull-policy.js'

const buildShape = sparse({ deleteOnExit: optional(flag), signal: optional(abortSignal) })
const contextShape = sparse({ dockerfile: text, files: optional((value: unknown) => value) })

/** Where a build's files come from: a directory of this machine, or memory. */
export type BuildContext =
  | string
  | { readonly dockerfile: string; readonly files?: Readonly<Record<string, string | Uint8Array>> }

/** What becomes of a built image. */
export interface BuildOptions {
  /** Forgets the image's name at the end of the session. @default true */
  readonly deleteOnExit?: boolean
  /** Gives up: running steps are killed, nothing half done stays. */
  readonly signal?: AbortSignal
}

/**
 * An image to be built; never changed, as containers are. Steps that were built before come from the cache.
 *
 * @example
 * import { GenericContainer } from 'mayfly'
 *
 * const app = await GenericContainer.fromDockerfile('./app').withBuildArgs({ VERSION: '1.2' }).build('app:test')
 * await using started = await app.withExposedPorts(8080).start()
 */
export class GenericContainerBuilder {
  /** @internal */
  protected readonly request: Omit<BuildRequest, 'tag' | 'temporary' | 'signal'>
  readonly #toContainer: (image: string) => GenericContainer

  /** @internal */
  constructor(
    context: BuildContext,
    dockerfileName: string,
    toContainer: (image: string) => GenericContainer,
    request?: GenericContainerBuilder['request'],
  ) {
    this.#toContainer = toContainer
    this.request = request ?? {
      context: checkContext(context),
      ...(typeof context === 'string' ? { file: text(dockerfileName, 'dockerfileName') } : {}),
      buildArgs: {},
      noCache: false,
      pull: false,
      secrets: {},
      labels: {},
    }
  }

  #with(change: Partial<GenericContainerBuilder['request']>): GenericContainerBuilder {
    return new GenericContainerBuilder('', '', this.#toContainer, { ...this.request, ...change })
  }

  /** Values of ARGs; added to those given before. */
  withBuildArgs(buildArgs: Readonly<Record<string, string>>): GenericContainerBuilder {
    return this.#with({ buildArgs: { ...this.request.buildArgs, ...textsByName(buildArgs, 'buildArgs') } })
  }

  /** Whether base images that are here are fetched again. @default not */
  withPullPolicy(pullPolicy: ImagePullPolicy): GenericContainerBuilder {
    if (typeof pullPolicy?.shouldPull !== 'function') refuse('pullPolicy', pullPolicy, 'expected one of PullPolicy')
    return this.#with({ pull: pullPolicy.shouldPull() === true })
  }

  /** Whether steps may come from the cache. @default true */
  withCache(cache: boolean): GenericContainerBuilder {
    return this.#with({ noCache: !flag(cache, 'cache') })
  }

  /** Kept for testcontainers: everything of BuildKit's Dockerfiles is always understood. */
  withBuildkit(): GenericContainerBuilder {
    return this.#with({})
  }

  /** Such as `linux/arm64`. @default this machine's */
  withPlatform(platform: string): GenericContainerBuilder {
    return this.#with({ platform: platformName(platform, 'platform') })
  }

  /** Stage to build, by name or number. @default the last one */
  withTarget(target: string): GenericContainerBuilder {
    return this.#with({ target: text(target, 'target') })
  }

  /** Values of `RUN --mount=type=secret`, by id. They are in no layer and no message. */
  withSecrets(secrets: Readonly<Record<string, string>>): GenericContainerBuilder {
    return this.#with({ secrets: { ...this.request.secrets, ...textsByName(secrets, 'secrets') } })
  }

  /** Labels of the image; added to those given before. */
  withLabels(labels: Readonly<Record<string, string>>): GenericContainerBuilder {
    return this.#with({ labels: { ...this.request.labels, ...textsByName(labels, 'labels') } })
  }

  /** Gets each line of the build's progress. */
  withLogConsumer(onLine: (line: string) => void): GenericContainerBuilder {
    return this.#with({ onLine })
  }

  /**
   * Builds it. Rejects, and never hangs, with the step that failed, its lines in the Dockerfile and its output.
   *
   * @default image: one made up, such as `localhost/3f9c…:8a1b…`
   */
  async build(image?: string, options: BuildOptions = {}): Promise<GenericContainer> {
    const { deleteOnExit = true, signal } = buildShape(options, 'build') as BuildOptions
    const tag = image === undefined ? `localhost/${word()}:${word()}` : checkReference(image)
    const backend = await currentBackend()
    signal?.throwIfAborted()
    await backend.buildImage({ ...this.request, tag, temporary: deleteOnExit, ...(signal ? { signal } : {}) })
    return this.#toContainer(tag)
  }
}

function word(): string {
  return crypto.randomUUID().slice(-12)
}

function checkContext(context: BuildContext): BuildRequest['context'] {
  if (typeof context === 'string' && context !== '') return { directory: context }
  if (typeof context === 'object' && context !== null) {
    contextShape(context, 'context')
    return { dockerfile: context.dockerfile, files: context.files ?? {} }
  }
  if (context === '') return { directory: '.' }
  return refuse('context', context, 'expected a directory, or a Dockerfile as { dockerfile, files }')
}
