/** `RUN --mount=…` and `--device=…`: comma separated `key=value` fields. */

import { lex, type Variables } from './expand.js'
import { didYouMean } from './nearest.js'
import { Problem } from './problem.js'
import type { Device, EscapeCharacter, Mount } from './types.js'

const TYPES = ['bind', 'cache', 'tmpfs', 'secret', 'ssh'] as const
type MountType = Mount['type']

/** Other spellings of keys. */
const ALIASES: Readonly<Record<string, string>> = {
  src: 'source',
  dst: 'target',
  destination: 'target',
  ro: 'readonly',
  rw: 'readwrite',
}
/** The types of mount that each key is for. */
const KEYS: Readonly<Record<string, readonly MountType[]>> = {
  type: TYPES,
  target: TYPES,
  readonly: TYPES,
  readwrite: TYPES,
  id: TYPES,
  source: TYPES,
  from: ['bind', 'cache', 'tmpfs', 'ssh'],
  sharing: ['cache'],
  required: ['secret', 'ssh'],
  mode: ['cache', 'secret', 'ssh'],
  uid: ['cache', 'secret', 'ssh'],
  gid: ['cache', 'secret', 'ssh'],
  env: ['secret'],
  size: ['tmpfs'],
}
/** Keys that may stand without a value. */
const BARE = ['readonly', 'readwrite', 'required']

/** What can be said before the variables are known: the keys, and where the files come from. */
export function mountSource(text: string): string | undefined {
  const from = fieldsOf(text).get('from')
  if (from !== undefined && /\$./.test(from))
    throw new Problem(`"from" of a mount holds a variable: ${from}`, {
      value: from,
      expected: 'the name of a stage, an image or a context as it is',
      hint: 'give the image a name of its own with FROM … AS name, where variables are expanded, and use that',
    })
  return from || undefined
}

/** One mount, its variables expanded. Throws a Problem. */
export function mountOf(text: string, variables: Variables, escapeWith: EscapeCharacter): Mount {
  mountSource(text)
  const fields = new Map(
    [...fieldsOf(text)].map(([key, value]) => [
      key,
      value === undefined ? value : lex(value, variables, { escape: escapeWith }).text,
    ]),
  )
  const type = choice('mount type', fields.get('type') ?? 'bind', TYPES)
  for (const key of fields.keys()) {
    if (!KEYS[key]!.includes(type))
      throw new Problem(`"${key}" is not for mounts of type ${type}`, {
        value: text,
        expected: `one of ${Object.keys(KEYS)
          .filter((known) => KEYS[known]!.includes(type))
          .join(', ')}`,
      })
  }
  return Object.freeze(build(type, new Fields(fields, text)))
}

function build(type: MountType, fields: Fields): Mount {
  const from = fields.text('from')
  const source = fields.text('source') ?? '/'
  const target = fields.text('target')
  const owner = { uid: fields.number('uid'), gid: fields.number('gid') }
  switch (type) {
    case 'bind':
      return { type, from, source, target: target ?? '.', readOnly: fields.readOnly(true) }
    case 'cache': {
      const sharing = choice('sharing', fields.text('sharing') ?? 'shared', ['shared', 'private', 'locked'] as const)
      const place = target ?? '.'
      const id = fields.text('id') ?? place
      const mode = fields.mode(0o755)
      return { type, id, target: place, sharing, from, source, mode, ...owner, readOnly: fields.readOnly(false) }
    }
    case 'tmpfs':
      return { type, target: target ?? '.', sizeBytes: fields.size() }
    case 'secret': {
      const [named, identified, env] = [fields.text('source'), fields.text('id'), fields.text('env')]
      if (named !== undefined && identified !== undefined)
        throw new Problem('a secret mount has both "source" and "id"', {
          value: fields.source,
          expected: 'one of them',
        })
      const id = named ?? identified ?? target?.split('/').findLast((part) => part !== '')
      if (id === undefined)
        throw new Problem('a secret mount names no secret', {
          value: fields.source,
          expected: 'id=…, source=… or target=…',
        })
      const file = target ?? (env === undefined ? `/run/secrets/${id.split('/').at(-1)}` : undefined)
      return { type, id, target: file, env, required: fields.required(), mode: fields.mode(0o400), ...owner }
    }
    case 'ssh': {
      const id = fields.text('id') ?? 'default'
      return { type, id, target, required: fields.required(), mode: fields.mode(0o600), ...owner }
    }
  }
}

/** `vendor.com/class=name`, `name=…,required`. Throws a Problem. */
export function deviceOf(text: string): Device {
  let name = ''
  let required = false
  for (const field of csv(text)) {
    const [, key = field, value] = /^([^=]*)=(.*)$/s.exec(field) ?? []
    const known = key.toLowerCase()
    if (known === 'required') required = value === undefined || boolean(known, value)
    else if (name !== '')
      throw new Problem(`a device has the name ${name} already`, { value: field, expected: 'required' })
    else name = known === 'name' && value !== undefined ? value : field
  }
  if (name === '') throw new Problem('a device has no name', { value: text, expected: 'name=…' })
  return Object.freeze({ name, required })
}

class Fields {
  constructor(
    private readonly fields: ReadonlyMap<string, string | undefined>,
    readonly source: string,
  ) {}

  /** undefined when missing or empty. */
  text(key: string): string | undefined {
    return this.fields.get(key) || undefined
  }

  readOnly(otherwise: boolean): boolean {
    let result = otherwise
    // The last one counts.
    for (const [key, value] of this.fields) {
      if (key === 'readonly') result = value === undefined || boolean(key, value)
      if (key === 'readwrite') result = !(value === undefined || boolean(key, value))
    }
    return result
  }

  required(): boolean {
    const value = this.fields.get('required')
    return this.fields.has('required') && (value === undefined || boolean('required', value))
  }

  mode(otherwise: number): number {
    const text = this.fields.get('mode')
    if (text === undefined) return otherwise
    if (!/^[0-7]+$/.test(text) || Number.parseInt(text, 8) > 0o7777)
      throw new Problem(`invalid mode "${text}" of a mount`, { value: text, expected: 'octal digits such as 0755' })
    return Number.parseInt(text, 8)
  }

  number(key: string): number {
    const text = this.fields.get(key) ?? '0'
    if (!/^\d{1,10}$/.test(text) || Number(text) > 0xffff_ffff)
      throw new Problem(`invalid ${key} "${text}" of a mount`, { value: text, expected: 'a number' })
    return Number(text)
  }

  /** `64m`, `1GiB`, `1000`: powers of 1024, as Docker reads them. */
  size(): number | undefined {
    const text = this.fields.get('size')
    if (text === undefined) return undefined
    const [, number, unit = ''] = /^(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?$/i.exec(text) ?? []
    if (number === undefined)
      throw new Problem(`invalid size "${text}" of a mount`, { value: text, expected: 'bytes, or such as 64m or 1g' })
    return Math.floor(Number(number) * 1024 ** ['', 'k', 'm', 'g', 't', 'p'].indexOf(unit.toLowerCase()))
  }
}

function boolean(key: string, text: string): boolean {
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true
  if (/^(0|f|F|FALSE|false|False)$/.test(text)) return false
  throw new Problem(`invalid value "${text}" of "${key}"`, { value: text, expected: 'true or false' })
}

function choice<T extends string>(what: string, text: string, known: readonly T[]): T {
  const found = known.find((candidate) => candidate === text.toLowerCase())
  if (found !== undefined) return found
  throw new Problem(`unsupported ${what} "${text}"`, {
    value: text,
    expected: `one of ${known.join(', ')}`,
    hint: didYouMean(text, known),
  })
}

/** Keys in lower case, aliases resolved, in the order of the text; undefined for one without a value. */
function fieldsOf(text: string): Map<string, string | undefined> {
  const fields = new Map<string, string | undefined>()
  for (const field of csv(text)) {
    const [, name = field, value] = /^([^=]*)=(.*)$/s.exec(field) ?? []
    const lower = name.toLowerCase()
    const key = Object.hasOwn(ALIASES, lower) ? ALIASES[lower]! : lower
    if (!Object.hasOwn(KEYS, key)) {
      const known = [...Object.keys(KEYS), ...Object.keys(ALIASES)]
      throw new Problem(`unexpected key "${name}" in "${field}"`, {
        value: field,
        expected: `one of ${known.join(', ')}`,
        hint: didYouMean(lower, known),
      })
    }
    if (value === undefined && !BARE.includes(key))
      throw new Problem(`"${field}" has no value`, { value: field, expected: `${field}=…` })
    // Deleted first, so that the order is that of the last mention.
    fields.delete(key)
    fields.set(key, value)
  }
  return fields
}

/** One record of RFC 4180. */
function csv(text: string): readonly string[] {
  const fields: string[] = []
  const field = /(?:"((?:[^"]|"")*)"|([^",]*))(,|$)/y
  let end = false
  while (!end) {
    const [, quoted, plain = '', separator] = field.exec(text) ?? []
    if (separator === undefined)
      throw new Problem(`"${text}" has a quote in the wrong place`, {
        value: text,
        expected: 'key=value,"key=value",…',
      })
    fields.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'))
    end = separator === ''
  }
  return fields
}
