/**
 * Names of images that are given for as long as a session lasts: `temporary/<session>` has a line for each, with the image's id. A session
 * that ends in order takes its names away itself. Where its process just ended, or was killed, whoever looks at the store's images next does.
 */

import { access, appendFile, mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { StoreDisk } from './disk.js'

/** Takes a name away if it still means that image. */
type Forget = (reference: string, id: string) => Promise<void>

export class TemporaryNames {
  readonly #disk: StoreDisk
  readonly #forget: Forget
  #made: Promise<unknown> | undefined

  constructor(disk: StoreDisk, forget: Forget) {
    this.#disk = disk
    this.#forget = forget
  }

  /** The name goes when this session has ended. */
  async add(reference: string, id: string): Promise<void> {
    this.#made ??= mkdir(this.#directory, { recursive: true, mode: 0o700 })
    await this.#made
    // One short write to the end of the file: lines of one process do not mix.
    await appendFile(join(this.#directory, this.#own), `${id} ${reference}\n`, { mode: 0o600 })
  }

  /** Takes away the names of this session. */
  async forgetOwn(): Promise<void> {
    if (this.#made) await this.#forgetAll((session) => session === this.#own)
  }

  /** Takes away the names of sessions that are no more. Costs one look into a directory when there is none. */
  forgetEnded(): Promise<void> {
    return this.#forgetAll(async (session) => session !== this.#own && !(await this.#lives(session)))
  }

  async #forgetAll(isEnding: (session: string) => boolean | Promise<boolean>): Promise<void> {
    const sessions = await readdir(this.#directory).catch(() => [])
    const ending = new Map<string, readonly string[]>()
    const needed = new Set<string>()
    for (const session of sessions) {
      const lines = await this.#linesOf(session)
      if (await isEnding(session)) ending.set(session, lines)
      else for (const line of lines) needed.add(line)
    }
    for (const [session, lines] of ending) {
      for (const line of lines) {
        const [id, reference] = line.split(' ') as [string, string | undefined]
        // A line that a full disk has cut is no name; what another session has called the same stays for that one.
        if (reference && !needed.has(line)) await this.#forget(reference, id)
      }
      await rm(join(this.#directory, session), { force: true })
    }
  }

  async #linesOf(session: string): Promise<string[]> {
    const text = await readFile(join(this.#directory, session), 'utf8').catch(() => '')
    return text.split('\n').filter(Boolean)
  }

  #lives(session: string): Promise<boolean> {
    return access(join(this.#disk.home, 'sessions', session)).then(
      () => true,
      () => false,
    )
  }

  get #directory(): string {
    return join(this.#disk.home, 'temporary')
  }

  get #own(): string {
    return basename(this.#disk.session.facts.session)
  }
}
