/** Where this package and its native program lie on the disk: the same answer from the source and from both builds. */

import { accessSync, constants, existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { MayflyError } from './errors.js'

/** Directory of this package's package.json. */
export function packageRoot(): string {
  // dist/cjs holds a package.json of its own (`"type": "commonjs"`), so the native directory or the version tells them apart.
  let directory = dirname(fileURLToPath(import.meta.url))
  while (!(existsSync(join(directory, 'package.json')) && existsSync(join(directory, 'native')))) {
    const parent = dirname(directory)
    if (parent === directory) {
      throw new MayflyError(
        'ENGINE_UNAVAILABLE',
        'Cannot find the native program: mayfly was moved out of its package',
        {
          hint: 'keep mayfly external when you bundle, or set MAYFLY_WARDEN to the path of mayfly-warden',
        },
      )
    }
    directory = parent
  }
  return directory
}

/**
 * Path of the native program: the environment variable MAYFLY_WARDEN, else the one shipped for this processor, else the
 * one built in this checkout.
 *
 * Throws ENGINE_UNAVAILABLE where there is none.
 */
export function wardenProgram(): string {
  if (process.platform !== 'linux') {
    throw new MayflyError('ENGINE_UNAVAILABLE', `mayfly's own engine runs on Linux, and this is ${process.platform}`)
  }
  const given = process.env.MAYFLY_WARDEN
  if (given) return resolve(given) // the program is started in another directory
  const native = join(packageRoot(), 'native')
  const candidates = [
    join(native, 'build', 'mayfly-warden'), // a checkout's own; not in the package
    join(native, 'prebuilt', `linux-${process.arch}`, 'mayfly-warden'),
  ]
  const found = candidates.find(isExecutable)
  if (!found) {
    throw new MayflyError('ENGINE_UNAVAILABLE', `There is no native program for linux-${process.arch} in ${native}`, {
      hint: 'in a checkout, build it with `make -C native`; mayfly ships it for x64 and arm64',
    })
  }
  return found
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
