/** `mayfly pull` and `mayfly push`. */
import type { Command } from 'commander'
import { familiarReference, parseReference } from '../engine/image/reference.js'
import { showTransfer } from './progress/transfer.js'
import { withEngine } from './with-engine.js'

interface PullFlags {
  readonly platform?: string
  readonly quiet?: boolean
}

export function declarePull(program: Command): void {
  program
    .command('pull')
    .description('Fetch an image from its registry')
    .argument('<image>', 'such as postgres:16 or localhost:5000/app@sha256:…')
    .option('--platform <platform>', 'such as linux/arm64; else this machine’s')
    .option('-q, --quiet', 'no progress')
    .action(async (name: string, flags: PullFlags) => {
      await withEngine((engine, signal) => pull(engine, name, flags, signal))
    })
}

type Engine = import('../engine/engine.js').Engine

async function pull(engine: Engine, name: string, { platform, quiet = false }: PullFlags, signal: AbortSignal) {
  using view = showTransfer({ quiet })
  let digest = ''
  const image = await engine.images.pull(name, {
    signal,
    onProgress: (event) => {
      if (event.type === 'digest') ({ digest } = event)
      view.listener?.(event)
    },
    ...(platform === undefined ? {} : { platform }),
  })
  view.close()
  const asked = parseReference(name)
  if (!quiet) process.stderr.write(`Digest: ${digest}\nImage: ${image.id}\n`)
  process.stdout.write(`${quiet ? image.id : familiarReference(asked)}\n`)
}

export function declarePush(program: Command): void {
  program
    .command('push')
    .description('Send an image to the registry that its name says')
    .argument('<image>', 'such as localhost:5000/app:1.2')
    .option('-q, --quiet', 'no progress')
    .action(async (name: string, { quiet = false }: PullFlags) => {
      await withEngine(async (engine, signal) => {
        using view = showTransfer({ quiet })
        const { listener: onProgress } = view
        const pushed = await engine.images.push(name, { signal, ...(onProgress ? { onProgress } : {}) })
        view.close()
        if (!quiet) process.stderr.write(`Digest: ${pushed.digest}\n`)
        process.stdout.write(`${pushed.reference}\n`)
      })
    })
}
