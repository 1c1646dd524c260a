/** What a build has told so far: its vertices with their state, times and last lines. Pure bookkeeping, drawn by others. */
import { StringDecoder } from 'node:string_decoder'
import type { BuildEvent } from '../../engine/build/events.js'
import { outputLine, printableLine } from './printable.js'

export interface VertexState {
  readonly number: number
  readonly text: string
  readonly startedAt: number
  status: 'running' | 'done' | 'failed' | 'cancelled'
  isCached: boolean
  durationMs: number
  /** Last lines of output, printable. */
  readonly lines: string[]
  /** Transfers under way or finished, by layer. */
  readonly transfers: Map<string, Transfer>
  /** Output without its line end yet, by stream. */
  readonly rest: Record<'stdout' | 'stderr', Rest>
}

export interface Transfer {
  readonly id: string
  readonly status: string
  readonly current: number
  readonly total: number
}

interface Rest {
  text: string
  /** A character may be cut in two. */
  readonly decoder: StringDecoder
}

const LINES_KEPT = 50
/** A program that never ends its line. */
const MAX_LINE = 16 * 1024

/** A line that is complete. */
export type LineListener = (vertex: VertexState, line: string, time: Date) => void

export class BuildState {
  readonly vertices = new Map<number, VertexState>()
  readonly warnings: string[] = []
  readonly #onLine: LineListener | undefined

  constructor(onLine?: LineListener) {
    this.#onLine = onLine
  }

  /** The vertex it was about, as it is now. */
  take(event: BuildEvent): VertexState | undefined {
    if (event.type === 'warning') {
      this.warnings.push(printableLine(event.message))
      return undefined
    }
    if (event.type === 'started') {
      const { vertex: number, text, time } = event
      const vertex: VertexState = {
        number,
        text: printableLine(text),
        startedAt: time.getTime(),
        status: 'running',
        isCached: false,
        durationMs: 0,
        lines: [],
        transfers: new Map(),
        rest: {
          stdout: { text: '', decoder: new StringDecoder('utf8') },
          stderr: { text: '', decoder: new StringDecoder('utf8') },
        },
      }
      this.vertices.set(number, vertex)
      return vertex
    }
    const vertex = this.vertices.get(event.vertex)
    if (!vertex) return undefined
    switch (event.type) {
      case 'cached':
        vertex.isCached = true
        break
      case 'output':
        this.#takeOutput(vertex, event.stream, event.data, event.time)
        break
      case 'progress': {
        const { id, status, current, total } = event
        vertex.transfers.set(id, { id, status, current, total })
        break
      }
      case 'done':
      case 'failed':
        for (const stream of ['stdout', 'stderr'] as const) this.#endLine(vertex, stream, event.time)
        vertex.durationMs = event.durationMs
        vertex.status = event.type === 'done' ? 'done' : event.isCancelled ? 'cancelled' : 'failed'
    }
    return vertex
  }

  #takeOutput(vertex: VertexState, stream: 'stdout' | 'stderr', data: Uint8Array, time: Date): void {
    const rest = vertex.rest[stream]
    const parts = (rest.text + rest.decoder.write(Buffer.from(data))).split('\n')
    rest.text = parts.pop()!.slice(-MAX_LINE)
    for (const part of parts) this.#line(vertex, part, time)
  }

  #endLine(vertex: VertexState, stream: 'stdout' | 'stderr', time: Date): void {
    const { text } = vertex.rest[stream]
    vertex.rest[stream].text = ''
    if (text !== '') this.#line(vertex, text, time)
  }

  #line(vertex: VertexState, text: string, time: Date): void {
    const line = outputLine(text.slice(-MAX_LINE))
    vertex.lines.push(line)
    if (vertex.lines.length > LINES_KEPT) vertex.lines.shift()
    this.#onLine?.(vertex, line, time)
  }
}
