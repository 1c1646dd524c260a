/** Sets of containers as the test runners' doors take them: named definitions, each with a scope. */

import { MayflyError } from '../engine/errors.js'
import { type Check, number, optional, sparse, string } from '../engine/launch/check.js'
import { GenericContainer } from '../generic-container.js'
import { Network, type StartedNetwork } from '../network.js'
import type { StartedTestContainer } from '../started-container.js'

/** What `start()` of a definition gives. */
export type StartedOf<Definition extends GenericContainer> = Awaited<ReturnType<Definition['start']>>

/** A definition, or one with options of its own. */
export type Entry<Options> = GenericContainer | readonly [definition: GenericContainer, options: Options]

/** The started containers of a set, by name. */
export type StartedSet<Set extends Readonly<Record<string, Entry<unknown>>>> = {
  -readonly [Name in keyof Set]: Set[Name] extends readonly [infer Definition extends GenericContainer, unknown]
    ? StartedOf<Definition>
    : Set[Name] extends GenericContainer
      ? StartedOf<Set[Name]>
      : never
}

/** Definitions by name that a whole run shares: containers, and networks for them and for those of tests. */
export type SharedSetOf = Readonly<Record<string, GenericContainer | Network>>

/** What is started of such a set, by name. */
export type SharedStarted<Set extends SharedSetOf> = {
  -readonly [Name in keyof Set]: Set[Name] extends GenericContainer
    ? StartedOf<Set[Name]>
    : Set[Name] extends Network
      ? StartedNetwork
      : never
}

/** A set that is shared, in parts. */
export interface SharedMembers {
  readonly containers: readonly Member<'run'>[]
  readonly networks: readonly { readonly name: string; readonly definition: Network }[]
}

/** Checks a set. Throws INVALID_OPTION. */
export function sharedMembersOf(set: SharedSetOf): SharedMembers {
  const entries =
    typeof set === 'object' && set !== null && !(set instanceof GenericContainer) ? Object.entries(set) : []
  const networks = entries.flatMap(([name, one]) => (one instanceof Network ? [{ name, definition: one }] : []))
  const others = Object.fromEntries(entries.filter(([, one]) => !(one instanceof Network)))
  const containers = membersOf<'run'>(entries.length > 0 ? (others as never) : (set as never), 'run', ['run'])
  return { containers, networks }
}

const MAX_TIMER_MS = 2 ** 31 - 1
const timeoutMs = optional(number(0, MAX_TIMER_MS))
// Which there are is for the set to say.
const scope = optional(string) as Check<never>
const scopeOptions = sparse({ scope })

/** Checks the options of a set. Throws INVALID_OPTION. */
export const setOptions = sparse({ scope, timeoutMs })
/** Checks the options of a set that is shared. Throws INVALID_OPTION. */
export const shareOptions = sparse({ name: optional(string), timeoutMs })

export interface Member<Scope extends string> {
  readonly name: string
  readonly definition: GenericContainer
  readonly scope: Scope
}

/** Checks a set. `scopes` go from the shortest life to the longest. Throws INVALID_OPTION. */
export function membersOf<Scope extends string>(
  set: Readonly<Record<string, Entry<{ readonly scope?: Scope }>>>,
  scope: Scope,
  scopes: readonly Scope[],
): readonly Member<Scope>[] {
  if (typeof set !== 'object' || set === null || set instanceof GenericContainer) {
    throw invalid('containers', set, 'expected containers by name, such as { db: postgres() }')
  }
  const members = Object.entries(set).map(([name, entry]) => {
    const [definition, options = {}] = (Array.isArray(entry) ? entry : [entry]) as [
      unknown,
      { readonly scope?: Scope }?,
    ]
    if (!(definition instanceof GenericContainer)) {
      const hint = typeof (definition as StartedTestContainer)?.stop === 'function' ? ', not one that was started' : ''
      throw invalid(`containers.${name}`, definition, `expected the definition of a container${hint}`)
    }
    return { name, definition, scope: scopeOptions(options, `containers.${name}`).scope ?? scope }
  })
  for (const { name, definition, scope: own } of members) {
    if (!scopes.includes(own)) throw invalid(`containers.${name}.scope`, own, `expected ${scopes.join(', ')}`)
    for (const other of members) {
      const depends = dependenciesOf(definition).includes(other.definition)
      if (depends && scopes.indexOf(other.scope) < scopes.indexOf(own)) {
        throw invalid(
          `containers.${name}.scope`,
          own,
          `it depends on "${other.name}", whose scope "${other.scope}" ends before its own`,
        )
      }
    }
  }
  return members
}

/** What it depends on directly. */
export function dependenciesOf(definition: GenericContainer): readonly GenericContainer[] {
  return (definition as unknown as { readonly dependencies: readonly GenericContainer[] }).dependencies
}

function invalid(field: string, value: unknown, problem: string): MayflyError {
  return new MayflyError('INVALID_OPTION', `${field}: ${problem}`, { field, value })
}
