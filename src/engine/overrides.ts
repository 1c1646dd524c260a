/** What has been done to something several times over: the latest holds, and when it is taken back, the one before it does again. */

export class Overrides<Value> {
  #given: readonly { readonly value: Value }[] = []

  /** The one that holds; `undefined` where there is none. */
  get current(): Value | undefined {
    return this.#given.at(-1)?.value
  }

  /** From now on this one holds. What is returned takes it back, and says whether it was the one that held. */
  add(value: Value): () => boolean {
    const one = { value }
    this.#given = [...this.#given, one]
    return () => {
      const held = this.#given.at(-1) === one
      this.#given = this.#given.filter((other) => other !== one)
      return held
    }
  }

  /** Takes all back. */
  clear(): void {
    this.#given = []
  }
}
