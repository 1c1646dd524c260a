/** A queue of texts in Redis. */
export class Queue {
  #client
  #key

  constructor(client, name) {
    this.#client = client
    this.#key = `queue:${name}`
  }

  async put(text) {
    await this.#client.lPush(this.#key, text)
  }

  /** The one that has waited longest; null when there is none. */
  async take() {
    return this.#client.rPop(this.#key)
  }
}
