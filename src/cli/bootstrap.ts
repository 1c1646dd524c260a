/** `mayfly bootstrap`: a base image without a registry. */
import { type Command, Option } from 'commander'
import type { BootstrapOptions } from '../engine/bootstrap.js'
import { seconds } from './progress/amounts.js'
import { printableLine } from './progress/printable.js'
import { isScreen, Screen } from './progress/screen.js'
import { withEngine } from './with-engine.js'

interface BootstrapFlags {
  readonly mirror?: string
  readonly quiet?: boolean
  readonly tool?: 'mmdebstrap' | 'debootstrap'
}

/** Of the program's output, on a terminal. */
const SHOWN_LINES = 6

export function declareBootstrap(program: Command): void {
  program
    .command('bootstrap')
    .description('Make a base image from the package mirror of Debian or Ubuntu, without a registry')
    .argument('<image>', 'such as debian:bookworm-slim or ubuntu:24.04')
    .option('--mirror <url>', 'else the one that apt uses here, or the distribution’s own')
    .addOption(new Option('--tool <program>', 'what makes it').choices(['mmdebstrap', 'debootstrap']))
    .option('-q, --quiet', 'no progress')
    .action(async (name: string, { mirror, quiet = false, tool }: BootstrapFlags) => {
      const image = await withEngine(async (engine, signal) => {
        using view = quiet ? undefined : showLines()
        return await engine.images.bootstrap(name, {
          signal,
          ...(view ? { onProgress: view.listener } : {}),
          ...(mirror === undefined ? {} : { mirror }),
          ...(tool ? { tool } : {}),
        })
      })
      process.stdout.write(`${image.id}\n`)
    })
}

/** The first line stays; on a terminal only the last ones of those that follow. */
function showLines(): Disposable & { readonly listener: NonNullable<BootstrapOptions['onProgress']> } {
  const lines: string[] = []
  const startedAt = Date.now()
  const { stderr } = process
  const screen = isScreen(stderr)
    ? new Screen(stderr, ({ rows }) => [
        { text: lines[0] ?? '', right: seconds(Date.now() - startedAt) },
        ...lines
          .slice(1)
          .slice(-Math.min(SHOWN_LINES, rows - 1))
          .map((text) => ({ text: `  ${text}`, color: 'gray' as const })),
      ])
    : undefined
  return {
    listener: (event) => {
      if (event.type !== 'status') return
      const line = printableLine(event.text)
      if (screen) {
        lines.push(line)
        if (lines.length > SHOWN_LINES + 1) lines.splice(1, 1)
        screen.update()
      } else stderr.write(`${line}\n`)
    },
    [Symbol.dispose]: () => screen?.close(() => [{ text: lines[0] ?? '', right: seconds(Date.now() - startedAt) }]),
  }
}
