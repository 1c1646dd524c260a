/** Docker's notations for mounts: `--volume`, `--mount` and `--tmpfs`. */
import { isAbsolute, resolve } from 'node:path'
import type { Mount } from '../engine/options.js'
import { NO, YES } from './boolean-flags.js'
import { pair } from './notation.js'
import { parseSize } from './size.js'
import { UsageError } from './usage-error.js'

type Bind = Extract<Mount, { type: 'bind' }>
type Volume = Extract<Mount, { type: 'volume' }>
type Propagation = NonNullable<Bind['propagation']>

const PROPAGATIONS: readonly string[] = ['rprivate', 'private', 'rslave', 'slave']
/** Of each kind a volume has one at most. SELinux labels and the options of Docker Desktop have no meaning here. */
const KINDS: readonly (readonly string[])[] = [
  ['ro', 'rw'],
  ['z', 'Z'],
  ['cached', 'delegated', 'consistent'],
  ['nocopy'],
  [...PROPAGATIONS, 'shared', 'rshared'],
]
const IGNORED: readonly string[] = ['rw', 'z', 'Z', 'cached', 'delegated', 'consistent']

/**
 * `[source:]container path[:options]`. A source that begins with a slash or a dot is a path of this machine, made when it is missing, relative
 * to `directory`; any other one is a volume's name. Without a source it is a volume that goes with the container.
 */
export function parseVolume(text: string, directory = ''): Mount {
  const wrong = (why: string, hint?: string) => new UsageError(`--volume "${text}": ${why}`, hint)
  const parts = text.split(':')
  // Nothing behind the last colon is what scripts write who have no option to give.
  if (parts.length > 3 || parts.slice(0, 2).includes('')) throw wrong('expected [source:]container-path[:options]')
  const [source, target, options = ''] = parts.length === 1 ? [undefined, text] : (parts as [string, string, string?])
  if (!isAbsolute(target)) throw wrong(`the container path "${target}" must be absolute`)
  const words = options === '' ? [] : options.split(',')
  for (const kind of KINDS) {
    const [first, second] = words.filter((word) => kind.includes(word))
    if (second !== undefined) throw wrong(first === second ? `${first} twice` : `either ${first} or ${second}`)
  }
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
 * `type=volume[,source=NAME],target=…[,readonly][,volume-nocopy][,volume-subpath=…][,volume-label=KEY=VALUE]` (the type may be left out),
 * `type=bind,source=…,target=…[,readonly][,bind-propagation=…][,bind-nonrecursive][,bind-create-src]`, `type=image,source=…,target=…[,image-subpath=…]` or
 * `type=tmpfs,target=…[,tmpfs-size=…][,tmpfs-mode=…][,readonly]`. What a bind mount names must be there.
 */
export function parseMount(text: string, directory = ''): Mount {
  const wrong = (why: string) => new UsageError(`--mount "${text}": ${why}`)
  const fields = new Map<string, string>()
  const labels: [string, string][] = []
  for (const field of splitFields(text)) {
    const equals = field.indexOf('=')
    const key = (equals < 0 ? field : field.slice(0, equals)).toLowerCase()
    const value = equals < 0 ? 'true' : field.slice(equals + 1)
    if (key === '') throw wrong('a field is empty')
    if (key === 'volume-label') labels.push(pair('volume-label', value, ''))
    else fields.set(ALIASES[key] ?? key, value)
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
  if (labels.length > 0 && type !== 'volume') throw wrong('unknown field "volume-label"')
  return mount

  function bind(): Mount {
    const source = take('source')
    const propagation = take('bind-propagation')?.toLowerCase()
    const isRecursive = recursive()
    if (!source) throw wrong('source is missing')
    if (propagation && !PROPAGATIONS.includes(propagation)) {
      throw wrong(`bind-propagation must be one of ${PROPAGATIONS.join(', ')}`)
    }
    return {
      type: 'bind',
      source: resolve(directory, source),
      target: target as string,
      ...(isSet('readonly') ? { readonly: true } : {}),
      ...(propagation ? { propagation: propagation as Propagation } : {}),
      ...(isRecursive ? {} : { recursive: false }),
      ...(isSet('bind-create-src') ? { createSource: true } : {}),
    }
  }

  /** What is mounted below the source is there, too, and read-only where the mount is, as with docker's `enabled`. */
  function recursive(): boolean {
    const mode = take('bind-recursive')
    const modes = ['enabled', 'disabled', 'readonly']
    if (mode !== undefined && !modes.includes(mode)) throw wrong(`bind-recursive must be one of ${modes.join(', ')}`)
    return !isSet('bind-nonrecursive') && mode !== 'disabled'
  }

  function isSet(key: string): boolean {
    const value = take(key)
    if (value === undefined || NO.test(value)) return false
    if (YES.test(value)) return true
    throw wrong(`${key} must be true or false`)
  }

  function volume(): Mount {
    const source = take('source')
    const subpath = take('volume-subpath')
    const driver = take('volume-driver')
    if (fields.has('volume-opt')) throw wrong('volume-opt is not available: volumes are directories here')
    if (driver && driver !== 'local') throw wrong(`there is no volume driver "${driver}" here, only local`)
    return {
      type: 'volume',
      target: target as string,
      ...(source ? { source } : {}),
      ...(isSet('readonly') ? { readonly: true } : {}),
      ...(isSet('volume-nocopy') ? { noCopy: true } : {}),
      ...(subpath ? { subpath } : {}),
      ...(labels.length > 0 ? { labels: Object.fromEntries(labels) } : {}),
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
    const sizeBytes = size === undefined ? 0 : parseSize('tmpfs-size', size)
    return {
      type: 'tmpfs',
      target: target as string,
      ...(sizeBytes > 0 ? { sizeBytes } : {}), // 0 is no limit of one's own, as with docker
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
  const fields = text.match(/(?<=^|,)(?:"(?:[^"]|"")*"|[^,])*/g) ?? []
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
