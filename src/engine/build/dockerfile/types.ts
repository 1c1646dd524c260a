/**
 * What a Dockerfile says, as frozen data. Texts that may hold variables are as written until `expandInstruction`
 * (expand-instruction.ts) has replaced them; everything else is checked and of its type.
 */

/** Where something stands; lines count from 1, and `endLine` is the last line that belongs to it. */
export interface Location {
  readonly file: string
  readonly line: number
  readonly endLine: number
}

/** The character that joins lines and takes the meaning from the one after it. */
export type EscapeCharacter = '\\' | '`'

export interface Dockerfile {
  readonly file: string
  /** Its lines without line ends, for messages. */
  readonly lines: readonly string[]
  readonly directives: Directives
  /** ARGs before the first FROM. */
  readonly globalArgs: readonly ArgInstruction[]
  /** At least one. */
  readonly stages: readonly Stage[]
  /** What is allowed but hardly meant, such as an empty line inside a continued one. */
  readonly warnings: readonly Warning[]
}

export interface Directives {
  readonly escape: EscapeCharacter
  /** Value of `# syntax=`. Only Docker's own Dockerfile frontend gets past the parser. */
  readonly syntax: string | undefined
  /** Value of `# check=`, not interpreted. */
  readonly check: string | undefined
}

export interface Warning {
  readonly message: string
  readonly location: Location
}

export interface Stage {
  /** From 0, in the order of the file. */
  readonly index: number
  /** Lower case, as stage names ignore it; undefined without `AS`. */
  readonly name: string | undefined
  /** Image, stage or named context, may hold variables (global ARGs). */
  readonly from: string
  /** `--platform`, may hold variables. */
  readonly platform: string | undefined
  readonly instructions: readonly Instruction[]
  /** Of the FROM line. */
  readonly location: Location
  readonly source: string
}

interface Common {
  readonly location: Location
  /** As written: lines joined as in the file, heredocs included. */
  readonly source: string
}

/** Content given within the Dockerfile: `<<EOF`. */
export interface Heredoc {
  readonly name: string
  /** With line ends; leading tabs are gone when it began with `<<-`. */
  readonly content: string
  /** Content as written: what a shell that reads the heredoc itself must get. */
  readonly raw: string
  /** False when the name was quoted: variables stay as they are. */
  readonly expands: boolean
  readonly stripsTabs: boolean
  /** `3<<EOF`: 3; 0 when not given. */
  readonly fileDescriptor: number
}

/** Shell form (run by the SHELL) or exec form (a JSON array). */
export type CommandLine =
  | { readonly form: 'shell'; readonly text: string }
  | { readonly form: 'exec'; readonly args: readonly string[] }

export interface Pair {
  readonly key: string
  readonly value: string
}

export type Instruction =
  | RunInstruction
  | CopyInstruction
  | AddInstruction
  | EnvInstruction
  | ArgInstruction
  | LabelInstruction
  | ExposeInstruction
  | VolumeInstruction
  | UserInstruction
  | WorkdirInstruction
  | CmdInstruction
  | EntrypointInstruction
  | ShellInstruction
  | StopsignalInstruction
  | HealthcheckInstruction
  | OnbuildInstruction
  | MaintainerInstruction

export interface RunInstruction extends Common {
  readonly kind: 'RUN'
  /** Shell form: the text after the flags, its heredocs apart. `runScript()` says what to execute. */
  readonly command: CommandLine
  readonly heredocs: readonly Heredoc[]
  /** Before `expandInstruction` those whose text has variables are missing here. */
  readonly mounts: readonly Mount[]
  /** Texts of all `--mount`, as written. */
  readonly mountTexts: readonly string[]
  /** Stages, images or contexts that mounts take their files `from`; known before expansion, as `from` has no variables. */
  readonly mountSources: readonly string[]
  readonly network: 'default' | 'none' | 'host'
  readonly security: 'sandbox' | 'insecure'
  readonly devices: readonly Device[]
}

export interface Device {
  readonly name: string
  readonly required: boolean
}

export type Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount

export interface BindMount {
  readonly type: 'bind'
  /** Stage, image or named context; undefined: the build context. */
  readonly from: string | undefined
  /** Path inside `from`, default `/`. */
  readonly source: string
  /** Absolute, or relative to the working directory; `.` when not given. The same in the other types. */
  readonly target: string
  readonly readOnly: boolean
}

export interface CacheMount {
  readonly type: 'cache'
  /** @default the target */
  readonly id: string
  readonly target: string
  readonly sharing: 'shared' | 'private' | 'locked'
  readonly from: string | undefined
  readonly source: string
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly readOnly: boolean
}

export interface TmpfsMount {
  readonly type: 'tmpfs'
  readonly target: string
  /** undefined: no limit of its own */
  readonly sizeBytes: number | undefined
}

export interface SecretMount {
  readonly type: 'secret'
  readonly id: string
  /** Path of the file; undefined when the secret comes only as a variable. Default `/run/secrets/<id>`. */
  readonly target: string | undefined
  /** Name of the environment variable that gets it. */
  readonly env: string | undefined
  readonly required: boolean
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

export interface SshMount {
  readonly type: 'ssh'
  readonly id: string
  /** Socket's path; undefined: `/run/buildkit/ssh_agent.<number of the mount among its kind>`. */
  readonly target: string | undefined
  readonly required: boolean
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

interface Transfer extends Common {
  /** Paths, patterns (ADD: also URLs), without the heredocs. */
  readonly sources: readonly string[]
  /** Heredocs among the sources: each becomes a file of its name. */
  readonly files: readonly Heredoc[]
  readonly destination: string
  /** `user[:group]`, see `parseOwner()`. */
  readonly chown: string | undefined
  /** Octal or symbolic, see `parseMode()`. */
  readonly chmod: string | undefined
  readonly link: boolean
  /** Patterns as those of .dockerignore. */
  readonly exclude: readonly string[]
}

export interface CopyInstruction extends Transfer {
  readonly kind: 'COPY'
  readonly from: string | undefined
  readonly parents: boolean
}

export interface AddInstruction extends Transfer {
  readonly kind: 'ADD'
  readonly checksum: string | undefined
  readonly keepGitDir: boolean | undefined
  /** undefined: archives of the context are unpacked, those from URLs are not. */
  readonly unpack: boolean | undefined
}

export interface EnvInstruction extends Common {
  readonly kind: 'ENV'
  readonly pairs: readonly Pair[]
}

export interface ArgInstruction extends Common {
  readonly kind: 'ARG'
  readonly args: readonly { readonly key: string; readonly value: string | undefined }[]
}

export interface LabelInstruction extends Common {
  readonly kind: 'LABEL'
  readonly pairs: readonly Pair[]
}

export interface ExposeInstruction extends Common {
  readonly kind: 'EXPOSE'
  /** Such as `80`, `53/udp`, `7000-7010/tcp`; see `parsePorts()`. */
  readonly ports: readonly string[]
}

export interface VolumeInstruction extends Common {
  readonly kind: 'VOLUME'
  readonly paths: readonly string[]
}

export interface UserInstruction extends Common {
  readonly kind: 'USER'
  readonly user: string
}

export interface WorkdirInstruction extends Common {
  readonly kind: 'WORKDIR'
  readonly path: string
}

export interface CmdInstruction extends Common {
  readonly kind: 'CMD'
  readonly command: CommandLine
}

export interface EntrypointInstruction extends Common {
  readonly kind: 'ENTRYPOINT'
  readonly command: CommandLine
}

export interface ShellInstruction extends Common {
  readonly kind: 'SHELL'
  readonly shell: readonly string[]
}

export interface StopsignalInstruction extends Common {
  readonly kind: 'STOPSIGNAL'
  /** Such as `SIGINT` or `9`; checked by `expandInstruction`. */
  readonly signal: string
}

export interface HealthcheckInstruction extends Common {
  readonly kind: 'HEALTHCHECK'
  /** undefined: `NONE` */
  readonly command: CommandLine | undefined
  /** Durations in milliseconds; undefined when not given (or 0): 30 s, 30 s, 0 s, 5 s, 3 times. */
  readonly intervalMs: number | undefined
  readonly timeoutMs: number | undefined
  readonly startPeriodMs: number | undefined
  readonly startIntervalMs: number | undefined
  readonly retries: number | undefined
}

export interface OnbuildInstruction extends Common {
  readonly kind: 'ONBUILD'
  /** Text for the image's config. */
  readonly trigger: string
  readonly instruction: Exclude<Instruction, OnbuildInstruction | MaintainerInstruction>
}

export interface MaintainerInstruction extends Common {
  readonly kind: 'MAINTAINER'
  readonly name: string
}
