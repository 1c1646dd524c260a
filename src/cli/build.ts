/** `mayfly build`: an image from a Dockerfile. */
import { rm, writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { familiarReference, parseReference } from '../engine/image/reference.js'
import { type BuildFlags, buildOptions, declareBuildFlags, progressKind } from './build-flags.js'
import { showBuild } from './progress/build-view.js'
import { withEngine } from './with-engine.js'

export function declareBuild(program: Command): void {
  declareBuildFlags(program.command('build'))
    .description('Build an image from a Dockerfile')
    .argument('<context>', 'a directory, a git repository, the URL of a tar, or - for a tar or a Dockerfile on stdin')
    .action(async (context: string, flags: BuildFlags) => {
      await build(context, flags)
    })
}

async function build(context: string, flags: BuildFlags): Promise<void> {
  const kind = progressKind(flags)
  // What is left there by an earlier build must not be taken for the result of one that fails.
  if (flags.iidfile !== undefined) await rm(flags.iidfile, { force: true })
  const { image } = await withEngine(
    async (engine, signal) => {
      const options = await buildOptions(flags, context, signal)
      using view = showBuild(kind)
      const { listener: onEvent } = view
      const result = await engine.images.build({ ...options, ...(onEvent ? { onEvent } : {}) })
      view.close('done')
      return result
    },
    { network: flags.network !== 'none' },
  )
  if (flags.iidfile !== undefined) await writeFile(flags.iidfile, image.id)
  if (kind !== 'quiet') {
    for (const tag of flags.tag ?? []) process.stderr.write(`Named ${familiarReference(parseReference(tag))}\n`)
  }
  process.stdout.write(`${image.id}\n`)
}
