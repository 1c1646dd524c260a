/**
 * `mayfly run`: one container in the foreground, as if its program had been called directly: its streams are ours, its
 * signals are passed on, its exit code is the result.
 */
import type { Writable } from 'node:stream'
import type { Attachment, Container } from '../engine/container.js'
import { Engine } from '../engine/engine.js'
import type { ContainerOptions } from '../engine/options.js'
import { containerOptions, type RunFlags } from './run-flags.js'
import { UsageError } from './usage-error.js'

/** Signals that somebody sends to end or to steer the program. SIGKILL and SIGSTOP cannot be passed on. */
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const
/** So many times must somebody ask for the end until a program that does not listen is killed (docker's number). */
const PATIENCE = 3
/** What a shell reports of a program that wrote to a closed pipe: 128 and the number of SIGPIPE. */
const BROKEN_PIPE = 141

/** Runs the container and resolves to the exit code. Throws what kept it from running. */
export async function run(flags: RunFlags, words: readonly string[]): Promise<number> {
  if (flags.interactive && flags.tty && !process.stdin.isTTY) {
    throw new UsageError(
      '--interactive with --tty needs a terminal, and stdin is none',
      'leave out --tty to pipe input in',
    )
  }
  const options = containerOptions(flags, words)
  await using engine = await Engine.open({ network: options.network !== 'none' && options.network !== 'host' })
  await using container = await engine.start({ remove: true, ...options })
  tellChosenPorts(container, options)
  // The log is replayed from its first byte, so nothing printed before this moment is missing.
  await using attachment = await container.attach({ replay: true })
  using _signals = forwardSignals(container)
  using _terminal = connectTerminal(attachment, flags)
  if (flags.interactive) passInput(attachment)
  const written = await Promise.all([copy(attachment.stdout, process.stdout), copy(attachment.stderr, process.stderr)])
  if (written.includes(false)) return BROKEN_PIPE
  const exit = await container.wait()
  if (exit.oomKilled) process.stderr.write(`mayfly: "${container.name}" was killed because memory ran out\n`)
  return exit.exitCode
}

/** Nobody could know a number that was not asked for. */
function tellChosenPorts(container: Container, { ports = [] }: ContainerOptions): void {
  const asked = new Set(ports.map((port) => (typeof port === 'number' ? undefined : port.host)))
  for (const { container: inside, protocol, ip, host } of container.ports) {
    const address = ip.includes(':') ? `[${ip}]` : ip
    if (!asked.has(host)) process.stderr.write(`mayfly: ${address}:${host} -> ${inside}/${protocol}\n`)
  }
}

/** Copies until the end, no faster than it is read. False when the reader has gone away. */
async function copy(from: AsyncIterable<Uint8Array>, to: Writable): Promise<boolean> {
  // Each write tells its own error; without a listener the stream would throw it as well.
  to.on('error', () => {})
  for await (const piece of from) {
    const isWritten = await new Promise<boolean>((resolve) => to.write(piece, (error) => resolve(!error)))
    if (!isWritten) return false
  }
  return true
}

function passInput({ stdin }: Attachment): void {
  // The container may end, or close its stdin, while there is still input: nobody is left to want it.
  stdin.on('error', () => process.stdin.unpipe(stdin))
  process.stdin.on('error', () => stdin.end())
  process.stdin.pipe(stdin)
}

function forwardSignals(container: Container): Disposable {
  let requests = 0
  const forward = (signal: NodeJS.Signals) => {
    if ((signal === 'SIGINT' || signal === 'SIGTERM') && ++requests >= PATIENCE) signal = 'SIGKILL'
    // It may have ended just now.
    container.kill(signal).catch(() => {})
  }
  for (const signal of FORWARDED) process.on(signal, forward)
  return {
    [Symbol.dispose]: () => {
      for (const signal of FORWARDED) process.off(signal, forward)
    },
  }
}

/** Our terminal becomes the container's: raw, so that every key reaches it, and of the same size. */
function connectTerminal(attachment: Attachment, flags: RunFlags): Disposable {
  if (!flags.tty) return { [Symbol.dispose]: () => {} }
  const isRaw = Boolean(flags.interactive && process.stdin.isTTY)
  const restore = () => {
    if (isRaw) process.stdin.setRawMode(false)
  }
  const resize = () => {
    const { columns, rows } = process.stdout
    if (columns && rows) attachment.resize(columns, rows).catch(() => {})
  }
  if (isRaw) process.stdin.setRawMode(true)
  process.on('exit', restore)
  process.on('SIGWINCH', resize)
  // The window may have changed while the container was made.
  resize()
  return {
    [Symbol.dispose]: () => {
      restore()
      process.off('exit', restore)
      process.off('SIGWINCH', resize)
    },
  }
}
