// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of Dockerfiles look the same
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { expand, expandWords } from '../../../../src/engine/build/dockerfile/expand.js'
import { MayflyError } from '../../../../src/engine/errors.js'

const VARIABLES = new Map([
  ['PWD', '/home'],
  ['NULL', ''],
  ['KOREAN', '한국어'],
  ['F', 'xxyy'],
  ['P', '/foo*/*/*.txt'],
  ['SPACED', 'a  b c'],
  ['QUOTED', `it's "x"`],
  ['PATTERN', 'x?'],
  ['STARS', 'a***yy*'],
  ['URL', 'http://google.de'],
  ['__proto__', 'proto'],
])

/** Written, expanded to; undefined: an error. */
const WORDS: readonly [string, string | undefined][] = [
  ['', ''],
  ['hello', 'hello'],
  ["he'll'o", 'hello'],
  ["he'llo", undefined],
  ["he\\'llo", "he'llo"],
  ["he\\\\'llo", undefined],
  ['abc\\tdef', 'abctdef'],
  ['"abc\\tdef"', 'abc\\tdef'],
  ['"abc\\\\tdef"', 'abc\\tdef'],
  ["'abc\\tdef'", 'abc\\tdef'],
  ['hello\\', 'hello'],
  ['hello\\\\', 'hello\\'],
  ['"hello', undefined],
  ['"hello\\"', undefined],
  ['"hel\'lo"', "hel'lo"],
  ["'hello\\'", 'hello\\'],
  ['"\'"', "'"],
  ['"he"llo', 'hello'],
  ['$', '$'],
  ['he$', 'he$'],
  ['$.', '$.'],
  ['$PWD', '/home'],
  ['he$PWD', 'he/home'],
  ['$PWD.x', '/home.x'],
  ['${PWD}x', '/homex'],
  ['$PWDx', ''],
  ['\\$PWD', '$PWD'],
  ['"\\$PWD"', '$PWD'],
  ["'$PWD'", '$PWD'],
  ['"$PWD"', '/home'],
  ["'\"'$PWD'\"'", '"/home"'],
  ['$MISSING', ''],
  ['$1x', 'x'],
  ['$@x', 'x'],
  ['$KOREAN', '한국어'],
  ['안녕$KOREAN', '안녕한국어'],
  ['$__proto__', 'proto'],
  ['$constructor', ''],
  ['$QUOTED', `it's "x"`],
  ['${', undefined],
  ['${}', undefined],
  ['${{PWD}', undefined],
  ['${:}', undefined],
  ['${PWD', undefined],
  ['${PWD=x}', undefined],
  ['${PWD:=x}', undefined],
  ['${PWD:x}', undefined],
  ['${PWD!x}', undefined],
  ['${PWD:-x', undefined],
  ['${PWD:-x}', '/home'],
  ['${NULL:-x}', 'x'],
  ['${NULL-x}', ''],
  ['${NONE:-x}', 'x'],
  ['${NONE-x}', 'x'],
  ['${NONE:-}', ''],
  ['${NONE:-$PWD}', '/home'],
  ['${NONE:-${NONE2:-deep}}', 'deep'],
  ["${NONE:-'}'}", '}'],
  ['${NONE:-a b}', 'a b'],
  ['${NONE:-\\}}', '}'],
  ['${PWD:+x}', 'x'],
  ['${NULL:+x}', ''],
  ['${NULL+x}', 'x'],
  ['${NONE+x}', ''],
  ['${PWD:?x}', '/home'],
  ['${PWD?x}', '/home'],
  ['${NULL?x}', ''],
  ['${NULL:?x}', undefined],
  ['${NONE?x}', undefined],
  ['${NONE:?}', undefined],
  ['${F#x}', 'xyy'],
  ['${F#*x}', 'xyy'],
  ['${F##*x}', 'yy'],
  ['${F#*x*y}', 'y'],
  ['${F##*x*y}', ''],
  ['${F#*}', 'xxyy'],
  ['${F##*}', ''],
  ['${F#?}', 'xyy'],
  ['${F#}', 'xxyy'],
  ['${F##}', 'xxyy'],
  ['${F#z}', 'xxyy'],
  ['${F%y}', 'xxy'],
  ['${F%y*}', 'xxy'],
  ['${F%%y*}', 'xx'],
  ['${F%x}', 'xxyy'],
  ['${F%}', 'xxyy'],
  ['${F%%*}', ''],
  ['${F#$PATTERN}', 'yy'],
  ['${STARS%%\\**\\*}', 'a'],
  ['${STARS%\\*}', 'a***yy'],
  ['${F#\\x}', undefined],
  ['${NONE#x}', ''],
  ['${F/x/z}', 'zxyy'],
  ['${F//x/z}', 'zzyy'],
  ['${F/x*/z}', 'z'],
  ['${F/x/}', 'xyy'],
  ['${F//[x]/z}', 'xxyy'],
  ['${P/\\*\\//.}', '/foo.*/*.txt'],
  ['${P//\\*\\//.}', '/foo..*.txt'],
  ['${URL/http:\\/\\//https:\\/\\/}', 'https:\\/\\/google.de'],
  ['${F/$NULL/w}', 'wxxyy'],
  ['${F//$NULL/-}', '-x-x-y-y-'],
  ['${F///}', 'xxyy'],
  ['${F//ww}', undefined],
  ['${F//}', undefined],
  ['${F/x', undefined],
]

test.each(WORDS)('%j expands to %j', (word, expanded) => {
  if (expanded !== undefined) expect(expand(word, VARIABLES)).toBe(expanded)
  else expect(() => expand(word, VARIABLES)).toThrow(MayflyError)
})

/** Written, the words. */
const SPLIT: readonly [string, readonly string[]][] = [
  ['hello', ['hello']],
  ['  hello   world ', ['hello', 'world']],
  ['"hello   world" x', ['hello   world', 'x']],
  ["hel'l'o '' x", ['hello', 'x']],
  ['a\\ b c', ['a b', 'c']],
  ['$SPACED', ['a', 'b', 'c']],
  ['"$SPACED"', ['a  b c']],
  ['x$SPACED', ['xa', 'b', 'c']],
  ['$NULL', []],
  ['"$NULL"', []],
]

test.each(SPLIT)('%j has the words %j', (text, words) => {
  expect(expandWords(text, VARIABLES)).toEqual(words)
})

describe('options', () => {
  test('another escape character', () => {
    expect(expand('C:\\a`$PWD`"', VARIABLES, { escape: '`' })).toBe('C:\\a$PWD"')
  })
  test('quotes that stay', () => {
    expect(expand(`"$PWD" '$PWD' \\a`, VARIABLES, { quotes: 'keep' })).toBe(`"/home" '$PWD' a`)
  })
  test('quotes that mean nothing', () => {
    expect(expand(`it's "$PWD" \\$PWD`, VARIABLES, { quotes: 'literal' })).toBe(`it's "/home" $PWD`)
  })
  test('variables that stay when they are not set', () => {
    expect(expand('$A ${B} ${C:-x} $PWD', VARIABLES, { keepUnset: true })).toBe('$A ${B} ${C:-x} /home')
  })
  test('who was looked up is told', () => {
    const seen: [string, boolean][] = []
    expand('$PWD ${NONE:-$NULL}', VARIABLES, { onVariable: (name, isSet) => void seen.push([name, isSet]) })
    expect(seen).toEqual([
      ['PWD', true],
      ['NULL', true],
      ['NONE', false],
    ])
  })
})

test("the message of :? is the author's", () => {
  expect(() => expand('${NONE:?set it with $PWD}', VARIABLES)).toThrow('NONE: set it with /home')
})

test('nesting has a limit and no stack is exhausted', () => {
  const deep = `${'${A:-'.repeat(50_000)}x${'}'.repeat(50_000)}`
  expect(() => expand(deep, VARIABLES)).toThrow(/nested too deep/)
  const fine = `${'${A:-'.repeat(90)}x${'}'.repeat(90)}`
  expect(expand(fine, VARIABLES)).toBe('x')
})

test('patterns that make regular expressions hang do not', () => {
  const variables = new Map([['A', 'a'.repeat(3000)]])
  const start = performance.now()
  expect(expand(`\${A##${'*a'.repeat(40)}b}`, variables)).toBe('a'.repeat(3000))
  expect(performance.now() - start).toBeLessThan(2000)
})

test('a word without $, quotes and escapes stays as it is', () => {
  const plain = fc.string({ unit: 'grapheme' }).filter((text) => !/[$'"\\]/.test(text))
  fc.assert(fc.property(plain, (text) => expand(text, VARIABLES) === text))
})

test('without $ quoting literally is the identity but for escapes', () => {
  const plain = fc.string({ unit: 'grapheme' }).filter((text) => !/[$\\]/.test(text))
  fc.assert(fc.property(plain, (text) => expand(text, VARIABLES, { quotes: 'literal' }) === text))
})

test('throws nothing but MayflyError', () => {
  const word = fc
    .array(fc.constantFrom(...'${}:-+?#%/\\\'" aF*`1', '${', '${F'), { maxLength: 30 })
    .map((all) => all.join(''))
  fc.assert(
    fc.property(word, (text) => {
      try {
        expand(text, VARIABLES)
        expandWords(text, VARIABLES, { quotes: 'keep', keepUnset: true, keepEscapes: true })
      } catch (error) {
        expect(error).toBeInstanceOf(MayflyError)
        expect(error).toMatchObject({ code: 'DOCKERFILE_INVALID' })
      }
    }),
    { numRuns: 3000 },
  )
})
