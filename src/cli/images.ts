/** `mayfly images`: one row for each name of each image. */
import type { Command } from 'commander'
import { familiarName, type ImageReference, parseReference } from '../engine/image/reference.js'
import type { StoredImage } from '../engine/store/images.js'
import { repeatable } from './append.js'
import { matchesPattern } from './pattern.js'
import { ago, bytes } from './progress/amounts.js'
import { type Columns, formatRows, parseFilters, type Row } from './table.js'
import { UsageError } from './usage-error.js'
import { withEngine } from './with-engine.js'

export interface ImagesFlags {
  readonly digests?: boolean
  readonly filter?: readonly string[]
  readonly format?: string
  readonly quiet?: boolean
  readonly trunc?: boolean
}

const NONE = '<none>'

export function declareImages(program: Command): void {
  const command = program
    .command('images')
    .description('List images')
    .argument('[name]', 'only images of this name, such as postgres, postgres:16 or post*')
    .option('-a, --all', 'accepted: there are no hidden images')
    .option('--digests', 'show digests')
    .option('--format <format>', 'table, json, or a template with fields such as {{.Repository}}')
    .option('--no-trunc', 'whole ids')
    .option('-q, --quiet', 'ids only')
  repeatable(command, '-f, --filter <filter>', 'dangling=true, reference=PATTERN, or label=KEY[=VALUE]')
  command.action(async (name: string | undefined, flags: ImagesFlags) => {
    const images = await withEngine((engine) => engine.images.list({ incomplete: true }))
    process.stdout.write(formatImages(images, flags, name))
  })
}

function formatImages(images: readonly StoredImage[], flags: ImagesFlags, name?: string): string {
  const { digests = false, filter, format, quiet = false, trunc = true } = flags
  const isPattern = name !== undefined && /[*?[]/.test(name)
  const named = name === undefined || isPattern ? undefined : parseReference(name)
  const filters = parseFilters(filter, ['dangling', 'reference', 'label'])
  const pattern = isPattern ? name : undefined
  const found = images.filter((image) => isWanted(image, filters))
  const rows = found.flatMap((image) =>
    rowsOf(
      image,
      { trunc, digests },
      (reference) => isShown(reference, filters.reference, named, name) && isLike(reference, pattern),
    ),
  )
  if (quiet) return [...new Set(rows.map(({ ID }) => `${ID}\n`))].join('')
  const columns: Columns = [
    ['Repository', 'REPOSITORY'],
    ['Tag', 'TAG'],
    ...(digests ? ([['Digest', 'DIGEST']] as const) : []),
    ['ID', 'IMAGE ID'],
    ['CreatedSince', 'CREATED'],
    ['Size', 'SIZE'],
  ]
  return formatRows(rows, columns, format)
}

function isWanted({ references, config }: StoredImage, filters: { dangling?: string[]; label?: string[] }): boolean {
  for (const value of filters.dangling ?? []) {
    if (!/^(true|false|1|0)$/.test(value)) throw new UsageError(`--filter dangling=${value}: expected true or false`)
    if ((references.length === 0) !== (value === 'true' || value === '1')) return false
  }
  const labels = config.config?.Labels ?? {}
  return (filters.label ?? []).every((label) => {
    const equals = label.indexOf('=')
    if (equals < 0) return Object.hasOwn(labels, label)
    const key = label.slice(0, equals)
    return Object.hasOwn(labels, key) && labels[key] === label.slice(equals + 1)
  })
}

/** Images without a name are shown unless names are asked for. */
function isShown(
  reference: ImageReference | undefined,
  patterns: readonly string[] | undefined,
  named: ImageReference | undefined,
  text = '',
): boolean {
  if (!reference) return !patterns && !named
  if (patterns && !patterns.some((pattern) => matchesReference(pattern, reference))) return false
  if (!named) return true
  const isSame = named.registry === reference.registry && named.repository === reference.repository
  // parseReference says `latest` where nothing was said.
  const saysTag = /:[^/]*$/.test(text)
  return isSame && (!saysTag || named.tag === reference.tag)
}

function isLike(reference: ImageReference | undefined, pattern: string | undefined): boolean {
  return pattern === undefined || (reference !== undefined && matchesReference(pattern, reference))
}

/** As Docker: the whole name, or the name without its tag. */
function matchesReference(pattern: string, reference: ImageReference): boolean {
  const name = familiarName(reference)
  return matchesPattern(pattern, name) || matchesPattern(pattern, `${name}:${reference.tag}`)
}

/** With `digests`, as Docker has it, a row for each digest of each name. */
function rowsOf(
  image: StoredImage,
  { trunc, digests }: { readonly trunc: boolean; readonly digests: boolean },
  isShown: (reference: ImageReference | undefined) => boolean,
): Row[] {
  const references = image.references.map(parseReference).filter(isShown)
  const byName = new Map<string, string[]>()
  for (const reference of image.digests.map(parseReference)) {
    const name = familiarName(reference)
    byName.set(name, [...(byName.get(name) ?? []), reference.digest ?? NONE])
  }
  const digestsOf = (name: string) => (byName.get(name) ?? [NONE]).slice(0, digests ? undefined : 1)
  const common = {
    ID: trunc ? image.id.slice('sha256:'.length, 'sha256:'.length + 12) : image.id,
    CreatedAt: image.createdAt.toISOString(),
    CreatedSince: ago(image.createdAt),
    Size: bytes(image.sizeBytes) + (image.missing.length > 0 ? ' (incomplete)' : ''),
  }
  if (image.references.length === 0) {
    if (!isShown(undefined)) return []
    const [name = NONE] = byName.keys()
    return digestsOf(name).map((digest) => ({ Repository: name, Tag: NONE, Digest: digest, ...common }))
  }
  return references.flatMap((reference) => {
    const name = familiarName(reference)
    return digestsOf(name).map((digest) => ({
      Repository: name,
      Tag: reference.tag ?? NONE,
      Digest: digest,
      ...common,
    }))
  })
}
