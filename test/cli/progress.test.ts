/** What the command line shows, as far as it needs no container to be right. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseSecret } from '../../src/cli/build-flags.js'
import { tarOrText } from '../../src/cli/input-source.js'
import { matchesPattern } from '../../src/cli/pattern.js'
import { ago, bytes } from '../../src/cli/progress/amounts.js'
import { BuildState } from '../../src/cli/progress/build-state.js'
import { fitted, outputLine, printable, printableLine, widthOf } from '../../src/cli/progress/printable.js'
import { compileTemplate } from '../../src/cli/template.js'
import { UsageError } from '../../src/cli/usage-error.js'

const STEERING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/

describe('text of others', () => {
  test.each([
    ['plain', 'plain'],
    ['\x1b[31mred\x1b[0m', 'red'],
    ['\x1b]0;title\x07after', 'after'],
    ['\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\', 'link'],
    ['\x9b2Jgone', 'gone'],
    ['cut \x1b[3', 'cut '],
    ['bell \x07', 'bell \\x07'],
    ['\x1bPq secret \x1b\\done', 'done'],
    ['größe 日本', 'größe 日本'],
  ])('%j is shown as %j', (text, shown) => {
    expect(printable(text)).toBe(shown)
  })

  test('never steers a terminal, whatever it is', () => {
    const pieces = fc.constantFrom(
      '\x1b',
      '[',
      ']',
      '\x07',
      '\x9b',
      '\x9d',
      '\\',
      '2J',
      ';',
      'text',
      '\r',
      '\n',
      '\x00',
    )
    fc.assert(
      fc.property(fc.array(fc.oneof(pieces, fc.string()), { maxLength: 12 }), (parts) => {
        const text = parts.join('')
        expect(STEERING.test(printable(text))).toBe(false)
        expect(/\n/.test(printableLine(text))).toBe(false)
        expect(STEERING.test(outputLine(text))).toBe(false)
      }),
    )
  })

  test('of a progress bar only the last state is shown', () => {
    expect(outputLine(' 10%\r 50%\r100%\r')).toBe('100%')
  })

  test('is cut to the columns that it may take', () => {
    expect(fitted('abcdef', 6)).toBe('abcdef')
    expect(fitted('abcdef', 5)).toBe('abcd…')
    expect(widthOf('日本')).toBe(4)
    expect(fitted('日本語', 5)).toBe('日本…')
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.nat(40), (text, columns) => {
        expect(widthOf(fitted(printableLine(text), columns))).toBeLessThanOrEqual(columns)
      }),
    )
  })
})

describe('amounts', () => {
  test.each([
    [0, '0B'],
    [999, '999B'],
    [1000, '1kB'],
    [1_234_567, '1.23MB'],
    [12_345_678_901, '12.3GB'],
  ])('%d bytes are %s', (count, text) => {
    expect(bytes(count)).toBe(text)
  })

  test.each([
    [0, 'Less than a second ago'],
    [1, '1 second ago'],
    [59, '59 seconds ago'],
    [61, 'About a minute ago'],
    [3599, '59 minutes ago'],
    [3601, 'About an hour ago'],
    [47 * 3600, '47 hours ago'],
    [49 * 3600, '2 days ago'],
    [15 * 86_400, '2 weeks ago'],
    [61 * 86_400, '2 months ago'],
    [800 * 86_400, '2 years ago'],
  ])('%d seconds are "%s"', (seconds, text) => {
    const now = new Date()
    expect(ago(new Date(now.getTime() - seconds * 1000), now)).toBe(text)
  })
})

test('output is gathered into lines, also when characters are cut in two', () => {
  const lines: string[] = []
  const state = new BuildState((_vertex, line) => lines.push(line))
  const time = new Date()
  state.take({ type: 'started', vertex: 1, text: '[1/1] RUN\nmake', time })
  const data = Buffer.from('größe\nzwei\nohne Ende')
  for (const byte of data) {
    state.take({ type: 'output', vertex: 1, stream: 'stdout', data: Uint8Array.of(byte), time })
  }
  expect(lines).toEqual(['größe', 'zwei'])
  state.take({ type: 'done', vertex: 1, durationMs: 5, time })
  expect(lines).toEqual(['größe', 'zwei', 'ohne Ende'])
  expect(state.vertices.get(1)).toMatchObject({ text: '[1/1] RUN make', status: 'done' })
})

describe('patterns', () => {
  test.each([
    ['busy*', 'busybox', true],
    ['*', 'team/app', false],
    ['*/app', 'team/app', true],
    ['app:?', 'app:1', true],
    ['app:[0-9]', 'app:x', false],
    ['app:[^0-9]', 'app:x', true],
    ['a.p', 'app', false],
    ['a\\*', 'a*', true],
  ])('%s and %s', (pattern, name, matches) => {
    expect(matchesPattern(pattern, name)).toBe(matches)
  })
})

describe('templates', () => {
  const value = { Name: 'x', Config: { Env: ['A=1', 'B=2'], Labels: { 'a.b': 'c' }, User: '' }, List: [] }
  test.each([
    ['{{.Name}}', 'x'],
    ['<{{ .Config.Env }}>', '<[A=1 B=2]>'],
    ['{{json .Config.Labels}}', '{"a.b":"c"}'],
    ['{{index .Config.Labels "a.b"}}', 'c'],
    ['{{index .Config.Env 1}}', 'B=2'],
    ['{{len .Config.Env}}', '2'],
    ['{{.Config.Labels}}', 'map[a.b:c]'],
    ['{{.Config.NotSet}}', ''],
  ])('%s gives %s', (template, text) => {
    expect(compileTemplate('--format', template)(value)).toBe(text)
  })

  test.each(['{{range .List}}', '{{.Name', '{{.Nothing}}', '{{.constructor}}', '{{.Name.length}}'])(
    '%s is refused',
    (template) => {
      expect(() => compileTemplate('--format', template)(value)).toThrow(UsageError)
    },
  )
})

describe('secrets', () => {
  test.each([
    ['id=a,src=/x', ['a', { file: '/x' }]],
    ['type=file,id=a,source=/x', ['a', { file: '/x' }]],
    ['id=a,env=B', ['a', { env: 'B' }]],
    ['type=env,id=a,src=B', ['a', { env: 'B' }]],
    ['id=HERE', ['HERE', { env: 'HERE' }]],
    ['"id=a","src=/x,y"', ['a', { file: '/x,y' }]],
  ])('%s', (text, secret) => {
    expect(parseSecret(text, { HERE: '1' })).toEqual(secret)
  })

  test.each(['src=/x', 'id', 'id=a,type=other', 'id=a,mode=1'])('%s is refused', (text) => {
    expect(() => parseSecret(text, {})).toThrow(UsageError)
  })
})

describe('what comes from stdin', () => {
  async function* inPieces(data: Buffer, size: number): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size)
  }
  const header = Buffer.alloc(1024)
  header.write('name')
  header.write(
    `${(Buffer.from('name').reduce((sum, byte) => sum + byte, 0) + 8 * 0x20).toString(8).padStart(6, '0')}\0 `,
    148,
  )

  test.each([
    ['an old tar without a magic', header, true],
    ['gzip', Buffer.concat([Buffer.from('1f8b08', 'hex'), Buffer.alloc(600)]), true],
    ['zstd', Buffer.from('28b52ffd00', 'hex'), true],
    ['a Dockerfile', Buffer.from('FROM x\n'), false],
    ['a long Dockerfile', Buffer.from('# größe\n'.repeat(500)), false],
    ['nothing', Buffer.alloc(0), false],
  ])('%s is recognised, however it comes', async (_name, data, isTar) => {
    for (const size of [1, 7, 512, 100_000]) {
      const found = await tarOrText(inPieces(data, size))
      const pieces: Uint8Array[] = []
      if ('tar' in found) for await (const piece of found.tar) pieces.push(piece)
      else pieces.push(Buffer.from(found.text))
      expect(['tar' in found, Buffer.concat(pieces).equals(data)]).toEqual([isTar, true])
    }
  })
})
