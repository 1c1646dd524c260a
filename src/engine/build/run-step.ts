/** RUN: a program in a container upon the stage's layers; what it has written is the layer. */

import { MayflyError } from '../errors.js'
import type { Layer } from '../store/layers.js'
import type { KeyPart } from './cache.js'
import type { Vertex } from './events.js'
import type { Executed } from './lookup.js'
import { makeLayer } from './make-layer.js'
import { type Closer, fileWords, type MountWorld, mountsPart, openMounts } from './run-mounts.js'
import { removeContainer, runProgram } from './run-program.js'
import type { RunStep } from './stage-plan.js'
import { describeExitEvent } from './step-error.js'

export interface RunWorld extends MountWorld {
  readonly proxies: readonly (readonly [name: string, value: string])[]
  /** False in a session without one: steps then run as with `--network=none`. */
  readonly hasNetwork: boolean
  /** Runs the work when a processor is free for it. */
  slot<T>(work: () => Promise<T>): Promise<T>
}

const HOSTNAME = 'buildkitsandbox'
/** Output kept for the message when a step fails. */
const TAIL_BYTES = 16 * 1024
const TAIL_LINES = 40

/** What the result depends on besides the layers below. */
export async function runKey(
  world: RunWorld,
  step: RunStep,
  byContent: boolean,
): Promise<{ readonly part: KeyPart; readonly hasContent: boolean }> {
  const { instruction } = step
  const { options } = world
  const { part: mounts, hasContent } = await mountsPart(world, instruction, byContent)
  const part: KeyPart = {
    args: step.args,
    script: step.script?.content ?? null,
    env: step.env.map(([name, value]) => `${name}=${value}`),
    user: step.user,
    workdir: step.workdir,
    mounts,
    network: networkOf(world, step),
    security: instruction.security,
    devices: instruction.devices.map(({ name }) => name),
    // Their addresses may change from day to day.
    hosts: Object.keys(options.addHosts ?? {}).sort(),
    shm: options.shmSizeBytes ?? null,
    ulimits: JSON.stringify(options.ulimits ?? {}),
  }
  return { part, hasContent }
}

/** Throws BUILD_DENIED where a step asks for more than the build may. */
export function checkAllowed(world: RunWorld, { instruction }: RunStep): void {
  const allowed = world.options.allow ?? []
  const deny = (what: 'security.insecure' | 'network.host', flag: string) => {
    if (allowed.includes(what)) return
    throw new MayflyError('BUILD_DENIED', `The step asks for ${flag}, which this build is not allowed`, {
      value: flag,
      hint: `\`--allow ${what}\` allows it, or the build's option \`allow: ['${what}']\``,
    })
  }
  if (instruction.security === 'insecure') deny('security.insecure', '--security=insecure')
  const network = instruction.network === 'default' ? world.options.network : instruction.network
  if (network === 'host') deny('network.host', '--network=host')
}

/** Throws BUILD_FAILED with the program's last output, and what starting it may throw. */
export async function executeRun(
  world: RunWorld,
  step: RunStep,
  layers: readonly string[],
  parent: Layer | undefined,
  vertex: Vertex,
): Promise<Executed> {
  const { context, options, signal } = world
  const { instruction } = step
  const mounts = await openMounts(world, instruction)
  const closers: Closer[] = []
  const tail = new Tail()
  try {
    const script = step.script
      ? await fileWords(
          context,
          step.args[0]!,
          Buffer.from(step.script.content),
          { mode: 0o755, uid: 0, gid: 0 },
          closers,
        )
      : []
    const end = await world.slot(() =>
      runProgram(
        context,
        {
          layers,
          words: [...mounts.words, ...script],
          options: {
            command: step.args,
            env: Object.fromEntries([...world.proxies, ...step.env, ...mounts.env]),
            user: step.user,
            workdir: step.workdir,
            createWorkdir: true,
            network: networkOf(world, step),
            ...(networkOf(world, step) === 'host' ? {} : { hostname: HOSTNAME }),
            privileged: instruction.security === 'insecure',
            devices: instruction.devices.map(({ name }) => deviceOf(name)),
            ...(options.addHosts ? { extraHosts: options.addHosts } : {}),
            ...(options.shmSizeBytes === undefined ? {} : { shmSizeBytes: options.shmSizeBytes }),
            ...(options.ulimits ? { ulimits: options.ulimits } : {}),
          },
          onOutput: (stream, data) => {
            tail.push(data)
            vertex.output(stream, data)
          },
        },
        signal,
      ),
    )
    try {
      const { exit } = end
      if (exit.code !== 0 || exit.oom) {
        throw new MayflyError('BUILD_FAILED', `${commandText(step)} ${describeExitEvent(exit)}`, {
          exitCode: exit.signal === undefined ? (exit.code ?? 0) : 128 + exit.signal,
          logTail: tail.text(),
        })
      }
      return { layer: await makeLayer(context, end.id, parent, signal), matchesKey: mounts.matchesKey }
    } catch (error) {
      await removeContainer(context, end.id)
      throw error
    }
  } finally {
    for (const close of closers) await close()
    await mounts.close()
  }
}

function networkOf({ options, hasNetwork }: RunWorld, { instruction }: RunStep): 'bridge' | 'none' | 'host' {
  const asked = instruction.network === 'default' ? (options.network ?? 'default') : instruction.network
  if (asked !== 'default') return asked
  return hasNetwork ? 'bridge' : 'none'
}

/** `/dev/fuse`, or as `docker run --device`: `host[:container[:permissions]]`. */
function deviceOf(name: string) {
  const [host = '', container, permissions] = name.split(':')
  return { host, ...(container ? { container } : {}), ...(permissions ? { permissions } : {}) }
}

function commandText({ args, instruction }: RunStep): string {
  const text = instruction.command.form === 'exec' ? args.join(' ') : args.at(-1)!
  return `"${text.length > 400 ? `${text.slice(0, 400)}…` : text}"`
}

/** The last output, both streams as they came. */
class Tail {
  #pieces: Uint8Array[] = []
  #bytes = 0

  push(piece: Uint8Array): void {
    // A copy: what is handed on here belongs to the reader of the connection.
    this.#pieces.push(Uint8Array.from(piece.subarray(-TAIL_BYTES)))
    this.#bytes += piece.length
    while (this.#pieces.length > 1 && this.#bytes - this.#pieces[0]!.length > TAIL_BYTES)
      this.#bytes -= this.#pieces.shift()!.length
  }

  text(): string {
    const text = Buffer.concat(this.#pieces).toString().trimEnd()
    return text.split('\n').slice(-TAIL_LINES).join('\n')
  }
}
