/** Waiting for a server that listens before it serves: a few bytes of its protocol tell. */

import { connect } from 'node:net'
import { clearTimeout, setTimeout } from '../engine/clock.js'
import { retryUntil } from './retry.js'
import { AbstractWaitStrategy, type WaitControl, type WaitTarget } from './strategy.js'

/** What to say to a server, and how to understand it. */
export interface Probe {
  /** As it stands in messages: `an answer to PING`. */
  readonly what: string
  readonly request: Uint8Array
  /** Whether the server is ready, by the first bytes of its answer. */
  readonly isReady: (answer: Buffer) => boolean
}

/** An answer that takes longer counts as none. */
const ANSWER_TIMEOUT_MS = 1_000

/** Until the server at an exposed port gives the answer that is wanted; asked from the moment on that it listens. */
export class ProbeWaitStrategy extends AbstractWaitStrategy {
  protected readonly port: number
  protected readonly probe: Probe
  protected override readonly what: string

  constructor(port: number, probe: Probe) {
    super()
    this.port = port
    this.probe = probe
    this.what = probe.what
  }

  protected override async check(target: WaitTarget, { signal }: WaitControl): Promise<void> {
    await target.container.waitForPort(this.port, { signal })
    await retryUntil(() => this.ask(target, signal), signal)
  }

  protected async ask(target: WaitTarget, signal: AbortSignal): Promise<boolean> {
    const host = target.getHost()
    for (const address of host === 'localhost' ? LOOPBACK : [host]) {
      const answer = await exchange(address, target.getMappedPort(this.port), this.probe.request, signal)
      if (answer !== undefined) return this.probe.isReady(answer)
    }
    return false
  }
}

/** Asking the system for `localhost` takes a thread and keeps what asked, which Jest's `--detectLeaks` finds. */
const LOOPBACK = ['127.0.0.1', '::1']

/** The first bytes of the answer; undefined when there is none. Never rejects: an abort is for the caller to see. */
function exchange(host: string, port: number, request: Uint8Array, signal: AbortSignal): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, noDelay: true })
    const end = (answer?: Buffer) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
      resolve(answer)
    }
    const onAbort = () => end()
    const timer = setTimeout(end, ANSWER_TIMEOUT_MS)
    signal.addEventListener('abort', onAbort, { once: true })
    socket.on('error', () => end())
    socket.on('close', () => end())
    socket.once('data', end)
    socket.write(request)
  })
}
