/** Output collected in memory up to a limit. What comes after it is counted as cut off, and never stalls the writer. */
export class Gatherer {
  readonly #limit: number
  #pieces: Uint8Array[] = []
  #bytes = 0
  #isCut = false

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Whether output was cut off at the limit. */
  get isCut(): boolean {
    return this.#isCut
  }

  push(piece: Uint8Array): void {
    const room = this.#limit - this.#bytes
    if (piece.length > room) this.#isCut = true
    if (room <= 0) return
    const kept = piece.length > room ? piece.subarray(0, room) : piece
    this.#pieces.push(kept)
    this.#bytes += kept.length
  }

  /** All of it, as UTF-8. */
  text(): string {
    if (this.#pieces.length === 0) return ''
    if (this.#pieces.length === 1) {
      const { buffer, byteOffset, length } = this.#pieces[0]!
      return Buffer.from(buffer as ArrayBuffer, byteOffset, length).toString()
    }
    return Buffer.concat(this.#pieces).toString()
  }
}
