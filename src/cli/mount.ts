/** Docker's notations for mounts: `--volume`, `--mount` and `--tmpfs`. */
import { isAbsolute, resolve } from 'node:path'
import type { Mount } from '../engine/options.js'
import { parseSize } from './size.js'
import { UsageError } from './usage-error.js'

type Bind = Extract<Mount, { type: 'bind' }>
type Propagation = NonNullable<Bind['propagation']>

const PROPAGATIONS: readonly string[] = ['rprivate', 'private', 'rslave', 'slave']
/** Accepted and without meaning here: SELinux labels, and options of Docker Desktop. */
const IGNORED: readonly string[] = ['rw', 'z', 'Z', 'cached', 'delegated', 'consistent']

/** `host path:container path[:options]`; a host path that begins with a dot is relative to `directory`. */
export function parseVolume(text: string, directory = process.cwd()): Mount {
  const wrong = (why: string, hint?: string) => new UsageError(`--volume "${text}": ${why}`, hint)
  const [source, target, options = '', ...rest] = text.split(':')
  if (!source || rest.length > 0) throw wrong('expected host-path:container-path[:options]')
  if (target === undefined) {
    throw wrong(
      'a volume without a host path is not needed, for writes go to a layer that is thrown away',
      'use --tmpfs for one in memory',
    )
  }
  if (!isAbsolute(source) && !source.startsWith('.')) {
    throw wrong('named volumes are not available in this version', `write ./${source} for a directory`)
  }
  if (!isAbsolute(target)) throw wrong(`the container path "${target}" must be absolute`)
  let mount: Bind = { type: 'bind', source: resolve(directory, source), target }
  for (const option of options.split(',').filter(Boolean)) {
    if (option === 'ro') mount = { ...mount, readonly: true }
    else if (PROPAGATIONS.includes(option)) mount = { ...mount, propagation: option as Propagation }
    else if (!IGNORED.includes(option))
      throw wrong(`unknown option "${option}"`, 'ro, rw, rprivate, private, rslave and slave are known')
  }
  return mount
}

/** `type=bind,source=…,target=…[,readonly][,bind-propagation=…]` or `type=tmpfs,target=…[,tmpfs-size=…][,tmpfs-mode=…]`. */
export function parseMount(text: string, directory = process.cwd()): Mount {
  const wrong = (why: string) => new UsageError(`--mount "${text}": ${why}`)
  const fields = new Map<string, string>()
  for (const field of splitFields(text)) {
    const equals = field.indexOf('=')
    const key = (equals < 0 ? field : field.slice(0, equals)).toLowerCase()
    fields.set(ALIASES[key] ?? key, equals < 0 ? 'true' : field.slice(equals + 1))
  }
  const take = (key: string) => {
    const value = fields.get(key)
    fields.delete(key)
    return value
  }
  const type = take('type') ?? 'volume'
  const target = take('target')
  if (!target || !isAbsolute(target)) throw wrong('target must be an absolute path')
  const mount = type === 'bind' ? bind() : type === 'tmpfs' ? tmpfs() : undefined
  if (!mount) throw wrong(`type ${type} is not available in this version; bind and tmpfs are`)
  const [unknown] = fields.keys()
  if (unknown !== undefined) throw wrong(`unknown field "${unknown}"`)
  return mount

  function bind(): Mount {
    const source = take('source')
    const propagation = take('bind-propagation')
    const readonly = take('readonly')
    if (!source) throw wrong('source is missing')
    if (propagation !== undefined && !PROPAGATIONS.includes(propagation)) {
      throw wrong(`bind-propagation must be one of ${PROPAGATIONS.join(', ')}`)
    }
    return {
      type: 'bind',
      source: resolve(directory, source),
      target: target as string,
      ...(readonly === 'true' || readonly === '1' ? { readonly: true } : {}),
      ...(propagation ? { propagation: propagation as Propagation } : {}),
    }
  }

  function tmpfs(): Mount {
    const size = take('tmpfs-size')
    const mode = take('tmpfs-mode')
    if (mode !== undefined && !/^[0-7]{1,5}$/.test(mode)) throw wrong('tmpfs-mode must be octal')
    return {
      type: 'tmpfs',
      target: target as string,
      ...(size ? { sizeBytes: parseSize('tmpfs-size', size) } : {}),
      ...(mode ? { mode: Number.parseInt(mode, 8) } : {}),
    }
  }
}

const ALIASES: Readonly<Record<string, string>> = {
  src: 'source',
  dst: 'target',
  destination: 'target',
  ro: 'readonly',
}

/** Comma-separated fields as in CSV: a field that holds a comma stands in double quotes. */
export function splitFields(text: string): string[] {
  const fields = text.match(/(?:"(?:[^"]|"")*"|[^,])+/g) ?? []
  return fields.map((field) =>
    field.startsWith('"') && field.endsWith('"') ? field.slice(1, -1).replaceAll('""', '"') : field,
  )
}

/** `path[:options]` as a pair. */
export function parseTmpfs(text: string): [path: string, options: string] {
  const colon = text.indexOf(':')
  const path = colon < 0 ? text : text.slice(0, colon)
  if (!isAbsolute(path)) throw new UsageError(`--tmpfs "${text}": the path must be absolute`)
  return [path, colon < 0 ? '' : text.slice(colon + 1)]
}
