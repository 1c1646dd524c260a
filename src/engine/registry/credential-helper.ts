/** Programs named docker-credential-<name>, which keep credentials in a keychain, a password store or a cloud's login. */

import { spawnChild } from '../child.js'
import { clearTimeout, setTimeout } from '../clock.js'
import { MayflyError } from '../errors.js'

const TIMEOUT_MS = 30_000
/** More than any helper has to say. */
const MAX_OUTPUT_BYTES = 1024 * 1024

export interface HelperAnswer {
  readonly username: string
  readonly secret: string
}

/**
 * Asks `docker-credential-<name> get` for the credentials of a server. Undefined when it has none.
 *
 * Throws CREDENTIALS_INVALID when the program is missing, fails, or does not end in time. What it printed on stdout is never
 * told: it may be a secret.
 *
 * @default timeoutMs: 30000
 */
export async function askHelper(
  name: string,
  server: string,
  signal?: AbortSignal,
  timeoutMs = TIMEOUT_MS,
): Promise<HelperAnswer | undefined> {
  const program = `docker-credential-${name}`
  if (!/^[A-Za-z0-9._-]+$/.test(name))
    throw unusable(program, server, 'its name may have letters, digits, ".", "_" and "-"')
  const { code, output } = await runHelper(program, server, timeoutMs, signal)
  if (code !== 0) {
    // The protocol's one way to say so; case and wording differ between helpers.
    if (/credentials not found|no credentials|not found in native keychain|item could not be found/i.test(output))
      return undefined
    throw unusable(program, server, `it ended with exit code ${code}`, 'run it by hand to see why, or log in again')
  }
  let answer: { Username?: unknown; Secret?: unknown }
  try {
    answer = JSON.parse(output)
  } catch {
    throw unusable(program, server, 'its answer is no JSON')
  }
  if (typeof answer.Username !== 'string' || typeof answer.Secret !== 'string')
    throw unusable(program, server, 'its answer has no Username and Secret')
  return answer.Secret === '' ? undefined : { username: answer.Username, secret: answer.Secret }
}

function runHelper(
  program: string,
  server: string,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<{ code: number | string; output: string }> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted()
    // A group of its own, so that a script's children end with it and hold no pipe open.
    const child = spawnChild(program, ['get'], { stdio: ['pipe', 'pipe', 'ignore'], detached: true })
    let output = ''
    let failure: unknown
    const kill = (error: unknown) => {
      failure ??= error
      try {
        process.kill(-child.pid!, 'SIGKILL')
      } catch {} // gone already
    }
    const timer = setTimeout(
      () => kill(unusable(program, server, `it did not answer within ${timeoutMs / 1000} s`)),
      timeoutMs,
    )
    const onAbort = () => kill(signal?.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    const over = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
    }
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text
      if (output.length > MAX_OUTPUT_BYTES) kill(unusable(program, server, 'it does not stop talking'))
    })
    child.stdin.on('error', () => {}) // a helper that does not read its question
    child.stdin.end(`${server}\n`)
    child.on('error', (error: NodeJS.ErrnoException) => {
      over()
      const why = error.code === 'ENOENT' ? 'it is not in PATH' : error.message
      reject(
        unusable(program, server, why, 'install it, or remove it from credHelpers and credsStore of the configuration'),
      )
    })
    child.on('close', (code, killer) => {
      over()
      if (failure !== undefined) reject(failure)
      else resolve({ code: code ?? killer ?? 'unknown', output })
    })
  })
}

function unusable(program: string, server: string, why: string, hint?: string): MayflyError {
  return new MayflyError('CREDENTIALS_INVALID', `Cannot ask ${program} for the credentials of ${server}: ${why}`, {
    field: program,
    ...(hint ? { hint } : {}),
  })
}
