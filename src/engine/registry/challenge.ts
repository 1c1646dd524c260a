/** What a registry asks for when it answers 401: the WWW-Authenticate header (RFC 9110, section 11.6.1). */

export interface Challenge {
  /** In lower case. */
  readonly scheme: string
  /** Names in lower case. */
  readonly parameters: Readonly<Record<string, string>>
}

const WORD = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y
const PARAMETER = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]*))/y
const SPACE = /[\s,]*/y

/** All challenges of a header. What cannot be understood is left out. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Record<string, string> }[] = []
  let at = 0
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at
    const found = pattern.exec(header)
    if (found) at = pattern.lastIndex
    return found
  }
  for (;;) {
    take(SPACE)
    const parameter = challenges.length > 0 ? take(PARAMETER) : null
    if (parameter) {
      const [, name = '', quoted, bare = ''] = parameter
      challenges.at(-1)!.parameters[name.toLowerCase()] = quoted?.replace(/\\(.)/g, '$1') ?? bare
      continue
    }
    const scheme = take(WORD)
    if (!scheme) return challenges
    challenges.push({ scheme: scheme[0].toLowerCase(), parameters: {} })
  }
}
