/** A store of its own with a warden, small layers, and images made of them. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { RegistryContext } from '../../../src/engine/registry/pull.js'
import { Session } from '../../../src/engine/session.js'
import { Store } from '../../../src/engine/store/store.js'
import { wardenProgram } from '../../../src/engine/where.js'
import { temporaryDirectory } from '../../support/temporary.js'

export interface Place extends AsyncDisposable {
  readonly context: RegistryContext & { readonly store: Store }
  readonly session: Session
  readonly store: Store
  readonly directory: string
  /** Another session with the same store, as another process would have. */
  another(): Promise<RegistryContext & AsyncDisposable>
}

/** Why there can be none here; '' when there can. */
export function obstacle(): string {
  try {
    wardenProgram()
    return process.getuid?.() === 0 ? '' : 'needs root'
  } catch (error) {
    return (error as Error).message
  }
}

export async function openPlace(home?: string): Promise<Place> {
  const directory = temporaryDirectory()
  const where = home ?? join(directory, 'home')
  const open = async () => {
    await new Store(where).prepare()
    const session = await Session.open({ home: where, program: wardenProgram(), network: false })
    return { session, store: new Store(where, session) }
  }
  const context = await open()
  return {
    context,
    ...context,
    directory,
    async another() {
      const other = await open()
      return { ...other, [Symbol.asyncDispose]: () => other.session.close() }
    },
    async [Symbol.asyncDispose]() {
      await context.session.close()
      rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
    },
  }
}

/** A tar of these files, as GNU tar makes it. */
export function makeTar(files: Readonly<Record<string, string | Buffer>>): Buffer {
  const directory = temporaryDirectory('tar')
  try {
    for (const [path, contents] of Object.entries(files)) {
      mkdirSync(join(directory, 'tree', path, '..'), { recursive: true })
      writeFileSync(join(directory, 'tree', path), contents)
    }
    const words = ['--sort=name', '--owner=0', '--group=0', '--mtime=@1000000000', '-C', join(directory, 'tree')]
    execFileSync('tar', ['-cf', join(directory, 'tar'), ...words, '.'])
    return readFileSync(join(directory, 'tar'))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** Files below a store that no finished pull may leave: what is in sessions' directories. */
export function leftovers(home: string): string[] {
  return execFileSync('find', [join(home, 'sessions'), '-path', '*/store/*'], { encoding: 'utf8' })
    .split('\n')
    .filter(Boolean)
}
