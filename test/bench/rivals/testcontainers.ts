/**
 * testcontainers-node as its users have it: from npm, in a process of its own, with a Docker daemon. Ryuk, its container that
 * cleans up, is left out: its image would have to be pulled. That is to its advantage.
 */

import { execFile } from 'node:child_process'
import { createWriteStream, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import type { Engine } from '../../../src/engine/engine.ts'
import type { Dockerd } from '../../support/dockerd.ts'
import type { Contender } from '../measure.ts'
import { processesBelow, processesBeside } from '../memory.ts'
import { APPLICATION } from '../services.ts'
import { Stepper } from '../stepper.ts'
import { BENCH, type World } from '../world.ts'

const execute = promisify(execFile)

export interface Testcontainers {
  /** Versions, and what is not as usual. */
  readonly description: string
  /** Has its packages in node_modules. */
  readonly directory: string
  readonly env: NodeJS.ProcessEnv
  /** Words that, put before a command, let it reach the daemon's published ports. */
  readonly enter: readonly string[]
  /** Puts images of our store into Docker's. */
  load(engine: Engine, references: readonly string[]): Promise<void>
  /** Does `postgres`, `redis` (start and first answer), `restore` (of a snapshot) or `application` (with both) again and again. */
  open(images: { readonly postgres: string; readonly redis: string }): Driver
  /** Processes of the daemon and of all its containers. */
  processes(): number[]
}

export interface Driver extends AsyncDisposable {
  contender(order: 'postgres' | 'redis' | 'restore' | 'application'): Contender
}

/** The newest that this node can run. */
function wantedVersion(): string {
  const [major, minor] = process.versions.node.split('.').map(Number) as [number, number]
  return major > 22 || (major === 22 && minor >= 22) ? '^12' : '^11'
}

/** Installs it. Takes the time of an `npm install`. */
export async function openTestcontainers(world: World, daemon: Dockerd): Promise<Testcontainers> {
  const directory = join(world.directory, 'testcontainers')
  mkdirSync(directory)
  const version = wantedVersion()
  const dependencies = {
    testcontainers: version,
    '@testcontainers/postgresql': version,
    '@testcontainers/redis': version,
    ...world.clients,
  }
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ private: true, type: 'module', dependencies }))
  console.error('docker: installing testcontainers-node')
  await execute('npm', ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund'], {
    cwd: directory,
  })
  const driver = join(directory, 'driver.mjs')
  writeFileSync(driver, readFileSync(join(BENCH, 'rivals/testcontainers-driver.mjs')))
  const installed = JSON.parse(readFileSync(join(directory, 'node_modules/testcontainers/package.json'), 'utf8'))
  const socket = `unix://${daemon.directory}/docker.sock`
  const env = { ...process.env, DOCKER_HOST: socket, TESTCONTAINERS_RYUK_DISABLED: 'true' }
  return {
    description: `testcontainers-node ${installed.version} without Ryuk`,
    directory,
    env,
    enter: daemon.enterNetwork,
    async load(engine, references) {
      const archive = join(directory, 'images.tar')
      await pipeline(engine.images.save([...references]), createWriteStream(archive))
      await daemon.docker('load', '--input', archive)
      rmSync(archive)
    },
    open({ postgres, redis }) {
      const stepper = new Stepper([...daemon.enterNetwork, process.execPath, driver, postgres, redis, APPLICATION], env)
      return {
        contender: (order) => ({
          name: 'testcontainers',
          round: async () => Number(await stepper.step(`${order}\n`)),
        }),
        [Symbol.asyncDispose]: () => stepper[Symbol.asyncDispose](),
      }
    },
    processes: () => [...new Set(processesBeside(daemon.pid).flatMap(processesBelow))],
  }
}
