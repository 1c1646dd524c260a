/** Docker's notations for mounts: `--volume`, `--mount` and `--tmpfs`. */
import { isAbsolute, resolve } from 'node:path'
import type { Mount } from '../engine/options.js'
import { parseSize } from './size.js'
import { UsageError } from './usage-error.js'

type Bind = Extract<Mount, { type: 'bind' }>
type Volume = Extract<Mount, { type: 'volume' }>
type Propagation = NonNullable<Bind['propagation']>

const PROPAGATIONS: readonly string[] = ['rprivate', 'private', 'rslave', 'slave']
/** Accepted and without meaning here: SELinux labels, and options of Docker Desktop. */
const IGNORED: readonly string[] = ['rw', 'z', 'Z', 'cached', 'delegated', 'consistent']

/**
 * `[source:]container path[:options]`. A source that begins with a slash or a dot is a path of this machine, made when it is missing, relative
 * to `directory`; any other one is a volume's name. Without a source it is a volume that goes with the container.
 */
export function parseVolume(text: string, directory = process.cwd()): Mount {
  const wrong = (why: string, hint?: string) => new UsageError(`--volume "${text}": ${why}`, hint)
  const parts = text.split(':')
  if (parts.length > 3 || parts.includes('')) throw wrong('expected [source:]container-path[:options]')
  const [source, target, options = ''] = parts.length === 1 ? [undefined, text] : (parts as [string, string, string?])
  if (!isAbsolute(target)) throw wrong(`the container path "${target}" must be absolute`)
  const words = options.split(',').filter(Boolean)
  if (words.includes('ro') && words.includes('rw')) throw wrong('either ro or rw')
  if (source === undefined) return { type: 'volume', target }
  if (source.includes('/') && !/^[./]/.test(source)) {
    throw wrong(`"${source}" is no name of a volume`, `for a directory of this machine write ./${source}`)
  }
  return /^[./]/.test(source) ? bind(resolve(directory, source)) : volume(source)

  function bind(path: string): Mount {
    let mount: Bind = { type: 'bind', source: path, target, createSource: true }
    for (const word of words) {
      if (word === 'ro') mount = { ...mount, readonly: true }
      else if (PROPAGATIONS.includes(word)) mount = { ...mount, propagation: word as Propagation }
      else if (!IGNORED.includes(word)) throw unknown(word, 'ro, rw, rprivate, private, rslave and slave are known')
    }
    return mount
  }

  function volume(name: string): Mount {
    let mount: Volume = { type: 'volume', source: name, target }
    for (const word of words) {
      if (word === 'ro') mount = { ...mount, readonly: true }
      else if (word === 'nocopy') mount = { ...mount, noCopy: true }
      else if (!IGNORED.includes(word)) throw unknown(word, 'ro, rw and nocopy are known')
    }
    return mount
  }

  function unknown(word: string, hint: string): UsageError {
    return wrong(`unknown option "${word}"`, hint)
  }
}

/**
 * `type=volume[,source=NAME],target=…[,readonly][,volume-nocopy][,volume-subpath=…]` (the type may be left out),
 * `type=bind,source=…,target=…[,readonly][,bind-propagation=…]`, `type=image,source=…,target=…[,image-subpath=…]` or
 * `type=tmpfs,target=…[,tmpfs-size=…][,tmpfs-mode=…][,readonly]`. What a bind mount names must be there.
 */
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
  const type = take('type')?.toLowerCase() ?? 'volume'
  // Of Docker Desktop; without meaning here.
  take('consistency')
  const target = take('target')
  if (!target || !isAbsolute(target)) throw wrong('target must be an absolute path')
  const kinds: Readonly<Record<string, () => Mount>> = { bind, image, tmpfs, volume }
  const kind = Object.hasOwn(kinds, type) ? kinds[type] : undefined
  if (!kind) throw wrong(`type ${type} is not known; ${Object.keys(kinds).join(', ')} are`)
  const mount = kind()
  const [unknown] = fields.keys()
  if (unknown !== undefined) throw wrong(`unknown field "${unknown}"`)
  return mount

  function bind(): Mount {
    const source = take('source')
    const propagation = take('bind-propagation')
    if (!source) throw wrong('source is missing')
    if (propagation !== undefined && !PROPAGATIONS.includes(propagation)) {
      throw wrong(`bind-propagation must be one of ${PROPAGATIONS.join(', ')}`)
    }
    return {
      type: 'bind',
      source: resolve(directory, source),
      target: target as string,
      ...(isSet('readonly') ? { readonly: true } : {}),
      ...(propagation ? { propagation: propagation as Propagation } : {}),
    }
  }

  function isSet(key: string): boolean {
    const value = take(key)
    if (value === undefined || /^(true|1|false|0)$/.test(value)) return value === 'true' || value === '1'
    throw wrong(`${key} must be true or false`)
  }

  function volume(): Mount {
    const source = take('source')
    const subpath = take('volume-subpath')
    const driver = take('volume-driver')
    for (const field of ['volume-opt', 'volume-label']) {
      if (fields.has(field))
        throw wrong(`${field} is not available: make the volume first, with \`mayfly volume create\``)
    }
    if (driver !== undefined && driver !== 'local')
      throw wrong(`there is no volume driver "${driver}" here, only local`)
    return {
      type: 'volume',
      target: target as string,
      ...(source ? { source } : {}),
      ...(isSet('readonly') ? { readonly: true } : {}),
      ...(isSet('volume-nocopy') ? { noCopy: true } : {}),
      ...(subpath ? { subpath } : {}),
    }
  }

  function image(): Mount {
    const source = take('source')
    const subpath = take('image-subpath')
    if (!source) throw wrong('source is missing')
    isSet('readonly') // they always are
    return { type: 'image', source, target: target as string, ...(subpath ? { subpath } : {}) }
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
      ...(isSet('readonly') ? { options: ['ro'] } : {}),
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
