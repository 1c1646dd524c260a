/** An engine for one command, and what happens to the command when somebody wants it to end. */
import type { Engine } from '../engine/engine.js'
import { describeError, Interrupted } from './report.js'

/** What ends a command, and the exit codes that a shell reports of them. */
const ENDING: Readonly<Record<'SIGINT' | 'SIGTERM' | 'SIGHUP', number>> = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }

/**
 * A signal for as long as it is not disposed of: Ctrl-C and the like abort it with {@link Interrupted}, and whoever was told takes back what
 * was half done. The second time ends the process at once: the engine's native half cleans up after it.
 */
export function interruption(): { readonly signal: AbortSignal } & Disposable {
  const controller = new AbortController()
  const end = (name: NodeJS.Signals) => {
    const code = ENDING[name as keyof typeof ENDING]
    if (controller.signal.aborted) process.exit(code)
    controller.abort(new Interrupted(code))
  }
  const names = Object.keys(ENDING) as NodeJS.Signals[]
  for (const name of names) process.on(name, end)
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      for (const name of names) process.off(name, end)
    },
  }
}

/** Does work that ends when somebody wants the command to end. */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  using interrupted = interruption()
  const { signal } = interrupted
  try {
    return await work(signal)
  } catch (error) {
    // Whatever fails after that fails because of it.
    throw signal.aborted ? signal.reason : error
  }
}

/** Does a command's work with an engine of its own. Most have nothing to do with containers' networks, and open faster without. */
export function withEngine<T>(
  work: (engine: Engine, signal: AbortSignal) => Promise<T>,
  { network = false }: { readonly network?: boolean } = {},
): Promise<T> {
  return interruptible(async (signal) => {
    const { Engine } = await import('../engine/engine.js')
    await using engine = await Engine.open({ network, signal })
    return await work(engine, signal)
  })
}

/** Does it for each of several names, tells what fails and goes on. Resolves to the exit code. */
export async function forEach<T>(subjects: readonly T[], work: (subject: T) => Promise<void>): Promise<number> {
  let code = 0
  for (const subject of subjects) {
    try {
      await work(subject)
    } catch (error) {
      if (error instanceof Interrupted) throw error
      process.stderr.write(describeError(error))
      code = 1
    }
  }
  return code
}
