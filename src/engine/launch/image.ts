/**
 * A container of an image: what the image says and what the caller says, put together as `docker run` does. Touches nothing.
 *
 * - `env` and `labels` are merged by name; user, working directory and stop signal are the caller's, else the image's;
 * - an entrypoint of the caller's drops the image's command with its entrypoint: the words were written for the other program;
 * - exposed ports are added to the image's.
 */

import { posix } from 'node:path'
import { MayflyError } from '../errors.js'
import type { ImageConfig, RuntimeConfig } from '../image/config.js'
import type { ContainerOptions } from '../options.js'
import { signalName } from '../signals.js'
import type { CompleteContainerOptions } from './complete.js'
import { parseSignal } from './signal.js'

/** An image that was found, as far as a launch needs it. Made once for each image, so that the work of a start is small. */
export interface ImageFacts {
  /** As the caller named it. */
  readonly reference: string
  /** `sha256:…` */
  readonly id: string
  /** Of a container that says nothing itself. */
  readonly defaults: ImageDefaults
  /** Directories, lowest first; at least one. */
  readonly layers: readonly string[]
  readonly config: ImageConfig
}

/** A runtime config in the words of {@link ContainerOptions}; what it leaves open is absent. */
export interface ImageDefaults {
  readonly entrypoint: readonly string[]
  readonly command: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  readonly exposedPorts: readonly string[]
  /** Absolute paths. */
  readonly volumes: readonly string[]
  readonly user?: string
  readonly workdir?: string
  readonly stopSignal?: string
}

/** What an image says of its containers. Unset, empty and null are the same in Docker's configs. */
export function imageDefaults({ config = {} }: Pick<ImageConfig, 'config'>): ImageDefaults {
  const { User, WorkingDir, StopSignal } = config
  return Object.freeze({
    entrypoint: Object.freeze([...(config.Entrypoint ?? [])]),
    command: Object.freeze([...(config.Cmd ?? [])]),
    env: Object.freeze(Object.fromEntries((config.Env ?? []).flatMap(variable))),
    labels: Object.freeze({ ...config.Labels }),
    exposedPorts: Object.freeze(Object.keys(config.ExposedPorts ?? {})),
    volumes: Object.freeze(Object.keys(config.Volumes ?? {}).flatMap(volume)),
    ...(User ? { user: User } : {}),
    ...(WorkingDir ? { workdir: absolute(WorkingDir) } : {}),
    ...(StopSignal ? { stopSignal: StopSignal } : {}),
  })
}

/** `A=b=c` → A, b=c. What has no name or no value is no variable, and runc drops it too. */
function variable(assignment: string): [string, string][] {
  const at = assignment.indexOf('=')
  return at > 0 ? [[assignment.slice(0, at), assignment.slice(at + 1)]] : []
}

function volume(path: string): string[] {
  const whole = absolute(path)
  const trimmed = whole.length > 1 && whole.endsWith('/') ? whole.slice(0, -1) : whole
  return trimmed === '/' ? [] : [trimmed]
}

function absolute(path: string): string {
  return posix.normalize(path.startsWith('/') ? path : `/${path}`)
}

/**
 * The caller's options with what the image adds to them. They are not checked yet: what is of the wrong type stays as it is, for
 * the check that follows to name.
 */
export function withImage(options: ContainerOptions, { defaults }: Pick<ImageFacts, 'defaults'>): ContainerOptions {
  const { entrypoint, command, env, labels, exposedPorts } = options
  const hasCommand = command !== undefined && !(Array.isArray(command) && command.length === 0)
  return {
    createWorkdir: true,
    ...(defaults.user === undefined ? {} : { user: defaults.user }),
    ...(defaults.workdir === undefined ? {} : { workdir: defaults.workdir }),
    ...(defaults.stopSignal === undefined ? {} : { stopSignal: defaults.stopSignal }),
    ...withoutUndefined(options),
    entrypoint: entrypoint ?? defaults.entrypoint,
    command: hasCommand ? command : entrypoint === undefined ? defaults.command : [],
    env: merged(defaults.env, env),
    labels: merged(defaults.labels, labels),
    exposedPorts:
      exposedPorts === undefined
        ? defaults.exposedPorts
        : Array.isArray(exposedPorts)
          ? [...defaults.exposedPorts, ...exposedPorts]
          : exposedPorts,
  }
}

/** An option that is undefined is one that was not given. */
function withoutUndefined(options: ContainerOptions): ContainerOptions {
  const isWhole = Object.values(options).every((value) => value !== undefined)
  return isWhole ? options : Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}

function merged<T extends Readonly<Record<string, string>>>(below: T, above: T | undefined): T {
  if (above === undefined) return below
  return typeof above === 'object' && above !== null && !Array.isArray(above) ? { ...below, ...above } : above
}

/**
 * Docker's Config of a container: the image's, with what the caller said in its place. `docker inspect` shows it, and `commit`
 * makes it the new image's.
 */
export function runtimeConfig(options: CompleteContainerOptions): RuntimeConfig {
  const { image, entrypoint, command, env, labels, user, workdir, exposedPorts, stopSignal } = options
  const words = command.slice(entrypoint.length)
  const ports = exposedPorts.map(({ port, protocol }) => `${port}/${protocol}`)
  const { Entrypoint: _entrypoint, Cmd: _command, OnBuild: _triggers, ...rest } = image?.config.config ?? {}
  return {
    ...rest,
    ...(user === '0' && !rest.User ? {} : { User: user }),
    ...(ports.length > 0 ? { ExposedPorts: set(ports) } : {}),
    Env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    ...(entrypoint.length > 0 ? { Entrypoint: entrypoint } : {}),
    ...(words.length > 0 ? { Cmd: words } : {}),
    ...(workdir === '/' && !rest.WorkingDir ? {} : { WorkingDir: workdir }),
    ...(Object.keys(labels).length > 0 ? { Labels: labels } : {}),
    ...(stopSignal === parseSignal(rest.StopSignal || DEFAULT_STOP_SIGNAL)
      ? {}
      : { StopSignal: signalName(stopSignal) }),
  }
}

const DEFAULT_STOP_SIGNAL = 15

/** Go's way of writing a set in JSON. */
function set(names: readonly string[]): Record<string, Record<string, never>> {
  return Object.fromEntries(names.map((name) => [name, {}]))
}

/** Names of options, and what an image calls them. */
const FIELDS: Readonly<Record<string, string>> = {
  env: 'config.Env',
  user: 'config.User',
  workdir: 'config.WorkingDir',
  stopSignal: 'config.StopSignal',
  labels: 'config.Labels',
  entrypoint: 'config.Entrypoint',
  command: 'config.Cmd',
  exposedPorts: 'config.ExposedPorts',
}

/**
 * What is wrong with an image, when the check of the options that it makes says so. What the caller gave is the caller's, and so is a
 * command that is missing.
 */
export function imageFault(reference: string, error: unknown, options: ContainerOptions): unknown {
  if (!(error instanceof MayflyError) || error.field === undefined) return error
  const [, option = '', rest = ''] = /^(\w+)(.*)$/s.exec(error.field) ?? []
  const isOfImage = Object.hasOwn(FIELDS, option) && error.field !== 'command'
  if (!isOfImage || (options as Readonly<Record<string, unknown>>)[option] !== undefined) return error
  const field = (FIELDS[option] ?? option) + rest
  const reason = error.message.split('\n')[0]!.replace(`${error.field}: `, '')
  return new MayflyError(
    'IMAGE_INVALID',
    `Image "${reference}" cannot be run: ${field}: ${reason}`,
    { field, ...(error.value === undefined ? {} : { value: error.value }) },
    { cause: error },
  )
}
