/**
 * A real Docker daemon in a sandbox of its own: its bridge, firewall rules, sysctls, mounts and control groups are the
 * sandbox's, and gone with it. Needs root and the distribution's Docker (`apt-get install docker.io`).
 */

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { openSandbox } from './sandbox.ts'

const run = promisify(execFile)

export interface Dockerd {
  /** Process id of the sandbox's init: `/proc/<pid>/ns/net` is the daemon's network namespace. */
  readonly pid: number
  /** Directory that the daemon and the host see under the same path. */
  readonly directory: string
  /** The client's program and first arguments: `execFile(client[0], [...client.slice(1), 'ps'])`. */
  readonly client: readonly string[]
  /** Words that, put before a command, run it in the daemon's namespaces. */
  readonly enter: readonly string[]
  /** Words that, put before a command, run it in the daemon's network namespace alone. */
  readonly enterNetwork: readonly string[]
  /** Such as `20.10.24, overlay2`. */
  readonly description: string
  /** Runs the client and resolves to its stdout, trimmed. */
  docker(...args: string[]): Promise<string>
  /** Ends the daemon and all it has started. */
  [Symbol.asyncDispose](): Promise<void>
}

/** What to install where there is no Docker daemon, or undefined. */
export function missingDocker(): string | undefined {
  return dockerd() && client() ? undefined : 'apt-get install --no-install-recommends docker.io iptables'
}

const first = (paths: string[]): string | undefined => paths.find((path) => existsSync(path))
const dockerd = () => first(['/usr/sbin/dockerd', '/usr/bin/dockerd', '/usr/local/bin/dockerd'])
const client = () => first(['/usr/bin/docker', '/usr/local/bin/docker'])

/** Starts a daemon and waits until it answers. Throws with its last output when it does not. */
export async function startDockerd(): Promise<Dockerd> {
  const program = dockerd()
  if (!program) throw new Error(`There is no dockerd: ${missingDocker()}`)
  const sandbox = await openSandbox('dockerd')
  const { directory, enter } = sandbox
  const socket = join(directory, 'docker.sock')
  const args = [`--host=unix://${socket}`, `--data-root=${directory}/data`, `--exec-root=${directory}/exec`]
  // An OOM score below zero needs CAP_SYS_RESOURCE, which some machines withhold.
  args.push(`--pidfile=${directory}/docker.pid`, '--storage-driver=overlay2', '--oom-score-adjust=0')
  let output = ''
  const daemon = spawn(enter[0]!, [...enter.slice(1), program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  for (const stream of [daemon.stdout, daemon.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-8192)
    })
  }
  const command = [client()!, `--host=unix://${socket}`]
  const docker = async (...words: string[]) => {
    const { stdout } = await run(command[0]!, [command[1]!, ...words], { maxBuffer: 1 << 26 })
    return stdout.trim()
  }
  const close = async () => {
    // The daemon's SIGTERM stops containers one by one; killing the sandbox's init takes all at once.
    sandbox[Symbol.dispose]()
    if (daemon.exitCode === null && daemon.signalCode === null) await once(daemon, 'exit')
  }
  for (const deadline = Date.now() + 30_000; ; ) {
    try {
      const description = await docker('info', '--format', '{{.ServerVersion}}, {{.Driver}}')
      const enterNetwork = ['nsenter', `--net=/proc/${sandbox.pid}/ns/net`]
      return {
        pid: sandbox.pid,
        directory,
        client: command,
        enter,
        enterNetwork,
        description,
        docker,
        [Symbol.asyncDispose]: close,
      }
    } catch (error) {
      if (daemon.exitCode !== null || Date.now() > deadline) {
        await close()
        throw new Error(`dockerd does not answer:\n${output}`, { cause: error })
      }
      await sleep(100)
    }
  }
}
