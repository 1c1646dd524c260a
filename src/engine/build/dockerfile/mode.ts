/** `--chmod`: octal (`755`, `0644`) or symbolic as chmod(1) reads it (`u=rwX,go=rX`, `+x`), with a umask of zero. */

import { Problem, unlocated } from './problem.js'

/** Gives the new permission bits (07777) of an entry. */
export type ModeChange = (old: number, isDirectory: boolean) => number

/** Throws DOCKERFILE_INVALID. */
export function parseMode(text: string): ModeChange {
  return unlocated(() => modeOf(text))
}

/** As `parseMode`, but throws a Problem. */
export function modeOf(text: string): ModeChange {
  if (/^[0-7]{1,5}$/.test(text) && Number.parseInt(text, 8) <= 0o7777) {
    const mode = Number.parseInt(text, 8)
    return () => mode
  }
  if (/^\d*$/.test(text))
    throw new Problem(`invalid mode "${text}"`, { value: text, expected: 'octal digits from 0 to 07777, such as 755' })
  const clauses = text.split(',').flatMap((clause) => clauseOf(clause, text))
  return (old, isDirectory) => clauses.reduce((mode, apply) => apply(mode, isDirectory), old & 0o7777)
}

const CLASSES: Readonly<Record<string, number>> = { u: 0o4700, g: 0o2070, o: 0o1007, a: 0o7777 }
const SHIFTS: Readonly<Record<string, number>> = { u: 6, g: 3, o: 0 }

function clauseOf(clause: string, text: string): ModeChange[] {
  const [, classes = '', actions] = /^([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)$/.exec(clause) ?? []
  if (actions === undefined)
    throw new Problem(`invalid mode "${text}"`, {
      value: text,
      expected: 'octal digits such as 755, or clauses such as u=rwX,go=rX',
    })
  // Without a class it means all: there is no umask here that could hold something back.
  const mask = [...(classes || 'a')].reduce((bits, name) => bits | CLASSES[name]!, 0)
  return [...actions.matchAll(/([-+=])([rwxXst]*|[ugo])(?=[-+=]|$)/g)].map(
    ([, operator, permissions]) =>
      (old, isDirectory) => {
        const bits = bitsOf(permissions ?? '', old, isDirectory) & mask
        if (operator === '+') return old | bits
        if (operator === '-') return old & ~bits
        // chmod(1): `=` leaves set-id bits of directories alone unless they are named.
        const kept = isDirectory && !/s/.test(permissions ?? '') ? 0o6000 : 0
        return (old & (~mask | kept)) | bits
      },
  )
}

/** The bits that permission letters name, for all classes at once. */
function bitsOf(permissions: string, old: number, isDirectory: boolean): number {
  if (/^[ugo]$/.test(permissions)) return ((old >> SHIFTS[permissions]!) & 7) * 0o111
  let bits = 0
  for (const letter of permissions) {
    if (letter === 'r') bits |= 0o444
    else if (letter === 'w') bits |= 0o222
    else if (letter === 'x') bits |= 0o111
    else if (letter === 's') bits |= 0o6000
    else if (letter === 't') bits |= 0o1000
    else if (letter === 'X' && (isDirectory || (old & 0o111) !== 0)) bits |= 0o111
  }
  return bits
}
