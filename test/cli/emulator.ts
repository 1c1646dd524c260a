/** What somebody sees: the text of a terminal after everything that was written to it, with those sequences that progress is drawn with. */

export interface Display {
  /** From the first line on, without spaces at their ends. */
  readonly lines: readonly string[]
  readonly isCursorShown: boolean
  /** Sequences that are none of ours. */
  readonly unknown: readonly string[]
}

export function display(written: string, columns: number): Display {
  const rows: string[][] = [[]]
  const unknown: string[] = []
  let row = 0
  let column = 0
  let isCursorShown = true
  for (const [token] of written.matchAll(/\u001b\[[0-?]*[ -/]*[@-~]|\u001b.?|[\s\S]/gu)) {
    const up = /^\u001b\[(\d*)A$/.exec(token)
    if (up) row = Math.max(0, row - Number(up[1] || 1))
    else if (token === '\r') column = 0
    else if (token === '\n') row++
    else if (token === '\u001b[K') rows[row]?.splice(column)
    else if (token === '\u001b[J') {
      rows[row]?.splice(column)
      rows.splice(row + 1)
    } else if (token === '\u001b[?25l') isCursorShown = false
    else if (token === '\u001b[?25h') isCursorShown = true
    else if (/^\u001b\[\d*m$/.test(token)) continue
    else if (token < ' ' || (token >= '\u007f' && token < '\u00a0')) unknown.push(token)
    else {
      if (column === columns) {
        row++
        column = 0
      }
      while (rows.length <= row) rows.push([])
      const line = rows[row]!
      while (line.length < column) line.push(' ')
      line[column++] = token
    }
    while (rows.length <= row) rows.push([])
  }
  return { lines: rows.map((line) => line.join('').trimEnd()), isCursorShown, unknown }
}
