/** Begun once; a failure is everybody's who asks. */
export function remember<K, T>(known: Map<K, Promise<T>>, key: K, work: () => Promise<T>): Promise<T> {
  let promise = known.get(key)
  if (!promise) {
    promise = work()
    promise.catch(() => {}) // whoever awaits it is told
    known.set(key, promise)
  }
  return promise
}
