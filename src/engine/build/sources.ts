/** What names in FROM, `--from` and `RUN --mount=from=` stand for: named contexts, stages, images. */

import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { loadImages } from '../archive-formats/load.js'
import { MayflyError } from '../errors.js'
import { formatPlatform, type Platform, platformMatches } from '../image/platform.js'
import { familiarReference, formatReference, parseReference } from '../image/reference.js'
import type { StoredImage } from '../store/images.js'
import { type ContextWorld, openNamedContext } from './build-context.js'
import type { BuildProgress } from './events.js'
import type { BuildOptions } from './options.js'
import { remember } from './remember.js'
import type { ContextTree } from './source-tree.js'

const IMAGE = 'docker-image://'
const LAYOUT = /^oci-layout:(?:\/\/)?/

/** Images and named contexts, each resolved once a build. */
export class Sources {
  readonly #world: ContextWorld
  readonly #options: BuildOptions
  readonly #progress: BuildProgress
  readonly #named: ReadonlyMap<string, string>
  readonly #images = new Map<string, Promise<StoredImage>>()
  readonly #contexts = new Map<string, Promise<ContextTree>>()

  constructor(world: ContextWorld, options: BuildOptions, progress: BuildProgress) {
    this.#world = world
    this.#options = options
    this.#progress = progress
    const { namedContexts = {} } = options
    this.#named = new Map(Object.entries(namedContexts).map(([name, source]) => [contextName(name), source]))
  }

  /** What the caller has put in the place of a name; undefined when nothing. */
  named(name: string): string | undefined {
    return this.#named.get(contextName(name))
  }

  /** Whether a named context is an image, and not a tree of files. */
  isImage(source: string): boolean {
    return source.startsWith(IMAGE) || LAYOUT.test(source)
  }

  tree(name: string, source: string): Promise<ContextTree> {
    return remember(this.#contexts, source, () => openNamedContext(this.#world, name, source))
  }

  /** An image by its name, or by `docker-image://` or `oci-layout://`. */
  image(text: string, platform: Platform, vertexText?: string): Promise<StoredImage> {
    const key = `${text} ${formatPlatform(platform)}`
    return remember(this.#images, key, () =>
      LAYOUT.test(text) ? this.#load(text, platform) : this.#find(text, platform, vertexText),
    )
  }

  async #find(text: string, platform: Platform, vertexText: string | undefined): Promise<StoredImage> {
    const { context, signal } = this.#world
    const name = text.startsWith(IMAGE) ? text.slice(IMAGE.length) : text
    const isId = /^(sha256:)?[0-9a-f]{64}$/.test(name)
    const reference = isId ? name : formatReference(parseReference(name))
    return this.#progress.vertex(
      vertexText ?? `[internal] load ${isId ? name : familiarReference(parseReference(name))}`,
      async (vertex) => {
        if (!this.#options.pull || isId) {
          const here = await context.store.images.resolve(name)
          if (here && (platformMatches(platform, here.config) || isId)) {
            vertex.cached()
            return here
          }
        }
        return context.pull(reference, {
          platform: formatPlatform(platform),
          signal,
          onProgress: (event) => {
            if (event.type === 'layer') vertex.progress(event.id, event.status, event.current, event.total)
          },
        })
      },
      signal,
    )
  }

  async #load(text: string, platform: Platform): Promise<StoredImage> {
    const { context, signal } = this.#world
    const [path = '', digest] = text.replace(LAYOUT, '').split('@')
    const tag = /:([\w][\w.-]{0,127})$/.exec(path)?.[1]
    const directory = resolve(tag === undefined ? path : path.slice(0, -tag.length - 1))
    await readFile(join(directory, 'oci-layout')).catch((error) => {
      const message = `${directory} is no OCI layout: ${(error as Error).message}`
      throw new MayflyError('CONTEXT_INVALID', message, { value: directory }, { cause: error })
    })
    const loaded = await loadImages(context, { directory }, { platform: formatPlatform(platform), signal })
    const chosen =
      loaded.find(({ image }) => digest !== undefined && (image.manifest === digest || image.id === digest)) ??
      (digest === undefined && tag !== undefined
        ? loaded.find(({ references }) => references.some((one) => one.endsWith(`:${tag}`)))
        : undefined) ??
      (loaded.length === 1 && digest === undefined ? loaded[0] : undefined)
    if (chosen) return chosen.image
    throw new MayflyError(
      'CONTEXT_INVALID',
      `The OCI layout ${directory} has ${loaded.length} images; which one is meant is not clear`,
      {
        value: text,
        hint: 'name one with :tag or @digest',
      },
    )
  }
}

/** As BuildKit has it, `foo`, `foo:latest` and `docker.io/library/foo` are one name. In any case, as those of stages. */
function contextName(name: string): string {
  const lower = name.toLowerCase()
  try {
    return familiarReference(parseReference(lower)).replace(/:latest$/, '')
  } catch {
    return lower // no reference, and still a name
  }
}
