/** `mayfly volume …`: directories of the store that outlive containers. */
import type { Command } from 'commander'
import type { Volume } from '../engine/volumes.js'
import { repeatable } from './append.js'
import { safeJson } from './json.js'
import { pair } from './notation.js'
import { matchesPattern } from './pattern.js'
import { printable } from './progress/printable.js'
import { isConfirmed } from './prompt.js'
import { type Columns, formatRows, parseFilters } from './table.js'
import { compileTemplate } from './template.js'
import { forEach, withEngine } from './with-engine.js'

const COLUMNS: Columns = [
  ['Driver', 'DRIVER'],
  ['Name', 'VOLUME NAME'],
]

export function declareVolume(program: Command): void {
  const group = program.command('volume').description('Make, list and remove volumes')
  const create = group
    .command('create')
    .description('Make a volume; one that is there already stays as it is')
    .argument('[name]', 'made up unless given')
    .option('-d, --driver <name>', 'only local')
  repeatable(create, '--label <key=value>', 'label')
  create.action(async (name: string | undefined, { driver, label = [] }: CreateFlags) => {
    const labels = Object.fromEntries(label.map((text) => pair('--label', text, '')))
    const options = { labels, ...(name === undefined ? {} : { name }), ...(driver === undefined ? {} : { driver }) }
    const volume = await withEngine((engine, signal) => engine.volumes.create(options, { signal }))
    process.stdout.write(`${volume.name}\n`)
  })

  const list = group
    .command('ls')
    .alias('list')
    .description('List volumes')
    .option('--format <format>', 'table, json, or a template with fields such as {{.Name}}')
    .option('-q, --quiet', 'names only')
  repeatable(list, '-f, --filter <filter>', 'name=PATTERN or label=KEY[=VALUE]')
  list.action(async (flags: ListFlags) => {
    process.stdout.write(formatVolumes(await withEngine((engine) => engine.volumes.list()), flags))
  })

  group
    .command('inspect')
    .description('Show everything about volumes, as JSON')
    .argument('<volume...>', 'names')
    .option('-f, --format <format>', 'json, or a template with fields such as {{.Mountpoint}}')
    .action(async (names: string[], { format }: { readonly format?: string }) => {
      const show = format === undefined || format === 'json' ? undefined : compileTemplate('--format', format)
      const found: object[] = []
      process.exitCode = await withEngine((engine) =>
        forEach(names, async (name) => {
          const facts = factsOf(await engine.volumes.get(name))
          if (show) process.stdout.write(`${printable(show(facts))}\n`)
          else found.push(facts)
        }),
      )
      if (!show) process.stdout.write(`${safeJson(found, format === 'json' ? undefined : 4)}\n`)
    })

  group
    .command('rm')
    .alias('remove')
    .description('Remove volumes with all that is in them')
    .argument('<volume...>', 'names')
    .option('-f, --force', 'quiet about those that are not there')
    .action(async (names: string[], { force = false }: { readonly force?: boolean }) => {
      process.exitCode = await withEngine((engine) =>
        forEach(names, async (name) => {
          const isThere = !force || (await engine.volumes.list()).some((one) => one.name === name)
          if (isThere) await engine.volumes.remove(name)
          process.stdout.write(`${printable(name)}\n`)
        }),
      )
    })

  group
    .command('prune')
    .description('Remove volumes that nobody has named and no container uses')
    .option('-a, --all', 'those with a name, too')
    .option('-f, --force', 'do not ask')
    .action(async ({ all = false, force = false }: { readonly all?: boolean; readonly force?: boolean }) => {
      const what = all ? 'all volumes that no container uses' : 'volumes without a name of their own'
      if (!force && !(await isConfirmed(`This removes ${what}. Go on? [y/N] `))) {
        process.stderr.write('mayfly: nothing was removed\n')
        process.exitCode = 1
        return
      }
      const names = await withEngine((engine) => engine.volumes.prune({ all }))
      process.stdout.write(names.map((name) => `deleted: ${name}\n`).join(''))
    })
}

interface CreateFlags {
  readonly driver?: string
  readonly label?: readonly string[]
}

interface ListFlags {
  readonly filter?: readonly string[]
  readonly format?: string
  readonly quiet?: boolean
}

function formatVolumes(volumes: readonly Volume[], { filter, format, quiet = false }: ListFlags): string {
  const filters = parseFilters(filter, ['name', 'label'])
  const shown = volumes.filter(
    ({ name, labels }) =>
      (filters.name ?? []).every((pattern) => matchesPattern(pattern, name)) &&
      (filters.label ?? []).every((text) => {
        const [key = '', value] = text.split(/=(.*)/s)
        return Object.hasOwn(labels, key) && (value === undefined || labels[key] === value)
      }),
  )
  if (quiet) return shown.map(({ name }) => `${name}\n`).join('')
  return formatRows(
    shown.map((volume) => ({ Name: volume.name, Driver: 'local', Mountpoint: volume.path, Labels: labelsOf(volume) })),
    COLUMNS,
    format,
  )
}

function labelsOf({ labels }: Volume): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',')
}

/** In the words of `docker volume inspect`. */
function factsOf({ name, path, labels, createdAt, isAnonymous }: Volume): object {
  return {
    CreatedAt: createdAt.toISOString(),
    Driver: 'local',
    Labels: labels,
    Mountpoint: path,
    Name: name,
    Anonymous: isAnonymous,
    Scope: 'local',
  }
}
