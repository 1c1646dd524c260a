/** Docker: a daemon of our own in a sandbox, its client as users call it. */

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { missingDocker, startDockerd } from '../../support/dockerd.ts'
import { memoryOf, processesBeside } from '../memory.ts'
import { stopwatch } from '../stepper.ts'
import type { World } from '../world.ts'
import { dockerNetworks } from './docker-networks.ts'
import type { Rival } from './rival.ts'
import { openTestcontainers, type Testcontainers } from './testcontainers.ts'

const execute = promisify(execFile)
const PORT = 8080

function socketOf(client: readonly string[]): string {
  const prefix = '--host=unix://'
  return client.find((word) => word.startsWith(prefix))!.slice(prefix.length)
}

/** Resolves to what to install where it is missing. */
export async function openDocker(world: World): Promise<Rival | string> {
  const missing = missingDocker()
  if (missing) return missing
  const daemon = await startDockerd()
  await daemon.docker('import', world.tar, 'bench')
  await daemon.docker('run', '--detach', '--name', 'idle', 'bench', '/bin/peer', 'wait')
  const run = stopwatch('docker', world.peer, [...daemon.client, 'run', '--rm', 'bench', '/bin/true'])
  const exec = stopwatch('docker', world.peer, [...daemon.client, 'exec', 'idle', '/bin/true'])
  let testcontainers: Promise<Testcontainers> | undefined
  return {
    name: 'docker',
    description: `Docker ${daemon.description}`,
    run,
    exec,
    async serve() {
      const publish = `${PORT}:${PORT}`
      await daemon.docker(
        'run',
        '--detach',
        '--name',
        'server',
        '-p',
        publish,
        'bench',
        '/bin/peer',
        'serve',
        String(PORT),
      )
      const own = await daemon.docker('inspect', '--format', '{{.NetworkSettings.IPAddress}}', 'server')
      const enter = daemon.enterNetwork
      return { published: { address: '127.0.0.1', port: PORT, enter }, own: { address: own, port: PORT, enter } }
    },
    networks: () => dockerNetworks(socketOf(daemon.client), (...words) => daemon.docker(...words)),
    memory: () => memoryOf(processesBeside(daemon.pid), (name) => /^(dockerd|containerd|docker-proxy|runc)/.test(name)),
    enterNetwork: daemon.enterNetwork,
    async pull(reference) {
      await daemon.docker('pull', '--quiet', reference)
    },
    async removeImage(reference) {
      await daemon.docker('rmi', reference)
    },
    async importImage(tar, name) {
      await daemon.docker('import', tar, name)
    },
    async build(directory, { noCache = false } = {}) {
      const [program = '', ...words] = [...daemon.client, 'build', '--quiet', ...(noCache ? ['--no-cache'] : [])]
      await execute(program, [...words, directory], { env: { ...process.env, DOCKER_BUILDKIT: '1' } })
    },
    async startIdle(count) {
      for (let i = 0; i < count; i++) await daemon.docker('run', '--detach', 'bench', '/bin/peer', 'wait')
    },
    testcontainers() {
      testcontainers ??= openTestcontainers(world, daemon)
      return testcontainers
    },
    async [Symbol.asyncDispose]() {
      await run[Symbol.asyncDispose]()
      await exec[Symbol.asyncDispose]()
      await daemon[Symbol.asyncDispose]()
    },
  }
}
