/** A build as people know it from BuildKit, on stderr: drawn anew on a terminal, plain lines elsewhere. */
import type { BuildEvent, BuildListener } from '../../engine/build/events.js'
import { bytes, seconds } from './amounts.js'
import { BuildState, type VertexState } from './build-state.js'
import { printableLine } from './printable.js'
import { isScreen, type Line, Screen } from './screen.js'
import { shortId } from './transfer.js'

export type ProgressKind = 'auto' | 'plain' | 'tty' | 'quiet'
export const PROGRESS_KINDS: readonly ProgressKind[] = ['auto', 'plain', 'tty', 'quiet']

export interface BuildView extends Disposable {
  readonly listener: BuildListener | undefined
  /** Tells how it ended. Comes once. */
  close(outcome: 'done' | 'failed'): void
}

/** `tty` where there is no terminal is refused by who asks. */
export function showBuild(kind: ProgressKind): BuildView {
  if (kind === 'quiet') return { listener: undefined, close: () => {}, [Symbol.dispose]: () => {} }
  if (kind !== 'plain' && isScreen(process.stderr)) return new BuildScreen(process.stderr)
  return new BuildLines()
}

/** `#5 [2/4] RUN make`, `#5 0.312 output`, `#5 DONE 0.4s` */
class BuildLines implements BuildView {
  readonly #state = new BuildState((vertex, line, time) => {
    this.#say(vertex, `${((time.getTime() - vertex.startedAt) / 1000).toFixed(3)} ${line}`)
  })
  readonly #told = new Map<string, string>()

  readonly listener = (event: BuildEvent) => {
    const vertex = this.#state.take(event)
    if (event.type === 'warning') process.stderr.write(`WARNING: ${this.#state.warnings.at(-1)}\n`)
    if (!vertex) return
    switch (event.type) {
      case 'started':
        this.#say(vertex, vertex.text)
        break
      case 'progress':
        this.#tellTransfer(vertex, event)
        break
      case 'done':
        this.#say(vertex, vertex.isCached ? 'CACHED' : `DONE ${seconds(vertex.durationMs)}`, '\n')
        break
      case 'failed':
        this.#say(vertex, vertex.status === 'cancelled' ? 'CANCELED' : `ERROR: ${firstLine(event.error)}`, '\n')
    }
  }

  close(): void {}
  [Symbol.dispose](): void {}

  #say({ number }: VertexState, text: string, end = ''): void {
    process.stderr.write(`#${number} ${text}\n${end}`)
  }

  /** One line for each state of a layer. */
  #tellTransfer(vertex: VertexState, { id, status, total }: Extract<BuildEvent, { type: 'progress' }>): void {
    const key = `${vertex.number} ${id}`
    if (this.#told.get(key) === status) return
    this.#told.set(key, status)
    this.#say(vertex, `${shortId(id)} ${status}${total > 0 && status === 'done' ? ` ${bytes(total)}` : ''}`)
  }
}

function firstLine({ message }: Error): string {
  return printableLine(message.split('\n', 1)[0]!)
}

/** Of a step that runs. */
const OUTPUT_LINES = 6

/** `[+] Building 3.4s (7/9)`, and a line for each step. */
class BuildScreen implements BuildView {
  readonly #state = new BuildState()
  readonly #startedAt = Date.now()
  readonly #screen: Screen
  #outcome: 'running' | 'done' | 'failed' = 'running'

  constructor(stream: typeof process.stderr) {
    this.#screen = new Screen(stream, ({ rows }) => this.#draw(rows))
  }

  readonly listener = (event: BuildEvent) => {
    this.#state.take(event)
    this.#screen.update()
  }

  close(outcome: 'done' | 'failed'): void {
    if (this.#outcome !== 'running') return
    this.#outcome = outcome
    this.#screen.close(({ rows }) => [
      ...this.#draw(rows),
      ...this.#state.warnings.map((text): Line => ({ text: `WARNING: ${text}`, color: 'yellow' })),
    ])
  }

  [Symbol.dispose](): void {
    this.close('failed')
  }

  #draw(rows: number): Line[] {
    const vertices = [...this.#state.vertices.values()]
    const finished = vertices.filter(({ status }) => status !== 'running').length
    const end = this.#outcome === 'done' ? ' FINISHED' : ''
    const title: Line = {
      text: `[+] Building ${seconds(Date.now() - this.#startedAt)} (${finished}/${vertices.length})${end}`,
    }
    const blocks = vertices.map((vertex) => ({ vertex, lines: [vertexLine(vertex), ...detail(vertex, this.#outcome)] }))
    let surplus = blocks.reduce((sum, { lines }) => sum + lines.length, 0) - (rows - 1)
    // Where there is not room for all: finished steps go first, the oldest before the others, then the lines of running ones.
    const shown = blocks.filter(({ vertex, lines }) => {
      if (surplus <= 0 || vertex.status === 'running') return true
      surplus -= lines.length
      return false
    })
    return [
      title,
      ...shown.flatMap(({ lines }) => {
        const cut = surplus > 0 ? Math.min(surplus, lines.length - 1) : 0
        surplus -= cut
        return [lines[0]!, ...lines.slice(1 + cut)]
      }),
    ]
  }
}

function vertexLine(vertex: VertexState): Line {
  const { status, isCached, text } = vertex
  const duration = status === 'running' ? Date.now() - vertex.startedAt : vertex.durationMs
  const mark = isCached ? 'CACHED ' : status === 'failed' ? 'ERROR ' : status === 'cancelled' ? 'CANCELED ' : ''
  const color = status === 'done' ? 'blue' : status === 'failed' ? 'red' : status === 'cancelled' ? 'yellow' : undefined
  return { text: ` => ${mark}${text}`, right: seconds(duration), ...(color ? { color } : {}) }
}

/** What is seen below a step: transfers and the last lines while it runs. */
function detail(vertex: VertexState, outcome: 'running' | 'done' | 'failed'): Line[] {
  if (vertex.status !== 'running' || outcome !== 'running') return []
  const transfers = [...vertex.transfers.values()]
    .filter(({ status }) => status !== 'exists')
    .map(({ id, status, current, total }): Line => {
      const amount = total > 0 && status !== 'waiting' ? ` ${bytes(current)} / ${bytes(total)}` : ''
      return { text: ` => => ${shortId(id)} ${status}${amount}` }
    })
  const lines = vertex.lines.slice(-OUTPUT_LINES).map((line): Line => ({ text: ` => => # ${line}`, color: 'gray' }))
  return [...transfers, ...lines]
}
