/**
 * From a stage's instructions to what has to be done and to the config of the image that results: every variable replaced, every
 * path made absolute. Pure: nothing is touched, and what a step will do does not depend on what an earlier one has done.
 */

import { posix } from 'node:path'
import type { HealthcheckConfig, HistoryEntry, ImageConfig, RuntimeConfig } from '../image/config.js'
import { DEFAULT_PATH } from '../launch/defaults.js'
import { type ExpansionContext, expandInstruction } from './dockerfile/expand-instruction.js'
import { at, Problem } from './dockerfile/problem.js'
import { type RunScript, runScript } from './dockerfile/run-script.js'
import type {
  AddInstruction,
  CommandLine,
  CopyInstruction,
  HealthcheckInstruction,
  Instruction,
  Location,
  Mount,
  RunInstruction,
} from './dockerfile/types.js'
import { parsePorts } from './dockerfile/values.js'
import { type BuildArgs, StageVariables } from './variables.js'

interface StepCommon {
  /** Position in the history of what this step makes. */
  readonly history: number
  readonly location: Location
  /** As the Dockerfile has it, in one line, variables replaced where the instruction has them: `COPY . /app`. */
  readonly text: string
}

export interface RunStep extends StepCommon {
  readonly kind: 'run'
  readonly instruction: RunInstruction
  /** Program and arguments. */
  readonly args: readonly string[]
  /** A heredoc with a `#!` line, to be put where `args` says. */
  readonly script: Extract<RunScript, { form: 'script' }> | undefined
  readonly env: readonly (readonly [name: string, value: string])[]
  readonly user: string
  readonly workdir: string
}

export interface CopyStep extends StepCommon {
  readonly kind: 'copy'
  readonly instruction: CopyInstruction | AddInstruction
  /** Absolute; ends with a slash when it is to be a directory. */
  readonly destination: string
}

export interface WorkdirStep extends StepCommon {
  readonly kind: 'workdir'
  readonly path: string
  /** Whom a directory that has to be made belongs to. */
  readonly user: string
}

export type Step = RunStep | CopyStep | WorkdirStep

/** What a stage is based on. */
export interface StageBase {
  /** undefined: scratch */
  readonly config: ImageConfig | undefined
  /** Of the stage that it is, if it is one. */
  readonly variables: StageVariables | undefined
}

export interface StagePlan {
  readonly steps: readonly Step[]
  /** rootfs and created are the base's still. History of the steps has no time yet. */
  readonly config: ImageConfig
  /** Entries of the history that are the base's. */
  readonly inheritedHistory: number
  readonly variables: StageVariables
}

export interface PlanInput {
  readonly base: StageBase
  /** ONBUILD triggers of the base, then the stage's own. */
  readonly instructions: readonly Instruction[]
  readonly buildArgs: BuildArgs
  readonly globals: ReadonlyMap<string, string>
  readonly platform: { readonly os: string; readonly architecture: string; readonly variant?: string }
  readonly expansion: ExpansionContext
}

const PIPES = '/dev/pipes'
const DEFAULT_SHELL: readonly string[] = ['/bin/sh', '-c']

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] }

/** Throws DOCKERFILE_INVALID where the value of a variable makes an instruction wrong. */
export function planStage(input: PlanInput): StagePlan {
  return new Planner(input).run()
}

class Planner {
  readonly #input: PlanInput
  readonly #config: Mutable<RuntimeConfig>
  readonly #variables: StageVariables
  readonly #history: HistoryEntry[]
  readonly #steps: Step[] = []
  #author: string | undefined
  #hasCmd = false

  constructor(input: PlanInput) {
    this.#input = input
    const { config } = input.base
    // As BuildKit's empty image.
    this.#config = structuredClone(config?.config ?? (config ? {} : { Env: [`PATH=${DEFAULT_PATH}`], WorkingDir: '/' }))
    delete this.#config.OnBuild // triggers have their effect once
    this.#variables = new StageVariables(this.#config.Env ?? [], input.base.variables)
    this.#history = [...(config?.history ?? [])]
    this.#author = config?.author
  }

  run(): StagePlan {
    const { base, instructions, platform, expansion } = this.#input
    const inheritedHistory = this.#history.length
    for (const instruction of instructions) {
      this.#apply(expandInstruction(instruction, this.#variables.all(), expansion))
    }
    const {
      author: _author,
      config: _config,
      history: _history,
      ...rest
    } = base.config ?? {
      architecture: platform.architecture,
      os: platform.os,
      ...(platform.variant ? { variant: platform.variant } : {}),
      rootfs: { type: 'layers' as const, diff_ids: [] },
    }
    const config: ImageConfig = {
      ...rest,
      ...(this.#author === undefined ? {} : { author: this.#author }),
      config: this.#config,
      history: this.#history,
    }
    return { steps: this.#steps, config, inheritedHistory, variables: this.#variables }
  }

  #apply(instruction: Instruction): void {
    const config = this.#config
    switch (instruction.kind) {
      case 'ARG':
        for (const { key, value } of instruction.args) {
          this.#variables.declare(key, value, this.#input.buildArgs, this.#input.globals)
        }
        this.#record(`ARG ${instruction.args.map(({ key }) => this.#argText(key)).join(' ')}`)
        break
      case 'ENV':
        for (const { key, value } of instruction.pairs) this.#variables.setEnv(key, value)
        config.Env = this.#variables.env()
        this.#record(`ENV ${instruction.pairs.map(({ key, value }) => `${key}=${value}`).join(' ')}`)
        break
      case 'LABEL':
        config.Labels = {
          ...config.Labels,
          ...Object.fromEntries(instruction.pairs.map(({ key, value }) => [key, value])),
        }
        this.#record(`LABEL ${instruction.pairs.map(({ key, value }) => `${key}=${value}`).join(' ')}`)
        break
      case 'EXPOSE': {
        const ports = instruction.ports.flatMap(parsePorts).map(({ port, protocol }) => `${port}/${protocol}`)
        config.ExposedPorts = { ...config.ExposedPorts, ...Object.fromEntries(ports.map((port) => [port, {}])) }
        this.#record(`EXPOSE ${instruction.ports.join(' ')}`)
        break
      }
      case 'VOLUME':
        config.Volumes = { ...config.Volumes, ...Object.fromEntries(instruction.paths.map((path) => [path, {}])) }
        this.#record(`VOLUME [${instruction.paths.join(' ')}]`)
        break
      case 'USER':
        config.User = instruction.user
        this.#record(`USER ${instruction.user}`)
        break
      case 'CMD':
        config.Cmd = this.#words(instruction.command)
        this.#hasCmd = true
        this.#record(`CMD ${JSON.stringify(config.Cmd)}`)
        break
      case 'ENTRYPOINT':
        config.Entrypoint = this.#words(instruction.command)
        // A command of the base image was meant for its own entry point.
        if (!this.#hasCmd) delete config.Cmd
        this.#record(`ENTRYPOINT ${JSON.stringify(config.Entrypoint)}`)
        break
      case 'SHELL':
        config.Shell = instruction.shell
        this.#record(`SHELL [${instruction.shell.join(' ')}]`)
        break
      case 'STOPSIGNAL':
        config.StopSignal = instruction.signal
        this.#record(`STOPSIGNAL ${instruction.signal}`)
        break
      case 'HEALTHCHECK':
        config.Healthcheck = healthcheck(instruction)
        this.#record(`HEALTHCHECK ${config.Healthcheck.Test!.join(' ')}`)
        break
      case 'ONBUILD':
        config.OnBuild = [...(config.OnBuild ?? []), instruction.trigger]
        this.#record(`ONBUILD ${instruction.trigger}`)
        break
      case 'MAINTAINER':
        this.#author = instruction.name
        this.#record(`MAINTAINER ${instruction.name}`)
        break
      case 'WORKDIR':
        this.#workdir(instruction.path, instruction.location)
        break
      case 'RUN':
        this.#run(instruction)
        break
      case 'COPY':
      case 'ADD':
        this.#copy(instruction)
        break
    }
  }

  #workdir(path: string, location: Location): void {
    const config = this.#config
    const workdir = posix.resolve('/', config.WorkingDir || '/', path)
    config.WorkingDir = workdir
    const text = `WORKDIR ${workdir}`
    if (workdir === '/') {
      this.#record(text)
      return
    }
    this.#steps.push({
      kind: 'workdir',
      history: this.#record(text, true),
      location,
      text: `WORKDIR ${path}`,
      path: workdir,
      user: config.User ?? '',
    })
  }

  #run(instruction: RunInstruction): void {
    const config = this.#config
    const script = runScript(instruction)
    const args =
      script.form === 'exec'
        ? script.args
        : script.form === 'shell'
          ? [...this.#shell(), script.text]
          : [`${PIPES}/${script.name}`]
    this.#steps.push({
      kind: 'run',
      history: this.#record(`RUN ${this.#variables.argsForHistory()}${args.join(' ')}`, true),
      location: instruction.location,
      text: oneLine(instruction.source),
      instruction: { ...instruction, mounts: this.#placed(instruction) },
      args,
      script: script.form === 'script' ? script : undefined,
      env: this.#variables.runEnv(),
      user: config.User || '0',
      workdir: config.WorkingDir || '/',
    })
  }

  /** A mount's target is relative to the working directory, and never the root itself. */
  #placed({ mounts, location }: RunInstruction): readonly Mount[] {
    return mounts.map((mount) => {
      if (mount.target === undefined) return mount
      const target = posix.resolve('/', this.#config.WorkingDir || '/', mount.target)
      if (target !== '/') return { ...mount, target }
      const facts = { value: mount.target, expected: 'target=… below /' }
      return at(location, this.#input.expansion.lines ?? [], () => {
        throw new Problem(`a mount of type ${mount.type} would hide the whole root`, facts)
      })
    })
  }

  #copy(instruction: CopyInstruction | AddInstruction): void {
    const { destination } = instruction
    // As BuildKit has it: `/dst/.` is a name like `/dst`.
    const isDirectory = /^\.{0,2}$|\/$/.test(destination)
    const absolute = posix.resolve('/', this.#config.WorkingDir || '/', destination)
    const names = [...instruction.sources, ...instruction.files.map(({ name }) => `<<${name}`)]
    const text = `${instruction.kind} ${copyFlags(instruction)}${names.join(' ')} ${destination}`
    this.#steps.push({
      kind: 'copy',
      history: this.#record(text, true),
      location: instruction.location,
      text,
      instruction,
      destination: isDirectory && absolute !== '/' ? `${absolute}/` : absolute,
    })
  }

  #record(text: string, hasLayer = false): number {
    this.#history.push({ created_by: text, ...(hasLayer ? {} : { empty_layer: true }) })
    return this.#history.length - 1
  }

  #argText(key: string): string {
    const value = this.#variables.arg(key)
    return value === undefined ? key : `${key}=${value}`
  }

  #shell(): readonly string[] {
    const shell = this.#config.Shell ?? []
    return shell.length > 0 ? shell : DEFAULT_SHELL
  }

  #words(command: CommandLine): string[] {
    return command.form === 'exec' ? [...command.args] : [...this.#shell(), command.text]
  }
}

function healthcheck(instruction: HealthcheckInstruction): HealthcheckConfig {
  const { command, intervalMs, timeoutMs, startPeriodMs, startIntervalMs, retries } = instruction
  if (!command) return { Test: ['NONE'] }
  const nanoseconds = (milliseconds: number | undefined) => Math.round((milliseconds ?? 0) * 1e6)
  return {
    Test: command.form === 'exec' ? ['CMD', ...command.args] : ['CMD-SHELL', command.text],
    ...(intervalMs ? { Interval: nanoseconds(intervalMs) } : {}),
    ...(timeoutMs ? { Timeout: nanoseconds(timeoutMs) } : {}),
    ...(startPeriodMs ? { StartPeriod: nanoseconds(startPeriodMs) } : {}),
    ...(startIntervalMs ? { StartInterval: nanoseconds(startIntervalMs) } : {}),
    ...(retries ? { Retries: retries } : {}),
  }
}

function copyFlags(instruction: CopyInstruction | AddInstruction): string {
  const flags = [
    ...(instruction.kind === 'COPY' && instruction.from ? [`--from=${instruction.from}`] : []),
    ...(instruction.kind === 'COPY' && instruction.parents ? ['--parents'] : []),
    ...(instruction.chown ? [`--chown=${instruction.chown}`] : []),
    ...(instruction.chmod ? [`--chmod=${instruction.chmod}`] : []),
    ...(instruction.link ? ['--link'] : []),
    ...instruction.exclude.map((pattern) => `--exclude=${pattern}`),
  ]
  return flags.length > 0 ? `${flags.join(' ')} ` : ''
}

/** Continued lines joined; of a heredoc only that there is one. */
function oneLine(source: string): string {
  const [first = '', ...rest] = source.split('\n')
  if (/<<-?['"]?\w/.test(first)) return `${first}${rest.length > 0 ? ' …' : ''}`
  return source.replace(/[\\`]\s*\n\s*/g, ' ').replace(/\s*\n\s*/g, ' ')
}
