/** `mayfly rmi` and `mayfly tag`. */
import type { Command } from 'commander'
import { MayflyError } from '../engine/errors.js'
import { describeError } from './report.js'
import { forEach, withEngine } from './with-engine.js'

export function declareRmi(program: Command): void {
  program
    .command('rmi')
    .description('Take names away from images, and remove an image with its last name')
    .argument('<image...>', 'names, ids or beginnings of ids')
    .option(
      '-f, --force',
      'remove an image by its id also when it has names in several repositories; one that is missing is no failure',
    )
    .action(async (names: string[], { force = false }: { readonly force?: boolean }) => {
      process.exitCode = await withEngine((engine) =>
        forEach(names, async (name) => {
          const removed = await engine.images.remove(name, { force }).catch((error: unknown) => {
            if (!force || !(error instanceof MayflyError) || error.code !== 'IMAGE_NOT_FOUND') throw error
            process.stderr.write(describeError(error)) // as with docker: what is to be gone is gone
            return undefined
          })
          const { untagged = [], deleted = [] } = removed ?? {}
          for (const one of untagged) process.stdout.write(`Untagged: ${one}\n`)
          for (const one of deleted) process.stdout.write(`Deleted: ${one}\n`)
        }),
      )
    })
}

export function declareTag(program: Command): void {
  program
    .command('tag')
    .description('Give an image a further name')
    .argument('<image>', 'name, id or beginning of an id')
    .argument('<name>', 'the new name, such as app:1.2')
    .action(async (source: string, target: string) => {
      await withEngine((engine) => engine.images.tag(source, target))
    })
}
