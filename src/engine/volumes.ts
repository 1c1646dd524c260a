/**
 * Named volumes: directories of the store that outlive containers, shared by all engines of a user.
 *
 *     volumes/<name>/data           what containers see
 *     volumes/<name>/volume.json    who made it, and when
 *     volumes/<name>/filling        guards the copy of what an image has in its place (native/volume.c)
 *
 * A container holds a lock on the directory from its creation to its removal, in whatever process, so a volume in use is found so by the kernel.
 */

import { existsSync } from 'node:fs'
import { chmod, mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MayflyError } from './errors.js'
import { newId } from './ids.js'
import { volumeName } from './launch/attachment.js'
import { defaulted, optional, record, refuse, shape, string } from './launch/check.js'
import type { Session } from './session.js'
import { namesIn, readSmallFile, writeError } from './store/disk.js'
import { reap } from './store/layer-archive.js'
import type { Store } from './store/store.js'

/** A volume to be made. */
export interface VolumeOptions {
  /** As Docker's: letters, digits and `_.-`. @default 64 hexadecimal digits */
  readonly name?: string
  /** Only `local`. @default 'local' */
  readonly driver?: string
  readonly labels?: Readonly<Record<string, string>>
}

/** A volume: it stays when the engine ends, until it is removed. */
export interface Volume {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  /** Its directory on this machine. Where ids are mapped (rootless), owners in there are as this machine sees them. */
  readonly path: string
  readonly createdAt: Date
  /** Its name was made up: `prune` removes it once no container uses it. */
  readonly isAnonymous: boolean
  /** Removes it with all that is in it. May be called twice. Throws VOLUME_IN_USE. */
  remove(): Promise<void>
}

/** Which unused volumes are removed. */
export interface VolumePruneOptions {
  /** Those with a name of their own, too. @default false */
  readonly all?: boolean
  /** Only tells which would go: those in use, too. @default false */
  readonly dryRun?: boolean
}

const optionsShape = shape({
  name: optional(volumeName),
  driver: optional((value, field) =>
    string(value, field) === 'local'
      ? 'local'
      : refuse(field, value, "the only driver here is 'local'", undefined, 'NOT_SUPPORTED'),
  ),
  labels: defaulted(record(string, string), Object.freeze({})),
})

/** Where the volumes of a store lie. */
export function volumesDirectory(home: string): string {
  return join(home, 'volumes')
}

/**
 * The volumes of a store, as `engine.volumes`.
 *
 * @example
 * const volume = await engine.volumes.create({ name: 'cache' })
 * await engine.run({ image: 'alpine', command: ['touch', '/cache/a'], mounts: [{ type: 'volume', source: 'cache', target: '/cache' }] })
 * await volume.remove()
 */
export class Volumes {
  readonly #session: Session
  readonly #store: Store
  readonly #directory: string

  /** @internal */
  constructor(session: Session, store: Store) {
    this.#session = session
    this.#store = store
    this.#directory = volumesDirectory(store.home)
  }

  /** Makes a volume. One that is there under that name is returned as it is, as Docker does. Throws INVALID_OPTION, and NOT_SUPPORTED for other drivers. */
  async create(options: VolumeOptions = {}, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Volume> {
    signal?.throwIfAborted()
    const { name, labels } = optionsShape(options, 'volume')
    return this.#ensure(name ?? newId(), labels, name === undefined)
  }

  /** As `create`, but throws NAME_TAKEN where one is there under that name. @internal */
  async createNew(options: VolumeOptions, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Volume> {
    signal?.throwIfAborted()
    const { name = newId(), labels } = optionsShape(options, 'volume')
    const made = await this.#make(name, labels, options.name === undefined)
    if (made) return made
    throw new MayflyError('NAME_TAKEN', `The name "${name}" is taken by another volume`, {
      field: 'volume.name',
      value: name,
      hint: 'to use that one as it is, mount it by its name',
    })
  }

  /** All of the store, by name. */
  async list(): Promise<Volume[]> {
    const names = await namesIn(this.#directory)
    return names.sort().flatMap((name) => this.#read(name) ?? [])
  }

  /** Throws NO_SUCH_VOLUME. */
  async get(name: string): Promise<Volume> {
    const volume = this.#read(volumeName(name, 'name'))
    if (volume) return volume
    throw noSuchVolume(name)
  }

  /** Removes a volume with all that is in it. Throws NO_SUCH_VOLUME, and VOLUME_IN_USE while a container has it. */
  async remove(name: string): Promise<void> {
    await (await this.get(name)).remove()
  }

  /** Removes the volumes that no container uses, in whatever process. Resolves to their names. */
  async prune({ all = false, dryRun = false }: VolumePruneOptions = {}): Promise<string[]> {
    const removed: string[] = []
    for (const volume of await this.list()) {
      if (!all && !volume.isAnonymous) continue
      if (dryRun || (await this.#tryRemove(volume.name))) removed.push(volume.name)
    }
    return removed
  }

  /**
   * Makes those that are missing, with the labels beside their names. Nothing to wait for where all are there: most
   * often, and a promise and a thread of node's take longer than the look.
   *
   * @internal
   */
  ensure(wanted: ReadonlyMap<string, Readonly<Record<string, string>>>): Promise<void> | undefined {
    const missing = [...wanted].filter(([name]) => !existsSync(join(this.#directory, name, 'volume.json')))
    if (missing.length === 0) return undefined
    return Promise.all(missing.map(([name, labels]) => this.#ensure(name, labels, false))).then(() => {})
  }

  async #ensure(name: string, labels: Readonly<Record<string, string>>, isAnonymous: boolean): Promise<Volume> {
    const known = this.#read(name) ?? (await this.#make(name, labels, isAnonymous)) ?? this.#read(name)
    if (known) return known
    // Somebody else made it at the same time, and removed it again.
    return this.#volume({ name, labels, createdAt: new Date().toISOString(), isAnonymous })
  }

  /** Undefined: there is one under that name. */
  async #make(
    name: string,
    labels: Readonly<Record<string, string>>,
    isAnonymous: boolean,
  ): Promise<Volume | undefined> {
    const facts = { name, labels, createdAt: new Date().toISOString(), isAnonymous }
    const temporary = await this.#store.temporary()
    const directory = join(this.#directory, name)
    try {
      await mkdir(join(temporary, 'data'), { recursive: true })
      await chmod(join(temporary, 'data'), 0o755) // whatever the umask
      await writeFile(join(temporary, 'volume.json'), `${JSON.stringify(facts)}\n`)
      await mkdir(this.#directory, { recursive: true, mode: 0o700 })
      await rename(temporary, directory)
    } catch (error) {
      await this.#store.discard(temporary)
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw writeError(error, directory)
      return undefined
    }
    return this.#volume(facts)
  }

  #read(name: string): Volume | undefined {
    const path = join(this.#directory, name, 'volume.json')
    const text = readSmallFile(path)
    if (text === undefined) return undefined
    try {
      return this.#volume({ ...(JSON.parse(text) as VolumeFacts), name })
    } catch (error) {
      const message = `Volume "${name}" cannot be read: ${(error as Error).message}`
      throw new MayflyError('STORE_DAMAGED', message, { path }, { cause: error })
    }
  }

  #volume({ name, labels, createdAt, isAnonymous }: VolumeFacts): Volume {
    return Object.freeze({
      name,
      labels: Object.freeze({ ...labels }),
      path: join(this.#directory, name, 'data'),
      createdAt: new Date(createdAt),
      isAnonymous,
      remove: async () => {
        if (await this.#tryRemove(name)) return
        const message = `Cannot remove volume "${name}": a container uses it`
        throw new MayflyError('VOLUME_IN_USE', message, { value: name, hint: 'remove the container first' })
      },
    })
  }

  /** False while a container has it. */
  async #tryRemove(name: string): Promise<boolean> {
    try {
      return (await reap(this.#session, join(this.#directory, name))) === 'reaped'
    } catch (error) {
      if (error instanceof MayflyError && error.errno === 'ENOENT') return true
      throw error
    }
  }
}

interface VolumeFacts {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly createdAt: string
  readonly isAnonymous: boolean
}

function noSuchVolume(name: string): MayflyError {
  return new MayflyError('NO_SUCH_VOLUME', `There is no volume "${name}"`, { value: name })
}
