/** What a RUN executes: its heredocs put back where they belong. */

import { heredocStart } from './heredoc.js'
import type { RunInstruction } from './types.js'

export type RunScript =
  /** These arguments, no shell. */
  | { readonly form: 'exec'; readonly args: readonly string[] }
  /** This text, given to the SHELL as its last argument. */
  | { readonly form: 'shell'; readonly text: string }
  /** A file with this content (mode 0755, root's) to be executed for its `#!` line; BuildKit has it at /dev/pipes/<name>. */
  | { readonly form: 'script'; readonly name: string; readonly content: string }

/**
 * `RUN <<EOF` runs the heredoc itself, by the interpreter of its `#!` line if it has one; with anything besides the
 * heredoc on the line, the shell gets all of it and reads the heredocs by its own rules.
 */
export function runScript({ command, heredocs }: Pick<RunInstruction, 'command' | 'heredocs'>): RunScript {
  const [first] = heredocs
  if (command.form === 'exec' || first === undefined) return command
  if (heredocStart(command.text) === undefined) {
    const bodies = heredocs.map(({ raw, name }) => `\n${raw}${name}`).join('')
    return { form: 'shell', text: `${command.text}${bodies}` }
  }
  return first.raw.startsWith('#!')
    ? { form: 'script', name: first.name, content: first.content }
    : { form: 'shell', text: first.content }
}
