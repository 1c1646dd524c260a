/**
 * From a Docker-format profile to what it says for one architecture, one kernel and one set of capabilities: for every system
 * call an action, or conditions on its arguments that lead to actions.
 *
 * Meaning, as runc and libseccomp have it:
 * - a name that this architecture does not know is skipped, and so is a rule whose action is the default anyway;
 * - conditions of one rule hold together, except when two are on the same argument: then each is a rule of its own (runc
 *   splits them so, runc#2735);
 * - an unconditional rule for a call wins over conditional ones; otherwise the first that matches wins;
 * - calls newer than every call that the profile knows get ENOSYS instead of a refusal, so that programs fall back to the
 *   older call (runc's patchbpf).
 */

import { MayflyError } from '../../errors.js'
import type { SeccompProfile, SeccompRule } from '../../options.js'
import { capabilityNames } from '../capabilities.js'
import { type Architecture, syscallNumbers } from './syscalls.js'

/** What the kernel does with a call: a SECCOMP_RET_… value with its data. */
export type Verdict = number

/** `(argument & mask) op value`, unsigned 64-bit. */
export interface Condition {
  readonly index: number
  readonly operator: 'NE' | 'LT' | 'LE' | 'EQ' | 'GE' | 'GT'
  readonly mask: bigint
  readonly value: bigint
}

/** A verdict for calls whose arguments meet every condition. */
export interface Clause {
  readonly conditions: readonly Condition[]
  readonly verdict: Verdict
}

/** A profile for one architecture, kernel and set of capabilities. */
export interface Ruleset {
  readonly architecture: Architecture
  /** For calls without an entry, and those whose clauses do not match. */
  readonly otherwise: Verdict
  /** For foreign architectures; never permissive. */
  readonly refusal: Verdict
  /** By system call number. Equal lists of clauses are one and the same array. */
  readonly calls: ReadonlyMap<number, Verdict | readonly Clause[]>
  /** From this number on, every call gets ENOSYS; `undefined` when calls that are not listed are let through. */
  readonly unknownFrom: number | undefined
}

/** Whom a profile is applied to. */
export interface SeccompSubject {
  readonly architecture: Architecture
  /** The container's bounding set. */
  readonly capabilities: bigint
  /** Release such as `6.18.5-cloud`. */
  readonly kernel: string
}

const EPERM = 1
const ENOSYS = 38

/** SECCOMP_RET_… values (linux/seccomp.h); the lower 16 bits carry the error number. */
const ACTIONS: Readonly<Record<string, number>> = {
  SCMP_ACT_KILL_PROCESS: 0x80000000,
  SCMP_ACT_KILL_THREAD: 0x00000000,
  SCMP_ACT_KILL: 0x00000000,
  SCMP_ACT_TRAP: 0x00030000,
  SCMP_ACT_ERRNO: 0x00050000,
  SCMP_ACT_TRACE: 0x7ff00000,
  SCMP_ACT_LOG: 0x7ffc0000,
  SCMP_ACT_ALLOW: 0x7fff0000,
}
const ALLOW = ACTIONS.SCMP_ACT_ALLOW!
const LOG = ACTIONS.SCMP_ACT_LOG!
const TRACE = ACTIONS.SCMP_ACT_TRACE!
const ERRNO = ACTIONS.SCMP_ACT_ERRNO!

const OPERATORS = ['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ'].map((operator) => `SCMP_CMP_${operator}`)

/** Docker's names of architectures in `includes` and `excludes` (Go's). */
const GO_NAMES: Readonly<Record<Architecture, string>> = { x64: 'amd64', arm64: 'arm64' }

/** Throws INVALID_OPTION for an unknown action or operator, or a value out of range; the message names the rule. */
export function checkProfile(profile: SeccompProfile, field = 'seccomp'): void {
  readAction(profile.defaultAction, profile.defaultErrnoRet, `${field}.defaultAction`)
  profile.syscalls?.forEach((rule, position) => {
    const at = `${field}.syscalls[${position}]`
    readAction(rule.action, rule.errnoRet, `${at}.action`)
    readClauses(rule, 0, at)
    for (const [name, filter] of Object.entries({ includes: rule.includes, excludes: rule.excludes })) {
      if (filter?.minKernel !== undefined) readKernel(filter.minKernel, `${at}.${name}.minKernel`)
    }
    if (rule.name !== undefined && rule.names?.length) {
      throw invalid(`${at}.name`, rule.name, 'stands beside names: use one of them')
    }
  })
}

/** What the profile says for this subject. */
export function resolveProfile(profile: SeccompProfile, subject: SeccompSubject): Ruleset {
  const numbers = syscallNumbers(subject.architecture)
  const capabilities = new Set(capabilityNames(subject.capabilities))
  const otherwise = readAction(profile.defaultAction, profile.defaultErrnoRet, 'seccomp.defaultAction')
  const calls = new Map<number, Verdict | readonly Clause[]>()
  const interned = new Map<string, readonly Clause[]>()
  const intern = (clauses: readonly Clause[]) => {
    const key = JSON.stringify(clauses, (_, value) => (typeof value === 'bigint' ? String(value) : value))
    const present = interned.get(key) ?? clauses
    interned.set(key, present)
    return present
  }
  let newest = -1
  profile.syscalls?.forEach((rule, position) => {
    const at = `seccomp.syscalls[${position}]`
    if (!isMeant(rule, subject, capabilities)) return
    const verdict = readAction(rule.action, rule.errnoRet, `${at}.action`)
    const clauses = readClauses(rule, verdict, at)
    for (const name of rule.name === undefined ? (rule.names ?? []) : [rule.name]) {
      const number = numbers.get(name)
      if (number === undefined) continue
      newest = Math.max(newest, number)
      if (verdict === otherwise) continue
      const present = calls.get(number)
      if (typeof present === 'number') continue
      calls.set(number, clauses.length === 0 ? verdict : intern([...(present ?? []), ...clauses]))
    }
  })
  const kind = (otherwise & 0xffff0000) >>> 0
  const isPermissive = kind === ALLOW || kind === LOG
  return {
    architecture: subject.architecture,
    otherwise,
    refusal: isPermissive ? ERRNO | EPERM : otherwise,
    calls,
    unknownFrom: isPermissive || kind === TRACE || newest < 0 ? undefined : newest + 1,
  }
}

/** ENOSYS as a verdict. */
export const UNKNOWN_CALL: Verdict = ERRNO | ENOSYS

function readAction(action: string, errno: number | undefined, field: string): Verdict {
  const value = Object.hasOwn(ACTIONS, action) ? ACTIONS[action] : undefined
  if (value === undefined) {
    const reason =
      action === 'SCMP_ACT_NOTIFY' ? 'needs a supervisor, which mayfly has not' : 'is no action of a seccomp profile'
    throw invalid(field, action, reason, `one of ${Object.keys(ACTIONS).join(', ')}`)
  }
  if (value !== ERRNO && value !== TRACE) return value
  const data = errno ?? EPERM
  if (!Number.isInteger(data) || data < 0 || data > 0xffff) {
    throw invalid(
      field.replace(/action$/i, (name) => (name === 'action' ? 'errnoRet' : 'ErrnoRet')),
      data,
      'is no error number',
    )
  }
  return value | data
}

/** The rule's conditions as clauses; none = it holds whatever the arguments are. */
function readClauses({ args }: SeccompRule, verdict: Verdict, field: string): Clause[] {
  if (!args?.length) return []
  const conditions = args.map(({ index, op, value, valueTwo }, position): Condition => {
    const at = `${field}.args[${position}]`
    if (!Number.isInteger(index) || index < 0 || index > 5)
      throw invalid(`${at}.index`, index, 'is not an argument from 0 to 5')
    if (!OPERATORS.includes(op)) throw invalid(`${at}.op`, op, 'is no operator', `one of ${OPERATORS.join(', ')}`)
    const first = readNumber(value, `${at}.value`)
    const second = readNumber(valueTwo ?? 0, `${at}.valueTwo`)
    return op === 'SCMP_CMP_MASKED_EQ'
      ? { index, operator: 'EQ', mask: first, value: second }
      : {
          index,
          operator: op.slice('SCMP_CMP_'.length) as Condition['operator'],
          mask: 0xffffffffffffffffn,
          value: first,
        }
  })
  const isRepeated = new Set(conditions.map(({ index }) => index)).size < conditions.length
  return isRepeated ? conditions.map((condition) => ({ conditions: [condition], verdict })) : [{ conditions, verdict }]
}

function readNumber(value: number, field: string): bigint {
  // Larger ones are not exact in JSON as JavaScript reads it; a filter that compares with a rounded number is no filter.
  if (!Number.isSafeInteger(value) || value < 0) throw invalid(field, value, 'is not a whole number from 0 to 2^53-1')
  return BigInt(value)
}

function readKernel(release: string, field: string): [number, number] {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(release) ?? []
  if (major === undefined) throw invalid(field, release, 'is no kernel version such as 4.8')
  return [Number(major), Number(minor)]
}

function isMeant(rule: SeccompRule, subject: SeccompSubject, capabilities: ReadonlySet<string>): boolean {
  const { includes, excludes } = rule
  const architecture = GO_NAMES[subject.architecture]
  if (excludes?.arches?.includes(architecture)) return false
  if (excludes?.caps?.some((name) => capabilities.has(name))) return false
  if (excludes?.minKernel !== undefined && isAtLeast(subject.kernel, excludes.minKernel)) return false
  if (includes?.arches?.length && !includes.arches.includes(architecture)) return false
  if (includes?.caps?.some((name) => !capabilities.has(name))) return false
  if (includes?.minKernel !== undefined && !isAtLeast(subject.kernel, includes.minKernel)) return false
  return true
}

function isAtLeast(kernel: string, wanted: string): boolean {
  const [major, minor] = readKernel(kernel, 'kernel')
  const [wantedMajor, wantedMinor] = readKernel(wanted, 'seccomp.minKernel')
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)
}

function invalid(field: string, value: unknown, reason: string, hint?: string): MayflyError {
  return new MayflyError('INVALID_OPTION', `${field}: ${JSON.stringify(value)} ${reason}`, {
    field,
    value,
    ...(hint ? { hint } : {}),
  })
}
