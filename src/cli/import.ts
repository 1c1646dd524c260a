/** `mayfly import` and `mayfly export`: root file systems as tars; and what stands in the place of `docker commit`. */
import type { Command } from 'commander'
import { repeatable } from './append.js'
import { download, inputFile, isAddress, standardInput } from './input-source.js'
import { refuseTerminal, writeOutput } from './output-file.js'
import { UsageError } from './usage-error.js'
import { withEngine } from './with-engine.js'

interface ImportFlags {
  readonly change?: readonly string[]
  readonly message?: string
  readonly platform?: string
}

export function declareImport(program: Command): void {
  const command = program
    .command('import')
    .description('Make an image of the tar of a root file system: plain, gzip, zstd, xz or bzip2')
    .argument('<file|url|->', 'the tar; - is stdin')
    .argument('[name]', 'name of the image')
    .option('-m, --message <text>', 'for its history')
    .option('--platform <platform>', 'such as linux/arm64; else this machine’s')
  repeatable(command, '-c, --change <instruction>', 'Dockerfile instruction, such as \'CMD ["sh"]\'')
  command.action(async (from: string, reference: string | undefined, flags: ImportFlags) => {
    const { change, message, platform } = flags
    const image = await withEngine(async (engine, signal) =>
      engine.images.import(await tarOf(from, signal), {
        signal,
        ...(reference === undefined ? {} : { reference }),
        ...(change ? { changes: change } : {}),
        ...(message === undefined ? {} : { message }),
        ...(platform === undefined ? {} : { platform }),
      }),
    )
    process.stdout.write(`${image.id}\n`)
  })
}

function tarOf(from: string, signal: AbortSignal) {
  if (from === '-') return standardInput('The tar', signal)
  return isAddress(from) ? download(from, signal) : inputFile(from, signal)
}

export function declareExport(program: Command): void {
  program
    .command('export')
    .description('Write the root file system of an image to a tar, all its layers in one')
    .argument('<image>', 'name, id or beginning of an id')
    .option('-o, --output <file>', 'else stdout')
    .addHelpText(
      'after',
      `
docker export takes a container; here a container is gone when its command ends.
To have what a command changes, keep it as an image first:
  mayfly run --commit changed debian touch /file && mayfly export changed -o changed.tar`,
    )
    .action(async (image: string, { output }: { readonly output?: string }) => {
      refuseTerminal(output)
      await withEngine(async (engine, signal) => {
        // Never started, so it needs no program; an image may name none.
        const options = { image, pull: 'never', network: 'none', entrypoint: [], command: ['/'] } as const
        await using container = await engine.create(options, { signal })
        await writeOutput(container.export({ signal }), output, signal)
      })
    })
}

const COMMIT = 'mayfly run --commit NAME [--commit-change INSTRUCTION] IMAGE COMMAND'

export function declareCommit(program: Command): void {
  program
    .command('commit')
    .description(`Make an image of what a command changes: ${COMMIT}`)
    .argument('[words...]')
    .allowUnknownOption()
    .addHelpText(
      'after',
      `
docker commit takes a container; here a container is gone when the command that runs it ends.
So the image is made at that end, by the command itself:
  ${COMMIT}`,
    )
    .action(() => {
      throw new UsageError('There is no container to commit: each ends with the command that runs it', COMMIT)
    })
}
