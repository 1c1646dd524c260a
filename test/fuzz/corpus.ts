/**
 * Inputs that were written, found or seen once, kept beside this file: `corpus/<name>/` has one a file, `corpus/<name>.lines` one a line, as a string in JSON. Each is
 * read as it is, and changed at random.
 */

import { readdirSync, readFileSync, statSync } from 'node:fs'
import fc from 'fast-check'

const directory = new URL('corpus/', import.meta.url)

export function readCorpus(name: string): readonly string[] {
  const files = new URL(`${name}/`, directory)
  if (statSync(files, { throwIfNoEntry: false }))
    return readdirSync(files).map((file) => readFileSync(new URL(file, files), 'utf8'))
  const lines = readFileSync(new URL(`${name}.lines`, directory), 'utf8')
    .trimEnd()
    .split('\n')
  return lines.map((line) => JSON.parse(line))
}

/** Some of the corpus, a few times cut, repeated, spliced with another one, or with a piece of the notation put in. */
export function changed(corpus: readonly string[], pieces: readonly string[]): fc.Arbitrary<string> {
  const place = fc.double({ min: 0, max: 1, noNaN: true })
  const change = fc.record({
    how: fc.constantFrom('cut', 'repeat', 'splice', 'insert'),
    from: place,
    to: place,
    other: fc.constantFrom(...corpus),
    piece: fc.oneof(fc.constantFrom(...pieces), fc.string({ unit: 'binary', maxLength: 2 })),
  })
  return fc.tuple(fc.constantFrom(...corpus), fc.array(change, { maxLength: 4 })).map(([text, changes]) =>
    changes.reduce((before, { how, from, to, other, piece }) => {
      const [first, last] = [from, to].map((part) => Math.floor(part * before.length)).sort((a, b) => a - b) as [
        number,
        number,
      ]
      switch (how) {
        case 'cut':
          return before.slice(0, first) + before.slice(last)
        case 'repeat':
          return before.slice(0, last) + before.slice(first)
        case 'splice':
          return before.slice(0, first) + other.slice(Math.floor(to * other.length))
        default:
          return before.slice(0, first) + piece + before.slice(first)
      }
    }, text),
  )
}
