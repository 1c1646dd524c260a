/** Podman as root with its default bridge network, in a sandbox: its store, network and state are the benchmark's own. */

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { promisify } from 'node:util'
import { openSandbox } from '../../support/sandbox.ts'
import { stopwatch } from '../stepper.ts'
import type { World } from '../world.ts'
import type { Rival } from './rival.ts'

const execute = promisify(execFile)

/** Resolves to what to install where it is missing. */
export async function openPodman(world: World): Promise<Rival | string> {
  if (!existsSync('/usr/bin/podman'))
    return 'apt-get install --no-install-recommends podman containernetworking-plugins'
  const sandbox = await openSandbox('podman')
  const { directory, enter } = sandbox
  const podman = ['podman', `--root=${directory}/root`, `--runroot=${directory}/run`, `--tmpdir=${directory}/tmp`]
  podman.push('--cgroup-manager=cgroupfs', '--events-backend=none')
  // The default, crun, refuses to run on a hybrid hierarchy.
  if (existsSync('/usr/sbin/runc')) podman.push('--runtime=/usr/sbin/runc')
  const command = async (...words: string[]) => {
    const { stdout } = await execute(enter[0]!, [...enter.slice(1), ...podman, ...words])
    return stdout.trim()
  }
  await command('import', world.tar, 'bench')
  await command('run', '--detach', '--name', 'idle', 'bench', '/bin/peer', 'wait')
  const format = '{{.Version.Version}}, {{.Store.GraphDriverName}}, {{.Host.NetworkBackend}}, {{.Host.OCIRuntime.Name}}'
  const run = stopwatch('podman', world.peer, [...podman, 'run', '--rm', 'bench', '/bin/true'], enter)
  const exec = stopwatch('podman', world.peer, [...podman, 'exec', 'idle', '/bin/true'], enter)
  return {
    name: 'podman',
    description: `Podman ${(await command('info', '--format', format)).replace(/\/\S*\//, '')}`,
    run,
    exec,
    enterNetwork: ['nsenter', `--net=/proc/${sandbox.pid}/ns/net`],
    async pull(reference) {
      await command('pull', '--quiet', '--tls-verify=false', reference)
    },
    async removeImage(reference) {
      await command('rmi', reference)
    },
    async importImage(tar, name) {
      await command('import', tar, name)
    },
    async build(directory, { noCache = false } = {}) {
      await command('build', '--quiet', '--layers', ...(noCache ? ['--no-cache'] : []), directory)
    },
    async [Symbol.asyncDispose]() {
      await run[Symbol.asyncDispose]()
      await exec[Symbol.asyncDispose]()
      sandbox[Symbol.dispose]()
    },
  }
}
