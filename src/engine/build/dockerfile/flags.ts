/** Flags of instructions: which there are, of what type, and their values. */

import { didYouMean } from './nearest.js'
import { Problem } from './problem.js'

/** `list`: may be given several times. */
export type FlagType = 'boolean' | 'text' | 'list'

/** Flags by instruction; the others have none. */
export const FLAGS = {
  FROM: { platform: 'text' },
  RUN: { mount: 'list', network: 'text', security: 'text', device: 'list' },
  COPY: {
    from: 'text',
    chown: 'text',
    chmod: 'text',
    link: 'boolean',
    parents: 'boolean',
    exclude: 'list',
  },
  ADD: {
    chown: 'text',
    chmod: 'text',
    link: 'boolean',
    exclude: 'list',
    checksum: 'text',
    'keep-git-dir': 'boolean',
    unpack: 'boolean',
  },
  HEALTHCHECK: { interval: 'text', timeout: 'text', 'start-period': 'text', 'start-interval': 'text', retries: 'text' },
} as const satisfies Record<string, Record<string, FlagType>>

/** The values of checked flags. */
export class FlagValues {
  constructor(private readonly values: ReadonlyMap<string, readonly string[]>) {}

  text(name: string): string | undefined {
    return this.values.get(name)?.[0]
  }

  list(name: string): readonly string[] {
    return Object.freeze([...(this.values.get(name) ?? [])])
  }

  /** undefined when not given. */
  boolean(name: string): boolean | undefined {
    const value = this.text(name)
    return value === undefined ? undefined : value.toLowerCase() !== 'false'
  }
}

/** Checks `--name=value` words against the table. */
export function readFlags(keyword: string, words: readonly string[]): FlagValues {
  const known: Readonly<Record<string, FlagType>> = FLAGS[keyword as keyof typeof FLAGS] ?? {}
  const values = new Map<string, string[]>()
  for (const word of words) {
    const equals = word.indexOf('=')
    const name = word.slice(2, equals < 0 ? undefined : equals)
    const value = equals < 0 ? undefined : word.slice(equals + 1)
    const type = Object.hasOwn(known, name) ? known[name] : undefined
    if (type === undefined) throw unknownFlag(keyword, name, word, Object.keys(known))
    if (values.has(name) && type !== 'list')
      throw new Problem(`the flag --${name} of ${keyword} is given twice`, { value: word, expected: `--${name} once` })
    if (type === 'boolean') checkBoolean(name, value, word)
    else if (value === undefined)
      throw new Problem(`the flag --${name} of ${keyword} has no value`, { value: word, expected: `--${name}=…` })
    const given = values.get(name)
    if (given) given.push(value ?? 'true')
    else values.set(name, [value ?? 'true'])
  }
  return new FlagValues(values)
}

function checkBoolean(name: string, value: string | undefined, word: string): void {
  if (value === undefined || /^(true|false)$/i.test(value)) return
  throw new Problem(value === '' ? `the flag --${name} has no value` : `the flag --${name} cannot be "${value}"`, {
    value: word,
    expected: `--${name}, --${name}=true or --${name}=false`,
  })
}

function unknownFlag(keyword: string, name: string, word: string, known: readonly string[]): Problem {
  if (known.length === 0)
    return new Problem(`unknown flag --${name} of ${keyword}`, {
      value: word,
      expected: 'no flags: this instruction has none',
    })
  const flags = known.map((flag) => `--${flag}`)
  return new Problem(`unknown flag --${name} of ${keyword}`, {
    value: word,
    expected: `one of ${flags.join(', ')}`,
    hint: didYouMean(`--${name}`, flags),
  })
}
