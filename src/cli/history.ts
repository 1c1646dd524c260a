/** `mayfly history`: the steps that an image was made in. */
import type { Command } from 'commander'
import type { ImageHistoryEntry } from '../engine/image-inspection.js'
import { ago, bytes } from './progress/amounts.js'
import { printableLine } from './progress/printable.js'
import { type Columns, formatRows } from './table.js'
import { withEngine } from './with-engine.js'

interface HistoryFlags {
  readonly format?: string
  readonly human?: boolean
  readonly quiet?: boolean
  readonly trunc?: boolean
}

const COLUMNS: Columns = [
  ['ID', 'IMAGE'],
  ['CreatedSince', 'CREATED'],
  ['CreatedBy', 'CREATED BY'],
  ['Size', 'SIZE'],
  ['Comment', 'COMMENT'],
]
const MISSING = '<missing>'
/** As Docker. */
const CREATED_BY = 45

export function declareHistory(program: Command): void {
  program
    .command('history')
    .description('Show the steps that an image was made in, the last one first')
    .argument('<image>', 'name, id or beginning of an id')
    .option('--format <format>', 'table, json, or a template with fields such as {{.CreatedBy}}')
    .option('-H, --human', 'sizes and dates for people', true)
    .option('--no-human', 'sizes in bytes and dates as they are')
    .option('--no-trunc', 'whole ids and commands')
    .option('-q, --quiet', 'ids only')
    .action(async (name: string, flags: HistoryFlags) => {
      const entries = await withEngine((engine) => engine.images.history(name))
      process.stdout.write(formatHistory(entries, flags))
    })
}

function formatHistory(entries: readonly ImageHistoryEntry[], flags: HistoryFlags): string {
  const { format, human = true, quiet = false, trunc = true } = flags
  const rows = entries.map(({ id, createdAt, createdBy, sizeBytes, comment, tags }) => {
    const created = createdAt?.toISOString() ?? ''
    const by = printableLine(createdBy)
    return {
      ID: id === undefined ? MISSING : trunc ? id.slice('sha256:'.length, 'sha256:'.length + 12) : id,
      CreatedSince: human ? (createdAt ? ago(createdAt) : 'N/A') : created,
      CreatedAt: created,
      CreatedBy: trunc && by.length > CREATED_BY ? `${by.slice(0, CREATED_BY - 1)}…` : by,
      Size: human ? bytes(sizeBytes) : String(sizeBytes),
      Comment: comment,
      Tags: tags.join(', '),
    }
  })
  return quiet ? rows.map(({ ID }) => `${ID}\n`).join('') : formatRows(rows, COLUMNS, format)
}
