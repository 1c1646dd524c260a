/**
 * `mayfly run`: one container in the foreground, as if its program had been called directly: its streams are ours, its
 * signals are passed on, its exit code is the result.
 *
 * Output is read from the container’s log, which begins with the first byte and tells what it had to drop;
 * the connection that `attach` makes is used for input only.
 */
import type { Writable } from 'node:stream'
import type { Container } from '../engine/container.js'
import { Engine } from '../engine/engine.js'
import { familiarReference, parseReference } from '../engine/image/reference.js'
import type { ContainerOptions } from '../engine/options.js'
import { printable } from './progress/printable.js'
import { showTransfer } from './progress/transfer.js'
import { containerOptions, type RunFlags } from './run-flags.js'
import { UsageError } from './usage-error.js'
import { interruption } from './with-engine.js'

/** Signals that somebody sends to end or to steer the program. SIGKILL and SIGSTOP cannot be passed on. */
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const
/** So many times must somebody ask for the end until a program that does not listen is killed (docker's number). */
const PATIENCE = 3
/** What a shell reports of a program that wrote to a closed pipe: 128 and the number of SIGPIPE. */
const BROKEN_PIPE = 141
/** Output that a slow reader of ours may be behind, on the disk and only while it is needed. */
const LOG_BYTES = 1024 ** 3

/** Runs the container and resolves to the exit code. Throws what kept it from running. */
export async function run(flags: RunFlags, words: readonly string[]): Promise<number> {
  if (flags.interactive && flags.tty && !process.stdin.isTTY) {
    const hint = 'leave out --tty to pipe input in'
    throw new UsageError('--interactive with --tty needs a terminal, and stdin is none', hint)
  }
  const options = containerOptions(flags, words)
  if (flags.commit !== undefined) parseReference(flags.commit) // before the work, not after it
  // Until there is a program, Ctrl-C is for us.
  using starting = interruption()
  const { signal } = starting
  await using engine = await Engine.open({ network: options.network !== 'none' && options.network !== 'host', signal })
  const kept = { ...options, remove: flags.commit === undefined, logBytes: LOG_BYTES }
  await using container = await start(engine, kept, flags, signal)
  starting[Symbol.dispose]()
  using _signals = forwardSignals(container)
  using _terminal = connectTerminal(container, flags)
  tellChosenPorts(container, options)
  if (flags.interactive) await passInput(container)
  const isHeard = await passOutput(container)
  if (!isHeard && flags.commit === undefined) return BROKEN_PIPE
  const exit = await container.wait()
  if (exit.oomKilled) tell(`"${container.name}" was killed because memory ran out`)
  if (flags.commit !== undefined) await commit(container, flags.commit, flags)
  return isHeard ? exit.exitCode : BROKEN_PIPE
}

/** Pulls the image where it is missing. */
async function start(
  engine: Engine,
  options: ContainerOptions,
  { quiet = false }: Pick<RunFlags, 'quiet'>,
  signal: AbortSignal,
): Promise<Container> {
  using view = showTransfer({ quiet })
  const { listener: onProgress } = view
  try {
    return await engine.start(options, { signal, ...(onProgress ? { onProgress } : {}) })
  } catch (error) {
    throw signal.aborted ? signal.reason : error
  }
}

/** What the program has changed becomes an image, whatever its exit code: after `bash` that is the last command's. */
async function commit(container: Container, reference: string, { commitChange = [] }: RunFlags): Promise<void> {
  const image = await container.commit({ reference, changes: commitChange })
  tell(`kept as ${familiarReference(parseReference(reference))}: ${image.id}`)
}

function tell(message: string): void {
  process.stderr.write(`mayfly: ${printable(message)}\n`)
}

/** Nobody could know a number that was not asked for. */
function tellChosenPorts(container: Container, { ports = [] }: ContainerOptions): void {
  const asked = new Set(ports.map((port) => (typeof port === 'number' ? undefined : port.host)))
  for (const { container: inside, protocol, ip, host } of container.ports) {
    const address = ip.includes(':') ? `[${ip}]` : ip
    if (!asked.has(host)) tell(`${address}:${host} -> ${inside}/${protocol}`)
  }
}

/** Passes on everything from the first byte to the exit. False when our reader has gone away. */
async function passOutput(container: Container): Promise<boolean> {
  for await (const { stream, data, lostBytes } of container.logs({ follow: true })) {
    if (lostBytes > 0) tell(`${lostBytes} bytes of output were dropped: they came faster than they were read`)
    if (!(await write(process[stream], data))) return false
  }
  return true
}

function write(to: Writable, data: Uint8Array): Promise<boolean> {
  return new Promise((resolve) => to.write(data, (error) => resolve(!error)))
}

async function passInput(container: Container): Promise<void> {
  const { stdin } = await container.attach()
  // The container may end, or close its stdin, while there is still input: nobody is left to want it.
  stdin.on('error', () => process.stdin.unpipe(stdin))
  process.stdin.on('error', () => stdin.end())
  process.stdin.pipe(stdin)
}

function forwardSignals(container: Container): Disposable {
  let requests = 0
  const forward = (signal: NodeJS.Signals) => {
    const isRequest = signal === 'SIGINT' || signal === 'SIGTERM'
    if (isRequest) requests++
    // It may have ended just now.
    container.kill(isRequest && requests >= PATIENCE ? 'SIGKILL' : signal).catch(() => {})
  }
  for (const signal of FORWARDED) process.on(signal, forward)
  return {
    [Symbol.dispose]: () => {
      for (const signal of FORWARDED) process.off(signal, forward)
    },
  }
}

/** Our terminal becomes the container's: raw, so that every key reaches it, and of the same size. */
function connectTerminal(container: Container, flags: RunFlags): Disposable {
  const isRaw = Boolean(flags.tty && flags.interactive && process.stdin.isTTY)
  const restore = () => {
    if (isRaw) process.stdin.setRawMode(false)
  }
  const resize = () => {
    const { columns, rows } = process.stdout
    if (flags.tty && columns && rows) container.resize(columns, rows).catch(() => {})
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
