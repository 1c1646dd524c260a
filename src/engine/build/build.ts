/**
 * Builds an image from a Dockerfile, as `docker build` does.
 *
 * options → checked (complete.ts) → context and Dockerfile (build-context.ts, dockerfile/) → plans of stages (stage-plan.ts, pure) → steps,
 * each from the cache or executed (solver.ts) → the image's config (image-config.ts) → the store.
 */

import { setMaxListeners } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { encodeConfig } from '../image/config.js'
import { digestOfBytes } from '../image/digest-of.js'
import { formatReference, parseReference } from '../image/reference.js'
import { openContext } from './build-context.js'
import { cacheKey } from './cache.js'
import { checkOptions } from './complete.js'
import type { BuildContext } from './context.js'
import { parseDockerfile } from './dockerfile/parse.js'
import type { Dockerfile } from './dockerfile/types.js'
import { BuildProgress } from './events.js'
import { FileDigests } from './file-digests.js'
import { imageConfig } from './image-config.js'
import type { BuildOptions, BuildResult } from './options.js'
import { Solver } from './solver.js'
import { Sources } from './sources.js'
import { proxyVariables, sourceDate, unusedArgs } from './variables.js'

/**
 * Builds the image and resolves to it, complete in the store under its names.
 *
 * Throws BUILD_FAILED when the program of a RUN fails, with the lines of the Dockerfile, its exit code and its last output; DOCKERFILE_INVALID,
 * CONTEXT_INVALID, SOURCE_NOT_FOUND, STAGE_NOT_FOUND and so on with file and line; what pulling a base image throws; the signal's reason. What
 * has been executed by then stays in the cache for the next build.
 */
export async function build(context: BuildContext, options: BuildOptions): Promise<BuildResult> {
  const target = checkOptions(options)
  options.signal?.throwIfAborted()
  const { session, store } = context
  const progress = new BuildProgress(options.onEvent)
  // One step that fails ends all others.
  const ending = new AbortController()
  const onAbort = () => ending.abort(options.signal?.reason)
  options.signal?.addEventListener('abort', onAbort, { once: true })
  const { signal } = ending
  setMaxListeners(0, signal) // every step that runs listens
  const files = new FileDigests(session, store.disk)
  const temporaries: string[] = []
  const contextWorld = { context, files, signal, temporaries }
  let solver: Solver | undefined
  try {
    return await store.writing(signal, async () => {
      const opened = await openContext(contextWorld, options)
      const dockerfile = parseDockerfile(opened.dockerfile, opened.file)
      const warnings = warningsOf(dockerfile, options)
      for (const warning of warnings) progress.warn(warning)
      const sources = new Sources(contextWorld, options, progress)
      const world = {
        context,
        options,
        files,
        signal,
        emptyLayer: await emptyLayer(store.home),
        proxies: proxyVariables(options.buildArgs ?? {}),
        hasNetwork: session.facts.subnet !== '' && session.facts.subnet !== undefined,
      }
      solver = new Solver({ world, dockerfile, sources, progress, mainTree: opened.tree, target })
      const finished = await solver.run()
      const epoch = sourceDate(solver.globals, options.buildArgs ?? {})
      const fallback = await firstTime(solver, finished.plan.config, finished.layers.length === 0)
      const config = encodeConfig(imageConfig(finished, options.labels ?? {}, epoch, fallback))
      const image = await progress.vertex(
        'exporting to image',
        () => put(context, config, options.tags ?? [], signal),
        signal,
      )
      return { image, warnings, ...solver.counts }
    })
  } catch (error) {
    ending.abort(error)
    throw error
  } finally {
    options.signal?.removeEventListener('abort', onAbort)
    if (solver) await solver.close()
    for (const path of temporaries) await store.discard(path)
  }
}

/** The image that is there already, if nothing would change: writing it again would wait for the disk. */
async function put({ store }: BuildContext, config: Buffer, tags: readonly string[], signal: AbortSignal) {
  const here = await store.images.get(digestOfBytes(config))
  const names = tags.map((tag) => formatReference(parseReference(tag)))
  if (here && names.every((name) => here.references.includes(name))) return here
  // A build can be repeated, and most of it from the cache: it is not waited for the disk.
  return store.images.put({ config, references: tags, durable: false }, signal)
}

/** An image without layers has the time at which it was first built: equal builds give equal images. */
async function firstTime(solver: Solver, config: unknown, isNeeded: boolean): Promise<Date> {
  if (!isNeeded) return new Date()
  const key = cacheKey('image', JSON.stringify(config))
  const known = await solver.cache.get(key)
  if (known) return known.createdAt
  const createdAt = new Date()
  await solver.cache.set(key, { layer: undefined, createdAt })
  return createdAt
}

async function emptyLayer(home: string): Promise<string> {
  const path = join(home, 'cache', 'empty')
  await mkdir(path, { recursive: true, mode: 0o755 })
  return path
}

function warningsOf(dockerfile: Dockerfile, { buildArgs = {} }: BuildOptions): string[] {
  const declared = new Set(
    [...dockerfile.globalArgs, ...dockerfile.stages.flatMap(({ instructions }) => instructions)].flatMap((one) =>
      one.kind === 'ARG' ? one.args.map(({ key }) => key) : [],
    ),
  )
  const unused = unusedArgs(buildArgs, declared)
  return [
    ...dockerfile.warnings.map(({ message, location }) => `${location.file}:${location.line}: ${message}`),
    ...(unused.length > 0
      ? [`No ARG declares the build argument${unused.length > 1 ? 's' : ''} ${unused.join(', ')}`]
      : []),
  ]
}
