/** `mayfly prune` and `mayfly df`: what the store holds, and getting rid of it. */
import type { Command } from 'commander'
import type { Pruned } from '../engine/store/prune.js'
import type { KindUsage } from '../engine/store/usage.js'
import type { Verification } from '../engine/store/verify.js'
import { bytes } from './progress/amounts.js'
import { printable } from './progress/printable.js'
import { isConfirmed } from './prompt.js'
import { type Columns, formatRows } from './table.js'
import { withEngine } from './with-engine.js'

interface PruneFlags {
  readonly all?: boolean
  readonly buildCache?: boolean
  readonly dryRun?: boolean
  readonly force?: boolean
  readonly verify?: boolean
  readonly volumes?: boolean
  readonly yes?: boolean
}

export function declarePrune(program: Command): void {
  program
    .command('prune')
    .description('Remove images without a name, and what nothing needs any more')
    .option('-a, --all', 'all images that no container of this command uses, unpacked tars too')
    .option('--build-cache', 'also the build cache, with its cache mounts')
    .option('--dry-run', 'only tell what would go')
    .option('-f, --force', 'do not ask')
    .option('-y, --yes', 'do not ask')
    .option('--volumes', 'also volumes that nobody has named; others go with mayfly volume prune --all')
    .option('--verify', 'first read everything and compare it with its digests; what is damaged goes')
    .action(async (flags: PruneFlags) => {
      process.exitCode = await prune(flags)
    })
}

async function prune(flags: PruneFlags): Promise<number> {
  const { all = false, buildCache = false, dryRun = false, verify = false, volumes = false } = flags
  const isSure = flags.force || flags.yes || dryRun
  if (!isSure && !(await isConfirmed(question(all, buildCache, volumes)))) {
    process.stderr.write('mayfly: nothing was removed\n')
    return 1
  }
  return withEngine(async (engine, signal) => {
    const verified = verify ? await engine.images.verify({ signal }) : undefined
    if (verified) process.stdout.write(formatVerification(verified))
    const pruned = await engine.images.prune({ all, buildCache, dryRun, signal })
    process.stdout.write(formatPruned(pruned, dryRun))
    const names = volumes ? await engine.volumes.prune({ dryRun }) : []
    process.stdout.write(names.map((name) => `${dryRun ? 'would delete' : 'deleted'}: volume ${name}\n`).join(''))
    return verified && verified.damages.length > 0 ? 1 : 0
  })
}

function question(all: boolean, buildCache: boolean, volumes: boolean): string {
  const what = [
    all ? 'all images that nothing uses, and unpacked tars' : 'all images without a name',
    'all prepared states that nothing uses',
    ...(buildCache ? ['the whole build cache'] : []),
    ...(volumes ? ['volumes without a name of their own'] : []),
  ]
  return `This removes ${what.join(' and ')}. Go on? [y/N] `
}

function formatPruned(pruned: Pruned, dryRun: boolean): string {
  const lines = pruned.images.map((id) => `deleted: ${id}`)
  const kinds: [number, string, string][] = [
    [pruned.layers.length, 'layer', 'layers'],
    [pruned.blobs.length, 'blob', 'blobs'],
    [pruned.tars.length, 'unpacked tar', 'unpacked tars'],
    [pruned.cacheEntries, 'entry of the build cache', 'entries of the build cache'],
    [pruned.cacheMounts, 'cache mount', 'cache mounts'],
    [pruned.preparedStates, 'prepared state', 'prepared states'],
  ]
  for (const [count, one, many] of kinds) if (count > 0) lines.push(`deleted: ${count} ${count === 1 ? one : many}`)
  for (const digest of pruned.busy) lines.push(`in use: ${digest}`)
  const freed = `${dryRun ? 'Space that would be freed' : 'Total reclaimed space'}: ${bytes(pruned.bytesFreed)}`
  return `${[...lines, freed].map((line) => (dryRun ? line.replace('deleted:', 'would delete:') : line)).join('\n')}\n`
}

function formatVerification({ blobs, layers, images, recorded, damages }: Verification): string {
  const found = damages.map(({ message }) => `damaged: ${printable(message)}\n`).join('')
  const first = recorded.length > 0 ? `, ${recorded.length} of them for the first time` : ''
  return `${found}Verified ${blobs} blobs, ${layers} layers${first}, and ${images} images: ${damages.length} damaged\n`
}

const COLUMNS: Columns = [
  ['Type', 'TYPE'],
  ['TotalCount', 'TOTAL'],
  ['Size', 'SIZE'],
  ['Reclaimable', 'RECLAIMABLE'],
]

export function declareDf(program: Command): void {
  program
    .command('df')
    .description('Show what the store holds')
    .option('--format <format>', 'table, json, or a template with fields such as {{.Size}}')
    .action(async ({ format }: { readonly format?: string }) => {
      const usage = await withEngine((engine) => engine.images.usage())
      const row = (type: string, { count, sizeBytes, reclaimableBytes }: KindUsage) => ({
        Type: type,
        TotalCount: String(count),
        Size: bytes(sizeBytes),
        Reclaimable: bytes(reclaimableBytes),
      })
      const rows = [
        row('Images', usage.images),
        row('Blobs', usage.blobs),
        row('Build cache', usage.buildCache),
        row('Unpacked tars', usage.tars),
        row('Prepared states', usage.preparedStates),
      ]
      process.stdout.write(formatRows(rows, COLUMNS, format))
    })
}
