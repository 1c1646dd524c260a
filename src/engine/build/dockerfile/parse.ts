/** The door of this folder: a Dockerfile's text to its typed, frozen form. Touches nothing but its arguments. */

import { readDirectives } from './directives.js'
import { type From, instructionOf } from './instructions.js'
import { decode, type LogicalLine, linesOf, readLogicalLines } from './lines.js'
import { at, located, Problem } from './problem.js'
import type { ArgInstruction, Dockerfile, EscapeCharacter, Instruction, Location, Stage, Warning } from './types.js'

/** Names that a FROM or a COPY --from would not find the stage by. */
const RESERVED_NAMES = ['scratch', 'context']

/**
 * Parses a whole Dockerfile.
 *
 * Throws DOCKERFILE_INVALID with `file`, `line`, `value` (what is wrong) and `expected`, the lines shown in the message;
 * NOT_SUPPORTED for `# syntax=` of a frontend that is not Docker's own.
 *
 * `parseDockerfile('FROM alpine\nRUN true').stages[0]?.instructions[0]?.kind` is `'RUN'`.
 *
 * @param name what the file is called in messages and locations
 */
export function parseDockerfile(text: string | Uint8Array, name = 'Dockerfile'): Dockerfile {
  const decoded = decode(text)
  const lines = linesOf(decoded)
  const directives = readDirectives(lines, name)
  const { instructions, warnings } = readLogicalLines(decoded, name, directives.escape)
  const contents = stagesOf(instructions, directives.escape, lines)
  if (contents.stages.length === 0) {
    const location = { file: name, line: Math.max(1, lines.length), endLine: Math.max(1, lines.length) }
    const what = instructions.length === 0 ? 'the file has no instructions' : 'the file has no FROM'
    throw located(new Problem(what, { value: '', expected: 'at least one FROM' }), location, lines)
  }
  const { globalArgs, stages } = contents
  return deepFreeze({
    file: name,
    lines,
    directives,
    globalArgs,
    stages,
    warnings: [...warnings, ...contents.warnings],
  })
}

/**
 * Parses instructions that stand outside a Dockerfile, in the file `name` for messages: ONBUILD triggers of a base
 * image, `commit --change`. Throws DOCKERFILE_INVALID, also for FROM.
 *
 * @default escape: '\\'
 */
export function parseInstructions(
  text: string,
  name: string,
  escapeWith: EscapeCharacter = '\\',
): readonly Instruction[] {
  const lines = linesOf(text)
  const { instructions } = readLogicalLines(text, name, escapeWith)
  return deepFreeze(
    instructions.map((line) =>
      at(line.location, lines, () => {
        const instruction = instructionOf(line, escapeWith)
        if (instruction.kind === 'FROM')
          throw new Problem('FROM begins a stage, which cannot be done here', {
            value: line.source,
            expected: 'any other instruction',
          })
        return instruction
      }),
    ),
  )
}

interface Contents {
  readonly globalArgs: ArgInstruction[]
  readonly stages: Stage[]
  readonly warnings: Warning[]
}

function stagesOf(
  logicalLines: readonly LogicalLine[],
  escapeWith: EscapeCharacter,
  lines: readonly string[],
): Contents {
  const contents: Contents = { globalArgs: [], stages: [], warnings: [] }
  let current: Instruction[] | undefined
  for (const line of logicalLines) {
    at(line.location, lines, () => {
      const instruction = instructionOf(line, escapeWith)
      if (instruction.kind === 'FROM') current = begin(contents, instruction, line)
      else if (current !== undefined) current.push(instruction)
      else if (instruction.kind === 'ARG') contents.globalArgs.push(instruction)
      else
        throw new Problem(`${instruction.kind} stands before the first FROM`, {
          value: line.source,
          expected: 'FROM, or ARG for use in FROM',
        })
    })
  }
  return contents
}

function begin({ stages, warnings }: Contents, { from, name, platform }: From, line: LogicalLine): Instruction[] {
  const earlier = name === undefined ? undefined : stages.find((stage) => stage.name === name)
  if (earlier)
    throw new Problem(`the stage name "${name}" is taken by line ${earlier.location.line}`, {
      value: name!,
      expected: 'a name of its own for each stage',
    })
  if (name !== undefined && RESERVED_NAMES.includes(name)) warnings.push(reservedName(name, line.location))
  const instructions: Instruction[] = []
  const { location, source } = line
  stages.push({ index: stages.length, name, from, platform, instructions, location, source })
  return instructions
}

function reservedName(name: string, location: Location): Warning {
  return { message: `The stage name "${name}" is reserved; expected another one`, location }
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const inner of Object.values(value)) deepFreeze(inner)
  }
  return value
}
