/** Text that others have written (names of images, output of steps, answers of registries), made harmless for a terminal. */

/** CSI and OSC sequences, and the two-letter escapes. What is cut off at the end goes as well. */
const SEQUENCES =
  /(?:\u001b\[|\u009b)[0-?]*[ -/]*(?:[@-~]|$)|(?:\u001b[\]PX^_]|[\u009d\u0090\u0098\u009e\u009f])[^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c|$)|\u001b[ -/]*[0-~]?/g
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g
/** Characters that take two columns (East Asian wide and emoji), near enough. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|[\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u
const NARROW_NOTHING = /[\p{Mn}\p{Me}\u200b-\u200f\u2060\ufeff]/u
const TAB = '    '

/** Without terminal sequences; other control characters except line feed and tab are written out, such as `\x07`. */
export function printable(text: string): string {
  return text.replace(SEQUENCES, '').replace(CONTROLS, (character) => escaped(character))
}

/** For one line: line feeds become spaces. */
export function printableLine(text: string): string {
  return printable(text.replaceAll('\r\n', '\n'))
    .replace(/\s*\n\s*/g, ' ')
    .replaceAll('\t', TAB)
}

/**
 * A line of a program's output: what a carriage return has overwritten (a progress bar's earlier states) is not shown.
 */
export function outputLine(text: string): string {
  const states = text.replace(/\r+$/, '').split('\r')
  return printable(states.at(-1)!).replaceAll('\t', TAB)
}

function escaped(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
}

/** Columns that the text takes. It must be printable. */
export function widthOf(text: string): number {
  if (/^[\u0000-\u007f]*$/.test(text)) return text.length
  let width = 0
  for (const character of text) width += columnsOf(character)
  return width
}

function columnsOf(character: string): number {
  if (NARROW_NOTHING.test(character)) return 0
  return WIDE.test(character) ? 2 : 1
}

/** The text, cut with an ellipsis where it takes more columns than this. */
export function fitted(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text
  let result = ''
  let width = 0
  for (const character of text) {
    const more = columnsOf(character)
    if (width + more > columns - 1) break
    result += character
    width += more
  }
  return columns > 0 ? `${result}…` : ''
}

/** The text with spaces up to this many columns. */
export function padded(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - widthOf(text)))
}
