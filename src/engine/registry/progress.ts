/** What a pull or a push tells while it works. */

/** A sign of life. Layers are named by the digest of their compressed form, as registries do. */
export type ProgressEvent =
  | {
      readonly type: 'layer'
      readonly id: string
      /** `exists`: nothing had to be done. `downloading` and `uploading` come several times, with growing `current`. */
      readonly status: 'waiting' | 'downloading' | 'extracting' | 'uploading' | 'mounted' | 'done' | 'exists'
      /** Bytes of the compressed form so far. */
      readonly current: number
      /** Bytes of the compressed form; 0 when not known. */
      readonly total: number
    }
  | { readonly type: 'status'; readonly text: string }
  /** At the end of a pull: what the reference leads to, an index or a manifest. An image may have several, as an index changes with any of its images. */
  | { readonly type: 'digest'; readonly digest: string }

export type ProgressListener = (event: ProgressEvent) => void

export type LayerStatus = Extract<ProgressEvent, { type: 'layer' }>['status']

/** Events of one layer are at least this far apart while only the count grows. */
const INTERVAL_MS = 100

/** Tells of one layer. A listener that throws ends nothing. */
export class LayerProgress {
  readonly #listener: ProgressListener | undefined
  readonly #id: string
  readonly #total: number
  #status: LayerStatus | undefined
  #told = 0

  constructor(listener: ProgressListener | undefined, id: string, total: number) {
    this.#listener = listener
    this.#id = id
    this.#total = total
  }

  tell(status: LayerStatus, current = status === 'waiting' ? 0 : this.#total): void {
    if (!this.#listener) return
    const now = performance.now()
    if (status === this.#status && now - this.#told < INTERVAL_MS) return
    this.#status = status
    this.#told = now
    tell(this.#listener, { type: 'layer', id: this.#id, status, current, total: this.#total })
  }
}

/** A listener is for show: what it throws must not end the work. */
export function tell(listener: ProgressListener | undefined, event: ProgressEvent): void {
  try {
    listener?.(event)
  } catch (error) {
    process.emitWarning(error as Error)
  }
}
