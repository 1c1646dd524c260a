/** A context from the API: files under their paths, laid out in a directory of ours. */

import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join, posix } from 'node:path'
import { MayflyError } from '../errors.js'
import { writeError } from '../store/disk.js'
import type { ContextFile } from './options.js'

interface File {
  readonly name: string
  readonly content: string | Uint8Array
  readonly mode: number
}

/** The directory is there and empty. Throws INVALID_OPTION for a path or file that cannot be. */
export async function layOutFiles(directory: string, given: Readonly<Record<string, ContextFile>>): Promise<void> {
  for (const [path, { name, content, mode }] of filesByPath(given)) {
    const target = join(directory, path)
    try {
      await mkdir(dirname(target), { recursive: true, mode: 0o755 })
      await writeFile(target, content, { mode: 0o600 })
      await chmod(target, mode)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENAMETOOLONG') refuse(name, 'is too long for a path')
      throw writeError(error, target)
    }
  }
}

function filesByPath(given: Readonly<Record<string, ContextFile>>): Map<string, File> {
  const files = new Map<string, File>()
  for (const [name, file] of Object.entries(given)) {
    const path = pathOf(name)
    const same = files.get(path)
    if (same) refuse(name, `is the same file as ${JSON.stringify(same.name)}`)
    files.set(path, { name, ...checked(name, file) })
  }
  for (const [path, { name }] of files) {
    for (let above = posix.dirname(path); above !== '.'; above = posix.dirname(above))
      if (files.has(above)) refuse(name, `is below ${JSON.stringify(files.get(above)!.name)}, which is a file`)
  }
  return files
}

function pathOf(name: string): string {
  const path = posix.normalize(name)
  const isOutside = posix.isAbsolute(path) || path.split('/')[0] === '..'
  if (name === '' || name.includes('\0') || isOutside || path === '.' || path.endsWith('/'))
    refuse(name, 'is no path of a file inside a context')
  return path
}

function checked(name: string, file: ContextFile): Omit<File, 'name'> {
  const isPlain = typeof file === 'string' || file instanceof Uint8Array
  const { content, mode = 0o644 } = isPlain ? { content: file } : (file ?? {})
  if (typeof content !== 'string' && !(content instanceof Uint8Array))
    refuse(name, 'needs a string or bytes, or an object with them as content')
  if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777) refuse(name, 'needs a mode from 0 to 0o7777')
  return { content, mode }
}

function refuse(name: string, why: string): never {
  const shown = name.length > 80 ? `${name.slice(0, 77)}...` : name
  throw new MayflyError('INVALID_OPTION', `context.files: ${JSON.stringify(shown)} ${why}`, {
    field: 'context.files',
    value: name,
  })
}
