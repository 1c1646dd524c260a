/** `mayfly inspect`: everything about images, as `docker inspect` tells it. */
import type { Command } from 'commander'
import type { ImageInspection } from '../engine/image-inspection.js'
import { safeJson } from './json.js'
import { printable } from './progress/printable.js'
import { compileTemplate } from './template.js'
import { UsageError } from './usage-error.js'
import { forEach, withEngine } from './with-engine.js'

interface InspectFlags {
  readonly format?: string
  readonly type?: string
}

export function declareInspect(program: Command): void {
  program
    .command('inspect')
    .description('Show everything about images, as JSON')
    .argument('<image...>', 'names, ids or beginnings of ids')
    .option('-f, --format <format>', 'json, or a template with fields such as {{.Config.Env}}')
    .option('--type <type>', 'image: containers end with the command that runs them, so there are none to inspect')
    .action(async (names: string[], { format, type = 'image' }: InspectFlags) => {
      if (type !== 'image') throw new UsageError(`--type ${type}: only images can be inspected`)
      const show = format === undefined || format === 'json' ? undefined : compileTemplate('--format', format)
      const found: ImageInspection[] = []
      process.exitCode = await withEngine((engine) =>
        forEach(names, async (name) => {
          const inspection = await engine.images.inspect(name)
          if (show) process.stdout.write(`${printable(show(inspection))}\n`)
          else found.push(inspection)
        }),
      )
      if (!show) process.stdout.write(`${safeJson(found, format === 'json' ? undefined : 4)}\n`)
    })
}
