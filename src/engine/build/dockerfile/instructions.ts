/** One function an instruction: from its words to its typed form. What is missing or wrong is a Problem. */

import { MayflyError } from '../../errors.js'
import { parseSignal } from '../../launch/signal.js'
import { lex, type Variables } from './expand.js'
import { type FLAGS, type FlagValues, readFlags } from './flags.js'
import { heredocStart } from './heredoc.js'
import { type LogicalLine, splitInstruction } from './lines.js'
import { modeOf } from './mode.js'
import { deviceOf, mountOf, mountSource } from './mounts.js'
import { didYouMean } from './nearest.js'
import { Problem } from './problem.js'
import type {
  AddInstruction,
  CommandLine,
  CopyInstruction,
  EscapeCharacter,
  Heredoc,
  Instruction,
  OnbuildInstruction,
  Pair,
  RunInstruction,
} from './types.js'
import { durationOf, ownerOf, portsOf } from './values.js'
import { jsonArray, splitFirst, splitGaps, splitQuoted, trimSpace } from './words.js'

/** FROM is no instruction of a stage but begins one. */
export interface From {
  readonly kind: 'FROM'
  readonly from: string
  readonly name: string | undefined
  readonly platform: string | undefined
}

type Parser<T> = (text: string, line: LogicalLine, flags: FlagValues, escapeWith: EscapeCharacter) => T
type Details<T> = T extends Instruction ? Omit<T, 'kind' | 'location' | 'source'> : never

const PARSERS: { readonly [Kind in Instruction['kind']]: Parser<Details<Extract<Instruction, { kind: Kind }>>> } = {
  RUN: run,
  COPY: copy,
  ADD: add,
  ENV: (text, _line, _flags, escapeWith) => ({ pairs: pairsOf('ENV', text, escapeWith) }),
  ARG: (text, _line, _flags, escapeWith) => ({ args: splitQuoted(required('ARG', text), escapeWith).map(argOf) }),
  LABEL: (text, _line, _flags, escapeWith) => ({ pairs: pairsOf('LABEL', text, escapeWith) }),
  EXPOSE: (text, _line, _flags, escapeWith) => ({
    ports: splitGaps(required('EXPOSE', text)).map((word) => checkedNow(word, escapeWith, portsOf)),
  }),
  VOLUME: (text) => ({ paths: volumesOf(text) }),
  USER: (text) => ({ user: required('USER', text) }),
  WORKDIR: (text) => ({ path: required('WORKDIR', text) }),
  CMD: (text) => ({ command: commandOf('CMD', text) }),
  ENTRYPOINT: (text) => ({ command: commandOf('ENTRYPOINT', text) }),
  SHELL: (text) => ({ shell: shellOf(text) }),
  STOPSIGNAL: (text, _line, _flags, escapeWith) => ({
    signal: checkedNow(required('STOPSIGNAL', text), escapeWith, signalOf),
  }),
  HEALTHCHECK: healthcheck,
  ONBUILD: onbuild,
  MAINTAINER: (text) => ({ name: required('MAINTAINER', text) }),
}
const KEYWORDS = ['FROM', ...Object.keys(PARSERS)]

/** The typed form of one logical line. Throws a Problem. */
export function instructionOf(line: LogicalLine, escapeWith: EscapeCharacter): Instruction | From {
  const kind = line.keyword.toUpperCase()
  if (!KEYWORDS.includes(kind)) throw unknownInstruction(line.keyword)
  const flags = readFlags(kind, line.flags)
  if (kind === 'FROM') return from(line.text, flags)
  const parse = PARSERS[kind as Instruction['kind']] as Parser<object>
  const details = parse(line.text, line, flags, escapeWith)
  return { kind, ...details, location: line.location, source: line.source } as Instruction
}

/** What STOPSIGNAL takes. Throws a Problem. */
export function signalOf(text: string): number {
  try {
    return parseSignal(text)
  } catch (error) {
    if (!(error instanceof MayflyError)) throw error
    throw new Problem(`invalid signal "${text}"`, {
      value: text,
      expected: 'a name such as SIGINT, or a number up to 64',
    })
  }
}

/** Checks of COPY and ADD that need values without variables; also done after the expansion. */
export function checkTransfer(instruction: Pick<CopyInstruction | AddInstruction, 'chown' | 'chmod'>): void {
  if (instruction.chown) ownerOf(instruction.chown)
  if (instruction.chmod) modeOf(instruction.chmod)
}

/** Whether ADD fetches this source instead of taking it from the context. */
function isRemoteSource(source: string): boolean {
  return /^(https?|git|ssh):\/\//i.test(source) || /^[\w.-]+@[\w.-]+:/.test(source)
}

/** `--checksum` is for one remote source. */
export function checkChecksum({
  checksum,
  sources,
  files,
}: Pick<AddInstruction, 'checksum' | 'sources' | 'files'>): void {
  if (checksum === undefined) return
  const [source] = sources
  if (sources.length !== 1 || files.length > 0 || source === undefined)
    throw new Problem('--checksum is for one source', { value: sources.join(' '), expected: 'exactly one URL' })
  if (!source.includes('$') && !isRemoteSource(source))
    throw new Problem('--checksum is only for URLs and git repositories', { value: source, expected: 'an http(s) URL' })
  if (
    !checksum.includes('$') &&
    !/^(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}|[0-9a-f]{7,64})$/.test(checksum)
  )
    throw new Problem(`invalid checksum "${checksum}"`, {
      value: checksum,
      expected: 'sha256: and 64 hexadecimal digits, or a git commit',
    })
}

/** A value without variables is checked at once, so that the mistake is told before anything is built. */
function checkedNow(word: string, escapeWith: EscapeCharacter, check: (text: string) => unknown): string {
  if (!word.includes('$')) check(lex(word, NOTHING, { escape: escapeWith }).text)
  return word
}

const NOTHING: Variables = new Map()

function unknownInstruction(keyword: string): Problem {
  if (keyword === '') return new Problem('a continued line is not followed by anything', { expected: 'an instruction' })
  return new Problem(`unknown instruction "${keyword}"`, {
    value: keyword,
    expected: `one of ${KEYWORDS.join(', ')}`,
    hint: keyword.startsWith('//') ? 'a comment begins with #' : didYouMean(keyword, KEYWORDS),
  })
}

/** The text, which must not be empty. */
function required(kind: string, text: string): string {
  if (text !== '') return text
  throw new Problem(`${kind} has no arguments`, { value: kind, expected: 'at least one' })
}

/** Stage names, in lower case. */
const STAGE_NAME = /^[a-z][a-z0-9-_.]*$/

function from(text: string, flags: FlagValues): From {
  const [image = '', as, name, ...more] = splitGaps(text)
  const expected = 'FROM image, or FROM image AS name'
  if (image === '') throw new Problem('FROM has no image', { value: 'FROM', expected })
  if (more.length > 0 || (as !== undefined && (name === undefined || as.toLowerCase() !== 'as')))
    throw new Problem('FROM has neither one argument nor three', { value: text, expected })
  if (name !== undefined && !STAGE_NAME.test(name.toLowerCase()))
    throw new Problem(`invalid name for a build stage: "${name}"`, {
      value: name,
      expected: 'a letter, then letters, digits and - _ .',
    })
  return { kind: 'FROM', from: image, name: name?.toLowerCase(), platform: flags.text('platform') }
}

function run(text: string, line: LogicalLine, flags: FlagValues, escapeWith: EscapeCharacter): Details<RunInstruction> {
  const command = commandOf('RUN', text)
  if (command.form === 'exec' && command.args.length === 0)
    throw new Problem('RUN has an empty command', { value: text, expected: 'at least the program' })
  const mountTexts = flags.list('mount')
  return {
    command,
    heredocs: line.heredocs,
    mounts: mountTexts.filter((mount) => !mount.includes('$')).map((mount) => mountOf(mount, NOTHING, escapeWith)),
    mountTexts,
    mountSources: mountTexts.map(mountSource).filter((source) => source !== undefined),
    network: choice('network', flags.text('network'), ['default', 'none', 'host'] as const),
    security: choice('security', flags.text('security'), ['sandbox', 'insecure'] as const),
    devices: flags.list('device').map(deviceOf),
  }
}

/** The first one is the default. */
function choice<T extends string>(flag: string, value: string | undefined, known: readonly [T, ...T[]]): T {
  if (value === undefined) return known[0]
  const found = known.find((candidate) => candidate === value)
  if (found !== undefined) return found
  throw new Problem(`--${flag} cannot be "${value}"`, {
    value: `--${flag}=${value}`,
    expected: `one of ${known.join(', ')}`,
    hint: didYouMean(value, known),
  })
}

function commandOf(kind: string, text: string): CommandLine {
  const args = jsonArray(text)
  return args === undefined ? { form: 'shell', text: required(kind, text) } : { form: 'exec', args }
}

function copy(
  text: string,
  line: LogicalLine,
  flags: FlagValues,
  escapeWith: EscapeCharacter,
): Details<CopyInstruction> {
  return {
    ...transfer('COPY', text, line, flags, escapeWith),
    from: flags.text('from'),
    parents: flags.boolean('parents') ?? false,
  }
}

function add(text: string, line: LogicalLine, flags: FlagValues, escapeWith: EscapeCharacter): Details<AddInstruction> {
  const details = {
    ...transfer('ADD', text, line, flags, escapeWith),
    checksum: flags.text('checksum'),
    keepGitDir: flags.boolean('keep-git-dir'),
    unpack: flags.boolean('unpack'),
  }
  checkChecksum(details)
  return details
}

function transfer(
  kind: 'COPY' | 'ADD',
  text: string,
  line: LogicalLine,
  flags: FlagValues,
  escapeWith: EscapeCharacter,
) {
  const array = jsonArray(text)
  const words = array ?? splitGaps(text)
  const destination = words.at(-1)
  if (words.length < 2 || destination === undefined)
    throw new Problem(`${kind} has ${words.length === 0 ? 'no arguments' : 'no destination'}`, {
      value: text || kind,
      expected: 'at least two arguments: sources and a destination',
    })
  const isHeredoc = (word: string) => array === undefined && heredocStart(word) !== undefined
  if (isHeredoc(destination))
    throw new Problem(`a heredoc cannot be the destination of ${kind}`, { value: destination, expected: 'a path' })
  const sources = words.slice(0, -1)
  const names = new Set(sources.filter(isHeredoc).map((word) => heredocStart(word)!.name))
  const files: readonly Heredoc[] = line.heredocs.filter(({ name }) => names.has(name))
  const [chown, chmod] = [flags.text('chown'), flags.text('chmod')]
  if (chown !== undefined) checkedNow(chown, escapeWith, (value) => checkTransfer({ chown: value, chmod: undefined }))
  if (chmod !== undefined) checkedNow(chmod, escapeWith, (value) => checkTransfer({ chown: undefined, chmod: value }))
  return {
    sources: sources.filter((word) => !isHeredoc(word)),
    files,
    destination,
    chown,
    chmod,
    link: flags.boolean('link') ?? false,
    exclude: flags.list('exclude'),
  }
}

/** `name=value …`, or the old `name value with spaces`. */
function pairsOf(kind: string, text: string, escapeWith: EscapeCharacter): readonly Pair[] {
  const words = splitQuoted(required(kind, text), escapeWith)
  if (!words[0]?.includes('=')) {
    const [key, value] = splitFirst(text)
    if (value === undefined)
      throw new Problem(`${kind} gives "${key}" no value`, { value: text, expected: `${kind} name=value` })
    return [{ key, value }]
  }
  return words.map((word) => {
    const equals = word.indexOf('=')
    if (equals < 0)
      throw new Problem(`cannot find = in "${word}"`, {
        value: word,
        expected: 'name=value, or quotes around a value with spaces',
      })
    if (equals === 0) throw blankName(kind, word)
    return { key: word.slice(0, equals), value: word.slice(equals + 1) }
  })
}

function argOf(word: string): { key: string; value: string | undefined } {
  const equals = word.indexOf('=')
  if (equals === 0) throw blankName('ARG', word)
  return equals < 0 ? { key: word, value: undefined } : { key: word.slice(0, equals), value: word.slice(equals + 1) }
}

function blankName(kind: string, word: string): Problem {
  return new Problem(`a name of ${kind} is blank`, { value: word, expected: 'name=value' })
}

function volumesOf(text: string): readonly string[] {
  const paths = (jsonArray(text) ?? splitGaps(required('VOLUME', text))).map(trimSpace)
  if (paths.length === 0 || paths.includes(''))
    throw new Problem('VOLUME has an empty path', { value: text, expected: 'paths of directories' })
  return paths
}

function shellOf(text: string): readonly string[] {
  const shell = jsonArray(required('SHELL', text))
  if (shell === undefined)
    throw new Problem('SHELL is not in JSON form', { value: text, expected: 'an array such as ["/bin/sh", "-c"]' })
  if (shell.length === 0) throw new Problem('SHELL has no arguments', { value: text, expected: 'at least the program' })
  return shell
}

function healthcheck(text: string, _line: LogicalLine, flags: FlagValues) {
  const [type, rest = ''] = splitFirst(text)
  const expected = 'HEALTHCHECK [flags] CMD command, or HEALTHCHECK NONE'
  if (type === '') throw new Problem('HEALTHCHECK has no arguments', { value: 'HEALTHCHECK', expected })
  const isNone = type.toUpperCase() === 'NONE'
  if (!isNone && type.toUpperCase() !== 'CMD')
    throw new Problem(`unknown type "${type}" of HEALTHCHECK`, { value: type, expected })
  if (isNone && rest !== '') throw new Problem('HEALTHCHECK NONE takes no arguments', { value: rest, expected })
  const command = isNone ? undefined : commandOf('HEALTHCHECK CMD', rest)
  if (command?.form === 'exec' && command.args.length === 0)
    throw new Problem('HEALTHCHECK CMD has an empty command', { value: rest, expected })
  return {
    command,
    intervalMs: interval(flags, 'interval'),
    timeoutMs: interval(flags, 'timeout'),
    startPeriodMs: interval(flags, 'start-period'),
    startIntervalMs: interval(flags, 'start-interval'),
    retries: retries(flags.text('retries')),
  }
}

/** Zero is the default, as Docker has it. */
function interval(flags: FlagValues, name: keyof typeof FLAGS.HEALTHCHECK): number | undefined {
  const text = flags.text(name)
  if (text === undefined || text === '') return undefined
  const duration = durationOf(text, `duration of --${name}`)
  if (duration !== 0 && duration < 1)
    throw new Problem(`--${name} is ${text}`, { value: text, expected: 'at least 1ms (or 0 for the default)' })
  return duration || undefined
}

function retries(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined
  if (!/^\+?\d+$/.test(text) || Number(text) > 0x7fff_ffff)
    throw new Problem(`--retries is "${text}"`, {
      value: text,
      expected: 'a number, at least 1 (or 0 for the default)',
    })
  return Number(text) || undefined
}

function onbuild(
  text: string,
  line: LogicalLine,
  _flags: FlagValues,
  escapeWith: EscapeCharacter,
): Details<OnbuildInstruction> {
  const inner = splitInstruction(required('ONBUILD', text))
  const kind = inner.keyword.toUpperCase()
  if (kind === 'ONBUILD' || kind === 'FROM' || kind === 'MAINTAINER')
    throw new Problem(`${kind} cannot be a trigger of ONBUILD`, { value: text, expected: 'any other instruction' })
  const bodies = line.heredocs.map(({ raw, name }) => `\n${raw}${name}`).join('')
  const instruction = instructionOf({ ...line, ...inner }, escapeWith) as OnbuildInstruction['instruction']
  return { trigger: `${text}${bodies}`, instruction }
}
