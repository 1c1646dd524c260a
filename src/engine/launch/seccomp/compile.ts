/**
 * Compiles a seccomp profile to the kernel's filter language: classic BPF, an array of `struct sock_filter`.
 *
 * Shape: the architecture is checked, then a balanced tree of comparisons finds the interval of call numbers with one verdict.
 * Calls with argument conditions are their own interval; a single call inside an interval of another verdict is an equality
 * test at that leaf. A linear list of 360 names would be simpler, but is slow to run and slower to load: the kernel checks and
 * translates each instruction, then runs the filter for every call number to remember which are always allowed.
 *
 * Jumps go forwards only, and a conditional one at most 255 instructions. So the program is made from its end to its start:
 * every target is known when a jump to it is made. `Assembler` numbers positions from the end, shares returns while they are in
 * reach, and puts an unconditional jump between when a target is too far.
 *
 * Only the native architecture passes: i386 calls of an x64 kernel (int 0x80) have other numbers and, with socketcall, arguments
 * that no filter can see; x32 calls carry bit 30. Both get the profile's default, or EPERM if that would let them through.
 */

import { createHash } from 'node:crypto'
import { MayflyError } from '../../errors.js'
import type { SeccompProfile } from '../../options.js'
import {
  type Clause,
  type Condition,
  type Ruleset,
  resolveProfile,
  type SeccompSubject,
  UNKNOWN_CALL,
  type Verdict,
} from './rules.js'
import type { Architecture } from './syscalls.js'

/** A program as the warden knows it: its name on the wire and its bytes. */
export interface SeccompProgram {
  /** Digest of the bytes, so equal programs are sent once. */
  readonly name: string
  readonly code: Buffer
}

/** Programs by subject, for one profile. */
type Programs = Map<string, SeccompProgram>

/** By the profile's text, as callers may parse the same file anew each time; by object first, as the text takes time to make. */
const programsByText = new Map<string, Programs>()
const programsByProfile = new WeakMap<SeccompProfile, Programs>()

/**
 * The filter for this profile and subject. Made once and remembered: a test suite uses one or two of them, and making one takes
 * about a millisecond. Throws INVALID_OPTION for a profile that cannot be compiled.
 */
export function compileSeccomp(profile: SeccompProfile, subject: SeccompSubject): SeccompProgram {
  const programs = programsOf(profile)
  const key = `${subject.architecture} ${subject.capabilities} ${subject.kernel}`
  let program = programs.get(key)
  if (!program) {
    const code = assemble(resolveProfile(profile, subject))
    program = { name: createHash('sha256').update(code).digest('hex').slice(0, 32), code }
    programs.set(key, program)
  }
  return program
}

function programsOf(profile: SeccompProfile): Programs {
  let programs = programsByProfile.get(profile)
  if (programs) return programs
  const text = JSON.stringify(profile)
  programs = programsByText.get(text) ?? new Map()
  if (programsByText.size >= MAX_PROFILES) programsByText.clear()
  programsByText.set(text, programs)
  if (Object.isFrozen(profile)) programsByProfile.set(profile, programs)
  return programs
}

/** Remembered at a time, should somebody make them up. */
const MAX_PROFILES = 64

/** AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64 (linux/audit.h). */
const AUDIT_ARCHITECTURES: Readonly<Record<Architecture, number>> = { x64: 0xc000003e, arm64: 0xc00000b7 }
const X32_BIT = 0x40000000
/** BPF_MAXINSNS */
const MAX_INSTRUCTIONS = 4096
/** Equality tests at one leaf; more would make the tree a list. */
const MAX_EXCEPTIONS = 3

/** Offsets in struct seccomp_data. */
const AT_NUMBER = 0
const AT_ARCHITECTURE = 4
const AT_ARGUMENTS = 16

/** What to do for a call: the same for all, or depending on arguments. */
type Treatment = Verdict | readonly Clause[]

/** Calls from `first` to the next interval's first; `exceptions` are single calls inside that are treated otherwise. */
interface Interval {
  readonly first: number
  readonly treatment: Treatment
  readonly exceptions: readonly { readonly number: number; readonly treatment: Treatment }[]
}

function assemble(rules: Ruleset): Buffer {
  const assembler = new Assembler()
  const tree = emitTree(assembler, absorbSingles(intervalsOf(rules)), rules.otherwise)
  assembler.load(AT_NUMBER, tree)
  const native = assembler.position
  const foreign = assembler.verdict(rules.refusal)
  assembler.branch('equal', AUDIT_ARCHITECTURES[rules.architecture], native, foreign)
  assembler.load(AT_ARCHITECTURE, assembler.position)
  return assembler.toBuffer()
}

function intervalsOf({ architecture, calls, otherwise, refusal, unknownFrom }: Ruleset): Interval[] {
  const intervals: Interval[] = []
  const add = (first: number, treatment: Treatment) => {
    const last = intervals.at(-1)
    if (last?.first === first) intervals.pop()
    if (intervals.at(-1)?.treatment !== treatment) intervals.push({ first, treatment, exceptions: [] })
  }
  add(0, otherwise)
  // Numbers are sorted alone: pairs taken apart in the comparison made this half of a first compilation's time.
  for (const number of [...calls.keys()].sort((a, b) => a - b)) {
    add(number, calls.get(number)!)
    add(number + 1, otherwise)
  }
  if (unknownFrom !== undefined) add(unknownFrom, UNKNOWN_CALL)
  if (architecture === 'x64') add(X32_BIT, refusal)
  return intervals
}

/** Merges A, one single call, A into A with an exception. */
function absorbSingles(intervals: readonly Interval[]): Interval[] {
  const merged: Interval[] = []
  for (let at = 0; at < intervals.length; at++) {
    const interval = intervals[at]!
    const last = merged.at(-1)
    const next = intervals[at + 1]
    if (
      last &&
      next &&
      next.first === interval.first + 1 &&
      next.treatment === last.treatment &&
      last.exceptions.length < MAX_EXCEPTIONS
    ) {
      const exception = { number: interval.first, treatment: interval.treatment }
      merged[merged.length - 1] = { ...last, exceptions: [...last.exceptions, exception] }
      at++
    } else {
      merged.push(interval)
    }
  }
  return merged
}

/** Emits the tree for these intervals; returns where it starts. The call's number must be loaded. */
function emitTree(assembler: Assembler, intervals: readonly Interval[], otherwise: Verdict): number {
  if (intervals.length === 1) {
    const { treatment, exceptions } = intervals[0]!
    let start = emitTreatment(assembler, treatment, otherwise)
    for (const exception of exceptions) {
      const special = emitTreatment(assembler, exception.treatment, otherwise)
      start = assembler.branch('equal', exception.number, special, start)
    }
    return start
  }
  const middle = intervals.length >> 1
  const upper = emitTree(assembler, intervals.slice(middle), otherwise)
  const lower = emitTree(assembler, intervals.slice(0, middle), otherwise)
  return assembler.branch('at-least', intervals[middle]!.first, upper, lower)
}

function emitTreatment(assembler: Assembler, treatment: Treatment, otherwise: Verdict): number {
  if (typeof treatment === 'number') return assembler.verdict(treatment)
  return assembler.once(treatment, () => emitClauses(assembler, treatment, otherwise))
}

function emitClauses(assembler: Assembler, clauses: readonly Clause[], otherwise: Verdict): number {
  let start = assembler.verdict(otherwise)
  for (const clause of [...clauses].reverse()) {
    const unmet = start
    start = assembler.verdict(clause.verdict)
    for (const condition of [...clause.conditions].reverse()) start = emitCondition(assembler, condition, start, unmet)
  }
  return start
}

/** The opposite of an operator, and what is left to emit. */
const OPPOSITES: Readonly<Partial<Record<Condition['operator'], Condition['operator']>>> = {
  NE: 'EQ',
  LT: 'GE',
  LE: 'GT',
}

/** 64-bit comparisons with 32-bit instructions: the upper halves decide, unless they are equal. */
function emitCondition(assembler: Assembler, condition: Condition, met: number, unmet: number): number {
  const opposite = OPPOSITES[condition.operator]
  if (opposite) return emitCondition(assembler, { ...condition, operator: opposite }, unmet, met)
  const { index, operator, mask, value } = condition
  const high = { offset: AT_ARGUMENTS + 8 * index + 4, mask: Number(mask >> 32n), value: Number(value >> 32n) }
  const low = { offset: AT_ARGUMENTS + 8 * index, mask: Number(mask & 0xffffffffn), value: Number(value & 0xffffffffn) }
  const load = (half: typeof low, then: number) =>
    assembler.load(half.offset, half.mask === 0xffffffff ? then : assembler.and(half.mask, then))

  const test = operator === 'EQ' ? 'equal' : operator === 'GE' ? 'at-least' : 'above'
  let start = assembler.branch(test, low.value, met, unmet)
  start = load(low, start)
  // A masked comparison often leaves the upper half out.
  if (high.mask === 0 && high.value === 0) return start
  start = assembler.branch('equal', high.value, start, unmet)
  if (operator !== 'EQ') start = assembler.branch('above', high.value, met, start)
  return load(high, start)
}

/** BPF opcodes: class, size and mode in one (linux/bpf_common.h). */
const LOAD_WORD = 0x20
const AND_CONSTANT = 0x54
const JUMP = 0x05
const RETURN_CONSTANT = 0x06
const JUMPS = { equal: 0x15, 'at-least': 0x35, above: 0x25 } as const

/** Instructions from the last to the first. A position is the count of instructions from it to the end. */
class Assembler {
  readonly #instructions: [code: number, ifTrue: number, ifFalse: number, constant: number][] = []
  readonly #verdicts = new Map<Verdict, number>()
  readonly #emitted = new Map<object, number>()

  /** The start of code for `subject`, emitted when first asked for. */
  once(subject: object, emit: () => number): number {
    const position = this.#emitted.get(subject) ?? emit()
    this.#emitted.set(subject, position)
    return position
  }

  /** Of the instruction emitted last. */
  get position(): number {
    return this.#instructions.length
  }

  /** A return of this value; one emitted before if a conditional jump from here can still reach it with room to spare. */
  verdict(value: Verdict): number {
    const known = this.#verdicts.get(value)
    if (known !== undefined && this.position - known < 200) return known
    const position = this.#emit(RETURN_CONSTANT, 0, 0, value)
    this.#verdicts.set(value, position)
    return position
  }

  /** Loads a word of seccomp_data, then goes on at `next`. */
  load(offset: number, next: number): number {
    this.#continueAt(next)
    return this.#emit(LOAD_WORD, 0, 0, offset)
  }

  and(mask: number, next: number): number {
    this.#continueAt(next)
    return this.#emit(AND_CONSTANT, 0, 0, mask)
  }

  branch(test: keyof typeof JUMPS, constant: number, ifTrue: number, ifFalse: number): number {
    // The nearer one first: a jump put between moves both targets one further away.
    let [yes, no] = [ifTrue, ifFalse]
    if (this.position - yes > 254) yes = this.#emit(JUMP, 0, 0, this.position - yes)
    if (this.position - no > 255) no = this.#emit(JUMP, 0, 0, this.position - no)
    return this.#emit(JUMPS[test], this.position - yes, this.position - no, constant)
  }

  toBuffer(): Buffer {
    const count = this.#instructions.length
    if (count > MAX_INSTRUCTIONS) {
      throw new MayflyError(
        'INVALID_OPTION',
        `seccomp: the profile makes a filter of ${count} instructions; the kernel takes ${MAX_INSTRUCTIONS}`,
        { field: 'seccomp', value: count },
      )
    }
    const buffer = Buffer.alloc(count * 8)
    this.#instructions.reverse().forEach(([code, ifTrue, ifFalse, constant], index) => {
      buffer.writeUInt16LE(code, index * 8)
      buffer.writeUInt8(ifTrue, index * 8 + 2)
      buffer.writeUInt8(ifFalse, index * 8 + 3)
      buffer.writeUInt32LE(constant >>> 0, index * 8 + 4)
    })
    return buffer
  }

  /** What is emitted next must run on into `target`. */
  #continueAt(target: number): void {
    if (target !== this.position) this.#emit(JUMP, 0, 0, this.position - target)
  }

  #emit(code: number, ifTrue: number, ifFalse: number, constant: number): number {
    return this.#instructions.push([code, ifTrue, ifFalse, constant])
  }
}
