#!/bin/sh
/** The command line, one more door of the engine: it parses, calls and formats. */
import { Command, CommanderError } from 'commander'
import manifest from '../../package.json' with { type: 'json' }
import { doctor } from './doctor.js'
import { describeError, exitCodeOf, FAILURE } from './report.js'
import { run } from './run.js'
import { declareRunFlags, type RunFlags } from './run-flags.js'

const program = new Command('mayfly')
  .description('Throwaway containers that leave nothing behind')
  .version(manifest.version, '-v, --version')
  .enablePositionalOptions()
  .exitOverride()
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'mayfly: ')) })

declareRunFlags(program.command('run'))
  .description('Run a command in a new container and remove the container at its end')
  .usage('[flags] --rootfs DIR|TAR COMMAND [ARGUMENT…]')
  .argument('[command...]')
  .helpOption('--help', 'show this')
  .passThroughOptions()
  .action(async (words: string[], flags: RunFlags) => {
    process.exitCode = await run(flags, words)
  })

program
  .command('doctor')
  .description('Try what mayfly needs on this machine, and say what mends what does not work')
  .option('--json', 'one JSON object instead of lines')
  .action(async (flags: { readonly json?: boolean }) => {
    process.exitCode = await doctor(flags)
  })

try {
  await program.parseAsync()
} catch (error) {
  // Commander has printed its own errors, and the help that was asked for.
  const isPrinted = error instanceof CommanderError
  if (!isPrinted) process.stderr.write(describeError(error))
  process.exitCode = isPrinted ? (error.exitCode === 0 ? 0 : FAILURE) : exitCodeOf(error)
}
// An open stdin must not keep a process alive whose container has ended.
process.exit()
