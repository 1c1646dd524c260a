/** What a build tells while it works: one vertex for each thing that takes time, as BuildKit draws them. */

export type BuildEvent =
  /** Something begins. Its number is unique in the build; its text is such as `[builder 2/5] RUN make`. */
  | { readonly type: 'started'; readonly vertex: number; readonly text: string; readonly time: Date }
  /** Its result was in the cache. Comes between `started` and `done`. */
  | { readonly type: 'cached'; readonly vertex: number; readonly time: Date }
  /** Output of the program that a RUN step runs, as it wrote it. */
  | {
      readonly type: 'output'
      readonly vertex: number
      readonly stream: 'stdout' | 'stderr'
      readonly data: Uint8Array
      readonly time: Date
    }
  /** How far a transfer is, such as a layer of a base image. `total` is 0 when not known. */
  | {
      readonly type: 'progress'
      readonly vertex: number
      readonly id: string
      readonly status: string
      readonly current: number
      readonly total: number
      readonly time: Date
    }
  | { readonly type: 'done'; readonly vertex: number; readonly durationMs: number; readonly time: Date }
  | {
      readonly type: 'failed'
      readonly vertex: number
      readonly durationMs: number
      readonly error: Error
      /** It was stopped because something else failed or the build was aborted. */
      readonly isCancelled: boolean
      readonly time: Date
    }
  | { readonly type: 'warning'; readonly message: string; readonly time: Date }

export type BuildListener = (event: BuildEvent) => void

/** One thing that takes time. */
export interface Vertex {
  cached(): void
  output(stream: 'stdout' | 'stderr', data: Uint8Array): void
  progress(id: string, status: string, current: number, total: number): void
}

/** Numbers the vertices and tells of them. */
export class BuildProgress {
  readonly #listener: BuildListener | undefined
  /** Errors that vertices have failed with. */
  readonly #failures = new WeakSet<Error>()
  #vertices = 0

  constructor(listener: BuildListener | undefined) {
    this.#listener = listener
  }

  warn(message: string): void {
    this.#tell({ type: 'warning', message, time: new Date() })
  }

  /** Does the work between `started` and `done` or `failed`. */
  async vertex<T>(text: string, work: (vertex: Vertex) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const number = ++this.#vertices
    const begin = performance.now()
    this.#tell({ type: 'started', vertex: number, text, time: new Date() })
    try {
      const result = await work({
        cached: () => this.#tell({ type: 'cached', vertex: number, time: new Date() }),
        output: (stream, data) => this.#tell({ type: 'output', vertex: number, stream, data, time: new Date() }),
        progress: (id, status, current, total) =>
          this.#tell({ type: 'progress', vertex: number, id, status, current, total, time: new Date() }),
      })
      this.#tell({ type: 'done', vertex: number, durationMs: performance.now() - begin, time: new Date() })
      return result
    } catch (error) {
      // What another vertex has told as its failure is not this one's, which waited for it.
      const isAnothers = causesOf(error).some((cause) => this.#failures.has(cause))
      for (const cause of causesOf(error)) this.#failures.add(cause)
      this.#tell({
        type: 'failed',
        vertex: number,
        durationMs: performance.now() - begin,
        error: error as Error,
        isCancelled: isAnothers || signal?.aborted === true,
        time: new Date(),
      })
      throw error
    }
  }

  #tell(event: BuildEvent): void {
    try {
      this.#listener?.(event)
    } catch (error) {
      process.emitWarning(error as Error)
    }
  }
}

/** The error and what it says it is because of. */
function causesOf(error: unknown): readonly Error[] {
  return error instanceof Error ? [error, ...causesOf(error.cause)] : []
}
