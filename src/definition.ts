/** What a container shall be, as plain frozen data, and the spec that a backend is given for it. */

import type { Readable } from 'node:stream'
import type { ContainerMount, ContainerSpec, HealthCheck, NetworkAttachment } from './backends/backend.js'
import { type Copies, type CopyToContainerOptions, NO_COPIES } from './copy.js'
import { anything, type Check, list, record, refuse, sparse, string } from './engine/launch/check.js'
import type { PublishedPort, ResourceLimits, SeccompProfile, Ulimit } from './engine/options.js'
import type { Hooks } from './hooks.js'
import type { ImageSubstitution } from './image-substitution.js'
import { type Network, networkId, type StartedNetwork } from './network.js'
import { NO_PREPARATION, type Preparation } from './preparation-options.js'
import { type ImagePullPolicy, PullPolicy } from './pull-policy.js'
import type { WaitStrategy } from './wait/strategy.js'

/** Changes the spec of a container just before it is made. Gets it frozen, gives another one. One that throws fails the start with HOOK_FAILED. */
export type CreateModifier = (spec: ContainerSpec) => ContainerSpec | Promise<ContainerSpec>

/** Gets the output of a container, from its first byte on. */
export type LogConsumer = (stream: Readable) => unknown

/** Everything that the `with…` of a container say. */
export interface Definition {
  readonly image: string
  /** It was built here: no registry is asked, and nothing is substituted. */
  readonly isBuilt: boolean
  readonly platform: string | undefined
  readonly name: string | undefined
  readonly command: readonly string[] | undefined
  readonly entrypoint: readonly string[] | undefined
  readonly env: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  readonly user: string | undefined
  readonly groups: readonly string[]
  readonly workdir: string | undefined
  readonly hostname: string | undefined
  readonly tty: boolean
  readonly ports: readonly PublishedPort[]
  readonly mounts: readonly ContainerMount[]
  readonly volumesFrom: NonNullable<ContainerSpec['volumesFrom']>
  readonly networks: readonly {
    readonly network: Network | StartedNetwork
    readonly aliases: readonly string[]
    readonly ipAddress?: string
    readonly ipv6Address?: string
  }[]
  readonly aliases: readonly string[]
  readonly networkMode: string | undefined
  readonly extraHosts: Readonly<Record<string, readonly string[]>>
  readonly dns: readonly string[]
  readonly dnsSearch: readonly string[]
  readonly dnsOptions: readonly string[]
  readonly hostPorts: readonly number[]
  readonly privileged: boolean
  readonly capAdd: readonly string[]
  readonly capDrop: readonly string[]
  readonly seccomp: 'unconfined' | SeccompProfile | undefined
  readonly noNewPrivileges: boolean
  readonly readonlyRootfs: boolean
  readonly devices: NonNullable<ContainerSpec['devices']>
  readonly sysctls: Readonly<Record<string, string>>
  readonly ulimits: Readonly<Record<string, Ulimit>>
  readonly limits: ResourceLimits
  readonly clockOffsetMs: number | undefined
  readonly shmSizeBytes: number | undefined
  readonly init: boolean
  readonly stopSignal: string | number | undefined
  readonly stopTimeoutMs: number | undefined
  readonly ipc: string | undefined
  readonly pid: string | undefined
  readonly healthCheck: HealthCheck | undefined
  readonly waitStrategy: WaitStrategy | undefined
  readonly startupTimeoutMs: number | undefined
  readonly startupAttempts: number
  readonly pullPolicy: ImagePullPolicy
  readonly substitution: ImageSubstitution | undefined
  readonly copies: Copies
  readonly copyOptions: CopyToContainerOptions
  readonly logConsumers: readonly LogConsumer[]
  readonly hooks: readonly Hooks[]
  readonly modifiers: readonly CreateModifier[]
  readonly autoRemove: boolean
  readonly preparation: Preparation
}

const NOTHING: readonly never[] = Object.freeze([])
const EMPTY = Object.freeze({})

/** The definition of a container of which nothing but the image is said. */
export function definitionOf(image: string, isBuilt: boolean): Definition {
  return Object.freeze({
    image,
    isBuilt,
    platform: undefined,
    name: undefined,
    command: undefined,
    entrypoint: undefined,
    env: EMPTY,
    labels: EMPTY,
    user: undefined,
    groups: NOTHING,
    workdir: undefined,
    hostname: undefined,
    tty: false,
    ports: NOTHING,
    mounts: NOTHING,
    volumesFrom: NOTHING,
    networks: NOTHING,
    aliases: NOTHING,
    networkMode: undefined,
    extraHosts: EMPTY,
    dns: NOTHING,
    dnsSearch: NOTHING,
    dnsOptions: NOTHING,
    hostPorts: NOTHING,
    privileged: false,
    capAdd: NOTHING,
    capDrop: NOTHING,
    seccomp: undefined,
    noNewPrivileges: false,
    readonlyRootfs: false,
    devices: NOTHING,
    sysctls: EMPTY,
    ulimits: EMPTY,
    limits: EMPTY,
    clockOffsetMs: undefined,
    shmSizeBytes: undefined,
    init: false,
    stopSignal: undefined,
    stopTimeoutMs: undefined,
    ipc: undefined,
    pid: undefined,
    healthCheck: undefined,
    waitStrategy: undefined,
    startupTimeoutMs: undefined,
    startupAttempts: 1,
    pullPolicy: PullPolicy.defaultPolicy(),
    substitution: undefined,
    copies: NO_COPIES,
    copyOptions: EMPTY,
    logConsumers: NOTHING,
    hooks: NOTHING,
    modifiers: NOTHING,
    autoRemove: true,
    preparation: NO_PREPARATION,
  })
}

const CONTAINER = 'container:'
const NETWORK_MODE = /^(?:default|bridge|none|host|container:.*)$/s

/** As in Docker, the name of a network is a mode too. */
function namesNetwork(networkMode: string | undefined): networkMode is string {
  return networkMode !== undefined && !NETWORK_MODE.test(networkMode)
}

/** Networks that it is on, and containers whose network or mounts it has: where they are it has to be. */
export function upon({ networks, networkMode, volumesFrom }: Definition): readonly string[] {
  const isContainer = networkMode?.startsWith(CONTAINER)
  const named = isContainer ? [networkMode!.slice(CONTAINER.length)] : namesNetwork(networkMode) ? [networkMode] : []
  const joined = networkMode === undefined ? networks.map(({ network }) => networkId(network)) : named
  return [...joined, ...volumesFrom.map(({ container }) => container)]
}

/** The spec without what only the start knows: the image after substitution, names of the host. */
export function toSpec(
  definition: Definition,
  image: string,
  extraHosts: Readonly<Record<string, string>>,
): ContainerSpec {
  const { networkMode, aliases } = definition
  const isNetwork = namesNetwork(networkMode)
  const networks = isNetwork
    ? [{ network: networkMode, aliases: [] }]
    : definition.networks.map((one) => ({ ...one, network: networkId(one.network) }))
  const attachments: NetworkAttachment[] = networks.map(({ aliases: own, ...rest }) => ({
    ...rest,
    aliases: [...new Set([...own, ...aliases])],
  }))
  const known = {
    image,
    platform: definition.platform,
    name: definition.name,
    command: definition.command,
    entrypoint: definition.entrypoint,
    env: definition.env,
    labels: definition.labels,
    user: definition.user,
    groups: orAbsent(definition.groups),
    workdir: definition.workdir,
    hostname: definition.hostname,
    tty: definition.tty || undefined,
    ports: definition.ports,
    mounts: definition.mounts,
    volumesFrom: orAbsent(definition.volumesFrom),
    networks: attachments,
    aliases: networks.length === 0 ? orAbsent(aliases) : undefined,
    networkMode: isNetwork || networkMode === 'default' ? undefined : networkMode,
    extraHosts: { ...extraHosts, ...definition.extraHosts },
    dns: orAbsent(definition.dns),
    dnsSearch: orAbsent(definition.dnsSearch),
    dnsOptions: orAbsent(definition.dnsOptions),
    privileged: definition.privileged || undefined,
    capAdd: orAbsent(definition.capAdd),
    capDrop: orAbsent(definition.capDrop),
    seccomp: definition.seccomp,
    noNewPrivileges: definition.noNewPrivileges || undefined,
    readonlyRootfs: definition.readonlyRootfs || undefined,
    devices: orAbsent(definition.devices),
    sysctls: definition.sysctls,
    ulimits: definition.ulimits,
    limits: definition.limits,
    clockOffsetMs: definition.clockOffsetMs,
    shmSizeBytes: definition.shmSizeBytes,
    init: definition.init || undefined,
    stopSignal: definition.stopSignal,
    stopTimeoutMs: definition.stopTimeoutMs,
    ipc: definition.ipc,
    pid: definition.pid,
  }
  const present = Object.entries(known).filter(([, value]) => value !== undefined)
  return Object.freeze(Object.fromEntries(present)) as unknown as ContainerSpec
}

const specShape = sparse({
  image: string,
  platform: anything,
  name: anything,
  command: anything,
  entrypoint: anything,
  env: record(string, anything),
  labels: record(string, anything),
  user: anything,
  groups: anything,
  workdir: anything,
  hostname: anything,
  domainname: anything,
  tty: anything,
  stdin: anything,
  ports: list(anything),
  mounts: list(anything),
  networks: list(anything),
  aliases: anything,
  volumesFrom: anything,
  networkMode: anything,
  extraHosts: record(string, anything),
  dns: anything,
  dnsSearch: anything,
  dnsOptions: anything,
  privileged: anything,
  capAdd: anything,
  capDrop: anything,
  seccomp: anything,
  noNewPrivileges: anything,
  readonlyRootfs: anything,
  devices: anything,
  sysctls: anything,
  ulimits: anything,
  limits: anything,
  clockOffsetMs: anything,
  shmSizeBytes: anything,
  init: anything,
  stopSignal: anything,
  stopTimeoutMs: anything,
  ipc: anything,
  pid: anything,
  logBytes: anything,
} satisfies Record<keyof ContainerSpec, Check<unknown>>)

/** A spec that a modifier made, as far as the backend takes it for granted: its values are the backend's to check. Throws INVALID_OPTION. */
export function modifiedSpec(spec: ContainerSpec): ContainerSpec {
  const how = 'give a spec back, such as ({ ...spec, domainname })'
  if (spec === undefined) refuse('createModifier', spec, 'expected the spec that it returns', how)
  specShape(spec, 'createModifier')
  return Object.freeze(spec)
}

function orAbsent<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length > 0 ? list : undefined
}

/** What `withSecurityOpt` takes, in the notation of `docker run --security-opt`. */
export function securityOptions(options: readonly string[]): Partial<Pick<Definition, 'seccomp' | 'noNewPrivileges'>> {
  const result: { seccomp?: 'unconfined' | SeccompProfile; noNewPrivileges?: boolean } = {}
  for (const [index, option] of options.entries()) {
    const field = `securityOpt[${index}]`
    const [, name, value = ''] = /^([\w-]+)(?:[=:](.*))?$/s.exec(option) ?? []
    if (name === 'no-new-privileges') result.noNewPrivileges = value !== 'false'
    else if (name === 'seccomp') result.seccomp = seccompProfile(value, field)
    // This engine has no profiles of AppArmor and no labels of SELinux: without them is how it runs.
    else if ((name === 'apparmor' && value === 'unconfined') || (name === 'label' && value === 'disable')) continue
    else {
      refuse(
        field,
        option,
        "expected 'no-new-privileges', 'seccomp=unconfined' or 'seccomp=' and a profile as JSON",
        undefined,
        'NOT_SUPPORTED',
      )
    }
  }
  return result
}

function seccompProfile(value: string, field: string): 'unconfined' | SeccompProfile {
  if (value === 'unconfined') return 'unconfined'
  try {
    return JSON.parse(value)
  } catch {
    return refuse(field, value, "expected 'unconfined' or the JSON of a profile")
  }
}
