/** The table of results: for the terminal and, as Markdown, for the README. */

import { readFileSync, writeFileSync } from 'node:fs'
import { median, quantile } from './measure.ts'

/** One line. `hit` is undefined where there is no goal, only a figure. */
export interface Row {
  readonly what: string
  /** Median, with the 95th percentile in brackets where there are enough samples. */
  readonly measured: string
  readonly goal: string
  /** Against the floor or a rival; '' if against nothing. */
  readonly ratio: string
  readonly hit?: boolean
}

export function milliseconds(samples: readonly number[]): string {
  const text = `${duration(median(samples))}`
  return samples.length < 10 ? text : `${text} (${duration(quantile(samples, 0.95))})`
}

/** 0.42 ms, 3.4 ms, 290 ms. */
export function duration(ms: number): string {
  return `${ms < 1 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : ms.toFixed(0)} ms`
}

/** 1.31 ×, 72 ×. */
export function times(ratio: number): string {
  return `${ratio < 10 ? ratio.toFixed(2) : ratio.toFixed(0)} ×`
}

const HEADER = ['what', 'median (p95)', 'goal', 'ratio', '']

function cells({ what, measured, goal, ratio, hit }: Row): string[] {
  return [what, measured, goal, ratio, hit === undefined ? '' : hit ? 'hit' : '**miss**']
}

export function markdownTable(rows: readonly Row[]): string {
  const line = (words: readonly string[]) => `| ${words.join(' | ')} |`
  return [line(HEADER), line(HEADER.map(() => '---')), ...rows.map((row) => line(cells(row)))].join('\n')
}

export function plainTable(rows: readonly Row[]): string {
  const lines = [HEADER, ...rows.map((row) => cells(row).map((cell) => cell.replaceAll('**', '')))]
  const widths = HEADER.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  return lines
    .map((line) =>
      line
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

const START = '<!-- bench:start -->'
const END = '<!-- bench:end -->'

/** Replaces what stands between the two markers. Throws when the file has none. */
export function writeBetweenMarkers(path: string, text: string): void {
  const before = readFileSync(path, 'utf8')
  const [start, end] = [before.indexOf(START), before.indexOf(END)]
  if (start < 0 || end < start) throw new Error(`${path} has no ${START} … ${END} to write between`)
  writeFileSync(path, `${before.slice(0, start + START.length)}\n${text}\n${before.slice(end)}`)
}
