/**
 * Words of a Dockerfile as BuildKit's shell lexer reads them: quotes, escapes and variables.
 *
 * `$name`, `${name}`, `${name:-word}`, `${name:+word}`, `${name:?message}` (and the three without the colon, which
 * takes an empty value for a missing one), `${name#pattern}`, `##`, `%`, `%%`, `${name/pattern/text}`, `//`. A missing
 * variable is the empty text. Special parameters (`$@`, `$1`) are variables nobody sets.
 */

import { Problem, unlocated } from './problem.js'
import { replaceMatches, trimEnd, trimStart } from './shell-pattern.js'
import type { EscapeCharacter } from './types.js'

export type Variables = ReadonlyMap<string, string>

export interface ExpandOptions {
  /** @default '\\' */
  readonly escape?: EscapeCharacter
  /**
   * `remove`: quotes group and vanish. `keep`: they group and stay. `literal`: they mean nothing (heredoc bodies).
   *
   * @default 'remove'
   */
  readonly quotes?: 'remove' | 'keep' | 'literal'
  /** Whether escape characters stay in the result. @default false */
  readonly keepEscapes?: boolean
  /** Whether a variable without a value stays as written. @default false */
  readonly keepUnset?: boolean
  /** Is told the name of each variable that is looked up, set or not. */
  readonly onVariable?: (name: string, isSet: boolean) => void
}

/** One word in, one word out. Throws DOCKERFILE_INVALID. */
export function expand(word: string, variables: Variables, options: ExpandOptions = {}): string {
  return unlocated(() => lex(word, variables, options).text)
}

/** One word in, several out: spaces that are not quoted part them, also those of variables' values. */
export function expandWords(word: string, variables: Variables, options: ExpandOptions = {}): readonly string[] {
  return unlocated(() => lex(word, variables, options).words)
}

/** As `expand` and `expandWords`, but throws a Problem: for callers that know where the word stands. */
export function lex(word: string, variables: Variables, options: ExpandOptions = {}): Lexed {
  return new Lexer(word, variables, options).run()
}

interface Lexed {
  readonly text: string
  readonly words: readonly string[]
}

const LETTER = /[\p{L}\p{Nd}_]/u
const DIGIT = /\p{Nd}/u
/** What Go takes for a space. */
export const SPACE = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/
const SPECIAL_PARAMETERS = '@*#?-$!0'
/** `${a:-${b:-${c…}}}`: deeper than anybody writes, shallow enough for the stack. */
const DEEPEST = 100

class Lexer {
  private readonly characters: readonly string[]
  private position = 0
  private depth = 0
  private readonly escape: string
  private readonly quotes: 'remove' | 'keep' | 'literal'

  constructor(
    private readonly source: string,
    private readonly variables: Variables,
    private readonly options: ExpandOptions,
  ) {
    this.characters = [...source]
    this.escape = options.escape ?? '\\'
    this.quotes = options.quotes ?? 'remove'
  }

  run(): Lexed {
    return this.until(undefined, this.options.keepEscapes ?? false)
  }

  /** Reads up to `stop` and past it, or to the end. */
  private until(stop: string | undefined, keepEscapes: boolean): Lexed {
    if (++this.depth > DEEPEST) throw this.problem('variables are nested too deep', `at most ${DEEPEST} levels`)
    let text = ''
    const words = new Words()
    for (let character = this.peek(); character !== undefined; character = this.peek()) {
      if (character === stop) {
        this.position++
        this.depth--
        return { text, words: words.end() }
      }
      if (character === '$') {
        const value = this.dollar()
        text += value
        words.addSplitting(value)
      } else if ((character === "'" || character === '"') && this.quotes !== 'literal') {
        const value = character === "'" ? this.singleQuoted() : this.doubleQuoted(keepEscapes)
        text += value
        words.add(value)
      } else if (character === this.escape) {
        this.position++
        const escaped = this.next()
        // At the very end it escapes nothing, and vanishes.
        const value = (keepEscapes ? character : '') + (escaped ?? '')
        text += value
        if (value !== '') words.add(value)
      } else {
        this.position++
        text += character
        words.addSplitting(character)
      }
    }
    if (stop !== undefined) throw this.problem(`missing "${stop}"`, `"${stop}" after \${…`)
    this.depth--
    return { text, words: words.end() }
  }

  private singleQuoted(): string {
    const end = this.characters.indexOf("'", this.position + 1)
    if (end < 0) throw this.problem('a single quote is not closed', "a second '")
    const text = this.characters.slice(this.position + 1, end).join('')
    this.position = end + 1
    return this.quotes === 'keep' ? `'${text}'` : text
  }

  private doubleQuoted(keepEscapes: boolean): string {
    this.position++
    const quote = this.quotes === 'keep' ? '"' : ''
    let text = quote
    for (;;) {
      const character = this.peek()
      if (character === undefined) throw this.problem('a double quote is not closed', 'a second "')
      if (character === '$') {
        text += this.dollar()
        continue
      }
      this.position++
      if (character === '"') return text + quote
      if (character !== this.escape) {
        text += character
        continue
      }
      if (keepEscapes) text += character
      const escaped = this.peek()
      if (escaped === undefined) continue
      // As in sh, the escape character means itself here unless it stands before one of these.
      if (escaped === '"' || escaped === '$' || escaped === this.escape) {
        text += escaped
        this.position++
      } else text += character
    }
  }

  private dollar(): string {
    this.position++
    if (this.peek() !== '{') {
      const name = this.name()
      if (name === '') return '$'
      const value = this.look(name)
      return value === undefined && this.options.keepUnset ? `$${name}` : (value ?? '')
    }
    const start = this.position - 1
    this.position++
    const first = this.peek()
    if (first === undefined) throw this.problem('missing "}"', '"}" after ${…')
    if (first === '{' || first === '}' || first === ':')
      throw this.problem(`bad substitution "\${${first}"`, 'a name after ${')
    const name = this.name()
    const modifier = this.next()
    if (modifier === undefined) throw this.problem('missing "}"', '"}" after ${…')
    if (modifier === '}') {
      const value = this.look(name)
      return value === undefined && this.options.keepUnset ? `\${${name}}` : (value ?? '')
    }
    const value = modifier === '/' ? this.replaced(name) : this.modified(name, modifier)
    return value ?? this.characters.slice(start, this.position).join('')
  }

  /** `${name:-…}` and its like, from behind the first character of the modifier; undefined: to be left as written. */
  private modified(name: string, first: string): string | undefined {
    const emptyIsUnset = first === ':'
    const modifier = emptyIsUnset ? (this.next() ?? '') : first
    if (!'-+?#%'.includes(modifier) || modifier === '')
      throw this.problem(
        `unsupported modifier "${emptyIsUnset ? ':' : ''}${modifier}" in a substitution`,
        'one of :- - :+ + :? ? # ## % %% / //',
      )
    const { text: word } = this.until('}', modifier === '#' || modifier === '%')
    const value = this.look(name)
    if (value === undefined && this.options.keepUnset) return undefined
    const missing = value === undefined || (emptyIsUnset && value === '')
    if (modifier === '-') return missing ? word : value
    if (modifier === '+') return missing ? '' : word
    if (modifier === '?') {
      if (!missing) return value
      throw new Problem(`${name}: ${word || (value === undefined ? 'is not set' : 'is empty')}`, {
        value: this.source,
        expected: `a value for the variable ${name}`,
      })
    }
    const longest = word.startsWith(modifier)
    const pattern = longest ? word.slice(1) : word
    return (modifier === '#' ? trimStart : trimEnd)(value ?? '', pattern, longest)
  }

  /** `${name/pattern/text}`, from behind the first slash. */
  private replaced(name: string): string | undefined {
    const all = this.peek() === '/'
    if (all) this.position++
    const { text: pattern } = this.until('/', true)
    const { text: replacement } = this.until('}', true)
    const value = this.look(name)
    if (value === undefined && this.options.keepUnset) return undefined
    return replaceMatches(value ?? '', pattern, replacement, all)
  }

  private name(): string {
    const start = this.position
    const first = this.peek()
    if (first === undefined) return ''
    if (DIGIT.test(first)) {
      while (DIGIT.test(this.peek() ?? '')) this.position++
    } else if (SPECIAL_PARAMETERS.includes(first)) this.position++
    else while (LETTER.test(this.peek() ?? '')) this.position++
    return this.characters.slice(start, this.position).join('')
  }

  private look(name: string): string | undefined {
    const value = this.variables.get(name)
    this.options.onVariable?.(name, value !== undefined)
    return value
  }

  private peek(): string | undefined {
    return this.characters[this.position]
  }

  private next(): string | undefined {
    return this.characters[this.position++]
  }

  private problem(message: string, expected: string): Problem {
    return new Problem(`cannot read "${this.source}": ${message}`, { value: this.source, expected })
  }
}

/** Gathers words; what is added raw (quoted, escaped) may hold spaces. */
class Words {
  private readonly words: string[] = []
  private word = ''

  add(text: string): void {
    this.word += text
  }

  addSplitting(text: string): void {
    for (const character of text) {
      if (SPACE.test(character)) this.end()
      else this.word += character
    }
  }

  end(): readonly string[] {
    if (this.word !== '') this.words.push(this.word)
    this.word = ''
    return this.words
  }
}
