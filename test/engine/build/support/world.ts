/** A builder with a store of its own and `base` in it, an image with busybox. */

import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { receiveArchive } from '../../../../src/engine/archive.js'
import { build } from '../../../../src/engine/build/build.js'
import type { BuildContext } from '../../../../src/engine/build/context.js'
import type { BuildEvent } from '../../../../src/engine/build/events.js'
import type { BuildOptions, BuildResult } from '../../../../src/engine/build/options.js'
import { readHost } from '../../../../src/engine/launch/host.js'
import { Session } from '../../../../src/engine/session.js'
import { Store } from '../../../../src/engine/store/store.js'
import { listTree } from '../../../../src/engine/tree.js'
import { wardenProgram } from '../../../../src/engine/where.js'
import { Workspace } from '../../../../src/engine/workspace.js'
import { putBaseImage } from '../../../support/base-image.js'
import { makeRootfs } from '../../../support/rootfs.js'
import { temporaryDirectory } from '../../../support/temporary.js'

export interface BuildWorld extends AsyncDisposable {
  readonly context: BuildContext
  readonly directory: string
  readonly home: string
  /** A new directory below the world's. */
  fresh(): string
  build(
    options: BuildOptions,
  ): Promise<BuildResult & { readonly events: readonly BuildEvent[]; readonly output: string }>
  /** `mode uid:gid type path [link]` of everything but busybox's own files. */
  files(result: BuildResult, path?: string): Promise<Record<string, string>>
  /** Content of a file of an image. */
  read(result: BuildResult, path: string): Promise<string>
  [Symbol.asyncDispose](): Promise<void>
}

/** @param directory of another world, whose store is used: it is that one's to remove */
export async function openWorld(directory?: string): Promise<BuildWorld> {
  const own = directory === undefined
  const root = directory ?? temporaryDirectory('build')
  const home = join(root, 'home')
  await new Store(home).prepare()
  const session = await Session.open({ home, program: wardenProgram(), network: false })
  const store = new Store(home, session)
  session.listen({ exited() {}, listening() {}, warned() {}, failed() {} })
  const context: BuildContext = {
    session,
    store,
    facts: {
      ...readHost(),
      network: () => {
        throw new Error('there is no network here')
      },
      volumes: join(home, 'volumes'),
      rootless: session.facts.rootless,
      cgroups: session.facts.cgroups.mode,
      container: () => {
        throw new Error('no containers here')
      },
    },
    pull: async (reference) => {
      throw new Error(`${reference} is not here, and there is no registry`)
    },
  }
  if (own) {
    makeRootfs(join(root, 'rootfs'))
    await putBaseImage(context, join(root, 'rootfs'), 'base')
  }
  let count = 0
  const look = async <T>(result: BuildResult, work: (workspace: Workspace) => Promise<T>): Promise<T> => {
    const layers = result.image.layers.map(({ tree }) => tree).reverse()
    const workspace = await Workspace.open(session, layers.length > 0 ? layers : [join(home, 'cache/empty')])
    try {
      return await work(workspace)
    } finally {
      await workspace.remove()
    }
  }
  return {
    context,
    directory: root,
    home,
    fresh: () => {
      const path = join(root, `context-${process.pid}-${++count}`)
      mkdirSync(path)
      return path
    },
    build: async (options) => {
      const events: BuildEvent[] = []
      const result = await build(context, {
        ...options,
        onEvent: (event) => {
          events.push(event)
          options.onEvent?.(event)
        },
      })
      const output = Buffer.concat(
        events.flatMap((event) => (event.type === 'output' ? [Buffer.from(event.data)] : [])),
      )
      return { ...result, events, output: output.toString() }
    },
    files: (result, path = '/') =>
      look(result, async (workspace) => {
        const files: Record<string, string> = {}
        for await (const entry of listTree(session, { container: workspace.id }, path)) {
          if (entry.path === '') continue
          const link = entry.link === '' ? '' : ` ${entry.link}`
          files[entry.path] = `${entry.type} ${entry.mode.toString(8)} ${entry.uid}:${entry.gid}${link}`
        }
        return files
      }),
    read: (result, path) =>
      look(result, async (workspace) => {
        const pieces: Uint8Array[] = []
        const words = ['id', workspace.id, 'path', path]
        for await (const piece of receiveArchive(session, words, { verb: 'read', container: path })) pieces.push(piece)
        const archive = Buffer.concat(pieces)
        for (let offset = 0; offset + 512 <= archive.length; ) {
          const size = Number.parseInt(archive.toString('latin1', offset + 124, offset + 136), 8) || 0
          const type = archive[offset + 156]
          offset += 512
          if (type === 0x30 || type === 0) return archive.toString('utf8', offset, offset + size)
          offset += Math.ceil(size / 512) * 512
        }
        throw new Error(`${path} is no file`)
      }),
    [Symbol.asyncDispose]: async () => {
      await session.close()
      if (own) rmSync(root, { recursive: true, force: true })
    },
  }
}
