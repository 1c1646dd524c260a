/** Waiting for output. The log is read from its beginning, so nothing that was printed early is missed. */

import { MayflyError } from '../engine/errors.js'
import { AbstractWaitStrategy, Died, type WaitControl, type WaitStrategy, type WaitTarget } from './strategy.js'

/** Text kept for patterns that span lines, and the longest line that is matched as a whole. */
const MAX_TEXT = 256 * 1024

/** See `Wait.forLogMessage`. */
export class LogMessageWaitStrategy extends AbstractWaitStrategy {
  protected readonly message: string | RegExp
  protected readonly times: number
  protected override readonly what: string
  // The output that comes last counts too, so the end of the log decides.
  protected override readonly mayExit = true
  /** Matches of this run so far. */
  protected found = 0

  constructor(message: string | RegExp, times = 1) {
    super()
    if (typeof message !== 'string' && !(message instanceof RegExp)) {
      throw new MayflyError('INVALID_OPTION', `message: expected a string or a RegExp, got ${typeof message}`, {
        field: 'message',
        value: message,
      })
    }
    if (!Number.isInteger(times) || times < 1) {
      throw new MayflyError('INVALID_OPTION', `times: expected a whole number of at least 1, got ${String(times)}`, {
        field: 'times',
        value: times,
      })
    }
    this.message = message
    this.times = times
    const shown = typeof message === 'string' ? JSON.stringify(message) : String(message)
    this.what = `output that matches ${shown}${times > 1 ? `, ${times} times` : ''}`
  }

  protected override async check({ container, startedAt }: WaitTarget, { signal }: WaitControl): Promise<void> {
    const matchers = { stdout: newMatcher(this.message), stderr: newMatcher(this.message) }
    const log = container.logs({ follow: true, since: startedAt, signal })
    for await (const { stream, data } of log) {
      this.found += matchers[stream](data)
      if (this.found >= this.times) return
    }
    signal.throwIfAborted()
    throw new Died(await container.wait({ signal }))
  }

  /** A database that initialises says twice that it is ready. @internal */
  override again(): WaitStrategy {
    return this.with({ times: 1 })
  }

  protected override hint(): string | undefined {
    return this.times > 1 ? `it came ${this.found} of ${this.times} times` : undefined
  }
}

/** Counts what a piece of one stream adds to the matches. */
type Matcher = (data: Uint8Array) => number

/** @internal */
export function newMatcher(message: string | RegExp): Matcher {
  const spansLines =
    typeof message === 'string' ? message.includes('\n') : /\\n|\n/.test(message.source) || message.dotAll
  return spansLines ? textMatcher(message) : lineMatcher(message)
}

/** Each line counts once, the unfinished last one included: prompts have no newline. */
function lineMatcher(message: string | RegExp): Matcher {
  const decoder = new TextDecoder()
  const matches = toPredicate(message)
  // What ends with `$` can only be judged when the line has ended.
  const needsEnd = message instanceof RegExp && /\$$/.test(message.source)
  let line = ''
  let isCounted = false
  return (data) => {
    const pieces = (line + decoder.decode(data, { stream: true })).split('\n')
    line = pieces.pop()!
    let count = 0
    for (const complete of pieces) {
      if (!isCounted && matches(complete.replace(/\r$/, ''))) count++
      isCounted = false
    }
    if (!isCounted && !needsEnd && line !== '' && matches(line)) {
      count++
      isCounted = true
    }
    if (line.length > MAX_TEXT) line = line.slice(-MAX_TEXT)
    return count
  }
}

/** For patterns with line breaks in them. Matches do not overlap. */
function textMatcher(message: string | RegExp): Matcher {
  const decoder = new TextDecoder()
  const pattern =
    typeof message === 'string'
      ? new RegExp(message.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'g')
      : new RegExp(message.source, `${message.flags.replace(/[gy]/g, '')}g`)
  let text = ''
  return (data) => {
    text += decoder.decode(data, { stream: true }).replaceAll('\r\n', '\n')
    let count = 0
    let end = 0
    for (const match of text.matchAll(pattern)) {
      if (match[0] === '') continue
      count++
      end = match.index + match[0].length
    }
    text = text.slice(end).slice(-MAX_TEXT)
    return count
  }
}

function toPredicate(message: string | RegExp): (line: string) => boolean {
  if (typeof message === 'string') return (line) => line.includes(message)
  // A global or sticky pattern remembers where it stopped; every line begins anew.
  const fresh = new RegExp(message.source, message.flags.replace(/[gy]/g, ''))
  return (line) => fresh.test(line)
}
