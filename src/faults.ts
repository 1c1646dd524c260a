/** Faults of a started container, for tests of what others make of them. Each ends when it is undone, or with the container. */

import type { BackendFault } from './backends/backend.js'
import { type Check, integer, number, optional, refuse, sparse } from './engine/launch/check.js'
import type { RunningContainer } from './running-container.js'
import type { StartedTestContainer } from './started-container.js'

/** What happens to the packets of a container, in each of the two directions. */
export interface NetworkFaultOptions {
  /** Part of the packets that get lost, from 0 to 1. @default 0 */
  readonly loss?: number
  /** How much later each arrives, in milliseconds: a round trip takes twice as much longer. @default 0 */
  readonly latency?: number
  /** Up to so many milliseconds more, at random. Packets stay in order. @default 0 */
  readonly jitter?: number
  /** No more than so many bytes a second; what would wait for more than half a second is lost. @default without limit */
  readonly bytesPerSecond?: number
  /** Only what goes between the two containers. @default everything that it sends and receives */
  readonly peer?: StartedTestContainer
}

/** A fault that was made. `await using` undoes it at the end of the block. */
export interface StartedFault extends AsyncDisposable {
  /** Ends it; the one that it took the place of holds again. May be called twice, and when the container is gone. */
  undo(): Promise<void>
}

/** Fixtures' containers are some too. */
const startedContainer: Check<StartedTestContainer> = (value, field) =>
  typeof (value as Partial<StartedTestContainer> | null)?.getId === 'function'
    ? (value as StartedTestContainer)
    : refuse(field, value, 'expected a container that was started')

const milliseconds = optional(number(0, 3_600_000))
const shape = sparse({
  loss: optional(number(0, 1)),
  latency: milliseconds,
  jitter: milliseconds,
  bytesPerSecond: optional(integer(1)),
  peer: optional(startedContainer),
})

const cutShape = sparse({ from: optional(startedContainer) })

/** Disturbs the network of a container. Throws INVALID_OPTION and NOT_SUPPORTED. */
export async function startNetworkFault(
  running: RunningContainer,
  options: NetworkFaultOptions,
): Promise<StartedFault> {
  const { peer, ...fault } = shape(options, 'fault')
  if (Object.values(fault).every((value) => value === 0)) {
    refuse('fault', undefined, 'expected loss, latency, jitter or bytesPerSecond', 'heal() ends the faults')
  }
  const other = peer === undefined ? {} : { peer: peer.getId() }
  return keep(running, await running.container.impair({ ...fault, ...other }))
}

/** Cuts a container off. Throws as the one before. */
export async function startCut(
  running: RunningContainer,
  options: { readonly from?: StartedTestContainer },
): Promise<StartedFault> {
  const { from } = cutShape(options, 'options')
  return startNetworkFault(running, from === undefined ? { loss: 1 } : { loss: 1, peer: from })
}

/** Makes its disk full. Throws NOT_SUPPORTED when its disk has no size of its own. */
export async function startFullDisk(running: RunningContainer): Promise<StartedFault> {
  return keep(running, await running.container.fillDisk())
}

/** Freezes its processes. */
export async function startPause(running: RunningContainer): Promise<StartedFault> {
  return keep(running, await running.container.pause())
}

/** Undoes all that were made, the latest first. Costs nothing where there are none. */
export async function undoFaults({ faults }: RunningContainer): Promise<void> {
  for (const fault of [...faults].reverse()) await fault.undo()
}

/** The container remembers its faults. Once it is gone, so are they. */
function keep(running: RunningContainer, made: BackendFault): StartedFault {
  const undo = async () => {
    running.faults.delete(fault)
    if (!running.stopping) await made.undo()
  }
  const fault = Object.freeze({ undo, [Symbol.asyncDispose]: undo })
  running.faults.add(fault)
  return fault
}
