/**
 * The last lines of a terminal, drawn again and again: for progress. Every line is cut to the terminal's width, so that nothing wraps and
 * the cursor finds the first line again; after a change of the width it reckons with the lines that the terminal has wrapped itself.
 */
import type { WriteStream } from 'node:tty'
import { fitted, widthOf } from './printable.js'

/** So often a second at most. */
const DRAWINGS = 20
/** Running times go on while nothing is told. */
const TICK_MS = 100

const HIDE_CURSOR = '\x1b[?25l'
const SHOW_CURSOR = '\x1b[?25h'
const CLEAR_BELOW = '\x1b[J'
const CLEAR_RIGHT = '\x1b[K'

export type Color = 'blue' | 'red' | 'yellow' | 'gray'
const COLORS: Readonly<Record<Color, number>> = { blue: 34, red: 31, yellow: 33, gray: 90 }

/** A line of printable text. */
export interface Line {
  readonly text: string
  /** Stands at the right edge. */
  readonly right?: string
  readonly color?: Color
}

/** The lines for a terminal of this size; what exceeds `rows` is not drawn. */
export type Drawing = (size: { readonly columns: number; readonly rows: number }) => readonly Line[]

/** Whether lines can be drawn anew there. */
export function isScreen(stream: { readonly isTTY?: boolean }): stream is WriteStream {
  return stream.isTTY === true && process.env.TERM !== 'dumb'
}

export class Screen implements Disposable {
  readonly #stream: WriteStream
  readonly #draw: Drawing
  readonly #timer: NodeJS.Timeout
  /** Widths of the lines that stand there. */
  #drawn: number[] = []
  #drawnAt = 0
  #isStale = true
  #isOpen = true
  readonly #showCursor = () => {
    if (this.#isOpen) this.#stream.write(SHOW_CURSOR)
  }
  readonly #resized = () => {
    this.#isStale = true
  }

  constructor(stream: WriteStream, draw: Drawing) {
    this.#stream = stream
    this.#draw = draw
    stream.write(HIDE_CURSOR)
    // Whatever ends this process, the cursor comes back.
    process.on('exit', this.#showCursor)
    stream.on('resize', this.#resized)
    this.#timer = setInterval(() => this.#tick(), 1000 / DRAWINGS)
    this.#timer.unref()
  }

  /** Something has changed. */
  update(): void {
    this.#isStale = true
  }

  /** Draws for the last time: all lines, however many, which stay there. */
  close(last?: Drawing): void {
    if (!this.#isOpen) return
    clearInterval(this.#timer)
    process.off('exit', this.#showCursor)
    this.#stream.off('resize', this.#resized)
    const lines = (last ?? this.#draw)({ columns: this.#columns, rows: Number.POSITIVE_INFINITY })
    this.#write(lines)
    this.#stream.write(SHOW_CURSOR)
    this.#isOpen = false
  }

  [Symbol.dispose](): void {
    this.close()
  }

  get #columns(): number {
    return Math.max(20, this.#stream.columns || 80)
  }

  #tick(): void {
    if (!this.#isStale && performance.now() - this.#drawnAt < TICK_MS) return
    const rows = Math.max(2, (this.#stream.rows || 24) - 1)
    this.#write(this.#draw({ columns: this.#columns, rows }).slice(0, rows))
  }

  #write(lines: readonly Line[]): void {
    const columns = this.#columns
    const above = this.#drawn.reduce((rows, width) => rows + Math.max(1, Math.ceil(width / columns)), 0)
    const texts = lines.map((line) => laidOut(line, columns - 1))
    const drawn = texts.map((text, index) => colored(text, lines[index]!.color) + CLEAR_RIGHT)
    this.#stream.write(
      `${above > 0 ? `\x1b[${above}A` : ''}\r${drawn.join('\n')}${drawn.length > 0 ? '\n' : ''}${CLEAR_BELOW}`,
    )
    this.#drawn = texts.map(widthOf)
    this.#drawnAt = performance.now()
    this.#isStale = false
  }
}

function laidOut({ text, right = '' }: Line, columns: number): string {
  if (!right) return fitted(text, columns)
  const room = columns - widthOf(right) - 1
  const left = fitted(text, room)
  return `${left}${' '.repeat(Math.max(1, columns - widthOf(left) - widthOf(right)))}${right}`
}

function colored(text: string, color: Color | undefined): string {
  return color === undefined || process.env.NO_COLOR ? text : `\x1b[${COLORS[color]}m${text}\x1b[0m`
}
