/** Lists as docker prints them: a table, JSON objects one a line, or a template for each. */
import { safeJson } from './json.js'
import { padded, printableLine, widthOf } from './progress/printable.js'
import { compileTemplate } from './template.js'
import { UsageError } from './usage-error.js'

/** A row: what can be shown of it, by the name that docker's templates use. */
export type Row = Readonly<Record<string, string>>
/** Names of fields and their headings, in order. */
export type Columns = readonly (readonly [field: string, heading: string])[]

const GAP = 3

/** The whole text for `--format`: `table` (the default), `table TEMPLATE`, `json`, or a template with `{{.Field}}`. */
export function formatRows(rows: readonly Row[], columns: Columns, format = 'table'): string {
  if (format === 'table') return formatTable(rows, columns)
  if (format === 'json') return rows.map((row) => `${safeJson(row)}\n`).join('')
  if (format.startsWith('table ')) return formatTableOf(rows, columns, unescaped(format.slice('table '.length)))
  const template = compileTemplate('--format', unescaped(format))
  return rows.map((row) => `${printableLines(template(row))}\n`).join('')
}

function formatTable(rows: readonly Row[], columns: Columns): string {
  const cells = rows.map((row) => columns.map(([field]) => printableLine(row[field] ?? '')))
  return laidOut([columns.map(([, heading]) => heading), ...cells])
}

/** Cells of a table's template are separated by tabs; a heading is what its fields are called. */
function formatTableOf(rows: readonly Row[], columns: Columns, text: string): string {
  const headings = Object.fromEntries([
    ...Object.keys(rows[0] ?? {}).map((field) => [field, field.replace(/(?<=[a-z])(?=[A-Z])/g, ' ').toUpperCase()]),
    ...columns,
  ])
  const cells = text.split('\t').map((cell) => compileTemplate('--format', cell))
  return laidOut([headings, ...rows].map((row) => cells.map((cell) => printableLine(cell(row)))))
}

function laidOut(lines: readonly (readonly string[])[]): string {
  const count = lines[0]?.length ?? 0
  const widths = Array.from({ length: count }, (_, index) =>
    Math.max(...lines.map((cells) => widthOf(cells[index] ?? ''))),
  )
  return lines
    .map(
      (cells) =>
        `${cells
          .map((cell, index) => padded(cell, (widths[index] ?? 0) + GAP))
          .join('')
          .trimEnd()}\n`,
    )
    .join('')
}

/** A shell passes `\t` and `\n` on as they are written. */
function unescaped(text: string): string {
  return text.replaceAll('\\t', '\t').replaceAll('\\n', '\n')
}

function printableLines(text: string): string {
  return text
    .split('\n')
    .map((line) => line.split('\t').map(printableLine).join('\t'))
    .join('\n')
}

/** `key=value` of `--filter`, by key. Throws {@link UsageError} for a key that is not known. */
export function parseFilters<Key extends string>(
  texts: readonly string[] = [],
  known: readonly Key[],
): Partial<Record<Key, string[]>> {
  const filters: Partial<Record<Key, string[]>> = {}
  for (const text of texts) {
    const equals = text.indexOf('=')
    const key = known.find((name) => name === text.slice(0, equals))
    if (equals < 1 || key === undefined) {
      throw new UsageError(`--filter "${text}" is not known`, `${known.map((name) => `${name}=…`).join(', ')} are`)
    }
    filters[key] = [...(filters[key] ?? []), text.slice(equals + 1)]
  }
  return filters
}
