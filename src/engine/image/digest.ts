/** Digests: `sha256:<hex>`, the names of everything in the store. */

/** Hexadecimal digits of each algorithm that images may use. */
const ALGORITHMS: Readonly<Record<string, number>> = { sha256: 64, sha384: 96, sha512: 128 }

/** Whether it is a digest that can be computed and that is safe as part of a path: known algorithm, lower case, right length. */
export function isDigest(text: unknown): text is string {
  return typeof text === 'string' && digestProblem(text) === undefined
}

/** What is wrong with it, as the end of a sentence; undefined if nothing is. */
export function digestProblem(text: string): string | undefined {
  const colon = text.indexOf(':')
  const algorithm = text.slice(0, Math.max(colon, 0))
  const digits = Object.hasOwn(ALGORITHMS, algorithm) ? ALGORITHMS[algorithm] : undefined
  if (digits === undefined) return `the algorithm must be one of ${Object.keys(ALGORITHMS).join(', ')}`
  const hex = text.slice(colon + 1)
  if (!/^[0-9a-f]*$/.test(hex)) return 'after the colon there must be hexadecimal digits in lower case'
  if (hex.length !== digits) return `${algorithm} has ${digits} hexadecimal digits, these are ${hex.length}`
  return undefined
}

/** The algorithm and the hexadecimal digits of a valid digest. */
export function splitDigest(digest: string): { readonly algorithm: string; readonly hex: string } {
  const problem = digestProblem(digest)
  // Digests become parts of paths: whoever gets here with another text must not go on.
  if (problem) throw new TypeError(`${JSON.stringify(digest)} is no digest: ${problem}`)
  const colon = digest.indexOf(':')
  return { algorithm: digest.slice(0, colon), hex: digest.slice(colon + 1) }
}
