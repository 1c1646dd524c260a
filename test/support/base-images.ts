/**
 * A real base image for tests, made once on this machine from the distribution's package mirror: `debian:bookworm-slim` as a docker-archive,
 * kept in the temporary directory of the system for a month.
 */

import { createWriteStream, existsSync } from 'node:fs'
import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Engine } from '../../src/engine/engine.js'
import { obstacle } from '../engine/support/world.js'
import { withFileLock } from './file-lock.js'
import { temporaryDirectory } from './temporary.js'

export const DEBIAN = 'debian:bookworm-slim'
/** How long making it may take: for timeouts of tests and hooks. */
export const BASE_IMAGE_TIMEOUT_MS = 300_000

const DIRECTORY = join(tmpdir(), `mayfly-base-images-${process.getuid?.() ?? 0}`)
const KEPT_MS = 30 * 24 * 3600 * 1000

/** What keeps the image from being made here, or undefined. */
export function missingBootstrap(): string | undefined {
  const found = (process.env.PATH ?? '').split(delimiter).some((directory) => existsSync(join(directory, 'mmdebstrap')))
  return found ? obstacle() || undefined : 'apt-get install mmdebstrap'
}

/** Path of a docker-archive with `debian:bookworm-slim` in it. Made by the first who asks, in about half a minute; others wait. */
export async function debianImageTar(): Promise<string> {
  await mkdir(DIRECTORY, { recursive: true, mode: 0o755 })
  const path = join(DIRECTORY, `bookworm-slim-${process.arch}.tar`)
  if (await isFresh(path)) return path
  await withFileLock(`${path}.lock`, BASE_IMAGE_TIMEOUT_MS, async () => {
    if (!(await isFresh(path))) await make(path)
  })
  return path
}

/** Puts `debian:bookworm-slim` into the engine's store. */
export async function loadDebian(engine: Engine): Promise<void> {
  const { createReadStream } = await import('node:fs')
  await engine.images.load(createReadStream(await debianImageTar()))
}

async function isFresh(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  return found !== undefined && Date.now() - found.mtimeMs < KEPT_MS
}

async function make(path: string): Promise<void> {
  const directory = temporaryDirectory()
  const temporary = `${path}.${process.pid}`
  try {
    await using engine = await Engine.open({ home: join(directory, 'home'), network: false })
    await engine.images.bootstrap(DEBIAN)
    await pipeline(engine.images.save(DEBIAN), createWriteStream(temporary))
    await rename(temporary, path)
  } finally {
    await rm(temporary, { force: true })
    await rm(directory, { recursive: true, force: true })
  }
}
