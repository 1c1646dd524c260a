/** What happens to the containers of an engine, as a stream. */

import { Channel } from './channel.js'

/** What every event carries. */
interface EventBase {
  /** Id of the container, 64 hexadecimal digits. */
  readonly container: string
  /** Its name at that time. */
  readonly name: string
  readonly time: Date
}

/** Something that happened to a container, in the words of Docker's events where there is one. */
export type ContainerEvent = EventBase &
  (
    | { readonly type: 'create' | 'start' | 'stop' | 'restart' | 'pause' | 'unpause' | 'remove' | 'oom' }
    /** Its first process has ended. */
    | { readonly type: 'die'; readonly exitCode: number; readonly signal: string | null }
    /** Somebody sent it a signal. */
    | { readonly type: 'kill'; readonly signal: string }
    | { readonly type: 'rename'; readonly oldName: string }
    /** A process listens on a port. */
    | { readonly type: 'listen'; readonly port: number; readonly address: string }
    | { readonly type: 'exec-start'; readonly exec: string; readonly command: readonly string[] }
    | { readonly type: 'exec-die'; readonly exec: string; readonly exitCode: number }
  )

/** Something that the warden wants known, such as a name server that cannot be reached. */
export interface WarningNotice {
  readonly type: 'warning'
  readonly message: string
  /** Absent when it is about the whole session. */
  readonly container?: string
  readonly time: Date
}

/** The reader was slow: this many events before the next one were dropped. */
export interface LostNotice {
  readonly type: 'lost'
  readonly count: number
  readonly time: Date
}

/** What an engine tells of by itself. */
export type EngineEvent = ContainerEvent | WarningNotice | LostNotice

/** `Omit` that keeps the members of a union apart. */
type Without<Event, Key extends PropertyKey> = Event extends unknown ? Omit<Event, Key> : never
export type EventDetail = Without<ContainerEvent, 'container' | 'name' | 'time'>

/** Events that a slow reader may lag behind. */
const BACKLOG = 1_000

interface Subscriber {
  readonly channel: Channel<EngineEvent>
  lost: number
}

/** Hands events to everybody who listens; costs nothing while nobody does. */
export class EventBus {
  readonly #subscribers = new Set<Subscriber>()
  #isClosed = false

  get isHeard(): boolean {
    return this.#subscribers.size > 0
  }

  emit(event: EngineEvent): void {
    for (const subscriber of this.#subscribers) {
      const { channel } = subscriber
      if (channel.isFull) {
        subscriber.lost++
        continue
      }
      if (subscriber.lost > 0) {
        channel.push({ type: 'lost', count: subscriber.lost, time: event.time }, 1)
        subscriber.lost = 0
      }
      channel.push(event, 1)
    }
  }

  /** `onWaiting` is told while a reader waits. */
  subscribe(onWaiting: (waiting: boolean) => void, signal?: AbortSignal): AsyncIterableIterator<EngineEvent> {
    signal?.throwIfAborted()
    const onAbort = () => subscriber.channel.end(signal?.reason)
    const leave = () => {
      this.#subscribers.delete(subscriber)
      signal?.removeEventListener('abort', onAbort)
    }
    const subscriber: Subscriber = {
      channel: new Channel({ limit: BACKLOG, onWaiting, onCancel: leave }),
      lost: 0,
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    if (this.#isClosed) subscriber.channel.end()
    else this.#subscribers.add(subscriber)
    return subscriber.channel
  }

  /** Ends every stream. */
  close(): void {
    this.#isClosed = true
    for (const { channel } of this.#subscribers) channel.end()
    this.#subscribers.clear()
  }
}
