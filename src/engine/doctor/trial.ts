/** The proof: an engine is opened and a container run, by the same calls that a test makes. */
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Engine, type EngineInfo } from '../engine.js'

export interface Trial {
  /** What the engine found, once it was open. */
  readonly info?: EngineInfo
  /** From the call to its return, when it ran. */
  readonly durationMs?: number
  /** It ran, but only without a network, for this reason. */
  readonly networkError?: string
  /** Why it did not run. */
  readonly error?: string
  /** Why it did not run without a network either. */
  readonly errorWithoutNetwork?: string
}

/**
 * Runs a container whose whole root file system is the native program.
 *
 * @param scratch a directory on the store's file system, which the caller removes
 */
export async function tryContainer(program: string, scratch: string): Promise<Trial> {
  const directory = join(scratch, 'rootfs')
  await mkdir(directory)
  await copyFile(program, join(directory, 'mayfly-warden'))
  const withNetwork = await attempt(join(scratch, 'home'), directory, true)
  if (withNetwork.error === undefined) return withNetwork
  const without = await attempt(join(scratch, 'home'), directory, false)
  if (without.error !== undefined) return { ...withNetwork, errorWithoutNetwork: without.error }
  return { ...without, networkError: withNetwork.error }
}

async function attempt(home: string, directory: string, network: boolean): Promise<Trial> {
  let info: EngineInfo | undefined
  try {
    await using engine = await Engine.open({ home, network })
    info = engine.info
    const begin = performance.now()
    const { exitCode, stderr } = await engine.run({
      rootfs: { directory },
      command: ['/mayfly-warden', '--version'],
      network: network ? 'bridge' : 'none',
    })
    const durationMs = performance.now() - begin
    if (exitCode === 0) return { info, durationMs }
    return { info, error: `the program ended with code ${exitCode} ${stderr}`.trim() }
  } catch (error) {
    return { ...(info ? { info } : {}), error: (error as Error).message }
  }
}
