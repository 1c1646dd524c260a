/**
 * Solves a Dockerfile's stages: only those that the target needs, each once, independent ones side by side.
 *
 * Nothing is begun before it is known not to be cached: a stage walks along its steps, computes each key and looks it up; only where
 * there is nothing, the step is executed. Steps with `--link` do not depend on what is below them and begin at once.
 */

import { availableParallelism } from 'node:os'
import { MayflyError } from '../errors.js'
import { chainId } from '../image/manifest.js'
import { formatPlatform, hostPlatform, type Platform, platformMatches } from '../image/platform.js'
import { Slots } from '../slots.js'
import type { Layer } from '../store/layers.js'
import { Workspace } from '../workspace.js'
import { BuildCache, type StepResult } from './cache.js'
import { contentPart } from './content-key.js'
import { type Copied, copyKey, executeCopy, executeWorkdir, layersTree, prepareCopy, workdirKey } from './copy-step.js'
import type { Dockerfile, Stage } from './dockerfile/types.js'
import { parseOwner } from './dockerfile/values.js'
import type { BuildProgress } from './events.js'
import type { FinishedStage } from './image-config.js'
import { Lookup, type Task } from './lookup.js'
import { makeLayer, withWorkspace } from './make-layer.js'
import { isNumeric } from './owners.js'
import { remember } from './remember.js'
import type { NamedTree } from './run-mounts.js'
import { checkAllowed, executeRun, type RunWorld, runKey } from './run-step.js'
import { select } from './select.js'
import type { ContextTree, LayersTree } from './source-tree.js'
import type { Sources } from './sources.js'
import type { StagePlan, Step } from './stage-plan.js'
import { type Base, type PlannedStage, Stages } from './stages.js'
import { locate } from './step-error.js'
import { globalVariables } from './variables.js'

type World = Omit<RunWorld, 'source' | 'slot'>

export class Solver {
  readonly #world: World
  readonly #dockerfile: Dockerfile
  readonly #sources: Sources
  readonly #progress: BuildProgress
  readonly #mainTree: ContextTree
  readonly #cache: BuildCache
  readonly #target: Platform
  readonly #stages: Stages
  readonly #lookup: Lookup
  readonly #slots = new Slots(Math.max(2, availableParallelism()))
  readonly #globals: ReadonlyMap<string, string>
  readonly #solved = new Map<Stage, Promise<FinishedStage>>()
  readonly #named = new Map<string, Promise<NamedTree>>()
  readonly #trees = new Set<LayersTree>()

  constructor(options: {
    readonly world: World
    readonly dockerfile: Dockerfile
    readonly sources: Sources
    readonly progress: BuildProgress
    readonly mainTree: ContextTree
    readonly target: Platform
  }) {
    this.#world = options.world
    this.#dockerfile = options.dockerfile
    this.#sources = options.sources
    this.#progress = options.progress
    this.#mainTree = options.mainTree
    this.#target = options.target
    const { session, store } = options.world.context
    this.#cache = new BuildCache(session, store.disk, store.layers)
    this.#lookup = new Lookup(this.#cache, options.world.signal)
    const { stages, globalArgs, directives } = this.#dockerfile
    this.#globals = globalVariables({
      args: globalArgs,
      buildArgs: options.world.options.buildArgs ?? {},
      target: options.target,
      host: hostPlatform(),
      targetStage: options.world.options.target ?? stages.at(-1)!.name ?? 'default',
      escape: directives.escape,
      lines: this.#dockerfile.lines,
    })
    this.#stages = new Stages({
      dockerfile: options.dockerfile,
      sources: options.sources,
      target: options.target,
      globals: this.#globals,
      buildArgs: options.world.options.buildArgs ?? {},
    })
  }

  /** How many steps were executed, and how many came from the cache. */
  get counts(): { readonly executed: number; readonly cached: number } {
    const { executed, cached } = this.#lookup
    return { executed, cached }
  }

  get cache(): BuildCache {
    return this.#cache
  }

  get globals(): ReadonlyMap<string, string> {
    return this.#globals
  }

  /** Solves the target. Everything that was begun has ended when this rejects. */
  async run(): Promise<FinishedStage> {
    return this.#solve(this.#stages.target(this.#world.options.target))
  }

  /** Waits for everything that was begun, and lets go of what it held. */
  async close(): Promise<void> {
    // Work that is waited for may begin more of it.
    for (let before = -1; before !== this.#solved.size; ) {
      before = this.#solved.size
      await Promise.allSettled(this.#solved.values())
    }
    await Promise.allSettled(this.#named.values())
    await Promise.allSettled([...this.#trees].map((tree) => tree.close()))
  }

  #solve(stage: Stage): Promise<FinishedStage> {
    return remember(this.#solved, stage, () => this.#solveStage(stage))
  }

  async #solveStage(stage: Stage): Promise<FinishedStage> {
    const planned = await this.#stages.plan(stage)
    const { base, plan } = planned
    this.#prefetch(stage, plan)
    const layers: Layer[] = [...(await this.#baseLayers(stage, base))]
    const results = new Map<number, StepResult>()
    const links = this.#beginLinks(stage, planned)
    for (const [index, step] of plan.steps.entries()) {
      this.#world.signal.throwIfAborted()
      try {
        const linked = links.get(step)
        const result = linked
          ? await this.#stack(await linked, layers)
          : await this.#step(stage, planned, index, layers)
        results.set(step.history, result)
        if (result.layer) layers.push(result.layer)
      } catch (error) {
        throw locate(error, step.location, this.#dockerfile.lines)
      }
    }
    return { plan, layers, results }
  }

  /** Stages that are needed on the way are begun now. */
  #prefetch(stage: Stage, plan: StagePlan): void {
    for (const step of plan.steps) {
      if (step.kind === 'workdir') continue
      const { instruction } = step
      const names =
        instruction.kind === 'RUN'
          ? instruction.mountSources
          : instruction.kind === 'COPY' && instruction.from
            ? [instruction.from]
            : []
      for (const name of names) this.#source(stage, name).catch(() => {}) // whoever needs it is told
    }
  }

  async #baseLayers(stage: Stage, base: Base): Promise<readonly Layer[]> {
    switch (base.kind) {
      case 'scratch':
        return []
      case 'stage':
        return (await this.#solve(base.stage)).layers
      case 'image':
        return (await this.#sources.image(base.name, base.platform)).layers
      case 'tree':
        return this.#treeLayers(stage, base.name, base.source)
    }
  }

  /** A directory as a base: its files are the first layer. */
  async #treeLayers(stage: Stage, name: string, source: string): Promise<readonly Layer[]> {
    const tree = await this.#sources.tree(name, source)
    const selections = await select(tree, ['.'], { parents: false, exclude: undefined })
    const { context, emptyLayer, signal } = this.#world
    const result = await this.#look(this.#stages.describeFrom(stage, name), {
      kind: 'from',
      isFresh: false,
      parent: undefined,
      key: async () => ({ part: await contentPart(tree, selections), hasContent: false }),
      execute: () =>
        this.#slot(async () =>
          withWorkspace(await Workspace.open(context.session, [emptyLayer]), async (workspace) => {
            const records = selections
              .flatMap(({ entries }) => entries)
              .filter(({ relative }) => relative !== '')
              .map(({ entry, relative }) => ({ source: entry.path, destination: `/${relative}`, uid: 0, gid: 0 }))
            await workspace.transfer(await tree.transferSource(), records, signal)
            const matchesKey = await tree.isUnchanged()
            return { layer: await makeLayer(context, workspace.id, undefined, signal), matchesKey }
          }),
        ),
    })
    return result.layer ? [result.layer] : []
  }

  #beginLinks(stage: Stage, planned: PlannedStage): Map<Step, Promise<StepResult>> {
    const begun = new Map<Step, Promise<StepResult>>()
    for (const [index, step] of planned.plan.steps.entries()) {
      if (step.kind !== 'copy' || !step.instruction.link) continue
      // Names of owners are those of the stage as it is by then.
      const { chown } = step.instruction
      if (chown && !isNumeric(parseOwner(chown))) continue
      const linking = this.#step(stage, planned, index, [])
      linking.catch(() => {}) // told when it is its turn
      begun.set(step, linking)
    }
    return begun
  }

  /** A layer that was made upon nothing, upon these. It is copied once for each place it takes. */
  async #stack({ layer, createdAt }: StepResult, layers: readonly Layer[]): Promise<StepResult> {
    const parent = layers.at(-1)
    if (!layer || !parent) return { layer, createdAt }
    const { context, emptyLayer, signal } = this.#world
    const { store, session } = context
    const present = await store.layers.get(chainId(parent.chainId, layer.diffId))
    if (present) return { layer: present, createdAt }
    const source = layersTree(this.#world as RunWorld, [layer.tree], 'a layer')
    try {
      const stacked = await withWorkspace(await Workspace.open(session, [emptyLayer]), async (workspace) => {
        const records = (await source.below('')).map(({ path }) => ({
          source: path,
          destination: `/${path}`,
          hardLinks: true,
        }))
        await workspace.transfer(await source.transferSource(), records, signal)
        return makeLayer(context, workspace.id, parent, signal)
      })
      return { layer: stacked, createdAt }
    } finally {
      await source.close()
    }
  }

  async #step(stage: Stage, planned: PlannedStage, index: number, layers: readonly Layer[]): Promise<StepResult> {
    const { plan, platform } = planned
    const step = plan.steps[index]!
    const world = this.#worldOf(stage)
    const trees = layers.length > 0 ? layers.map(({ tree }) => tree).reverse() : [world.emptyLayer]
    const parent = layers.at(-1)
    const text = this.#stages.describe(stage, planned, index)
    const isFresh = this.#isFresh(stage)
    if (step.kind === 'workdir') {
      return this.#look(text, {
        kind: 'workdir',
        isFresh,
        parent,
        key: async () => ({ part: workdirKey(step), hasContent: false }),
        execute: async () => ({
          layer: await this.#slot(() => executeWorkdir(world, step, trees, parent)),
          matchesKey: true,
        }),
      })
    }
    if (step.kind === 'run') {
      checkAllowed(world, step)
      const runnable = platformMatches(hostPlatform(), platform)
      return this.#look(text, {
        kind: `run ${formatPlatform(platform)}`,
        isFresh,
        parent,
        key: (byContent) => runKey(world, step, byContent),
        execute: (vertex) => {
          if (!runnable) throw foreign(platform)
          return executeRun(world, step, trees, parent, vertex)
        },
      })
    }
    return this.#progress.vertex(
      text,
      async (vertex) => {
        const prepared = await prepareCopy(world, step)
        const base = step.instruction.link ? undefined : parent
        let copied: Copied | undefined
        const result = await this.#lookup.find(vertex, {
          kind: 'copy',
          isFresh,
          parent: base,
          key: (byContent) => copyKey(prepared, byContent),
          execute: async () => {
            copied = await this.#slot(() => executeCopy(world, prepared, trees, base))
            return copied
          },
          remember: async () => copied?.remember(),
        })
        // A linked one whose owner's names had to wait for its turn.
        return step.instruction.link && layers.length > 0 ? this.#stack(result, layers) : result
      },
      this.#world.signal,
    )
  }

  #look(text: string, task: Task): Promise<StepResult> {
    return this.#progress.vertex(text, (vertex) => this.#lookup.find(vertex, task), this.#world.signal)
  }

  #isFresh({ name, index }: Stage): boolean {
    const { noCache = false } = this.#world.options
    if (typeof noCache === 'boolean') return noCache
    return noCache.some((one) => one.toLowerCase() === name || one === String(index))
  }

  #worldOf(stage: Stage): RunWorld {
    return { ...this.#world, source: (from) => this.#source(stage, from), slot: (work) => this.#slot(work) }
  }

  #slot<T>(work: () => Promise<T>): Promise<T> {
    return this.#slots.run(work, this.#world.signal)
  }

  /** What `from` means in this stage: a named context, an earlier stage, an image; without it, the build context. */
  #source(stage: Stage, from: string | undefined): Promise<NamedTree> {
    if (from === undefined) return Promise.resolve(contextTree(this.#mainTree))
    const given = this.#sources.named(from)
    if (given !== undefined) {
      return remember(this.#named, `context ${given}`, async () =>
        this.#sources.isImage(given) ? this.#imageTree(given) : contextTree(await this.#sources.tree(from, given)),
      )
    }
    const earlier = this.#stages.named(from, stage.index)
    if (earlier) {
      return remember(this.#named, `stage ${earlier.index}`, async () => {
        const { layers } = await this.#solve(earlier)
        return this.#namedTree(layers, `stage ${earlier.name ?? earlier.index}`)
      })
    }
    if (this.#stages.named(from, this.#stages.count) || /^\d+$/.test(from)) {
      const message = `There is no stage "${from}" before stage ${stage.name ?? stage.index}`
      const hint = 'a stage can copy from those that stand before it'
      return Promise.reject(new MayflyError('STAGE_NOT_FOUND', message, { value: from, hint }))
    }
    if (from === 'scratch') return remember(this.#named, 'scratch', async () => this.#namedTree([], 'scratch'))
    return remember(this.#named, `image ${from}`, () => this.#imageTree(from))
  }

  async #imageTree(name: string): Promise<NamedTree> {
    const { layers } = await this.#sources.image(name, this.#target)
    return this.#namedTree(layers, `image ${name}`)
  }

  #namedTree(layers: readonly Layer[], label: string): NamedTree {
    const make = () => {
      const trees = layers.map(({ tree }) => tree).reverse()
      return layersTree(this.#world as RunWorld, trees, label)
    }
    const tree = make()
    this.#trees.add(tree)
    return { tree, identity: layers.at(-1)?.chainId ?? 'scratch', own: make }
  }
}

function contextTree(tree: ContextTree): NamedTree {
  return { tree, identity: undefined, own: () => tree }
}

function foreign(platform: Platform): MayflyError {
  const host = formatPlatform(hostPlatform())
  return new MayflyError(
    'NOT_SUPPORTED',
    `A RUN of an image for ${formatPlatform(platform)} cannot be executed on ${host}`,
    {
      field: 'platform',
      value: formatPlatform(platform),
      hint: 'stages that only copy files can be for any platform; build the rest on a machine of that kind',
    },
  )
}
