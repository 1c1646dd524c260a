/** Bytes for a file or for stdout, as `save` and `export` write them. */
import { createWriteStream } from 'node:fs'
import { open, rename, rm, stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { MayflyError } from '../engine/errors.js'
import { Interrupted } from './report.js'
import { UsageError } from './usage-error.js'

/** What a shell reports of a program that wrote to a closed pipe: 128 and the number of SIGPIPE. */
const BROKEN_PIPE = 141

/** Throws {@link UsageError} when the bytes would go to a terminal. */
export function refuseTerminal(output: string | undefined): void {
  if (output !== undefined || !process.stdout.isTTY) return
  throw new UsageError('An archive is not written to a terminal', 'name a file with --output, or redirect stdout')
}

/**
 * Writes to the file, else to stdout. A file appears under its name when it is whole; one that is there already is replaced then. What is no
 * regular file (a pipe, /dev/null) is written to as it is.
 */
export async function writeOutput(
  pieces: AsyncIterable<Uint8Array>,
  output: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (output === undefined || output === '-') {
    await pipeline(pieces, process.stdout, { signal, end: false }).catch((error: NodeJS.ErrnoException) => {
      // The next program of a pipeline has enough.
      throw error.code === 'EPIPE' ? new Interrupted(BROKEN_PIPE) : error
    })
    return
  }
  const there = await stat(output).catch(() => undefined)
  if (there?.isDirectory()) throw new UsageError(`--output ${output} is a directory`)
  if (there && !there.isFile()) {
    await pipeline(pieces, createWriteStream(output), { signal })
    return
  }
  const temporary = `${output}.${process.pid}.partial`
  try {
    // Opened before the work is begun: what cannot be written to is known at once.
    const file = await open(temporary, 'wx')
    await pipeline(pieces, file.createWriteStream(), { signal })
    await rename(temporary, output)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error instanceof MayflyError || signal.aborted
      ? error
      : new Error(`Cannot write ${output}: ${reason(error as NodeJS.ErrnoException)}`, { cause: error })
  }
}

/** Node's message names the temporary file, which nobody knows. */
function reason({ code, message }: NodeJS.ErrnoException): string {
  return code === 'ENOENT' ? 'there is no such directory' : message
}
