/** Asking somebody at a terminal. Questions go to stderr. */
import { createInterface } from 'node:readline'
import { addAbortSignal, Writable } from 'node:stream'

/** One line of the terminal; with `hidden`, it is not shown. Rejects when the signal aborts; '' at the end of the input. */
export function askLine(
  question: string,
  signal: AbortSignal,
  { hidden = false }: { readonly hidden?: boolean } = {},
): Promise<string> {
  const nowhere = new Writable({ write: (_piece, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, output: hidden ? nowhere : process.stderr, terminal: true })
  if (hidden) process.stderr.write(question)
  return new Promise<string>((resolve, reject) => {
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    // In raw mode Ctrl-C is a key.
    lines.once('SIGINT', () => process.kill(process.pid, 'SIGINT'))
    lines.once('close', () => resolve(''))
    lines.question(hidden ? '' : question, resolve)
  }).finally(() => {
    lines.close()
    if (hidden) process.stderr.write('\n')
  })
}

/** A line of a pipe or a terminal, without editing. '' at the end of the input. */
function readAnswer(input: NodeJS.ReadableStream): Promise<string> {
  const lines = createInterface({ input, terminal: false })
  return new Promise<string>((resolve) => {
    lines.once('line', resolve)
    lines.once('close', () => resolve(''))
  }).finally(() => lines.close())
}

/** Whether the answer on stdin is yes. */
export async function isConfirmed(text: string): Promise<boolean> {
  process.stderr.write(text)
  const answer = await readAnswer(process.stdin)
  if (!process.stdin.isTTY) process.stderr.write('\n')
  return /^\s*y(es)?\s*$/i.test(answer)
}

/** All of stdin, as text. Rejects when the signal aborts. */
export async function readInput(signal: AbortSignal): Promise<string> {
  const pieces: Buffer[] = []
  for await (const piece of addAbortSignal(signal, process.stdin)) pieces.push(Buffer.from(piece))
  return Buffer.concat(pieces).toString('utf8')
}
