/** The fixed part of a COPY source, and the part with wildcards. Matching is ignore.ts's. */

/** Whether a path component has a wildcard; a backslash takes the meaning from the character after it. */
export function hasWildcard(text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    if (text[index] === '\\') index++
    else if ('*?['.includes(text[index]!)) return true
  }
  return false
}

/** Cuts a path in front of its first component that has a wildcard. Escapes are gone from the fixed part: `a\*b` is `a*b`. */
export function splitWildcards(path: string): { readonly fixed: string; readonly pattern: string } {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.')
  const first = parts.findIndex(hasWildcard)
  const end = first < 0 ? parts.length : first
  return {
    fixed: parts
      .slice(0, end)
      .map((part) => part.replace(/\\(.)/gs, '$1'))
      .join('/'),
    pattern: parts.slice(end).join('/'),
  }
}
