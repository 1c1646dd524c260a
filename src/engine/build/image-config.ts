/** The config of the image that a build has made: what was planned, with layers and times. */

import type { HistoryEntry, ImageConfig, RuntimeConfig } from '../image/config.js'
import type { Layer } from '../store/layers.js'
import type { StepResult } from './cache.js'
import type { StagePlan } from './stage-plan.js'

export interface FinishedStage {
  readonly plan: StagePlan
  /** All, the base's included, lowest first. */
  readonly layers: readonly Layer[]
  /** By position in the history. */
  readonly results: ReadonlyMap<number, StepResult>
}

/**
 * Times are those at which the layers were made, so that a build whose steps are all cached gives the very same image. What changes only
 * the config takes the time of the layer before it, or of the first one after it.
 *
 * @param fallback time of an image without layers of its own or a base that knows its time
 */
export function imageConfig(
  { plan, layers, results }: FinishedStage,
  labels: Readonly<Record<string, string>>,
  epoch: Date | undefined,
  fallback: Date,
): ImageConfig {
  const { config, inheritedHistory } = plan
  const planned = config.history ?? []
  const inherited = planned.slice(0, inheritedHistory)
  const own = planned.slice(inheritedHistory)
  const made = [...results.values()].filter(({ layer }) => layer)
  let time = epoch ?? made[0]?.createdAt ?? dateOf(config.created) ?? fallback
  const history = own.map((entry, index): HistoryEntry => {
    const result = results.get(inheritedHistory + index)
    if (result?.layer) time = epoch ?? result.createdAt
    const { empty_layer: _isEmpty, ...rest } = entry
    return { ...rest, created: time.toISOString(), ...(result?.layer ? {} : { empty_layer: true }) }
  })
  const withLabels = Object.keys(labels).length > 0 ? { Labels: { ...config.config?.Labels, ...labels } } : {}
  return {
    ...config,
    created: time.toISOString(),
    config: withoutEmptyCommands({ ...config.config, ...withLabels }),
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    history: [...padded(inherited, layers.length - made.length), ...history],
  }
}

/** `CMD []` takes away what the base image says, and Docker writes nothing for it. */
function withoutEmptyCommands({ Cmd, Entrypoint, ...rest }: RuntimeConfig): RuntimeConfig {
  return { ...rest, ...(Entrypoint?.length ? { Entrypoint } : {}), ...(Cmd?.length ? { Cmd } : {}) }
}

/** An image that was imported may have layers that its history does not tell of; then positions would no longer fit. */
function padded(history: readonly HistoryEntry[], layers: number): HistoryEntry[] {
  const told = history.filter(({ empty_layer }) => !empty_layer).length
  const missing = Array.from(
    { length: Math.max(0, layers - told) },
    (): HistoryEntry => ({ comment: 'not told by the base image' }),
  )
  return [...history, ...missing]
}

function dateOf(text: string | undefined): Date | undefined {
  const date = new Date(text ?? '')
  return Number.isNaN(date.getTime()) ? undefined : date
}
