/**
 * Which variables an instruction sees, and with which values.
 *
 * - Global ARGs (before the first FROM) are for FROM lines; a stage gets one by an ARG of the same name without a value.
 * - `--build-arg` beats an ARG's default. Of an ENV and an ARG of one name the later one holds, as BuildKit has it (the builder before it let
 *   ENV win in either order); the ENVs of the image that a stage begins with come before its ARGs, and after those that it inherits.
 * - Platform arguments exist globally; proxies are for RUN alone, in neither history nor cache key unless an ARG declares them.
 * - A stage that is based on another one goes on with its ARGs.
 */

import { MayflyError } from '../errors.js'
import { formatPlatform, type Platform } from '../image/platform.js'
import { expand } from './dockerfile/expand.js'
import { PREDEFINED_ARGS, PROXY_ARGS } from './dockerfile/predefined.js'
import type { ArgInstruction, EscapeCharacter } from './dockerfile/types.js'
import { locate } from './step-error.js'

export type BuildArgs = Readonly<Record<string, string>>

/** Values of the global scope. */
export function globalVariables(options: {
  readonly args: readonly ArgInstruction[]
  readonly buildArgs: BuildArgs
  readonly target: Platform
  readonly host: Platform
  readonly targetStage: string
  readonly escape: EscapeCharacter
  /** Of the Dockerfile, for messages. */
  readonly lines: readonly string[]
}): Map<string, string> {
  const { args, buildArgs, target, host, targetStage } = options
  const values = new Map<string, string>()
  const platforms = [
    ['TARGET', target],
    ['BUILD', host],
  ] as const
  for (const [prefix, platform] of platforms) {
    values.set(`${prefix}PLATFORM`, formatPlatform(platform))
    values.set(`${prefix}OS`, platform.os)
    values.set(`${prefix}ARCH`, platform.architecture)
    values.set(`${prefix}VARIANT`, platform.variant ?? '')
  }
  values.set('TARGETSTAGE', targetStage)
  for (const name of [...values.keys()]) if (buildArgs[name] !== undefined) values.set(name, buildArgs[name])
  for (const instruction of args) {
    const expandGlobal = (value: string) => {
      try {
        return expand(value, values, { escape: options.escape })
      } catch (error) {
        throw locate(error, instruction.location, options.lines)
      }
    }
    for (const { key, value } of instruction.args) {
      if (buildArgs[key] !== undefined) values.set(key, buildArgs[key])
      else if (value !== undefined) values.set(key, expandGlobal(value))
    }
  }
  return values
}

/** Build arguments that no ARG of the Dockerfile declares and that mean nothing by themselves. */
export function unusedArgs(buildArgs: BuildArgs, declared: ReadonlySet<string>): string[] {
  return Object.keys(buildArgs).filter((name) => !declared.has(name) && !PREDEFINED_ARGS.includes(name))
}

/** Proxies among the build arguments: environment of RUN steps, in both cases, as programs ask for the one or the other. */
export function proxyVariables(buildArgs: BuildArgs): [string, string][] {
  return PROXY_ARGS.flatMap((name): [string, string][] => {
    const isUpper = name === name.toUpperCase()
    const value = buildArgs[name] ?? buildArgs[isUpper ? name.toLowerCase() : name.toUpperCase()]
    return value === undefined ? [] : [[name, value]]
  })
}

/** `SOURCE_DATE_EPOCH`, in seconds, as the time of everything that the build makes. Throws INVALID_OPTION. */
export function sourceDate(values: ReadonlyMap<string, string>, buildArgs: BuildArgs): Date | undefined {
  const text = buildArgs.SOURCE_DATE_EPOCH ?? values.get('SOURCE_DATE_EPOCH')
  if (text === undefined || text === '') return undefined
  const seconds = Number(text)
  if (!/^\d+$/.test(text) || seconds > 8_640_000_000_000) {
    throw new MayflyError(
      'INVALID_OPTION',
      `SOURCE_DATE_EPOCH must be seconds since 1970, not ${JSON.stringify(text)}`,
      {
        field: 'buildArgs.SOURCE_DATE_EPOCH',
        value: text,
      },
    )
  }
  return new Date(seconds * 1000)
}

/** What one stage's instructions see, changing from one to the next. */
export class StageVariables {
  readonly #env: Map<string, string>
  readonly #args: Map<string, string>
  /** Declared by ARG, in order, with or without a value. */
  readonly #declared: string[]
  /** ARGs that came after an ENV of their name. */
  readonly #over = new Set<string>()

  /**
   * @param env `NAME=value` of the base image
   * @param inherited of the stage that this one is based on
   */
  constructor(env: readonly string[], inherited?: StageVariables) {
    this.#env = new Map(env.map(splitAssignment))
    this.#args = new Map(inherited ? inherited.#args : [])
    this.#declared = inherited ? [...inherited.#declared] : []
  }

  /** As expansion wants them. */
  all(): Map<string, string> {
    const over = [...this.#over].map((key) => [key, this.#args.get(key)!] as const)
    return new Map([...this.#args, ...this.#env, ...over])
  }

  setEnv(key: string, value: string): void {
    this.#env.set(key, value)
    this.#over.delete(key)
  }

  /** `value` is the one in the ARG itself, already expanded. */
  declare(key: string, value: string | undefined, buildArgs: BuildArgs, globals: ReadonlyMap<string, string>): void {
    if (!this.#declared.includes(key)) this.#declared.push(key)
    const chosen = buildArgs[key] ?? value ?? globals.get(key)
    if (chosen === undefined) return
    this.#args.set(key, chosen)
    if (this.#env.has(key)) this.#over.add(key)
  }

  /** What an ARG of this name has given, if it has given anything. */
  arg(key: string): string | undefined {
    return this.#args.get(key)
  }

  /** The config's Env. */
  env(): string[] {
    return [...this.#env].map(([key, value]) => `${key}=${value}`)
  }

  /** Environment of a RUN: ARGs too. */
  runEnv(): [string, string][] {
    const args = [...this.#args].filter(([key]) => !this.#env.has(key))
    const env = [...this.#env].map(([key, value]): [string, string] => [
      key,
      this.#over.has(key) ? this.#args.get(key)! : value,
    ])
    return [...args, ...env]
  }

  /** `|2 a=1 b=2`, as the history shows with which ARGs a RUN ran; '' without any. */
  argsForHistory(): string {
    if (this.#declared.length === 0) return ''
    const all = this.all()
    const values = this.#declared.map((key) => `${key}=${all.get(key) ?? ''}`)
    return `|${values.length} ${values.join(' ')} `
  }
}

function splitAssignment(text: string): [string, string] {
  const end = text.indexOf('=')
  return end < 0 ? [text, ''] : [text.slice(0, end), text.slice(end + 1)]
}
