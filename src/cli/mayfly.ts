#!/bin/sh
/** The command line, one more door of the engine: it parses, calls and formats. */
import { Command, CommanderError } from 'commander'
import manifest from '../../package.json' with { type: 'json' }
import { withoutBooleanValues } from './boolean-flags.js'
import { declareBootstrap } from './bootstrap.js'
import { declareBuild } from './build.js'
import { doctor } from './doctor.js'
import { declareHistory } from './history.js'
import { declareImages } from './images.js'
import { declareCommit, declareExport, declareImport } from './import.js'
import { declareInspect } from './inspect.js'
import { declareLogin, declareLogout } from './login.js'
import { declareDf, declarePrune } from './prune.js'
import { declarePull, declarePush } from './pull.js'
import { describeError, exitCodeOf, FAILURE } from './report.js'
import { declareRmi, declareTag } from './rmi.js'
import { run } from './run.js'
import { declareRunFlags, type RunFlags } from './run-flags.js'
import { declareLoad, declareSave } from './save.js'
import { declareVolume } from './volume.js'

/** For the exit code. */
let command: string | undefined

const program = new Command('mayfly')
  .description('Throwaway containers that leave nothing behind')
  .version(manifest.version, '-v, --version')
  .enablePositionalOptions()
  .exitOverride()
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'mayfly: ')) })
  .hook('preAction', (_program, action) => {
    command = action.name()
  })

program.commandsGroup('Containers:')
declareRunFlags(program.command('run'))
  .description('Run a command in a new container and remove the container at its end')
  .usage('[flags] IMAGE [COMMAND] [ARGUMENT…]\n       mayfly run [flags] --rootfs DIR|TAR COMMAND [ARGUMENT…]')
  .argument('[words...]')
  .helpOption('--help', 'show this')
  .passThroughOptions()
  .action(async (words: string[], flags: RunFlags) => {
    process.exitCode = await run(flags, words)
  })
declareCommit(program)

program.commandsGroup('Making images:')
for (const declare of [declareBuild, declareBootstrap, declareImport]) declare(program)

program.commandsGroup('Registries:')
for (const declare of [declarePull, declarePush, declareLogin, declareLogout]) declare(program)

program.commandsGroup('Images of this machine:')
for (const declare of [declareImages, declareInspect, declareHistory, declareTag, declareRmi]) declare(program)
for (const declare of [declareSave, declareLoad, declareExport]) declare(program)

program.commandsGroup('This machine:')
for (const declare of [declareVolume, declareDf, declarePrune]) declare(program)
program
  .command('doctor')
  .description('Try what mayfly needs on this machine, and say what mends what does not work')
  .option('--json', 'one JSON object instead of lines')
  .action(async (flags: { readonly json?: boolean }) => {
    process.exitCode = await doctor(flags)
  })

for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // Who reads has enough, or its terminal is gone: what was begun is done all the same, and the rest of what is said is lost.
    if (error.code === 'EPIPE' || error.code === 'EIO') return
    if (stream === process.stdout) process.stderr.write(`mayfly: cannot write to stdout: ${error.message}\n`)
    process.exit(FAILURE)
  })

try {
  const [name = '', ...words] = process.argv.slice(2)
  const called = program.commands.find((one) => one.name() === name)
  await program.parseAsync(called ? [name, ...withoutBooleanValues(called, words)] : process.argv.slice(2), {
    from: 'user',
  })
} catch (error) {
  // Commander has printed its own errors, and the help that was asked for.
  const isPrinted = error instanceof CommanderError
  if (!isPrinted) process.stderr.write(describeError(error))
  process.exitCode = isPrinted ? (error.exitCode === 0 ? 0 : FAILURE) : exitCodeOf(error, command)
}
// An open stdin must not keep a process alive whose container has ended.
process.exit()
