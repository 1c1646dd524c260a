/** Which fields of which instruction hold variables, and how each is expanded. */

import { lex, type Variables } from './expand.js'
import { checkChecksum, checkTransfer, signalOf } from './instructions.js'
import { mountOf } from './mounts.js'
import { at, Problem } from './problem.js'
import type {
  AddInstruction,
  CopyInstruction,
  Dockerfile,
  EscapeCharacter,
  Heredoc,
  Instruction,
  Pair,
  Stage,
} from './types.js'
import { portsOf } from './values.js'

/**
 * How a field is expanded. `word`: one in, one out. `words`: one in, several out. `pairs`: keys and values, each a
 * word, all with the variables as they were before the instruction. `mounts`: the values within `--mount`, but `from`.
 * `bodies`: heredocs whose name is not quoted; quotes mean nothing in them.
 *
 * What is not here does not expand: the shell does it in RUN, CMD, ENTRYPOINT and HEALTHCHECK; ONBUILD's instruction
 * is expanded when it is triggered.
 */
const EXPANDED_FIELDS = {
  FROM: { from: 'word', platform: 'word' },
  RUN: { mounts: 'mounts' },
  COPY: {
    sources: 'word',
    files: 'bodies',
    destination: 'word',
    from: 'word',
    chown: 'word',
    chmod: 'word',
    exclude: 'word',
  },
  ADD: {
    sources: 'word',
    files: 'bodies',
    destination: 'word',
    chown: 'word',
    chmod: 'word',
    checksum: 'word',
    exclude: 'word',
  },
  ENV: { pairs: 'pairs' },
  ARG: { args: 'pairs' },
  LABEL: { pairs: 'pairs' },
  EXPOSE: { ports: 'words' },
  VOLUME: { paths: 'word' },
  USER: { user: 'word' },
  WORKDIR: { path: 'word' },
  STOPSIGNAL: { signal: 'word' },
} as const satisfies Record<string, Record<string, 'word' | 'words' | 'pairs' | 'mounts' | 'bodies'>>

/** What the expansion needs to know of the file: the escape character, and the lines for messages. */
export interface ExpansionContext {
  readonly escape?: EscapeCharacter
  readonly lines?: readonly string[]
  /** Is told the name of each variable that is looked up, set or not. */
  readonly onVariable?: (name: string, isSet: boolean) => void
}

/** The context of a Dockerfile's own instructions. */
export function expansionContext(dockerfile: Dockerfile): ExpansionContext {
  return { escape: dockerfile.directives.escape, lines: dockerfile.lines }
}

/**
 * The instruction with its variables replaced and the values that depend on them checked; the given one is not changed.
 * Throws DOCKERFILE_INVALID of the instruction's location.
 */
export function expandInstruction<T extends Instruction>(
  instruction: T,
  variables: Variables,
  context: ExpansionContext = {},
): T {
  return at(instruction.location, context.lines ?? [], () => {
    const expansion = new Expansion(variables, context)
    const fields: Readonly<Record<string, string>> = Object.hasOwn(EXPANDED_FIELDS, instruction.kind)
      ? EXPANDED_FIELDS[instruction.kind as keyof typeof EXPANDED_FIELDS]
      : {}
    const expanded: Record<string, unknown> = { ...instruction }
    for (const [field, how] of Object.entries(fields)) {
      if (expanded[field] !== undefined) expanded[field] = expansion.field(how, instruction, field)
    }
    const result = Object.freeze(expanded) as unknown as T
    check(result)
    return result
  })
}

/** FROM and --platform of a stage; `variables` are the global ARGs. Throws DOCKERFILE_INVALID. */
export function expandFrom(
  stage: Stage,
  variables: Variables,
  context: ExpansionContext = {},
): { readonly from: string; readonly platform: string | undefined } {
  return at(stage.location, context.lines ?? [], () => {
    const expansion = new Expansion(variables, context)
    const from = expansion.word(stage.from)
    if (from === '')
      throw new Problem(`the image "${stage.from}" is empty after its variables are replaced`, {
        value: stage.from,
        expected: 'an image, a stage or a context',
        hint: 'ARGs used in FROM stand before the first FROM; give them a default, or a value with --build-arg',
      })
    return { from, platform: stage.platform === undefined ? undefined : expansion.word(stage.platform) || undefined }
  })
}

class Expansion {
  constructor(
    private readonly variables: Variables,
    private readonly context: ExpansionContext,
  ) {}

  field(how: string, instruction: Instruction, field: string): unknown {
    if (instruction.kind === 'RUN')
      return Object.freeze(instruction.mountTexts.map((text) => mountOf(text, this.variables, this.escape)))
    const value = (instruction as unknown as Record<string, unknown>)[field]
    if (how === 'bodies') return Object.freeze((value as readonly Heredoc[]).map((file) => this.body(file)))
    if (how === 'pairs') return Object.freeze((value as readonly Partial<Pair>[]).map((pair) => this.pair(pair)))
    if (how === 'words') return Object.freeze((value as readonly string[]).flatMap((word) => this.words(word)))
    if (Array.isArray(value)) return Object.freeze(value.map((word: string) => this.word(word)))
    return this.word(value as string)
  }

  word(text: string): string {
    return lex(text, this.variables, this.options).text
  }

  private words(text: string): readonly string[] {
    return lex(text, this.variables, this.options).words
  }

  private pair({ key = '', value }: Partial<Pair>): Partial<Pair> {
    const name = this.word(key)
    if (name === '') throw new Problem(`the name "${key}" is empty`, { value: key, expected: 'name=value' })
    return Object.freeze({ key: name, value: value === undefined ? value : this.word(value) } as Pair)
  }

  /** In bodies the escape is always `\`, whatever the file's directive says. */
  private body(file: Heredoc): Heredoc {
    if (!file.expands) return file
    const content = lex(file.content, this.variables, { ...this.options, escape: '\\', quotes: 'literal' }).text
    return Object.freeze({ ...file, content })
  }

  private get escape(): EscapeCharacter {
    return this.context.escape ?? '\\'
  }

  private get options() {
    const { onVariable } = this.context
    return { escape: this.escape, ...(onVariable ? { onVariable } : {}) }
  }
}

/** What could not be checked before: an empty result, or a value that a variable gave. */
function check(instruction: Instruction): void {
  switch (instruction.kind) {
    case 'EXPOSE':
      for (const port of instruction.ports) portsOf(port)
      break
    case 'STOPSIGNAL':
      signalOf(instruction.signal)
      break
    case 'ADD':
      checkChecksum(instruction)
      checkPlaces(instruction)
      break
    case 'COPY':
      checkPlaces(instruction)
      break
    case 'VOLUME':
      for (const path of instruction.paths) notEmpty(path, 'a path of VOLUME')
      break
  }
}

function checkPlaces(instruction: CopyInstruction | AddInstruction): void {
  checkTransfer(instruction)
  for (const source of instruction.sources) notEmpty(source, `a source of ${instruction.kind}`)
}

function notEmpty(text: string, what: string): void {
  if (text === '')
    throw new Problem(`${what} is empty after its variables are replaced`, { value: text, expected: 'some text' })
}
