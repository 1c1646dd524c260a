/** What a profile says of one call, read straight from its rules: slow, simple, and with none of the compiler's code. */

import type { SeccompProfile, SeccompRule } from '../../../../src/engine/options.js'

const RETURNS: Record<string, number> = {
  SCMP_ACT_KILL_PROCESS: 0x80000000,
  SCMP_ACT_KILL_THREAD: 0,
  SCMP_ACT_KILL: 0,
  SCMP_ACT_TRAP: 0x30000,
  SCMP_ACT_ERRNO: 0x50000,
  SCMP_ACT_TRACE: 0x7ff00000,
  SCMP_ACT_LOG: 0x7ffc0000,
  SCMP_ACT_ALLOW: 0x7fff0000,
}

export interface World {
  readonly goArchitecture: 'amd64' | 'arm64'
  readonly capabilities: readonly string[]
  readonly kernel: readonly [number, number]
  /** Name → number on this architecture. */
  readonly numbers: ReadonlyMap<string, number>
}

function returnValue(action: string, errno: number | undefined): number {
  const takesData = action === 'SCMP_ACT_ERRNO' || action === 'SCMP_ACT_TRACE'
  return RETURNS[action]! + (takesData ? (errno ?? 1) : 0)
}

function applies({ includes, excludes }: SeccompRule, world: World): boolean {
  const isNew = (version: string) => {
    const [major = 0, minor = 0] = version.split('.').map(Number)
    return world.kernel[0] * 1000 + world.kernel[1] >= major * 1000 + minor
  }
  const wanted = [
    !includes?.arches?.length || includes.arches.includes(world.goArchitecture),
    (includes?.caps ?? []).every((capability) => world.capabilities.includes(capability)),
    includes?.minKernel === undefined || isNew(includes.minKernel),
    !excludes?.arches?.includes(world.goArchitecture),
    !(excludes?.caps ?? []).some((capability) => world.capabilities.includes(capability)),
    excludes?.minKernel === undefined || !isNew(excludes.minKernel),
  ]
  return wanted.every(Boolean)
}

function holds(arg: NonNullable<SeccompRule['args']>[number], args: readonly bigint[]): boolean {
  const actual = BigInt.asUintN(64, args[arg.index] ?? 0n)
  const value = BigInt(arg.value)
  switch (arg.op) {
    case 'SCMP_CMP_NE':
      return actual !== value
    case 'SCMP_CMP_LT':
      return actual < value
    case 'SCMP_CMP_LE':
      return actual <= value
    case 'SCMP_CMP_EQ':
      return actual === value
    case 'SCMP_CMP_GE':
      return actual >= value
    case 'SCMP_CMP_GT':
      return actual > value
    default:
      return (actual & value) === BigInt(arg.valueTwo ?? 0)
  }
}

/** What a filter for this profile must return for a call of the native architecture, as a function of number and arguments. */
export function oracle(profile: SeccompProfile, world: World): (number: number, args: readonly bigint[]) => number {
  const otherwise = returnValue(profile.defaultAction, profile.defaultErrnoRet)
  const isPermissive = ['SCMP_ACT_ALLOW', 'SCMP_ACT_LOG'].includes(profile.defaultAction)
  const rules = (profile.syscalls ?? [])
    .filter((rule) => applies(rule, world))
    .map((rule) => ({
      ...rule,
      numbers: new Set(
        (rule.name === undefined ? (rule.names ?? []) : [rule.name]).map((name) => world.numbers.get(name)),
      ),
      result: returnValue(rule.action, rule.errnoRet),
    }))
  const newest = Math.max(-1, ...rules.flatMap(({ numbers }) => [...numbers].map((number) => number ?? -1)))
  const hasStub = newest >= 0 && !isPermissive && profile.defaultAction !== 'SCMP_ACT_TRACE'

  return (number, args) => {
    if (world.goArchitecture === 'amd64' && number >= 0x40000000) return isPermissive ? 0x50001 : otherwise
    if (hasStub && number > newest) return 0x50026
    const meant = rules.filter(({ numbers, result }) => numbers.has(number) && result !== otherwise)
    const unconditional = meant.find((rule) => !rule.args?.length)
    if (unconditional) return unconditional.result
    const first = meant.find(({ args: conditions }) => {
      const list = conditions ?? []
      const isRepeated = new Set(list.map(({ index }) => index)).size < list.length
      return isRepeated ? list.some((one) => holds(one, args)) : list.every((one) => holds(one, args))
    })
    return first ? first.result : otherwise
  }
}
