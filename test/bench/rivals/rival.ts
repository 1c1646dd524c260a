/** Another container engine, to be measured at what both can do. */

import type { Contender } from '../measure.ts'
import type { World } from '../world.ts'
import { openDocker } from './docker.ts'
import { openPodman } from './podman.ts'
import { openRunc } from './runc.ts'
import type { Testcontainers } from './testcontainers.ts'

/** Where a server in a container can be reached, and the words that put a client there. */
export interface Endpoint {
  readonly address: string
  readonly port: number
  readonly enter: readonly string[]
}

/** Networks of an engine, with a server and a client on one of them. */
export interface RivalNetworks extends AsyncDisposable {
  /** Makes a network and removes it. */
  readonly makeAndRemove: Contender
  /** Connects a running container to one more; taking it off again is not in the time. */
  readonly connect: Contender
  /** Of a second, measured for so many milliseconds in the client: bytes from the server, round trips to it, or look-ups of its name. */
  rate(mode: 'pull' | 'echo' | 'lookup', ms: number): Promise<number>
}

export interface Rival extends AsyncDisposable {
  /** As on the command line. */
  readonly name: string
  /** Version and what else makes a difference. */
  readonly description: string
  /** Runs /bin/true in a new container and removes it, as the user would. */
  readonly run: Contender
  /** Runs /bin/true in a container that is running. */
  readonly exec?: Contender
  /** Starts `peer serve` in a container: its published port on the loopback, and its own address. */
  serve?(): Promise<{ readonly published: Endpoint; readonly own: Endpoint }>
  networks?(): Promise<RivalNetworks>
  /** Bytes of resident memory (PSS) that the engine's own processes hold, shims included. */
  memory?(): number
  /** Words that put a registry onto the loopback that this engine sees. */
  readonly enterNetwork?: readonly string[]
  /** Pulls an image as the user would. */
  pull?(reference: string): Promise<void>
  /** Removes it, layers included. */
  removeImage?(reference: string): Promise<void>
  /** Makes an image of a tar. */
  importImage?(tar: string, name: string): Promise<void>
  /** Builds what a Dockerfile in this directory says, as the user would. @default noCache: false */
  build?(directory: string, options?: { readonly noCache?: boolean }): Promise<void>
  /** Starts containers that do nothing and resolves when they run. */
  startIdle?(count: number): Promise<void>
  /** testcontainers-node on this engine; installed when it is first asked for. */
  testcontainers?(): Promise<Testcontainers>
}

const RIVALS: Readonly<Record<string, (world: World) => Promise<Rival | string>>> = {
  docker: openDocker,
  podman: openPodman,
  runc: openRunc,
}

/** Those that were opened; disposing of it disposes of them. */
export interface Rivals extends AsyncDisposable {
  readonly list: readonly Rival[]
}

/** The rivals named; what is not installed is left out, with a line on stderr that installs it. */
export async function openRivals(names: readonly string[], world: World): Promise<Rivals> {
  const unknown = names.find((name) => !RIVALS[name])
  if (unknown) throw new RangeError(`--vs knows ${Object.keys(RIVALS).join(', ')}, not "${unknown}"`)
  const list: Rival[] = []
  const rivals: Rivals = {
    list,
    async [Symbol.asyncDispose]() {
      for (const rival of list) await rival[Symbol.asyncDispose]()
    },
  }
  try {
    for (const name of names) {
      const rival = await RIVALS[name]!(world)
      if (typeof rival === 'string') console.error(`${name} is not installed, so it is left out: ${rival}`)
      else list.push(rival)
    }
    return rivals
  } catch (error) {
    await rivals[Symbol.asyncDispose]()
    throw error
  }
}
