/** Everything random of a chaos run comes from here, so that a seed repeats it. What the kernel's scheduler does with it, it does not. */

import { createHash } from 'node:crypto'

export class Dice {
  #state: number
  readonly #name: string

  constructor(name: string) {
    this.#name = name
    this.#state = createHash('sha256').update(name).digest().readUInt32BE()
  }

  /** Dice of their own for a part of the work: what one part throws does not change what another one gets. */
  fork(name: string | number): Dice {
    return new Dice(`${this.#name}/${name}`)
  }

  /** From 0 to below 1 (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let a = this.#state
    a = Math.imul(a ^ (a >>> 15), a | 1)
    a ^= a + Math.imul(a ^ (a >>> 7), a | 61)
    return ((a ^ (a >>> 14)) >>> 0) / 2 ** 32
  }

  /** A whole number, both ends included. */
  between(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1))
  }

  happens(probability: number): boolean {
    return this.next() < probability
  }

  pick<T>(from: readonly T[]): T {
    return from[this.between(0, from.length - 1)]!
  }

  /** So many different ones. */
  some<T>(from: readonly T[], count: number): T[] {
    const left = [...from]
    return Array.from(
      { length: Math.min(count, left.length) },
      () => left.splice(this.between(0, left.length - 1), 1)[0]!,
    )
  }
}
