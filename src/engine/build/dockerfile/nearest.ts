/** "Did you mean …?" */

/** The candidate that `word` most likely meant, ignoring case; undefined when none is near enough to say so. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const wanted = word.toLowerCase()
  // A word of 3 letters may have 1 wrong, one of 6 or more 2 and so on: further off, any guess would be silly.
  let limit = Math.min(3, Math.ceil(wanted.length / 3)) + 1
  let best: string | undefined
  // Distances are computed for words only, never for a whole line that somebody pasted.
  if (wanted.length > 40) return undefined
  for (const candidate of candidates) {
    const distance = editDistance(wanted, candidate.toLowerCase())
    if (distance < limit) [best, limit] = [candidate, distance]
  }
  return best
}

/** A hint that names the nearest candidate, else all of them. */
export function didYouMean(word: string, candidates: readonly string[]): string {
  const found = nearest(word, candidates)
  return found === undefined ? `known are ${candidates.join(', ')}` : `did you mean ${found}?`
}

/** Optimal string alignment distance: inserted, deleted, replaced and swapped letters. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1]
      let cost = Math.min(last[column]! + 1, current[column - 1]! + 1, last[column - 1]! + (same ? 0 : 1))
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      if (swapped) cost = Math.min(cost, beforeLast[column - 2]! + 1)
      current.push(cost)
    }
    beforeLast = last
    last = current
  }
  return last[b.length]!
}
