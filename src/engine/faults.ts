/**
 * Faults on demand: what a test does to a container to see how others bear it. Each can be undone, and ends with the container.
 *
 * Faults of the network are made by the warden, which comes between the container and its bridge (native/impair.c): so they concern all
 * that it sends and receives, also over published ports, and need nothing that a kernel may lack (sch_netem).
 */

import type { EngineContext } from './context.js'
import { MayflyError } from './errors.js'
import { type Check, number, optional, refuse, sparse, string } from './launch/check.js'
import type { Life } from './life.js'
import { Overrides } from './overrides.js'
import { refusalError } from './refusal.js'

/** What happens to the packets of a container, in each of the two directions. */
export interface NetworkFault {
  /** Part of the packets that get lost, from 0 to 1. @default 0 */
  readonly loss?: number
  /** How much later each arrives, in milliseconds: a round trip takes twice as much longer. @default 0 */
  readonly latencyMs?: number
  /** Up to so many milliseconds more, at random. Packets stay in order. @default 0 */
  readonly jitterMs?: number
  /** No more than so many bytes a second; what would wait for more than half a second is lost. @default without limit */
  readonly bytesPerSecond?: number
  /**
   * Only packets between the two containers: name or id. Such a fault comes before one that concerns everything.
   *
   * @default everything that it sends and receives
   */
  readonly peer?: string
}

/** A fault that was made. */
export interface Fault extends AsyncDisposable {
  /** Ends it; the one that it took the place of holds again. May be called twice, and when the container is gone. */
  undo(): Promise<void>
}

const MAX_MS = 3_600_000

const faultShape = sparse({
  loss: optional(number(0, 1)),
  latencyMs: optional(number(0, MAX_MS)),
  jitterMs: optional(number(0, MAX_MS)),
  bytesPerSecond: optional(number(1, 1e15)),
  peer: optional(string),
}) as Check<NetworkFault>

const cutShape = sparse({ from: optional(string) })

const NOTHING: NetworkFault = {}

/** What has been done to a container and not undone: to its network, by the peer's id ('' = everything), and to its disk. */
interface Done {
  readonly network: Map<string, Overrides<NetworkFault>>
  readonly disk: Overrides<boolean>
}
const done = new WeakMap<Life, Done>()

function doneTo(life: Life): Done {
  const known = done.get(life) ?? { network: new Map(), disk: new Overrides<boolean>() }
  done.set(life, known)
  return known
}

/** Cuts a container off. Throws as `Container.cutOff`. */
export async function cutOff(context: EngineContext, life: Life, options: { readonly from?: string }): Promise<Fault> {
  const { from } = cutShape(options, 'options')
  return impair(context, life, { loss: 1, ...(from === undefined ? {} : { peer: from }) })
}

/** Makes a fault of the container's network; of several that concern the same packets the latest holds. Throws as `Container.impair`. */
export async function impair(context: EngineContext, life: Life, given: NetworkFault): Promise<Fault> {
  const fault = faultShape(given, 'fault')
  const { loss, latencyMs, jitterMs, bytesPerSecond } = fault
  if (!loss && !latencyMs && !jitterMs && bytesPerSecond === undefined) {
    refuse('fault', undefined, 'expected loss, latencyMs, jitterMs or bytesPerSecond', 'heal() ends a fault')
  }
  const peer = fault.peer === undefined ? undefined : context.facts.container(fault.peer).id
  if (peer === life.id) refuse('fault.peer', fault.peer, 'expected another container')
  const { network } = doneTo(life)
  const faults = network.get(peer ?? '') ?? new Overrides<NetworkFault>()
  network.set(peer ?? '', faults)
  return undoable(
    await faults.hold(fault, (which) => request(context, life, 'impair', faultWords(which ?? NOTHING, peer))),
  )
}

/** Ends all faults of the container's network. */
export function heal(context: EngineContext, life: Life): Promise<void> {
  for (const faults of doneTo(life).network.values()) faults.clear()
  return request(context, life, 'heal', [])
}

/** Its disk is full, until that is undone. */
export async function fillDisk(context: EngineContext, life: Life): Promise<Fault> {
  if (life.options.limits.diskBytes === undefined) {
    throw new MayflyError('NOT_SUPPORTED', `Cannot fill the disk of "${life.name}": it has no size of its own`, {
      container: life.name,
      field: 'limits.diskBytes',
      hint: 'give it one with limits.diskBytes',
    })
  }
  return undoable(
    await doneTo(life).disk.hold(true, (isFull) => request(context, life, 'fill', ['full', isFull ? '1' : '0'])),
  )
}

function faultWords(
  { loss = 0, latencyMs = 0, jitterMs = 0, bytesPerSecond = 0 }: NetworkFault,
  peer?: string,
): string[] {
  return [
    ...(peer === undefined ? [] : ['peer', peer]),
    ...['loss', String(Math.round(loss * 1_000_000))],
    ...['delay', String(Math.round(latencyMs * 1000)), 'jitter', String(Math.round(jitterMs * 1000))],
    ...['rate', String(Math.round(bytesPerSecond))],
  ]
}

async function request({ session }: EngineContext, life: Life, verb: string, words: string[]): Promise<void> {
  const reply = await session.request(verb, ['id', life.id, ...words])
  if (reply.ok) return
  const error = refusalError(reply, { verb, container: life.name })
  const isNotPossible = reply.step === 'network' && /^E(OP)?NOTSUPP?$/.test(reply.errno)
  if (!isNotPossible) throw error
  throw new MayflyError('NOT_SUPPORTED', `Cannot ${verb} the network of "${life.name}": ${reply.message}`, {
    container: life.name,
  })
}

/** A fault that this work ends, once. Whoever undoes what went with the container or with the engine has what was wanted. */
export function undoable(work: () => Promise<void>): Fault {
  let undoing: Promise<void> | undefined
  const undo = () => {
    undoing ??= work().catch((error) => {
      if (!(error instanceof MayflyError && GONE.includes(error.code))) throw error
    })
    return undoing
  }
  return Object.freeze({ undo, [Symbol.asyncDispose]: undo })
}

const GONE: readonly string[] = ['NO_SUCH_CONTAINER', 'CONTAINER_NOT_RUNNING', 'ENGINE_CLOSED', 'NOT_SUPPORTED']
