/** `mayfly save` and `mayfly load`: images as archives that docker, podman and skopeo read and write too. */
import { stat } from 'node:fs/promises'
import { type Command, Option } from 'commander'
import type { LoadSource } from '../engine/archive-formats/load.js'
import { familiarReference, parseReference } from '../engine/image/reference.js'
import { inputFile, standardInput } from './input-source.js'
import { refuseTerminal, writeOutput } from './output-file.js'
import { showTransfer } from './progress/transfer.js'
import { withEngine } from './with-engine.js'

interface SaveFlags {
  readonly format: 'docker' | 'oci'
  readonly gzip?: boolean
  readonly output?: string
}

export function declareSave(program: Command): void {
  program
    .command('save')
    .description('Write images to an archive')
    .argument('<image...>', 'names, ids or beginnings of ids')
    .option('-o, --output <file>', 'else stdout')
    .addOption(
      new Option('--format <format>', 'docker-archive or OCI layout').choices(['docker', 'oci']).default('docker'),
    )
    .option('-z, --gzip', 'compress it')
    .action(async (names: string[], { format, gzip = false, output }: SaveFlags) => {
      refuseTerminal(output)
      await withEngine((engine, signal) => {
        const compression = gzip ? 'gzip' : 'none'
        return writeOutput(engine.images.save(names, { format, compression, signal }), output, signal)
      })
    })
}

interface LoadFlags {
  readonly input?: string
  readonly platform?: string
  readonly quiet?: boolean
}

export function declareLoad(program: Command): void {
  program
    .command('load')
    .description('Take in the images of an archive: docker-archive or OCI layout, compressed or not')
    .option('-i, --input <file|dir>', 'else stdin')
    .option('--platform <platform>', 'which image of several for different platforms')
    .option('-q, --quiet', 'no progress')
    .action(async ({ input, platform, quiet = false }: LoadFlags) => {
      const loaded = await withEngine(async (engine, signal) => {
        using view = showTransfer({ quiet })
        const { listener: onProgress } = view
        return await engine.images.load(await archiveOf(input, signal), {
          signal,
          ...(onProgress ? { onProgress } : {}),
          ...(platform === undefined ? {} : { platform }),
        })
      })
      for (const { image, references } of loaded) {
        const names = references.map((reference) => familiarReference(parseReference(reference)))
        for (const name of names) process.stdout.write(`Loaded image: ${name}\n`)
        if (names.length === 0) process.stdout.write(`Loaded image ID: ${image.id}\n`)
      }
    })
}

async function archiveOf(input: string | undefined, signal: AbortSignal): Promise<LoadSource> {
  if (input === undefined || input === '-') return standardInput('The archive', signal)
  const found = await stat(input).catch(() => undefined)
  return found?.isDirectory() ? { directory: input } : inputFile(input, signal)
}
