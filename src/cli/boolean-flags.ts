/** Docker's flags without a value take one all the same, attached: `--init=true`, `--no-cache=false`. Commander's do not. */
import type { Command } from 'commander'

export const YES = /^(1|t|true)$/i
export const NO = /^(0|f|false)$/i

/**
 * The words with `--init=true` as `--init`, and without `--init=false`, or with the flag that says no where there is one. From the first word on that is neither a flag of the command nor the
 * value of one, all stays as it is.
 */
export function withoutBooleanValues({ options }: Command, words: readonly string[]): string[] {
  const short = (letter: string | undefined) => options.find((option) => option.short === `-${letter}`)
  /** Whether the next word belongs to this one. In `-itp` it belongs to the last flag, in `-pit` the value is attached. */
  const needsNext = (word: string) => {
    if (word.startsWith('--')) return options.find(({ long }) => long === word)?.required === true
    const letters = [...word.slice(1)]
    const first = letters.findIndex((letter) => short(letter)?.required)
    return first >= 0 && first === letters.length - 1
  }
  const result: string[] = []
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!
    if (word === '--' || !/^-./.test(word)) return [...result, ...words.slice(at)]
    const [, name, value = ''] = /^(--[^=]+|-[a-z])=(.*)$/is.exec(word) ?? []
    const option = options.find(({ long, short }) => name !== undefined && (long === name || short === name))
    const isBoolean = option !== undefined && !option.required && !option.optional
    const opposite = options.find(({ long }) => long === option?.long?.replace('--', '--no-'))
    if (isBoolean && YES.test(value)) result.push(name!)
    else if (!isBoolean || !NO.test(value)) result.push(word)
    else if (opposite) result.push(opposite.long!)
    if (name === undefined && needsNext(word) && at + 1 < words.length) result.push(words[++at]!)
  }
  return result
}
