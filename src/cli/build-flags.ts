/** The flags of `mayfly build`: docker's, and what they mean as {@link BuildOptions}. */
import { isAbsolute, join, relative, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import type { BuildOptions, SecretSource } from '../engine/build/options.js'
import { repeatable } from './append.js'
import { parseVariable } from './environment.js'
import { download, isAddress, standardInput, tarOrText } from './input-source.js'
import { splitFields } from './mount.js'
import { defined, optional, pair, parseHost, parseUlimit } from './notation.js'
import { PROGRESS_KINDS, type ProgressKind } from './progress/build-view.js'
import { parseSize } from './size.js'
import { UsageError } from './usage-error.js'

/** What commander makes of the command line: texts, to be understood in {@link buildOptions}. */
export interface BuildFlags {
  readonly addHost?: readonly string[]
  readonly allow?: readonly string[]
  readonly buildArg?: readonly string[]
  readonly buildContext?: readonly string[]
  readonly cache?: boolean
  readonly file?: string
  readonly iidfile?: string
  readonly label?: readonly string[]
  readonly network?: string
  readonly noCacheFilter?: readonly string[]
  readonly platform?: string
  readonly progress?: ProgressKind
  readonly pull?: boolean
  readonly quiet?: boolean
  readonly secret?: readonly string[]
  readonly shmSize?: string
  readonly ssh?: readonly string[]
  readonly tag?: readonly string[]
  readonly target?: string
  readonly ulimit?: readonly string[]
}

/** Adds the flags to a command. */
export function declareBuildFlags(command: Command): Command {
  const many = (flags: string, description: string) => repeatable(command, flags, description)
  many('--add-host <name:address>', 'line for /etc/hosts of RUN steps')
  many('--allow <entitlement>', 'network.host or security.insecure')
  many('--build-arg <name=value>', 'value of an ARG; a name alone passes yours on')
  many(
    '--build-context <name=source>',
    'further context: a directory, docker-image://, oci-layout:// or a git repository',
  )
  command.option('-f, --file <path>', 'the Dockerfile; - is stdin')
  command.option('--iidfile <file>', 'write the id of the image there')
  many('--label <key=value>', 'label of the image')
  // docker's, which mean what is done anyway
  for (const flag of ['--load', '--rm', '--force-rm']) command.addOption(new Option(flag).hideHelp())
  command.option('--network <mode>', 'network of RUN steps: default, none or host')
  command.option('--no-cache', 'run every step anew')
  many('--no-cache-filter <stage>', 'run the steps of this stage anew')
  command.option('--platform <platform>', 'such as linux/arm64; else this machine’s')
  command.addOption(
    new Option('--progress <kind>', 'how it is told').choices(PROGRESS_KINDS).env('BUILDKIT_PROGRESS').default('auto'),
  )
  command.option('--pull', 'ask the registry also for images that are here')
  command.option('-q, --quiet', 'print the id of the image only')
  many('--secret <fields>', 'id=NAME[,src=FILE] or id=NAME,env=VARIABLE')
  command.option('--shm-size <size>', 'size of /dev/shm of RUN steps')
  many('--ssh <id[=socket]>', 'ssh agent for RUN --mount=type=ssh; default is yours')
  many('-t, --tag <name>', 'name of the image, such as app:1.2')
  command.option('--target <stage>', 'stage to build')
  many('--ulimit <name=soft[:hard]>', 'resource limit of RUN steps')
  return command
}

/** What the command line asks for. Throws {@link UsageError}; the builder checks the rest. */
export async function buildOptions(flags: BuildFlags, context: string, signal: AbortSignal): Promise<BuildOptions> {
  const { parseGitReference } = await import('../engine/build/git.js')
  const isRepository = (text: string) => parseGitReference(text) !== undefined
  const source = await sourceOf(flags, context, isRepository, signal)
  // Who asks for the host's network on the command line allows it, as with docker.
  const asked = [...(flags.allow ?? []), ...(flags.network === 'host' ? ['network.host'] : [])]
  const allowed = asked.length > 0 ? asked.flatMap((one) => one.split(',')) : undefined
  return {
    ...source,
    ...defined<Omit<BuildOptions, 'context'>>({
      addHosts: flags.addHost && Object.fromEntries(flags.addHost.map(parseHost)),
      allow: allowed as BuildOptions['allow'],
      buildArgs: flags.buildArg && Object.fromEntries(flags.buildArg.flatMap(buildArg)),
      labels: flags.label && Object.fromEntries(flags.label.map((label) => pair('--label', label, ''))),
      namedContexts:
        flags.buildContext && Object.fromEntries(flags.buildContext.map((text) => namedContext(text, isRepository))),
      network: flags.network as BuildOptions['network'],
      noCache: flags.cache === false ? true : flags.noCacheFilter?.flatMap((stages) => stages.split(',')),
      platform: flags.platform,
      pull: flags.pull,
      secrets: flags.secret && Object.fromEntries(flags.secret.map((text) => parseSecret(text))),
      shmSizeBytes: optional(flags.shmSize, (text) => parseSize('--shm-size', text)),
      ssh: flags.ssh && Object.fromEntries(flags.ssh.flatMap((one) => one.split(',')).map(sshAgent)),
      tags: flags.tag,
      target: flags.target,
      ulimits: flags.ulimit && Object.fromEntries(flags.ulimit.map(parseUlimit)),
    }),
    signal,
  }
}

type Source = Pick<BuildOptions, 'context' | 'file' | 'dockerfile'>

async function sourceOf(
  { file }: BuildFlags,
  context: string,
  isRepository: (text: string) => boolean,
  signal: AbortSignal,
): Promise<Source> {
  if (context === '-' && file === '-') throw new UsageError('Context and Dockerfile cannot both come from stdin')
  const dockerfile = file === '-' ? await dockerfileFromInput(signal) : undefined
  const inside = dockerfile === undefined ? (file === undefined ? {} : { file }) : { dockerfile }
  if (context === '-') return fromStream(standardInput('The build context', signal), file)
  if (isRepository(context)) return { context: { git: context }, ...inside }
  if (isAddress(context)) {
    const fetched = await fromStream(await download(context, signal), file === '-' ? undefined : file)
    return { ...fetched, ...inside }
  }
  const directory = resolve(context)
  if (file === undefined || dockerfile !== undefined) return { context: { directory }, ...inside }
  return { context: { directory }, file: fromDirectory(directory, resolve(file)) }
}

/** A Dockerfile is named relative to where the command was called, and shown relative to the context where it lies in there. */
function fromDirectory(directory: string, path: string): string {
  const inside = relative(directory, path)
  return inside.startsWith('..') || isAbsolute(inside) || join(directory, inside) !== path ? path : inside
}

/** A tar is a context; anything else a Dockerfile without one. */
async function fromStream(stream: AsyncIterable<Uint8Array>, file: string | undefined): Promise<Source> {
  const found = await tarOrText(stream)
  if ('tar' in found) return { context: { tar: found.tar }, ...(file === undefined ? {} : { file }) }
  if (file !== undefined) throw new UsageError(`--file ${file}: what comes from stdin is a Dockerfile, and no context`)
  return { context: { dockerfile: found.text } }
}

async function dockerfileFromInput(signal: AbortSignal): Promise<string> {
  const found = await tarOrText(standardInput('The Dockerfile', signal))
  if ('tar' in found) throw new UsageError('--file -: what comes from stdin is an archive, and no Dockerfile')
  return found.text
}

function buildArg(text: string): [string, string][] {
  const variable = parseVariable('--build-arg', text)
  return variable ? [variable] : []
}

/** Sources that are no directory are the builder's to understand. */
function namedContext(text: string, isRepository: (source: string) => boolean): [string, string] {
  const [name, source] = pair('--build-context', text)
  const isPath = !/^[a-z][a-z0-9+-]*:\/\//i.test(source) && !isRepository(source)
  return [name, isPath ? resolve(source) : source]
}

/** As docker: without a source it is an environment variable of this name, else a file of this name. */
export function parseSecret(text: string, own: NodeJS.ProcessEnv = process.env): [string, SecretSource] {
  const wrong = (why: string) =>
    new UsageError(`--secret: ${why}`, 'such as id=token,src=token.txt or id=token,env=TOKEN')
  const fields = new Map<string, string>()
  for (const field of splitFields(text)) {
    const equals = field.indexOf('=')
    if (equals < 1) throw wrong('expected key=value fields')
    fields.set(field.slice(0, equals).toLowerCase(), field.slice(equals + 1))
  }
  const id = fields.get('id')
  const type = fields.get('type')
  const source = fields.get('source') ?? fields.get('src')
  const variable = fields.get('env') ?? (type === 'env' ? source : undefined)
  const unknown = [...fields.keys()].find((key) => !['id', 'type', 'source', 'src', 'env'].includes(key))
  if (unknown !== undefined) throw wrong(`unknown field "${unknown}"`)
  if (!id) throw wrong('id is missing')
  if (type !== undefined && type !== 'file' && type !== 'env') throw wrong(`type must be file or env, not "${type}"`)
  if (variable !== undefined) return [id, { env: variable }]
  if (source !== undefined) return [id, { file: resolve(source) }]
  return [id, type !== 'file' && own[id] !== undefined ? { env: id } : { file: resolve(id) }]
}

/** `default`, `id`, or `id=/path/of/a/socket`. */
function sshAgent(text: string): [string, string | true] {
  const equals = text.indexOf('=')
  return equals < 0 ? [text, true] : [text.slice(0, equals), resolve(text.slice(equals + 1))]
}

/** Throws {@link UsageError} for what the builder would have to name in its own words. */
export function progressKind({ progress = 'auto', quiet }: BuildFlags): ProgressKind {
  if (quiet) return 'quiet'
  if (progress === 'tty' && !process.stderr.isTTY) throw new UsageError('--progress tty needs a terminal on stderr')
  return progress
}
