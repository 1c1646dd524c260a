/** `commit --change` and `import --change`: Dockerfile instructions that change an image's config and nothing else. */

import { parseInstructions } from './build/dockerfile/parse.js'
import type { Instruction } from './build/dockerfile/types.js'
import { planStage } from './build/stage-plan.js'
import { MayflyError } from './errors.js'
import type { ImageConfig } from './image/config.js'

const ALLOWED: readonly Instruction['kind'][] = [
  'CMD',
  'ENTRYPOINT',
  'ENV',
  'EXPOSE',
  'HEALTHCHECK',
  'LABEL',
  'ONBUILD',
  'STOPSIGNAL',
  'USER',
  'VOLUME',
  'WORKDIR',
]

/**
 * The config with the changes made, each a Dockerfile instruction. Its history stays as it is.
 *
 * Throws DOCKERFILE_INVALID for what is no instruction, INVALID_OPTION for one that would need a build.
 */
export function applyChanges(config: ImageConfig, changes: readonly string[]): ImageConfig {
  if (changes.length === 0) return config
  const instructions = changes.flatMap((change, index) => {
    const field = `changes[${index}]`
    if (typeof change !== 'string') {
      throw new MayflyError('INVALID_OPTION', `${field}: expected a Dockerfile instruction, got ${typeof change}`, {
        field,
      })
    }
    const parsed = parseInstructions(change, field)
    for (const { kind } of parsed) {
      if (ALLOWED.includes(kind)) continue
      throw new MayflyError('INVALID_OPTION', `${field}: ${kind} cannot be a change`, {
        field,
        value: change,
        hint: `possible are ${ALLOWED.join(', ')}; a Dockerfile can do the rest`,
      })
    }
    return parsed
  })
  const planned = planStage({
    base: { config, variables: undefined },
    instructions,
    buildArgs: {},
    globals: new Map(),
    platform: config,
    expansion: {},
  })
  return { ...config, config: planned.config.config ?? {} }
}
