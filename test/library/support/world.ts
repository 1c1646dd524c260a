/** A backend of its own for a test file: an engine with a temporary store, and an image of busybox in it. */

import { spawn } from 'node:child_process'
import { afterAll, beforeAll } from 'vitest'
import type { Backend } from '../../../src/backends/backend.js'
import { useBackend } from '../../../src/backends/current.js'
import { EmbeddedBackend } from '../../../src/backends/embedded.js'
import { Engine } from '../../../src/engine/engine.js'
import { makeWorld, type World } from '../../engine/support/world.js'

export { obstacle } from '../../engine/support/world.js'

/** Image of the tests: busybox, users as in the world, `sh` as command. */
export const IMAGE = 'busybox:test'

export interface LibraryWorld {
  readonly world: World
  readonly engine: Engine
  readonly backend: Backend
}

/** Opens it before the tests of the file or suite, and closes it after them. */
export function libraryWorld(): LibraryWorld {
  const opened = {} as { world: World; engine: Engine; backend: Backend }
  beforeAll(async () => {
    opened.world = makeWorld()
    opened.engine = await Engine.open({ home: opened.world.home })
    opened.backend = new EmbeddedBackend(opened.engine)
    useBackend(opened.backend)
    const tar = spawn('tar', ['-C', opened.world.rootfs, '-cf', '-', '.'], { stdio: ['ignore', 'pipe', 'inherit'] })
    await opened.engine.images.import(tar.stdout, { reference: IMAGE, changes: ['CMD ["sh"]'] })
  })
  afterAll(async () => {
    useBackend(undefined)
    await opened.backend?.close()
    opened.world?.remove()
  })
  return opened
}
