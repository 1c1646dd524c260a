/** What has been done to something several times over: the latest holds, and when it is taken back, the one before it does again. */

export class Overrides<Value> {
  #given: readonly { readonly value: Value }[] = []

  /**
   * Makes this one hold, by telling `apply` so. Throws what that throws; then nothing has changed. What is returned takes it back: if it held, the one before
   * it is applied, or `undefined`.
   */
  async hold(value: Value, apply: (value: Value | undefined) => Promise<void>): Promise<() => Promise<void>> {
    const one = { value }
    this.#given = [...this.#given, one] // before it is applied: what is asked for next must know of it
    const takeBack = () => {
      const held = this.#given.at(-1) === one
      this.#given = this.#given.filter((other) => other !== one)
      return held
    }
    try {
      await apply(value)
    } catch (error) {
      takeBack()
      throw error
    }
    return async () => {
      if (takeBack()) await apply(this.#given.at(-1)?.value)
    }
  }

  /** Takes all back. */
  clear(): void {
    this.#given = []
  }
}
