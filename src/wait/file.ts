/** Waiting for a file in the container. It is read from outside, so the image needs no tools. */

import { readContainerFile } from '../container-file.js'
import { MayflyError } from '../engine/errors.js'
import { firstEntry } from '../tar.js'
import { retryUntil } from './retry.js'
import { AbstractWaitStrategy, type WaitControl, type WaitTarget } from './strategy.js'

/** See `Wait.forFile`. */
export class FileWaitStrategy extends AbstractWaitStrategy {
  protected readonly path: string
  protected readonly content: string | RegExp | undefined
  protected override readonly what: string
  protected last = 'it does not exist'

  constructor(path: string, content?: string | RegExp) {
    super()
    if (typeof path !== 'string' || !path.startsWith('/')) {
      throw new MayflyError('INVALID_OPTION', `path: expected an absolute path in the container, got ${String(path)}`, {
        field: 'path',
        value: path,
      })
    }
    this.path = path
    this.content = content
    this.what = `the file ${path}${content === undefined ? '' : ` with ${String(content)} in it`}`
  }

  protected override async check({ container }: WaitTarget, { signal }: WaitControl): Promise<void> {
    const { path, content } = this
    await retryUntil(async () => {
      try {
        if (content === undefined) {
          await firstEntry(container.copyOut(path, { signal }), 0)
          return true
        }
        const bytes = await readContainerFile(container, path, signal)
        this.last = 'its contents do not match'
        const text = Buffer.from(bytes).toString()
        return typeof content === 'string'
          ? text.includes(content)
          : new RegExp(content.source, content.flags).test(text)
      } catch (error) {
        if (error instanceof MayflyError && error.code === 'PATH_NOT_FOUND') return false
        throw error
      }
    }, signal)
  }

  protected override hint(): string {
    return this.last
  }
}
