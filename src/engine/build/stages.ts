/** The stages of a Dockerfile before anything is built: which one is the target, what each stands on, and what is to be done upon that. */

import { MayflyError } from '../errors.js'
import type { ImageConfig } from '../image/config.js'
import { type Platform, parsePlatform } from '../image/platform.js'
import { familiarReference, parseReference } from '../image/reference.js'
import { expandFrom, expansionContext } from './dockerfile/expand-instruction.js'
import { didYouMean } from './dockerfile/nearest.js'
import { parseInstructions } from './dockerfile/parse.js'
import type { Dockerfile, Instruction, Stage } from './dockerfile/types.js'
import { remember } from './remember.js'
import type { Sources } from './sources.js'
import { planStage, type StagePlan } from './stage-plan.js'
import { locate } from './step-error.js'

/** What a stage stands on. */
export type Base =
  | { readonly kind: 'scratch' }
  | { readonly kind: 'stage'; readonly stage: Stage }
  | { readonly kind: 'image'; readonly name: string; readonly platform: Platform }
  | { readonly kind: 'tree'; readonly name: string; readonly source: string }

export interface PlannedStage {
  readonly base: Base
  readonly plan: StagePlan
  readonly platform: Platform
}

export class Stages {
  readonly #dockerfile: Dockerfile
  readonly #sources: Sources
  readonly #target: Platform
  readonly #globals: ReadonlyMap<string, string>
  readonly #buildArgs: Readonly<Record<string, string>>
  readonly #planned = new Map<Stage, Promise<PlannedStage>>()

  constructor(options: {
    readonly dockerfile: Dockerfile
    readonly sources: Sources
    /** Platform of the image to build. */
    readonly target: Platform
    /** Arguments that FROM knows. */
    readonly globals: ReadonlyMap<string, string>
    readonly buildArgs: Readonly<Record<string, string>>
  }) {
    this.#dockerfile = options.dockerfile
    this.#sources = options.sources
    this.#target = options.target
    this.#globals = options.globals
    this.#buildArgs = options.buildArgs
  }

  get count(): number {
    return this.#dockerfile.stages.length
  }

  /** The stage that is asked for, the last one without a name. Throws STAGE_NOT_FOUND. */
  target(name: string | undefined): Stage {
    const { stages, file } = this.#dockerfile
    if (name === undefined || name === '') return stages.at(-1)!
    const found = this.named(name, stages.length)
    if (found) return found
    throw new MayflyError('STAGE_NOT_FOUND', `There is no stage "${name}" in ${file}`, {
      field: 'target',
      value: name,
      hint: didYouMean(
        name,
        stages.map((stage) => stage.name ?? String(stage.index)),
      ),
    })
  }

  /** A stage by name or number, of those before `limit`. */
  named(name: string, limit: number): Stage | undefined {
    const before = this.#dockerfile.stages.slice(0, limit)
    return (
      before.find((stage) => stage.name === name.toLowerCase()) ??
      (/^\d+$/.test(name) ? before[Number(name)] : undefined)
    )
  }

  plan(stage: Stage): Promise<PlannedStage> {
    return remember(this.#planned, stage, async () => {
      try {
        return await this.#plan(stage)
      } catch (error) {
        throw locate(error, stage.location, this.#dockerfile.lines)
      }
    })
  }

  async #plan(stage: Stage): Promise<PlannedStage> {
    const expansion = expansionContext(this.#dockerfile)
    const { from, platform: platformText } = expandFrom(stage, this.#globals, expansion)
    const platform = platformText === undefined ? this.#target : parsePlatform(platformText)
    const base = this.#base(stage, from, platform)
    const below = base.kind === 'stage' ? await this.plan(base.stage) : undefined
    const image =
      base.kind === 'image'
        ? await this.#sources.image(base.name, platform, this.describeFrom(stage, base.name))
        : undefined
    const config: ImageConfig | undefined = below?.plan.config ?? image?.config
    // Triggers are the base's; their own ONBUILD has been refused by the parser.
    const triggers = (config?.config?.OnBuild ?? []).flatMap((trigger) =>
      parseInstructions(trigger, `ONBUILD of ${from}`),
    )
    const instructions: Instruction[] = [
      ...triggers.map((one) => ({ ...one, location: stage.location })),
      ...stage.instructions,
    ]
    const plan = planStage({
      base: { config, variables: below?.plan.variables },
      instructions,
      buildArgs: this.#buildArgs,
      globals: this.#globals,
      platform,
      expansion,
    })
    const actual = image
      ? {
          os: image.config.os,
          architecture: image.config.architecture,
          ...(image.config.variant ? { variant: image.config.variant } : {}),
        }
      : (below?.platform ?? platform)
    return { base, plan, platform: actual }
  }

  #base(stage: Stage, from: string, platform: Platform): Base {
    const given = this.#sources.named(from)
    if (given !== undefined && from.toLowerCase() !== 'scratch') {
      return this.#sources.isImage(given)
        ? { kind: 'image', name: given, platform }
        : { kind: 'tree', name: from, source: given }
    }
    const before = this.#dockerfile.stages.slice(0, stage.index).find(({ name }) => name === from.toLowerCase())
    if (before) return { kind: 'stage', stage: before }
    return from === 'scratch' ? { kind: 'scratch' } : { kind: 'image', name: from, platform }
  }

  /** `[builder 2/5] RUN make`, as BuildKit has it. */
  describe(stage: Stage, { base, plan }: PlannedStage, index: number): string {
    const first = base.kind === 'image' || base.kind === 'tree' ? 1 : 0
    const total = plan.steps.length + first
    const number = String(index + 1 + first).padStart(String(total).length)
    return `[${this.#prefix(stage)}${number}/${total}] ${plan.steps[index]!.text}`
  }

  describeFrom(stage: Stage, name: string): string {
    const steps = stage.instructions.filter(({ kind }) => ['RUN', 'COPY', 'ADD', 'WORKDIR'].includes(kind)).length
    return `[${this.#prefix(stage)}1/${steps + 1}] FROM ${nameForPeople(name)}`
  }

  #prefix({ name, index }: Stage): string {
    return this.count === 1 ? '' : `${name ?? `stage-${index}`} `
  }
}

function nameForPeople(name: string): string {
  try {
    return familiarReference(parseReference(name))
  } catch {
    return name
  }
}
