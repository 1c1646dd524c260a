/** Pulls, pushes and loads: a line for each layer, drawn anew on a terminal, one for each of its states elsewhere. Always on stderr. */
import type { LayerStatus, ProgressEvent, ProgressListener } from '../../engine/registry/progress.js'
import { bytes } from './amounts.js'
import { printableLine } from './printable.js'
import { isScreen, type Line, Screen } from './screen.js'

type LayerEvent = Extract<ProgressEvent, { type: 'layer' }>

/** Shown somewhere until it is closed, which may come twice. */
export interface TransferView extends Disposable {
  readonly listener: ProgressListener | undefined
  close(): void
}

const WORDS: Readonly<Record<LayerStatus, string>> = {
  waiting: 'Waiting',
  downloading: 'Downloading',
  extracting: 'Extracting',
  uploading: 'Uploading',
  mounted: 'Mounted from another repository',
  done: 'Done',
  exists: 'Already exists',
}
const COUNTED: readonly LayerStatus[] = ['downloading', 'extracting', 'uploading']
const FINISHED: readonly LayerStatus[] = ['done', 'exists', 'mounted']
const BAR_COLUMNS = 24

export function showTransfer({ quiet = false }: { readonly quiet?: boolean } = {}): TransferView {
  if (quiet) return { listener: undefined, close: () => {}, [Symbol.dispose]: () => {} }
  return isScreen(process.stderr) ? new TransferScreen(process.stderr) : new TransferLines()
}

class TransferLines implements TransferView {
  readonly #status = new Map<string, LayerStatus>()

  readonly listener = (event: ProgressEvent) => {
    if (event.type === 'status') {
      process.stderr.write(`${printableLine(event.text)}\n`)
      return
    }
    if (event.type !== 'layer') return
    if (this.#status.get(event.id) === event.status) return
    this.#status.set(event.id, event.status)
    const size = event.status === 'done' && event.total > 0 ? ` ${bytes(event.total)}` : ''
    process.stderr.write(`${shortId(event.id)}: ${WORDS[event.status]}${size}\n`)
  }

  close(): void {}
  [Symbol.dispose](): void {}
}

class TransferScreen implements TransferView {
  readonly #stream: typeof process.stderr
  /** Opened by the first event: often there is nothing to be shown. */
  #screen: Screen | undefined
  #isClosed = false
  readonly #notes: string[] = []
  readonly #layers = new Map<string, LayerEvent>()

  constructor(stream: typeof process.stderr) {
    this.#stream = stream
  }

  readonly listener = (event: ProgressEvent) => {
    if (this.#isClosed) return
    if (event.type === 'status') this.#notes.push(printableLine(event.text))
    else if (event.type === 'layer') this.#layers.set(event.id, event)
    else return
    this.#screen ??= new Screen(this.#stream, ({ rows }) => this.#draw(rows))
    this.#screen.update()
  }

  close(): void {
    this.#isClosed = true
    this.#screen?.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** Where there is not room for all, those that are finished give way. */
  #draw(rows: number): Line[] {
    const layers = [...this.#layers.values()]
    const room = Math.max(1, rows - this.#notes.length)
    let surplus = layers.length - room
    const shown = layers.filter(({ status }) => !(surplus > 0 && FINISHED.includes(status) && surplus-- > 0))
    return [...this.#notes.map((text) => ({ text })), ...shown.map(layerLine)]
  }
}

export function shortId(digest: string): string {
  return printableLine(digest.replace(/^sha256:/, '').slice(0, 12))
}

function layerLine({ id, status, current, total }: LayerEvent): Line {
  const text = `${shortId(id)}: ${WORDS[status]}`
  if (!COUNTED.includes(status)) return { text }
  return {
    text:
      total > 0
        ? `${text.padEnd(26)} ${bar(current, total)} ${bytes(current)}/${bytes(total)}`
        : `${text} ${bytes(current)}`,
  }
}

function bar(current: number, total: number): string {
  const filled = Math.min(BAR_COLUMNS, Math.floor((current / total) * BAR_COLUMNS))
  const tip = filled < BAR_COLUMNS ? '>' : ''
  return `[${'='.repeat(filled)}${tip}${' '.repeat(BAR_COLUMNS - filled - tip.length)}]`
}
